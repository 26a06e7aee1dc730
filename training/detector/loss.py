"""Which cells answer for a face, and what their answers cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from occam_sdk.video.faces import STRIDES

from .pictures import Canvas

SIZES: Final = ((0.0, 48.0), (32.0, 112.0), (80.0, 1e9))
"""Sizes (root of the area in pixels) of the faces of each stride: neighbours share some, so that a face
that grows is not lost between two."""
REACH: Final = (0.75, 0.16)  # strides, sizes: a cell this near to a face's centre answers for it
RING: Final = 1.6  # times as far: neither face nor background
GAMMA: Final = 2.0  # of the focal loss (Lin et al. 2017)
FACE_SHARE: Final = 0.35  # its alpha
BOX_WEIGHT, LANDMARK_WEIGHT = 2.0, 6.0
BEND: Final = 0.03  # face sizes: above it the landmarks' loss is linear


@dataclass(frozen=True, eq=False)
class Targets:
    """What every cell of a batch should say; cells of all strides side by side, (B, K, ...).

    Attributes:
        face: (B, K) float32, 1 where a cell answers for a face, 0 background, NaN neither.
        box: (B, K, 4) corners in pixels.
        landmarks: (B, K, 5, 2) in pixels.
        trusted: (B, K) bool, whether landmarks are learnt.
    """

    face: Tensor
    box: Tensor
    landmarks: Tensor
    trusted: Tensor


def cells(height: int, width: int) -> tuple[Tensor, Tensor]:
    """(K, 2) middles x, y in pixels and (K,) strides of all cells for a picture of this size."""
    middles, strides = [], []
    for stride in STRIDES:
        y, x = torch.meshgrid(
            torch.arange(height // stride), torch.arange(width // stride), indexing="ij"
        )
        middles.append((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((x.numel(),), float(stride)))
    return torch.cat(middles), torch.cat(strides)


def targets(canvases: Sequence[Canvas]) -> Targets:
    """Of each canvas; where two faces want a cell, the nearer one has it."""
    middles, strides = cells(*canvases[0].image.shape[:2])
    lowest, highest = (
        torch.tensor([bounds[i] for bounds in SIZES])[(strides / STRIDES[0]).log2().long()]
        for i in (0, 1)
    )
    found = [_of_canvas(canvas, middles, strides, lowest, highest) for canvas in canvases]
    return Targets(*(torch.stack(parts) for parts in zip(*found, strict=True)))


def _of_canvas(
    canvas: Canvas, middles: Tensor, strides: Tensor, lowest: Tensor, highest: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count = len(middles)
    face = torch.zeros(count)
    if not len(canvas.box):
        return (
            face,
            torch.zeros(count, 4),
            torch.zeros(count, 5, 2),
            torch.zeros(count, dtype=torch.bool),
        )
    box, certain = torch.from_numpy(canvas.box), torch.from_numpy(canvas.certain)
    centre = (box[:, :2] + box[:, 2:]) / 2
    size = (box[:, 2:] - box[:, :2]).prod(1).sqrt()
    apart = (middles[:, None] - centre).abs().amax(2)  # (K, N)
    reach = torch.maximum(REACH[0] * strides[:, None], REACH[1] * size)
    answers_for = certain & (size >= lowest[:, None]) & (size < highest[:, None])
    near = torch.where(answers_for, apart / reach, torch.inf)
    distance, chosen = near.min(1)
    mine = distance <= 1
    inside = ((middles[:, None] > box[:, :2]) & (middles[:, None] < box[:, 2:])).all(2)
    # A face of another stride's size, or one's own a little further off, is not background at its middle.
    unclear = (certain & (apart <= RING * reach) & inside).any(1) | (~certain & inside).any(1)
    face[unclear] = torch.nan
    face[mine] = 1
    return (
        face,
        box[chosen],
        torch.from_numpy(canvas.landmarks)[chosen],
        mine & torch.from_numpy(canvas.trusted)[chosen],
    )


def loss(maps: Sequence[Tensor], wanted: Targets, height: int, width: int) -> dict[str, Tensor]:
    """Sums over a batch divided by its number of answering cells: "face", "box", "landmarks"."""
    middles, strides = cells(height, width)
    said = torch.cat([one.float().flatten(2) for one in maps], 2).transpose(1, 2)  # (B, K, 15)
    known, mine = ~wanted.face.isnan(), wanted.face == 1
    count = max(1.0, float(mine.sum()))
    logit, truth = said[..., 0][known], wanted.face[known]
    p = logit.sigmoid()
    wrong = truth * (1 - p) + (1 - truth) * p
    alpha = truth * FACE_SHARE + (1 - truth) * (1 - FACE_SHARE)
    plain = functional.binary_cross_entropy_with_logits(logit, truth, reduction="none")
    face = (alpha * wrong**GAMMA * plain).sum() / count

    step = strides.expand(len(said), -1)[mine][:, None]
    middle = middles.expand(len(said), -1, -1)[mine]
    answer = said[mine]
    centre = middle + answer[:, 1:3] * step
    half = answer[:, 3:5].clamp(-4, 5).exp() * step / 2
    box = torch.cat([centre - half, centre + half], 1)
    points = middle[:, None] + answer[:, 5:].reshape(-1, 5, 2) * step[:, None]
    size = (wanted.box[mine][:, 2:] - wanted.box[mine][:, :2]).prod(1).sqrt().clamp(min=1)
    off = (points - wanted.landmarks[mine]) / size[:, None, None]
    trusted = wanted.trusted[mine]
    bent = functional.smooth_l1_loss(off, torch.zeros_like(off), beta=BEND, reduction="none").mean(
        (1, 2)
    )
    return {
        "face": face,
        "box": BOX_WEIGHT * distance_loss(box, wanted.box[mine]).sum() / count,
        "landmarks": LANDMARK_WEIGHT * (bent * trusted).sum() / count,
    }


def distance_loss(box: Tensor, truth: Tensor) -> Tensor:
    """(N,) 1 - DIoU of corners (N, 4) (Zheng et al. 2020)."""
    width_height = (
        torch.minimum(box[:, 2:], truth[:, 2:]) - torch.maximum(box[:, :2], truth[:, :2])
    ).clamp(min=0)
    common = width_height.prod(1)
    area, true_area = ((b[:, 2:] - b[:, :2]).prod(1) for b in (box, truth))
    overlap = common / (area + true_area - common).clamp(min=1e-6)
    around = torch.maximum(box[:, 2:], truth[:, 2:]) - torch.minimum(box[:, :2], truth[:, :2])
    between = (box[:, :2] + box[:, 2:] - truth[:, :2] - truth[:, 2:]) / 2
    return 1 - overlap + between.square().sum(1) / around.square().sum(1).clamp(min=1e-6)


def as_input(canvases: Sequence[Canvas]) -> Tensor:
    """(B, 3, H, W) float32 BGR in [0, 255]."""
    stacked = np.stack([canvas.image for canvas in canvases])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float()
