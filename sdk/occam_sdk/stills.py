"""Pictures of the frames that a clip's faces were judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from .labels import LABELS
from .stretches import Course
from .video.decode import VideoFile

MARGIN: Final = 1.5  # of the box's longer side: a head is larger than its face


@dataclass(frozen=True, eq=False)
class Still:
    """A selected frame.

    Attributes:
        time_s: when it is shown, in seconds.
        label: the class with the highest score in it.
        image: (S, S, 3) uint8 BGR, the face and what is around it.
    """

    time_s: float
    label: str
    image: NDArray[np.uint8]


def stills(clip: Path, faces: Sequence[Course], side_px: int) -> tuple[tuple[Still, ...], ...]:
    """Of each face the frames that it was judged by, in order of time; the clip is read once.

    Raises:
        MediaError: the clip cannot be read.
    """
    wanted = [frozenset(face.said.evidence_s if face.said else ()) for face in faces]
    found: list[list[Still]] = [[] for _ in faces]
    times_s = faces[0].times_s
    last_s = max(frozenset().union(*wanted), default=-np.inf)
    count = int(np.searchsorted(times_s, last_s, "right"))
    for place, time_s, frame in zip(range(count), times_s.tolist(), VideoFile(clip), strict=False):
        for face, of_face, mine in zip(faces, wanted, found, strict=True):
            if time_s in of_face and face.seen[place]:
                image = _around(frame.image, face.boxes_xyxy[place], side_px)
                mine.append(Still(time_s, LABELS[int(face.scores[place].argmax())], image))
    return tuple(map(tuple, found))


def _around(
    image: NDArray[np.uint8], box_xyxy: NDArray[np.float64], side_px: int
) -> NDArray[np.uint8]:
    left, top, right, bottom = box_xyxy.tolist()
    side = max(2, round(MARGIN * max(right - left, bottom - top)))
    x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
    height, width = image.shape[:2]
    # What lies outside the picture goes on as its edge.
    outside = (max(0, -y), max(0, y + side - height), max(0, -x), max(0, x + side - width))
    padded = cv2.copyMakeBorder(image, *outside, cv2.BORDER_REPLICATE)
    x, y = x + outside[2], y + outside[0]
    crop = padded[y : y + side, x : x + side]
    return np.asarray(cv2.resize(crop, (side_px, side_px), interpolation=cv2.INTER_AREA), np.uint8)
