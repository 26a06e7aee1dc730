"""Faces with five landmarks in one picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..backends import Session
from ..types import Face

STRIDES: Final = (8, 16, 32)  # pixels from one cell of a map to the next
MAPS: Final = frozenset(f"stride_{stride}" for stride in STRIDES)
GRID: Final = STRIDES[-1]  # the input's sides are multiples of this
MIN_SCORE: Final = 0.6  # chosen on Valid
MAX_OVERLAP: Final = 0.3  # intersection over union above which two boxes are one face
MIN_AGREEMENT: Final = 0.6  # least of the boxes of a face that it is the mean of
SMALLEST_PX: Final = 16.0  # what a face must have of what the network is shown (root of its area)
LONG_SIDE: Final = 320
MIN_LONG_SIDE: Final = (
    224  # a smaller picture is enlarged to this: landmarks are best there, on Valid
)
MAX_LONG_SIDE: Final = 1920
MOST_ENLARGED: Final = 2.0  # times, for the sake of small faces


class FaceDetector(Protocol):
    """Anything that finds faces: another detector takes the bundle's place by this one method."""

    def detect(self, image: NDArray[np.uint8]) -> tuple[Face, ...]:
        """Faces of one (H, W, 3) BGR uint8 picture, the most confident first."""


class BundleDetector:
    """The detector that comes with a bundle: anchor-free boxes and landmarks from one small network.

    Args:
        session: the network, from ``open_session``.
        long_side: about how many pixels the longer side of a picture has when it is looked at; a face
            is seen from a twentieth of that side on. A smaller picture is not enlarged, unless to
            ``MIN_LONG_SIDE``.
        min_face_px: in place of that, the smallest face to be seen, in pixels of the picture itself
            (the root of its box's area): a larger picture is then looked at in larger size, up to
            ``MAX_LONG_SIDE``.

    Raises:
        ValueError: the network is another one.
    """

    def __init__(
        self, session: Session, *, long_side: int = LONG_SIDE, min_face_px: float | None = None
    ) -> None:
        if not session.ports[1] >= MAPS:
            raise ValueError(f"expected outputs {sorted(MAPS)}, got {sorted(session.ports[1])}")
        self._session, self._long_side, self._min_face_px = session, long_side, min_face_px

    def detect(self, image: NDArray[np.uint8]) -> tuple[Face, ...]:
        """Faces of one (H, W, 3) BGR uint8 picture, the most confident first."""
        height, width = image.shape[:2]
        maps, strides = [], []
        for side in looks(max(height, width), self._long_side, self._min_face_px):
            tensor = detector_input(image, side)
            out = self._session.run({"image": tensor})
            across, down = width / tensor.shape[3], height / tensor.shape[2]
            maps += [out[f"stride_{stride}"][0] for stride in STRIDES]
            strides += [(stride * across, stride * down) for stride in STRIDES]
        rows = _core.find_faces(maps, strides, MIN_SCORE, MAX_OVERLAP, MIN_AGREEMENT)
        boxes = np.clip(rows[:, 1:5], 0, np.array([width, height] * 2, np.float32))
        return tuple(
            Face(box, points.reshape(5, 2), float(score))
            for score, box, points in zip(rows[:, 0], boxes, rows[:, 5:], strict=True)
            if box[2] > box[0] and box[3] > box[1]
        )


def looks(stored: int, long_side: int, min_face_px: float | None = None) -> tuple[int, ...]:
    """In how many pixels of its longer side a picture is looked at, that has ``stored``.

    Once as large as it takes for the smallest face; then at half of that, and so on down to
    ``LONG_SIDE``, for the network knows no face that is larger.

    Example:
        >>> looks(1920, 320), looks(1920, 640), looks(1920, 320, min_face_px=24), looks(48, 320)
        ((320,), (640, 320), (1280, 640, 320), (224,))
    """
    if min_face_px is None:
        wanted = min(long_side, stored)
    else:
        wanted = round(stored * min(MOST_ENLARGED, SMALLEST_PX / min_face_px))
    sides = [min(MAX_LONG_SIDE, max(MIN_LONG_SIDE, wanted))]
    while sides[-1] > LONG_SIDE:
        sides.append(sides[-1] // 2)
    return tuple(sides)


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


class YuNet:
    """YuNet (Wu et al. 2023) through OpenCV, from a file of your own: ``Recognizer(detector=YuNet(path))``.

    Args:
        path: ``face_detection_yunet_2023mar.onnx`` of OpenCV's model zoo.
        long_side: pixels of the longer side of a picture as it is looked at.
        min_score: of a face.

    Raises:
        FileNotFoundError: there is no such file.
        cv2.error: it is no such network.
    """

    def __init__(
        self, path: str | os.PathLike[str], long_side: int = 640, min_score: float = 0.6
    ) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"{path}: no such file; YuNet's network is in OpenCV's model zoo"
            )
        self._long_side = long_side
        self._network = cv2.FaceDetectorYN.create(
            str(path), "", (long_side, long_side), min_score, MAX_OVERLAP
        )

    def detect(self, image: NDArray[np.uint8]) -> tuple[Face, ...]:
        """Faces of one (H, W, 3) BGR uint8 picture, the most confident first."""
        scale = self._long_side / max(image.shape[:2])
        size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        self._network.setInputSize(size)
        rows = self._network.detect(cv2.resize(image, size, interpolation=way))[1]
        if rows is None:
            return ()
        unscale = np.divide(image.shape[1::-1], size, dtype=np.float32)
        return tuple(
            Face(
                np.concatenate([row[:2], row[:2] + row[2:4]]) * np.tile(unscale, 2),
                row[4:14].reshape(5, 2) * unscale,
                float(np.clip(row[14], 0, 1)),
            )
            for row in np.asarray(rows, np.float32)[np.argsort(-rows[:, 14], kind="stable")]
        )
