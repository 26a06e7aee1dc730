"""A clip with what was seen drawn into it: box, track, label and a bar for each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from .encode import Written, rewrite
from .errors import MediaError
from .labels import COLOURS, INKS, LABELS
from .stretches import Course, courses
from .types import ClipResult, Frame

Image = NDArray[np.uint8]
Scores = NDArray[np.float64]

LINE_SHARE: Final = 0.036  # a line's height, of the picture's shorter side
LEAST_LINE_PX: Final = 11
FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
WHITE: Final = (255, 255, 255)
BLACK: Final = (0, 0, 0)


@dataclass(frozen=True, eq=False)
class Shown:
    """A face as it is drawn into one picture.

    Attributes:
        name: as people read it, or nothing.
        box_xyxy: (4,) float64, in pixels; NaN where it is not seen.
        scores: (7,) float64, over ``LABELS``; NaN where it is not seen.
    """

    name: str
    box_xyxy: NDArray[np.float64]
    scores: Scores

    @property
    def seen(self) -> bool:
        """Whether there is anything to draw."""
        return not (np.isnan(self.box_xyxy).any() or np.isnan(self.scores).any())


def annotate(clip: Path, result: ClipResult, target: Path) -> Written:
    """Write ``clip`` to ``target`` with box, track and label of each face, and the main one's scores.

    What is shown are scores averaged over ``SMOOTH_S``, as in the subtitles: what changes with
    every frame cannot be read. The clip is decoded once more, so memory does not grow with it.

    Args:
        clip: the file that was judged.
        result: what ``Recognizer.predict`` said of it; its ``tracks`` are the faces.
        target: an MP4 or MKV file to write.

    Raises:
        MediaError: the clip cannot be read, or has no pictures.
    """
    if not result.timeline:
        raise MediaError(f"{clip}: has no pictures to draw on; annotate a clip with a video track")
    faces = courses(result)
    drawing: list[Drawing] = []

    def draw(frame: Frame) -> Image:
        if not drawing:
            drawing.append(Drawing.of(faces, frame.image.shape[:2]))
        place = min(frame.index, len(result.timeline) - 1)
        main, *others = (
            Shown(face.name, face.boxes_xyxy[place], face.smooth_scores[place]) for face in faces
        )
        drawing[0].draw(frame.image, main, *others)
        return frame.image

    return rewrite(clip, target, draw)


class Drawing:
    """Where everything goes in pictures of one size.

    Args:
        shape: (H, W) of the pictures.
        boxes_xyxy: (N, 4) float64, where faces are seen: the panel lies where it hides least of them.
        title: stands above the panel's bars.
    """

    def __init__(
        self, shape: tuple[int, ...], boxes_xyxy: NDArray[np.float64], title: str = ""
    ) -> None:
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
            (len(LABELS) + bool(title)) * self._line + self._gap,
        )
        self._title = title
        self._label = round(1.3 * self._line)  # height of what names a face, above its box
        self._corner = self._quietest_place(boxes_xyxy)

    @classmethod
    def of(cls, faces: Sequence[Course], shape: tuple[int, ...], scale: float = 1.0) -> Drawing:
        """For a clip's faces, the main one first, in pictures ``scale`` times as large as the clip's."""
        boxes = scale * np.concatenate([face.boxes_xyxy[face.seen] for face in faces])
        return cls(shape, boxes, f"main face {faces[0].name}" if len(faces) > 1 else "")

    def _quietest_place(self, boxes_xyxy: NDArray[np.float64]) -> tuple[int, int]:
        """Left and top of the panel: in a corner, or between two."""
        width, height = self._panel
        rights = self._width - width - self._gap
        bottoms = self._height - height - self._gap
        places = [
            (max(0, left), max(0, top))
            for top in (bottoms, self._gap)
            for left in (self._gap, rights, (self._gap + rights) // 2)
        ]
        left, top, right, bottom = boxes_xyxy.T
        top = top - self._label

        def hidden(place: tuple[int, int]) -> float:
            across = np.minimum(right, place[0] + width) - np.maximum(left, place[0])
            down = np.minimum(bottom, place[1] + height) - np.maximum(top, place[1])
            return float((np.fmax(across, 0) * np.fmax(down, 0)).sum())

        return min(places, key=hidden)

    def draw(self, image: Image, main: Shown, *others: Shown) -> None:
        """Draw into ``image``: of a frame without the main face, a panel without bars."""
        self._draw_panel(image, main.scores)
        for face in others:
            self._draw_box(image, face, main=False)
        self._draw_box(image, main, main=True)

    def _draw_panel(self, image: Image, scores: Scores) -> None:
        (left, top), (width, height) = self._corner, self._panel
        ground = image[top : top + height, left : left + width]
        ground[:] = ground // 4  # dark, and the picture is still seen through it
        if self._title:
            middle = top + self._gap // 2 + self._line // 2
            self._write(image, self._title, (left + self._gap, middle), WHITE)
            top += self._line
        begin, length = left + self._bar[0], self._bar[1]
        best = -1 if np.isnan(scores).any() else int(scores.argmax())
        for row, (label, score) in enumerate(zip(LABELS, np.nan_to_num(scores), strict=True)):
            middle = top + self._gap // 2 + row * self._line + self._line // 2
            half = max(2, round(0.28 * self._line))
            end = begin + round(length * float(score))
            cv2.rectangle(
                image, (begin, middle - half), (begin + length, middle + half), (70,) * 3, -1
            )
            if end > begin:  # a rectangle of no width is a line
                cv2.rectangle(
                    image, (begin, middle - half), (end, middle + half), _bgr(COLOURS[row]), -1
                )
            ink = WHITE if row == best else (190, 190, 190)
            self._write(image, label, (left + self._gap, middle), ink)
            if best >= 0:
                number = (begin + length + self._gap, middle)
                self._write(image, f"{100 * score:.0f}", number, ink)

    def _draw_box(self, image: Image, face: Shown, *, main: bool) -> None:
        """The main face's label is filled with the colour of its class, others' are dark."""
        if not face.seen:
            return
        winner = int(face.scores.argmax())
        colour, ink = _bgr(COLOURS[winner]), _bgr(INKS[winner])
        left, top, right, bottom = np.rint(face.box_xyxy).astype(int).tolist()
        thick = 2 * self._thickness
        for line, more in ((BLACK, 2 * self._thickness), (colour, 0)):
            cv2.rectangle(image, (left, top), (right, bottom), line, thick + more, cv2.LINE_AA)
        text = f"{face.name} {LABELS[winner]} {100 * face.scores.max():.0f} %".strip()
        width = self._text_size(text)[0] + 2 * self._gap
        height = self._label
        # Above the box, and inside the picture wherever the face is.
        x = min(max(0, left - thick), max(0, self._width - width))
        y = min(max(0, top - thick - height), max(0, self._height - height))
        cv2.rectangle(image, (x, y), (x + width, y + height), colour if main else BLACK, -1)
        middle = (x + self._gap, y + height // 2)
        self._write(image, text, middle, ink if main else WHITE)

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
