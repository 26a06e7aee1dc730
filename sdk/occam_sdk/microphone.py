"""A microphone of this machine, on the clock of a stream, through PortAudio."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from .audio.decode import Resampler
from .errors import BackendError, MediaError
from .sources import Clock, Lost, again
from .types import RATE_HZ, Waveform

BLOCK_S: Final = 0.02  # that the driver hands over at once
BUFFER_S: Final = (
    0.2  # that it keeps: with its own 40 ms a busy machine loses sound, and is not told
)
CHANNELS: Final = 2  # at most, of which the mean is taken; ALSA's virtual devices claim 128
LONGEST_WAY_S: Final = 2.0  # from the microphone to us; some drivers say 0 for when it sounded
SILENT_S: Final = 5.0  # a microphone that hears nothing sends zeros; one that is gone nothing
POLL_S: Final = 0.1


class Microphone:
    """What a microphone hears; one that is gone is asked again.

    PortAudio lists devices once in a process: what is plugged in again is heard if it is still what it was.

    Args:
        device: number or part of the name, as ``python -m sounddevice`` lists them; True: the
            system's default.
        begun_s: second 0 of the stream, by ``time.monotonic``.

    Raises:
        BackendError: the package sounddevice or the library PortAudio is not there.
        MediaError: there is no such microphone, or it cannot be opened.
        TypeError: ``device`` is none of these.
    """

    is_live = True
    has_sound = True

    def __init__(self, device: int | str | bool, begun_s: float) -> None:
        if not isinstance(device, (int, str)):
            raise TypeError(
                "microphone: expected True, a number or a part of a name, got "
                f"{type(device).__name__}"
            )
        self._sounddevice = load_sounddevice()
        self._begun_s = begun_s
        self._blocks: queue.SimpleQueue[tuple[NDArray[np.float32], float]] = queue.SimpleQueue()
        self.overflows = 0
        """How often sound was lost, since the machine was too busy to fetch it in time."""
        info = self._find(device)
        self._index: int = info["index"]
        self.name = f"microphone {info['index']} ({info['name']})"
        self._asked = {
            "device": self._index,
            "channels": min(CHANNELS, info["max_input_channels"]),
            "dtype": "float32",
        }
        self._rate_hz = self._rate(round(info["default_samplerate"]))
        self._opened: Any | None = self._open()

    def _open(self) -> Any:
        try:
            return self._sounddevice.InputStream(
                samplerate=self._rate_hz,
                blocksize=round(BLOCK_S * self._rate_hz),
                latency=BUFFER_S,
                callback=self._hear,
                **self._asked,
            )
        except self._sounddevice.PortAudioError as error:
            raise MediaError(
                f"{self.name}: cannot be opened ({error}); see that no other program has it and that "
                f"you may use it (group audio), or name another: {self._others()}"
            ) from error

    def _find(self, device: int | str | bool) -> dict[str, Any]:
        """What PortAudio knows of it."""
        name = None if device is True else device
        try:
            found: dict[str, Any] = self._sounddevice.query_devices(name, "input")
        except (ValueError, self._sounddevice.PortAudioError) as error:
            others = self._others()
            if device is True:
                raise MediaError(
                    f"microphone: this machine has no default one; there are: {others}"
                ) from error
            raise MediaError(
                f"microphone {device!r}: expected the number of one, or a part of its name that no other "
                f"has; there are: {others}"
            ) from error
        return found

    def _others(self) -> str:
        """The microphones there are, but for this one."""
        own = getattr(self, "_index", None)
        return (
            ", ".join(each for index, each in listed(self._sounddevice) if index != own) or "none"
        )

    def _rate(self, default_hz: int) -> int:
        """16 kHz if the device has it, else what it likes best."""
        try:
            self._sounddevice.check_input_settings(samplerate=RATE_HZ, **self._asked)
        except self._sounddevice.PortAudioError:
            return default_hz
        return RATE_HZ

    def _hear(self, samples: NDArray[np.float32], count: int, times: Any, status: Any) -> None:
        """A block, (N, channels); called by the driver's thread, which must never wait."""
        # PortAudio's clock has an origin of its own, and may be set: only its differences count.
        now_s = time.monotonic()
        way_s = times.currentTime - times.inputBufferAdcTime
        if way_s > LONGEST_WAY_S:
            way_s = 0.0
        way_s = max(way_s, count / self._rate_hz)  # nothing is here before it has sounded
        self.overflows += bool(status.input_overflow)
        self._blocks.put((samples.copy(), now_s - way_s - self._begun_s))

    def items(self, closed: threading.Event) -> Iterator[Waveform | Lost]:
        """What it hears from now on, some hundredths of a second at a time, timed when it sounded."""

        def heard(_clock: Clock) -> Iterator[Waveform]:
            return self._heard(closed)

        try:
            for item in again(heard, self.name, closed, Clock(self._begun_s)):
                yield replace(item, is_sound=True) if isinstance(item, Lost) else item
        finally:
            if self._opened is not None:  # closed before it was heard at all
                self._opened.close()

    def _heard(self, closed: threading.Event) -> Iterator[Waveform]:
        opened, self._opened = self._opened or self._open(), None
        self._blocks = queue.SimpleQueue()
        resampler = Resampler()
        try:
            opened.start()
            last_s = time.monotonic()
            while not closed.is_set():
                try:
                    samples, time_s = self._blocks.get(timeout=POLL_S)
                except queue.Empty:
                    if not opened.active or time.monotonic() > last_s + SILENT_S:
                        raise MediaError(
                            f"{self.name}: sends no more; plug it in again, or name another: "
                            f"{self._others()}"
                        ) from None
                    continue
                last_s = time.monotonic()
                for mono in resampler.feed(_sound(samples, self._rate_hz)):
                    yield Waveform(mono, time_s)
                    time_s += len(mono) / RATE_HZ
        except self._sounddevice.PortAudioError as error:
            raise MediaError(
                f"{self.name}: fails ({error}); plug it in again, or name another: {self._others()}"
            ) from error
        finally:
            opened.abort()
            opened.close()


def load_sounddevice() -> Any:
    """The package sounddevice.

    Raises:
        BackendError: it or the library PortAudio is not there.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise BackendError(
            'a microphone needs sounddevice: pip install "occam-sdk[live]"'
        ) from error
    except OSError as error:  # its wheel for Linux brings no PortAudio
        raise BackendError(
            "a microphone needs the library PortAudio: sudo apt install libportaudio2"
        ) from error
    return sounddevice


def listed(sounddevice: Any) -> list[tuple[int, str]]:
    """Number of each microphone, and how it is told to people."""
    return [
        (index, f"{index} ({info['name']})")
        for index, info in enumerate(sounddevice.query_devices())
        if info["max_input_channels"] > 0
    ]


def _sound(samples: NDArray[np.float32], rate_hz: int) -> av.AudioFrame:
    """(N, 1 or 2) as FFmpeg knows it."""
    layout = ("mono", "stereo")[samples.shape[1] - 1]
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "fltp", layout)
    frame.sample_rate = rate_hz
    return frame
