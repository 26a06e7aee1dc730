"""Where a stream's pictures and sound come from: a file, a camera, an address."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from .audio.decode import AudioFile, Resampler
from .errors import MediaError
from .media import probe
from .types import RATE_HZ, Frame, Waveform
from .video.decode import VideoFile, upright

if TYPE_CHECKING:
    from av.container import InputContainer

BACK_OFF_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""How long to wait before a source that is gone is asked again; the last from then on."""

ANSWER_S: Final = 5.0  # within which an address must answer, and then send
TICK_S: Final = 1e-6  # from a frame to one that claims the same time


@dataclass(frozen=True)
class Lost:
    """A live source is not there.

    Attributes:
        time_s: now, on the stream's clock.
        gap_s: since when, in seconds.
        why: in plain words.
        is_sound: whether it is sound that is lost, and not pictures.
    """

    time_s: float
    gap_s: float
    why: str
    is_sound: bool = False


class Source(Protocol):
    """What a stream reads from.

    Attributes:
        name: as the user knows it.
        is_live: whether it goes on however long one looks at a picture.
        has_sound: whether it brings its own.
    """

    name: str
    is_live: bool
    has_sound: bool

    def items(self, closed: threading.Event) -> Iterator[Frame | Waveform | Lost]:
        """Frames whose times strictly increase, and what sounds meanwhile, until it ends or is closed."""


def open_source(
    source: int | str | os.PathLike[str],
    threads: int | None = None,
    *,
    realtime: bool = False,
    begun_s: float | None = None,
) -> Source:
    """A camera's index, an address (``rtsp://``, ``http://`` ...), or a file.

    Args:
        source: any of these.
        threads: that decode it; None is one for each core.
        realtime: a file goes on by itself, as a camera does.
        begun_s: second 0 of a camera, by ``time.monotonic``; None: now.

    Raises:
        MediaError: there is no such file or camera, or the address does not answer.
        TypeError: it is none of these.
    """
    if isinstance(source, (str, os.PathLike)):
        if "://" in str(source):
            return Address(str(source), threads)
        kind = Played if realtime else FileSource
        return kind(Path(source), threads)
    if isinstance(source, int) and not isinstance(source, bool):
        return Camera(source, begun_s=begun_s)
    raise TypeError(
        f"source: expected a camera's index, an address or a file, got {type(source).__name__}; "
        "without a source, push frames yourself"
    )


class FileSource:
    """A file from beginning to end, as fast as it is judged."""

    is_live = False
    has_sound = True

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.name = str(path)
        self._path, self._threads = path, threads
        probe(path)

    def items(self, closed: threading.Event) -> Iterator[Frame | Waveform]:
        """Its pictures, each after what has begun to sound by then."""
        sounds = AudioFile(self._path).chunks()
        sound = next(sounds, None)
        for frame in VideoFile(self._path, self._threads):
            while sound is not None and sound.start_s <= frame.time_s:
                yield sound
                sound = next(sounds, None)
            if closed.is_set():
                return
            yield frame
        while sound is not None and not closed.is_set():
            yield sound
            sound = next(sounds, None)


class Played(FileSource):
    """A file at its own pace; who is too slow misses pictures, as of a camera."""

    is_live = True

    def items(self, closed: threading.Event) -> Iterator[Frame | Waveform]:
        """The same, each when it is due."""
        begun_s: float | None = None
        for item in super().items(closed):
            time_s = item.time_s if isinstance(item, Frame) else item.start_s
            if begun_s is None:
                begun_s = time.monotonic() - time_s
            if closed.wait(max(0.0, begun_s + time_s - time.monotonic())):
                return
            yield item


class Camera:
    """A camera of this machine, asked again when it is unplugged; it brings no sound.

    Args:
        index: of the camera, from 0.
        capture: what opens it, in place of ``cv2.VideoCapture``.
        begun_s: second 0 of its pictures' times, by ``time.monotonic``; None: now.

    Raises:
        MediaError: it cannot be opened.
    """

    is_live = True
    has_sound = False

    def __init__(
        self,
        index: int,
        capture: Callable[[int], Any] | None = None,
        *,
        begun_s: float | None = None,
    ) -> None:
        self.name = f"camera {index}"
        self._clock = Clock(begun_s)
        self._index, self._capture = index, capture or _capture
        self._opened = self._open()
        if self._opened is None:
            raise MediaError(
                f"{self.name}: cannot be opened; see that it is plugged in, that no other program has it, "
                "and that you may use it (group video)"
            )

    def _open(self) -> Any | None:
        opened = self._capture(self._index)
        if opened.isOpened():
            return opened
        opened.release()
        return None

    def items(self, closed: threading.Event) -> Iterator[Frame | Lost]:
        """Its pictures, timed when they come."""
        return again(self._frames, self.name, closed, self._clock)

    def _frames(self, clock: Clock) -> Iterator[Frame]:
        opened = self._opened or self._open()
        self._opened = None
        if opened is None:
            return
        try:
            while True:
                there, image = opened.read()
                if not there:
                    return
                yield clock.frame(clock.now_s(), np.asarray(image, np.uint8))
        finally:
            opened.release()


def _capture(index: int) -> cv2.VideoCapture:
    # OpenCV warns on stderr of a camera that is not there; our error says it, and what to do.
    log = cv2.utils.logging
    level = log.getLogLevel()
    log.setLogLevel(log.LOG_LEVEL_ERROR)
    try:
        return cv2.VideoCapture(index, cv2.CAP_V4L2)  # the driver alone, and not FFmpeg as well
    finally:
        log.setLogLevel(level)


class Address:
    """A network camera, asked again when it stops, or a file on a server; its sound comes with it.

    Args:
        url: as FFmpeg knows it.
        threads: that decode it; None is one for each core.

    Raises:
        MediaError: it does not answer, or sends nothing that plays.
    """

    has_sound = True

    def __init__(self, url: str, threads: int | None = None) -> None:
        self.name, self._threads = url, threads
        try:
            opened = self._open()
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(
                f"{url}: cannot be opened ({error.strerror}); see that it plays in another program"
            ) from error
        self._opened: InputContainer | None = opened
        self.is_live = opened.duration is None
        """A file on a server says how long it is."""

    def _open(self) -> InputContainer:
        options = {"rtsp_transport": "tcp"} if self.name.lower().startswith("rtsp") else {}
        return av.open(self.name, options=options, timeout=(ANSWER_S, ANSWER_S))

    def items(self, closed: threading.Event) -> Iterator[Frame | Waveform | Lost]:
        """Pictures and sound by the stream's own timestamps; 0 is when it was first asked."""
        clock = Clock()
        if self.is_live:
            return again(self._decoded, self.name, closed, clock)
        return self._decoded(clock)

    def _decoded(self, clock: Clock) -> Iterator[Frame | Waveform]:
        opened, self._opened = self._opened or self._open(), None
        with opened as container:
            tracks = [*container.streams.video[:1], *container.streams.audio[:1]]
            if not tracks:
                raise MediaError(f"{self.name}: has neither a video nor an audio track")
            for pictures in container.streams.video[:1]:
                pictures.thread_count = self._threads or 0
            resampler, reformatter = Resampler(), VideoReformatter()
            first_s, start_s = None, clock.now_s()
            for packet in container.demux(tracks):
                for decoded in packet.decode():
                    if not isinstance(decoded, (av.AudioFrame, av.VideoFrame)):
                        continue
                    if decoded.pts is None or not packet.stream.time_base:
                        continue
                    at_s = float(decoded.pts * packet.stream.time_base)
                    first_s = at_s if first_s is None else first_s
                    time_s = start_s + at_s - first_s
                    if isinstance(decoded, av.AudioFrame):
                        for samples in resampler.feed(decoded):
                            yield Waveform(samples, time_s)
                            time_s += len(samples) / RATE_HZ
                    elif isinstance(packet.stream, VideoStream):
                        image = upright(decoded, packet.stream, reformatter, self._threads)
                        yield clock.frame(time_s, image)


class Clock:
    """Seconds since a source was first asked; numbers and times of its frames.

    Args:
        begun_s: second 0, by ``time.monotonic``; None: now.
    """

    def __init__(self, begun_s: float | None = None) -> None:
        self._begun_s = time.monotonic() if begun_s is None else begun_s
        self._last_s = -1.0
        self._count = 0

    def now_s(self) -> float:
        """By the machine's clock, but later than any frame before."""
        return max(time.monotonic() - self._begun_s, self._last_s + TICK_S)

    def frame(self, time_s: float, image: NDArray[np.uint8]) -> Frame:
        """The next, of this time, or as soon after the one before as there is a time."""
        self._last_s = max(time_s, self._last_s + TICK_S)
        self._count += 1
        return Frame(self._count - 1, self._last_s, image)


def again(
    read: Callable[[Clock], Iterator[Any]],
    name: str,
    closed: threading.Event,
    clock: Clock,
) -> Iterator[Any]:
    """What ``read`` gives, begun anew whenever it stops, after a while that grows; until closed.

    Args:
        read: opens the source and gives what it sends.
        name: of the source.
        closed: ends it, also while it waits.
        clock: of the source.
    """
    gone_s: float | None = None
    tries = 0
    while not closed.is_set():
        why = "sends no more"
        try:
            for item in read(clock):
                if gone_s is not None:
                    back_s = clock.now_s()
                    yield Lost(back_s, back_s - gone_s, f"{name} is back")
                    gone_s, tries = None, 0
                    continue  # its time is older than that of the gap's end
                if closed.is_set():
                    return
                yield item
        except (av.error.FFmpegError, MediaError, OSError) as error:
            why = str(error).removeprefix(f"{name}: ")
        if closed.is_set():
            return
        now_s = clock.now_s()
        gone_s = now_s if gone_s is None else gone_s
        wait_s = BACK_OFF_S[min(tries, len(BACK_OFF_S) - 1)]
        yield Lost(now_s, now_s - gone_s, f"{name}: {why}; asked again in {wait_s:g} s")
        tries += 1
        closed.wait(wait_s)
