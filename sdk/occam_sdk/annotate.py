"""A clip with what was seen drawn into it: box, track, label and a bar for each class."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from .encode import Written, rewrite
from .errors import MediaError
from .labels import COLOURS, INKS, LABELS
from .stretches import smoothed
from .types import ClipResult, Face, Frame

Image = NDArray[np.uint8]
Scores = NDArray[np.float64]

LINE_SHARE: Final = 0.036  # a line's height, of the picture's shorter side
LEAST_LINE_PX: Final = 11
FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
WHITE: Final = (255, 255, 255)
BLACK: Final = (0, 0, 0)


def annotate(clip: Path, result: ClipResult, target: Path) -> Written:
    """Write ``clip`` to ``target`` with the main face's box, track, label and scores.

    What is shown are scores averaged over ``SMOOTH_S``, as in the subtitles: what changes with
    every frame cannot be read. The clip is decoded once more, so memory does not grow with it.

    Args:
        clip: the file that was judged.
        result: what ``Recognizer.predict`` said of it.
        target: an MP4 or MKV file to write.

    Raises:
        MediaError: the clip cannot be read, or has no pictures.
    """
    if not result.timeline:
        raise MediaError(f"{clip}: has no pictures to draw on; annotate a clip with a video track")
    scores = smoothed(result)
    drawing: list[_Drawing] = []

    def draw(frame: Frame) -> Image:
        if not drawing:
            drawing.append(_Drawing(frame.image.shape[:2], result))
        place = min(frame.index, len(scores) - 1)
        seen = result.timeline[place].face
        drawing[0].draw(frame.image, seen.face if seen else None, scores[place])
        return frame.image

    return rewrite(clip, target, draw)


class _Drawing:
    """Where everything goes in pictures of one size.

    Args:
        shape: (H, W) of the pictures.
        result: the panel lies in the corner in which the face is seen least.
    """

    def __init__(self, shape: tuple[int, ...], result: ClipResult) -> None:
        self._height, self._width = shape
        self._line = max(LEAST_LINE_PX, round(LINE_SHARE * min(shape)))
        self._thickness = max(1, round(self._line / 14))
        self._scale = 0.62 * self._line / 22  # Hershey's capitals are 22 pixels high at scale 1
        names = max(self._text_size(label)[0] for label in LABELS)
        self._gap = self._line // 2
        self._bar = (self._gap + names + self._gap, round(3.5 * self._line))  # left, length
        percent = self._text_size("100")[0]
        self._panel = (
            sum(self._bar) + self._gap + percent + self._gap,
            len(LABELS) * self._line + self._gap,
        )
        self._corner = self._quietest_corner(result)

    def _quietest_corner(self, result: ClipResult) -> tuple[int, int]:
        """Left and top of the panel."""
        width, height = self._panel
        rights = self._width - width - self._gap
        bottoms = self._height - height - self._gap
        corners = [
            (max(0, left), max(0, top))
            for top in (bottoms, self._gap)
            for left in (self._gap, rights)
        ]
        boxes = [row.face.face.box_xyxy for row in result.timeline if row.face is not None]
        if not boxes:
            return corners[0]
        left, top, right, bottom = np.array(boxes, np.float64).T

        def hidden(corner: tuple[int, int]) -> float:
            across = np.minimum(right, corner[0] + width) - np.maximum(left, corner[0])
            down = np.minimum(bottom, corner[1] + height) - np.maximum(top, corner[1])
            return float((np.fmax(across, 0) * np.fmax(down, 0)).sum())

        return min(corners, key=hidden)

    def draw(self, image: Image, face: Face | None, scores: Scores) -> None:
        """Draw into ``image``: of a frame without the face, a panel without bars."""
        if face is not None:
            self._draw_box(image, face, int(scores.argmax()), float(scores.max()))
        self._draw_panel(image, scores)

    def _draw_panel(self, image: Image, scores: Scores) -> None:
        (left, top), (width, height) = self._corner, self._panel
        ground = image[top : top + height, left : left + width]
        ground[:] = ground // 4  # dark, and the picture is still seen through it
        begin, length = left + self._bar[0], self._bar[1]
        best = -1 if np.isnan(scores).any() else int(scores.argmax())
        for row, (label, score) in enumerate(zip(LABELS, np.nan_to_num(scores), strict=True)):
            middle = top + self._gap // 2 + row * self._line + self._line // 2
            half = max(2, round(0.28 * self._line))
            end = begin + round(length * float(score))
            cv2.rectangle(
                image, (begin, middle - half), (begin + length, middle + half), (70,) * 3, -1
            )
            cv2.rectangle(
                image, (begin, middle - half), (end, middle + half), _bgr(COLOURS[row]), -1
            )
            ink = WHITE if row == best else (190, 190, 190)
            self._write(image, label, (left + self._gap, middle), ink)
            if best >= 0:
                number = (begin + length + self._gap, middle)
                self._write(image, f"{100 * score:.0f}", number, ink)

    def _draw_box(self, image: Image, face: Face, winner: int, score: float) -> None:
        left, top, right, bottom = np.rint(face.box_xyxy).astype(int).tolist()
        thick = 2 * self._thickness
        for ink, more in ((BLACK, 2 * self._thickness), (_bgr(COLOURS[winner]), 0)):
            cv2.rectangle(image, (left, top), (right, bottom), ink, thick + more, cv2.LINE_AA)
        name = "" if face.track_id is None else f"#{face.track_id} "
        text = f"{name}{LABELS[winner]} {100 * score:.0f} %"
        width = self._text_size(text)[0] + 2 * self._gap
        height = round(1.3 * self._line)
        # Above the box, and inside the picture wherever the face is.
        x = min(max(0, left - thick), max(0, self._width - width))
        y = min(max(0, top - thick - height), max(0, self._height - height))
        cv2.rectangle(image, (x, y), (x + width, y + height), _bgr(COLOURS[winner]), -1)
        self._write(image, text, (x + self._gap, y + height // 2), _bgr(INKS[winner]))

    def _text_size(self, text: str) -> tuple[int, int]:
        (width, height), _ = cv2.getTextSize(text, FONT, self._scale, self._thickness)
        return width, height

    def _write(
        self, image: Image, text: str, left_middle: tuple[int, int], ink: tuple[int, int, int]
    ) -> None:
        left, middle = left_middle
        place = (left, middle + self._text_size("H")[1] // 2)
        cv2.putText(image, text, place, FONT, self._scale, ink, self._thickness, cv2.LINE_AA)


def _bgr(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return blue, green, red
