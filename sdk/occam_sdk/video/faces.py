"""Faces with five landmarks in one picture."""

from __future__ import annotations

from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ..backends import Session
from ..types import Face

STRIDE: Final = 4  # CenterFace's heat map has a quarter of the input's width and height
GRID: Final = 32  # its input sides must be multiples of this
DETECTOR_OUTPUTS: Final = {"heatmap", "log_size", "offset", "landmarks"}
MAX_OVERLAP: Final = 0.3  # intersection over union above which two boxes are one face
MIN_SCORE: Final = 0.4
LONG_SIDES: Final = (320, 160)
"""Sizes to look at, in pixels of the longer side: the second only where the first shows no face, for
CenterFace misses a fifth of the faces that fill a picture of 320 pixels and 4 % at 160."""


class FaceDetector(Protocol):
    """Anything that finds faces: another detector takes CenterFace's place by this one method."""

    def detect(self, image: NDArray[np.uint8]) -> tuple[Face, ...]:
        """Faces of one (H, W, 3) BGR uint8 picture, the most confident first."""


class CenterFace:
    """CenterFace (Xu et al. 2019): anchor-free boxes and landmarks from one small network.

    Args:
        session: the network, from ``open_session``.
        long_sides: pictures are looked at in these sizes, in turn, until a face is found; a
            smaller picture is enlarged no further than to the last of them.
    """

    def __init__(self, session: Session, *, long_sides: tuple[int, ...] = LONG_SIDES) -> None:
        self._session = session
        self._long_sides = long_sides

    def detect(self, image: NDArray[np.uint8]) -> tuple[Face, ...]:
        """Faces of one (H, W, 3) BGR uint8 picture, the most confident first."""
        stored = max(image.shape[:2])
        for long_side in self._long_sides:
            if long_side > stored and long_side != self._long_sides[-1]:
                long_side = max(stored, self._long_sides[-1])
            faces = self._detect_at(image, long_side)
            if faces:
                return faces
        return ()

    def _detect_at(self, image: NDArray[np.uint8], long_side: int) -> tuple[Face, ...]:
        """Faces seen when the longer side has about this many pixels (a multiple of 32)."""
        height, width = image.shape[:2]
        tensor = detector_input(image, long_side)
        size = tensor.shape[:1:-1]
        out = self._session.run({"image": tensor})
        boxes, landmarks, scores = _decode(
            out["heatmap"][0, 0], out["log_size"][0], out["offset"][0], out["landmarks"][0]
        )
        unscale = np.array([width / size[0], height / size[1]], np.float32)
        boxes *= np.tile(unscale, 2)
        landmarks *= unscale
        limits = np.array([width, height, width, height], np.float32)
        return tuple(
            Face(np.clip(boxes[i], 0, limits), landmarks[i], float(scores[i]))
            for i in _suppress(boxes, scores)
        )


def detector_input(image: NDArray[np.uint8], long_side: int) -> NDArray[np.float32]:
    """(1, 3, H, W) float32 BGR in [0, 255] of a (H', W', 3) uint8 picture.

    The longer side gets about ``long_side`` pixels; both are multiples of 32.
    """
    height, width = image.shape[:2]
    scale = long_side / max(height, width)
    size = (_round_up(width * scale), _round_up(height * scale))
    resized = cv2.resize(
        image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    return np.ascontiguousarray(resized.transpose(2, 0, 1)[None], np.float32)


def _round_up(side: float) -> int:
    return max(GRID, int(np.ceil(side / GRID)) * GRID)


def _decode(
    heat: NDArray[np.float32],
    log_size: NDArray[np.float32],
    offset: NDArray[np.float32],
    points: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Boxes (K, 4), landmarks (K, 5, 2) and scores (K,) of the cells above MIN_SCORE.

    The maps are (rows, columns) and (channels, rows, columns); CenterFace writes y before x.
    Landmarks are relative to the unclipped box: clipping first, as the reference code does, moves
    them when a face fills the picture.
    """
    rows, columns = np.nonzero(heat > MIN_SCORE)
    size_yx = np.exp(log_size[:, rows, columns].T) * STRIDE
    centre_yx = (np.stack([rows, columns], 1) + offset[:, rows, columns].T + 0.5) * STRIDE
    top_left_yx = centre_yx - size_yx / 2
    boxes = np.concatenate([top_left_yx[:, ::-1], (top_left_yx + size_yx)[:, ::-1]], axis=1)
    points_yx = (
        points[:, rows, columns].T.reshape(-1, 5, 2) * size_yx[:, None] + top_left_yx[:, None]
    )
    landmarks = points_yx[:, :, ::-1]
    return boxes.astype(np.float32), landmarks.astype(np.float32), heat[rows, columns]


def _suppress(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> list[int]:
    """Indices that non-maximum suppression keeps, the most confident first."""
    corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxes(corner_and_size.tolist(), scores.tolist(), 0.0, MAX_OVERLAP)
    return [int(i) for i in np.asarray(kept).reshape(-1)]
