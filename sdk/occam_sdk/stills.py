"""Pictures of the frames that a clip's face was judged by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from .types import ClipResult, Face, FaceScores
from .video.decode import VideoFile

MARGIN: Final = 1.5  # of the box's longer side: a head is larger than its face


@dataclass(frozen=True, eq=False)
class Still:
    """A selected frame.

    Attributes:
        time_s: when it is shown, in seconds.
        face: what is seen in it.
        image: (S, S, 3) uint8 BGR, the face and what is around it.
    """

    time_s: float
    face: FaceScores
    image: NDArray[np.uint8]


def stills(clip: Path, result: ClipResult, side_px: int) -> tuple[Still, ...]:
    """The frames that ``result.face`` was judged by, in order of time.

    Raises:
        MediaError: the clip cannot be read.
    """
    wanted = set(result.face.evidence_s if result.face else ())
    if not wanted:
        return ()
    found = []
    for frame, row in zip(VideoFile(clip), result.timeline, strict=False):
        if row.face is not None and row.time_s in wanted:
            found.append(Still(row.time_s, row.face, _around(frame.image, row.face.face, side_px)))
    return tuple(found)


def _around(image: NDArray[np.uint8], face: Face, side_px: int) -> NDArray[np.uint8]:
    left, top, right, bottom = face.box_xyxy.tolist()
    side = max(2, round(MARGIN * max(right - left, bottom - top)))
    x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
    height, width = image.shape[:2]
    # What lies outside the picture goes on as its edge.
    outside = (max(0, -y), max(0, y + side - height), max(0, -x), max(0, x + side - width))
    padded = cv2.copyMakeBorder(image, *outside, cv2.BORDER_REPLICATE)
    x, y = x + outside[2], y + outside[0]
    crop = padded[y : y + side, x : x + side]
    return np.asarray(cv2.resize(crop, (side_px, side_px), interpolation=cv2.INTER_AREA), np.uint8)
