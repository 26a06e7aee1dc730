"""The last seconds of a stream, which are judged as a clip is."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .audio.decode import GAP_S
from .types import RATE_HZ, FaceScores, Frame, Waveform
from .video.watched import Watched

LATE_SOUND_S: Final = 1.0  # what sounds without a picture is judged this much later

Scored = tuple[FaceScores, NDArray[np.float32]]
"""A face and its (512,) float32 embedding."""


class Window:
    """The last seconds of a stream.

    Args:
        span_s: so many.
        watch: makes what the window's frames are collected in.
    """

    def __init__(self, span_s: float, watch: Callable[[], Watched]) -> None:
        self._span_s, self._watch = span_s, watch
        self._frames: deque[tuple[int, float, int, list[Scored]]] = deque()
        self._sound: deque[Waveform] = deque()

    @property
    def end_s(self) -> float:
        """When the last that it has seen or heard was."""
        seen_s = self._frames[-1][1] if self._frames else -math.inf
        heard_s = end_s(self._sound[-1]) if self._sound else -math.inf
        return max(seen_s, heard_s)

    def add_frame(self, frame: Frame, faces: list[Scored]) -> None:
        """One more, with the faces that count."""
        height, width = frame.image.shape[:2]
        self._frames.append((frame.index, frame.time_s, width * height, faces))

    def add_sound(self, waveform: Waveform) -> None:
        """What sounds next; after a pause the sound before it is forgotten."""
        if self._sound and abs(waveform.start_s - end_s(self._sound[-1])) > GAP_S:
            self._sound.clear()
        self._sound.append(waveform)
        while len(self._sound) > 1 and (
            self._sound[1].start_s <= self._sound[-1].start_s - self._span_s - LATE_SOUND_S
        ):
            self._sound.popleft()  # pictures that are late may still ask for a second more

    def let_go(self, time_s: float) -> None:
        """Forget what was before the window that ends then."""
        while self._frames and self._frames[0][1] <= time_s - self._span_s:
            self._frames.popleft()
        while self._sound and end_s(self._sound[0]) <= time_s - self._span_s:
            self._sound.popleft()

    def clear(self) -> None:
        """Forget everything."""
        self._frames.clear()
        self.clear_sound()

    def clear_sound(self) -> None:
        """Forget what was heard."""
        self._sound.clear()

    def watched(self) -> Watched:
        """The window's frames, as those of a clip."""
        watched = self._watch()
        for row, (index, time_s, pixels, faces) in enumerate(self._frames):
            watched.add_frame(index, time_s, pixels)
            for face, embedding in faces:
                watched.add_face(row, face, embedding)
        return watched

    def sound(self, time_s: float) -> Waveform | None:
        """What sounded in the window that ends then; None if nothing did."""
        if not self._sound:
            return None
        begun_s = self._sound[0].start_s
        samples = np.concatenate([piece.samples for piece in self._sound])
        last = round((time_s - begun_s) * RATE_HZ)
        first = max(0, last - round(self._span_s * RATE_HZ))
        if last <= first:
            return None
        return Waveform(samples[first:last], begun_s + first / RATE_HZ)


def end_s(waveform: Waveform) -> float:
    """When its last sample has sounded, in seconds."""
    return waveform.start_s + waveform.duration_s
