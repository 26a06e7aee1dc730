"""How well faces are found: recall by size, false faces, overlap, landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from occam_sdk.types import Face

from .teachers import overlaps

SIZES: Final = (24, 32, 64)  # pixels, root of the area
SAME: Final = 0.4  # intersection over union of a face that is found
Floats = NDArray[np.float32]


@dataclass(eq=False)
class Tally:
    """Counts over pictures, and what they come to.

    Attributes:
        size, found: of each face there is, the root of its area, and whether it was found.
        overlap, error: of each found face, of its box and of its landmarks in distances between the eyes.
        false_sizes: of each face that is none.
        pictures: looked at.
    """

    size: list[float] = field(default_factory=list)
    found: list[bool] = field(default_factory=list)
    overlap: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)
    false_sizes: list[float] = field(default_factory=list)
    pictures: int = 0

    def add(
        self,
        said: Sequence[Face],
        box: Floats,
        landmarks: Floats,
        certain: NDArray[np.bool_],
        *,
        trusted: bool = True,
    ) -> None:
        """One picture: what was found, and what there is.

        Args:
            said: the most confident first.
            box: (N, 4) in pixels.
            landmarks: (N, 5, 2).
            certain: (N,) a face; else a place where it is neither right nor wrong to find one.
            trusted: whether the landmarks are to be held against these.
        """
        self.pictures += 1
        boxes = np.array([face.box_xyxy for face in said], np.float32).reshape(-1, 4)
        overlap = overlaps(boxes, box)
        free = np.ones(len(said), bool)
        for row in np.argsort(-root_area(box)).tolist():
            if not certain[row]:
                continue
            best = int(np.where(free, overlap[:, row], -1).argmax()) if len(said) else -1
            hit = best >= 0 and free[best] and overlap[best, row] >= SAME
            self.size.append(float(root_area(box[row : row + 1])[0]))
            self.found.append(bool(hit))
            if hit:
                free[best] = False
                self.overlap.append(float(overlap[best, row]))
                eyes = float(np.linalg.norm(landmarks[row, 0] - landmarks[row, 1]))
                off = np.linalg.norm(said[best].landmarks - landmarks[row], axis=1).mean()
                self.error.append(float(off) / max(eyes, 1e-6) if trusted else np.nan)
            else:
                self.overlap.append(np.nan)
                self.error.append(np.nan)
        unclear = (overlap[:, ~certain] > 0.2).any(axis=1) | (overlap[:, certain] >= SAME).any(
            axis=1
        )
        inside = _inside(boxes, box[~certain])
        extra = free & ~unclear & ~inside
        self.false_sizes += root_area(boxes[extra]).tolist()

    def figures(self) -> dict[str, float]:
        """By least size: "recall_32", "false_32" a picture, "overlap_32", "landmarks_32", and so on.

        What there is no face for is NaN.
        """
        size, found = np.array(self.size), np.array(self.found, bool)
        overlap, error, false = (np.array(x) for x in (self.overlap, self.error, self.false_sizes))
        said: dict[str, float] = {}
        for least in SIZES:
            large = size >= least
            said[f"faces_{least}"] = int(large.sum())
            said[f"recall_{least}"] = _mean(found[large].astype(float))
            said[f"false_{least}"] = float((false >= least).sum()) / max(1, self.pictures)
            said[f"overlap_{least}"] = _mean(overlap[large])
            said[f"landmarks_{least}"] = _mean(error[large])
            said[f"landmarks_median_{least}"] = _median(error[large])
        return said


def root_area(box: Floats) -> Floats:
    """(N,) of (N, 4)."""
    return np.asarray(np.sqrt(np.prod(np.maximum(box[:, 2:] - box[:, :2], 0), axis=1)), np.float32)


def _inside(boxes: Floats, places: Floats) -> NDArray[np.bool_]:
    """(N,) whether the middle of each box lies in one of the places."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    within = (middle[:, None] >= places[None, :, :2]) & (middle[:, None] <= places[None, :, 2:])
    return np.asarray(np.any(np.all(within, axis=2), axis=1), bool)


def _median(values: NDArray[np.floating]) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _mean(values: NDArray[np.floating]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
