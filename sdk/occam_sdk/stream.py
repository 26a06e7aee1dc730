"""Pictures and sound as they come: every half second, what the last three seconds show.

The window is judged as a clip is: the same selection, pooling and fusion. Each picture is looked at once.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from .microphone import Microphone
from .sources import Lost, Source
from .types import ClipResult, Face, FaceScores, Frame, ModalityScores, Waveform, check_image
from .video.follow import follow
from .video.watched import Watched
from .window import LATE_SOUND_S, Scored, Window, end_s

MAX_WAITING: Final = (
    8  # frames of a live source; older ones are dropped: better late by a blink than behind
)
MAX_ITEMS: Final = (
    64  # pieces of sound and frames of a file; so many hold a second or two of its sound
)
END_S: Final = 0.9  # in which ``close`` comes back, whatever a camera's driver is doing


@dataclass(frozen=True, eq=False)
class StreamUpdate:
    """What the last seconds of a stream show.

    Attributes:
        time_s: end of the window, on the clock of the frames.
        result: of the window, as of a clip; its timeline has a row for each frame that was looked at.
        dropped: frames since the update before that came too fast to be looked at.
        lag_s: from when the window's last frame came to when this was known; 0 of a gap.
        gap_s: how long the source has been away, 0 while it is there; ``result.notes`` says why.
        overflows: how often since the update before the microphone's sound was not fetched in time, so
            that some is missing.
    """

    time_s: float
    result: ClipResult
    dropped: int = 0
    lag_s: float = 0.0
    gap_s: float = 0.0
    overflows: int = 0

    @property
    def label(self) -> str | None:
        """The class with the highest score, or None when there is no evidence."""
        return self.result.label

    @property
    def rate_hz(self) -> float:
        """Frames a second that were looked at; 0 of fewer than two."""
        span_s = self.result.duration_s
        return (len(self.result.timeline) - 1) / span_s if span_s > 0 else 0.0

    def to_dict(self, *, timeline: bool = False) -> dict[str, Any]:
        """Plain JSON types; ``timeline=True`` adds the rows of the window's frames."""
        return {
            "time_s": self.time_s,
            "dropped": self.dropped,
            "lag_s": self.lag_s,
            "gap_s": self.gap_s,
            "overflows": self.overflows,
            **self.result.to_dict(timeline=timeline),
        }


@dataclass(frozen=True, eq=False)
class StreamView:
    """What a stream sees at this moment, to be shown.

    Attributes:
        frame: the newest that came, whether or not it is ever looked at; draw on a copy.
        faces: of the newest frame that was looked at.
    """

    frame: Frame
    faces: tuple[FaceScores, ...] = ()


class Judge(Protocol):
    """What a stream asks of a recognizer."""

    def detect(self, image: NDArray[np.uint8]) -> tuple[Face, ...]:
        """Faces of one picture."""

    def score(self, image: NDArray[np.uint8], faces: tuple[Face, ...]) -> list[Scored]:
        """What each of the faces that count shows."""

    def hear(self, waveform: Waveform) -> tuple[ModalityScores | None, str]:
        """What a voice says, or why nothing."""

    def conclude(
        self, watched: Watched, voice: ModalityScores | None, notes: tuple[str, ...]
    ) -> ClipResult:
        """The answer about a window."""


class Stream:
    """A source that is being judged; made by ``Recognizer.stream``, whose arguments are told there.

    Iterating gives ``StreamUpdate`` values until the source ends or ``close`` is called, from whichever
    thread; leaving the loop closes it. It is a context, too.

    Example:
        >>> import numpy as np
        >>> from occam_sdk import Recognizer
        >>> with Recognizer() as recognizer, recognizer.stream(hop_s=1) as stream:
        ...     for number in range(26):
        ...         stream.push_frame(np.zeros((120, 160, 3), np.uint8), number / 25)
        ...         _ = stream.push_audio(np.zeros(640, np.float32), number / 25)
        ...     stream.end()
        ...     [(update.time_s, update.result.status) for update in stream][-1]
        (1.04, 'no_evidence')
    """

    def __init__(
        self,
        judge: Judge,
        source: Source | None,
        *,
        window_s: float,
        hop_s: float,
        watch: Callable[[], Watched],
        on_update: Callable[[StreamUpdate], None] | None,
        microphone: Microphone | None = None,
    ) -> None:
        check_timing(window_s, hop_s)
        self._judge, self._on_update, self._microphone = judge, on_update, microphone
        self._sources = [each for each in (source, microphone) if each is not None]
        self._hop_s = hop_s
        self._window = Window(window_s, watch)
        self._due_s: float | None = None
        self._told_s = -math.inf  # end of the last window
        self._pushed = {"frame": -math.inf, "audio": -math.inf}
        self._count = 0
        self._overflows = 0  # that were told
        self._deaf = "no audio track"  # why nothing is heard, where it is so
        self._newest: Frame | None = None
        self._seen: tuple[FaceScores, ...] = ()
        self._inbox = _Inbox(drops=all(each.is_live for each in self._sources))
        self._updates: queue.SimpleQueue[StreamUpdate | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._closed = threading.Event()
        work: list[Callable[[], None]] = [self._work]
        work += [partial(self._read, each) for each in self._sources]
        self._threads = [
            threading.Thread(target=call, daemon=True, name="occam-stream") for call in work
        ]
        for thread in self._threads:
            thread.start()

    # What comes in

    def push_frame(self, image: NDArray[np.uint8], time_s: float) -> None:
        """A picture, (H, W, 3) uint8 BGR, which is copied; comes back at once.

        Raises:
            TypeError, ValueError: not such an array, or its time is not after the one before.
            RuntimeError: the stream is closed, or reads its pictures from a source of its own.
        """
        if self._sources:
            raise RuntimeError(
                f"this stream reads {self._sources[0].name}; push into recognizer.stream()"
            )
        check_image(image)
        frame = _Arrived(self._count, time_s, image.copy(), time.monotonic())
        self._in_order("frame", frame.time_s)
        self._count += 1
        self._newest = frame
        self._inbox.put(frame)

    def push_audio(self, samples: NDArray[np.float32], time_s: float) -> None:
        """Mono sound at 16 kHz, (N,) float32 in [-1, 1], from ``time_s`` on the frames' clock; copied.

        Raises:
            TypeError, ValueError: not such an array, or its time is not after the one before.
            RuntimeError: the stream is closed, or its source brings its own sound.
        """
        for source in self._sources:
            if source.has_sound:
                raise RuntimeError(f"{source.name} brings its own sound")
        waveform = Waveform(samples, time_s)
        self._in_order("audio", waveform.start_s)
        self._inbox.put(replace(waveform, samples=samples.copy()))

    def end(self) -> None:
        """Nothing more will be pushed: what is there is judged, then iterating ends."""
        self._inbox.end()

    def _in_order(self, kind: str, time_s: float) -> None:
        if self._closed.is_set():
            raise RuntimeError("this stream is closed; make a new one")
        if time_s <= (last := self._pushed[kind]):
            raise ValueError(
                f"push_{kind}: times must strictly increase, got {time_s} s after {last} s"
            )
        self._pushed[kind] = time_s

    # What comes out

    def __iter__(self) -> Iterator[StreamUpdate]:
        """Updates as they become known; an error of the source or of a network is raised here."""
        try:
            while (update := self._updates.get()) is not None:
                yield update
            self._updates.put(None)  # a second loop ends at once
            if self._error is not None:
                raise self._error
        finally:
            self.close()

    def view(self) -> StreamView | None:
        """The newest picture and faces, for a window; None before the first. Comes back at once."""
        return None if self._newest is None else StreamView(self._newest, self._seen)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until the source has ended, for who has ``on_update``; whether it has.

        Raises:
            Exception: what ended it, if it was a mistake of the source, of a network, of ``on_update``.
        """
        self._threads[0].join(timeout_s)
        if self._error is not None:
            raise self._error
        return not self._threads[0].is_alive()

    def close(self) -> None:
        """End everything within a second; a second call does nothing. What waits is not judged."""
        self._closed.set()
        self._inbox.close()
        self._updates.put(None)  # who iterates need not wait for a network that is busy
        until = time.monotonic() + END_S
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # The threads

    def _read(self, source: Source) -> None:
        """Bring what a source gives into the inbox."""
        try:
            for item in source.items(self._closed):
                if isinstance(item, Frame):
                    item = _Arrived(item.index, item.time_s, item.image, time.monotonic())
                    self._newest = item
                if not self._inbox.put(item):
                    return
            self._inbox.end()
        except Exception as error:
            self._error = error
            self._inbox.end()

    def _work(self) -> None:
        """Judge what is in the inbox."""
        try:
            for frame, faces in follow(self._frames(), self._judge.detect):
                scored = self._judge.score(frame.image, faces)
                self._window.add_frame(frame, scored)
                self._seen = tuple(face for face, _ in scored)
                arrived_s = frame.arrived_s if isinstance(frame, _Arrived) else 0.0
                if self._is_due(frame.time_s):
                    self._tell(frame.time_s, lag_s=time.monotonic() - arrived_s)
            if self._window.end_s > self._told_s and not self._closed.is_set():
                self._tell(self._window.end_s)
        except Exception as error:
            self._error = self._error or error
        finally:
            self._closed.set()
            self._inbox.close()
            self._updates.put(None)

    def _frames(self) -> Iterator[Frame]:
        """The inbox's frames; sound and gaps are seen to on the way."""
        while (item := self._inbox.take()) is not None:
            if isinstance(item, Frame):
                yield item
            elif isinstance(item, Waveform):
                self._window.add_sound(item)
                if self._is_due(end_s(item) - LATE_SOUND_S, begun_s=item.start_s):
                    self._tell(end_s(item) - LATE_SOUND_S)
            elif item.is_sound and len(self._sources) > 1:
                self._window.clear_sound()  # the pictures go on, and a note with them
                self._deaf = item.why
            else:
                self._window.clear()
                self._due_s = None
                empty = self._judge.conclude(self._window.watched(), None, (item.why,))
                self._give(item.time_s, empty, gap_s=item.gap_s)

    def _is_due(self, time_s: float, begun_s: float | None = None) -> bool:
        if self._due_s is None:
            self._due_s = (time_s if begun_s is None else begun_s) + self._hop_s
        return time_s >= self._due_s

    def _tell(self, time_s: float, lag_s: float = 0.0) -> None:
        """Judge the window that ends now."""
        self._told_s = time_s
        if self._due_s is not None and self._due_s <= time_s:
            self._due_s += self._hop_s * (1 + (time_s - self._due_s) // self._hop_s)
        self._window.let_go(time_s)
        voice, why = None, self._deaf
        if (sound := self._window.sound(time_s)) is not None:
            voice, why = self._judge.hear(sound)
        notes = () if voice is not None else (why,)
        result = self._judge.conclude(self._window.watched(), voice, notes)
        self._give(time_s, result, lag_s=lag_s)

    def _give(
        self, time_s: float, result: ClipResult, *, lag_s: float = 0.0, gap_s: float = 0.0
    ) -> None:
        overflows = self._microphone.overflows if self._microphone else 0
        update = StreamUpdate(
            time_s, result, self._inbox.dropped(), lag_s, gap_s, overflows - self._overflows
        )
        self._overflows = overflows
        if self._on_update is None:
            self._updates.put(update)
        elif not self._closed.is_set():
            self._on_update(update)


def check_timing(window_s: float, hop_s: float) -> None:
    """Raise ``ValueError`` unless there are such a window and hop."""
    for name, value in (("window_s", window_s), ("hop_s", hop_s)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name}: expected a positive number of seconds, got {value}")
    if hop_s > window_s:
        raise ValueError(
            f"hop_s: expected at most the window's {window_s} s, got {hop_s}: between them lies "
            "what nobody would judge"
        )


@dataclass(frozen=True, eq=False)
class _Arrived(Frame):
    """A frame, and when it came by the machine's own clock."""

    arrived_s: float = 0.0


class _Inbox:
    """What waits to be judged, in the order it came.

    Args:
        drops: whether the oldest frame gives way when too many wait; else who brings one waits.
    """

    def __init__(self, *, drops: bool) -> None:
        self._drops = drops
        self._items: deque[Frame | Waveform | Lost] = deque()
        self._changed = threading.Condition()
        self._frames = self._dropped = 0
        self._ended = self._closed = False

    def put(self, item: Frame | Waveform | Lost) -> bool:
        """Whether it was taken: not after ``close``."""
        is_frame = isinstance(item, Frame)
        with self._changed:
            while not self._closed and self._is_full(is_frame):
                if not self._drops:
                    self._changed.wait()
                    continue
                oldest = next(i for i, old in enumerate(self._items) if isinstance(old, Frame))
                del self._items[oldest]
                self._frames -= 1
                self._dropped += 1
            if self._closed:
                return False
            self._items.append(item)
            self._frames += is_frame
            self._changed.notify_all()
            return True

    def _is_full(self, is_frame: bool) -> bool:
        too_many = not self._drops and len(self._items) >= MAX_ITEMS
        return too_many or (is_frame and self._frames >= MAX_WAITING)

    def take(self) -> Frame | Waveform | Lost | None:
        """The next; None when there is no more."""
        with self._changed:
            while not self._items and not self._ended and not self._closed:
                self._changed.wait()
            if self._closed or not self._items:
                return None
            item = self._items.popleft()
            self._frames -= isinstance(item, Frame)
            self._changed.notify_all()
            return item

    def dropped(self) -> int:
        """Frames dropped since this was asked last."""
        with self._changed:
            count, self._dropped = self._dropped, 0
            return count

    def end(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Forget what waits."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._frames = 0
            self._changed.notify_all()
