"""Faces with five landmarks in one picture."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..backends import Session
from ..types import Face, intersection_over_union

STRIDES: Final = (8, 16, 32)  # pixels from one cell of a map to the next
MAPS: Final = frozenset(f"stride_{stride}" for stride in STRIDES)
GRID: Final = STRIDES[-1]  # the input's sides are multiples of this
WORTH_A_LOOK: Final = 0.4  # least score of a place that is looked at closer
MIN_SCORE: Final = 0.55  # of a face: the geometric mean of both looks' scores; chosen on Valid
MOST_LOOKS: Final = 100  # closer ones at a picture: a tenth of a second
CLOSE_SIDE: Final = 192  # pixels of a side of a closer look,
ROOM: Final = 1.5  # which shows so many times the longer side of the box
SAME_FACE: Final = 0.35  # intersection over union of what both looks see of one face
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

    It looks twice: at the picture, then closer at each place that may be a face, always in the same size. So
    landmarks are as good, and mean the same, however large a face is in the picture and wherever it lies in
    it; and what was taken for a face from afar is seldom taken for one twice.

    Args:
        session: the network, from ``open_session``.
        close: the same, opened once more, for the closer looks: ONNX Runtime loses a third of its speed where
            sizes alternate, and TensorRT its CUDA graph. None: ``session``.
        long_side: about how many pixels the longer side of a picture has when it is looked at; a face
            is seen from a twentieth of that side on. A smaller picture is not enlarged, unless to
            ``MIN_LONG_SIDE``.
        min_face_px: in place of that, the smallest face to be seen, in pixels of the picture itself
            (the root of its box's area): a larger picture is then looked at in larger size, up to
            ``MAX_LONG_SIDE``.
        most_looks: closer looks at a picture, which take a millisecond each: the largest places are
            looked at, and no more faces are told of.

    Raises:
        ValueError: the network is another one.
    """

    def __init__(
        self,
        session: Session,
        close: Session | None = None,
        *,
        long_side: int = LONG_SIDE,
        min_face_px: float | None = None,
        most_looks: int = MOST_LOOKS,
    ) -> None:
        if not session.ports[1] >= MAPS:
            raise ValueError(f"expected outputs {sorted(MAPS)}, got {sorted(session.ports[1])}")
        self._session, self._close = session, close or session
        self._long_side, self._min_face_px = long_side, min_face_px
        self._most_looks = most_looks

    def detect(self, image: NDArray[np.uint8]) -> tuple[Face, ...]:
        """Faces of one (H, W, 3) BGR uint8 picture, the most confident first."""
        places = self.places(image)
        areas = np.prod(places[:, 3:5] - places[:, 1:3], axis=1)
        largest = np.argsort(-areas, kind="stable")[: self._most_looks]
        seen = [self._look_closer(image, place) for place in places[largest]]
        found = [face for face in seen if face is not None and face.confidence >= MIN_SCORE]
        faces: list[Face] = []
        for face in sorted(found, key=lambda face: -face.confidence):
            if all(intersection_over_union(face, other) <= MAX_OVERLAP for other in faces):
                faces.append(face)
        return tuple(faces)

    def places(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What may be a face, from afar: (N, 15) as of ``find_faces``, the likeliest first."""
        height, width = image.shape[:2]
        maps: list[NDArray[np.float32]] = []
        strides: list[tuple[float, float]] = []
        for side in looks(max(height, width), self._long_side, self._min_face_px):
            some, apart = _said(self._session, image, side)
            maps += some
            strides += apart
        rows = _core.find_faces(maps, strides, WORTH_A_LOOK, MAX_OVERLAP, MIN_AGREEMENT)
        rows[:, 1:5] = np.clip(rows[:, 1:5], 0, np.array([width, height] * 2, np.float32))
        return np.asarray(rows[(rows[:, 3:5] > rows[:, 1:3]).all(1)])

    def _look_closer(self, image: NDArray[np.uint8], row: NDArray[np.float32]) -> Face | None:
        """What is seen of a place found from afar, (15,) as of ``find_faces``; None if no face is.

        The landmarks are those of the closer look; the box is the mean of both, which trembles least.
        """
        part, corner = closer(image, row[1:5])
        maps, strides = _said(self._close, part, CLOSE_SIDE)
        height, width = image.shape[:2]
        first, best = Face(row[1:5], row[5:].reshape(5, 2), float(row[0])), None
        least = MIN_SCORE**2  # below it, no first look makes up for it
        for said in _core.find_faces(maps, strides, least, MAX_OVERLAP, MIN_AGREEMENT):
            box = np.clip(
                said[1:5] + np.tile(corner, 2), 0, np.array([width, height] * 2, np.float32)
            )
            confidence = float(np.sqrt(said[0] * row[0]))
            face = Face(np.asarray(box, np.float32), said[5:].reshape(5, 2) + corner, confidence)
            overlap = intersection_over_union(face, first)
            if overlap >= SAME_FACE and (best is None or overlap > best[0]):
                best = overlap, face
        if best is None:
            return None
        both = np.asarray((best[1].box_xyxy + first.box_xyxy) / 2, np.float32)
        return replace(best[1], box_xyxy=both)


def _said(
    session: Session, image: NDArray[np.uint8], long_side: int
) -> tuple[list[NDArray[np.float32]], list[tuple[float, float]]]:
    """The maps of what the network says of a picture, and the picture's pixels from cell to cell of each."""
    tensor = detector_input(image, long_side)
    out = session.run({"image": tensor})
    across, down = image.shape[1] / tensor.shape[3], image.shape[0] / tensor.shape[2]
    maps = [out[f"stride_{stride}"][0] for stride in STRIDES]
    return maps, [(stride * across, stride * down) for stride in STRIDES]


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
    # Above half the size bilinear interpolation serves as well, in a sixth of the time.
    way = cv2.INTER_AREA if scale <= 0.5 else cv2.INTER_LINEAR
    resized = cv2.resize(image, size, interpolation=way)
    return np.ascontiguousarray(resized.transpose(2, 0, 1)[None], np.float32)


def closer(
    image: NDArray[np.uint8], box: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A square part of a picture around a box, and where its left upper corner lies.

    At the picture's edge it is moved inwards, and it is no square only if the picture has no room for one:
    else it would be stretched in another way in every frame of a face at the edge, and the landmarks with it.
    """
    size = np.array(image.shape[1::-1])
    side = np.minimum(np.ceil(ROOM * (box[2:] - box[:2]).max()), size).astype(int)
    corner = np.clip(np.round((box[:2] + box[2:] - side) / 2).astype(int), 0, size - side)
    (left, top), (right, bottom) = corner.tolist(), (corner + side).tolist()
    return image[top:bottom, left:right], corner.astype(np.float32)


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
