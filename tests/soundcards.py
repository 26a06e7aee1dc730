"""A stand-in for the package sounddevice: the part of its interface that we call, with what PortAudio does.

As the real one it reuses a block's memory for the next, calls back in a thread of its own, tells times by a
clock of its own, names devices by number or part of a name, and refuses what a device cannot do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORIGIN_S = 1_795_482_010.0  # of PortAudio's clock; an older one counts from 1970
WAY_S = 0.08  # from the microphone to the callback
TONE_HZ = 440


class PortAudioError(Exception):
    """As the real one: a text and an error code."""


@dataclass
class Card:
    """A device, and how it behaves.

    Attributes:
        rates_hz: it can be opened at, the default first.
        blocks: after which it is unplugged.
        overflows: numbers of the blocks before which sound was lost.
        tells_times: whether it knows when a block sounded.
        busy: whether another program has it.
    """

    name: str
    inputs: int = 2
    rates_hz: tuple[int, ...] = (16_000, 48_000)
    blocks: int | None = None
    overflows: tuple[int, ...] = ()
    tells_times: bool = True
    busy: bool = False
    opened: list[Any] = field(default_factory=list)


class Soundcards(ModuleType):
    """The module ``sounddevice`` of a machine with these devices; the first that hears is the default."""

    PortAudioError = PortAudioError

    def __init__(self, *cards: Card) -> None:
        super().__init__("sounddevice")
        self.cards = cards
        self.InputStream = lambda **asked: InputStream(self, **asked)

    def query_devices(self, device: int | str | None = None, kind: str | None = None) -> Any:
        if device is None and kind is None:
            return tuple(self._info(index) for index in range(len(self.cards)))
        index = self._index(device)
        if not 0 <= index < len(self.cards):
            raise PortAudioError(f"Error querying device {index}")
        info = self._info(index)
        if kind == "input" and info["max_input_channels"] < 1:
            raise ValueError(f"Not an input device: {info['name']!r}")
        return info

    def check_input_settings(
        self,
        device: int | str | None = None,
        channels: int | None = None,
        dtype: str | None = None,
        extra_settings: object = None,
        samplerate: float | None = None,
    ) -> None:
        card = self.cards[self._index(device)]
        if samplerate not in card.rates_hz:
            raise PortAudioError("Invalid sample rate", -9997)
        if channels is not None and channels > card.inputs:
            raise PortAudioError("Invalid number of channels", -9998)

    def _index(self, device: int | str | None) -> int:
        if device is None:
            hears = [index for index, card in enumerate(self.cards) if card.inputs]
            return hears[0] if hears else -1
        if isinstance(device, int):
            return device
        fits = [
            index
            for index, card in enumerate(self.cards)
            if card.inputs and device.lower() in card.name.lower()
        ]
        if len(fits) != 1:
            raise ValueError(f"No input device matching {device!r}, or several:\n{fits}")
        return fits[0]

    def _info(self, index: int) -> dict[str, Any]:
        card = self.cards[index]
        return {
            "name": card.name,
            "index": index,
            "max_input_channels": card.inputs,
            "default_samplerate": float(card.rates_hz[0]),
        }


class InputStream:
    """Plays a tone to the callback: on the left at full size, on the right at half of it."""

    def __init__(
        self,
        cards: Soundcards,
        samplerate: float,
        blocksize: int,
        device: int,
        channels: int,
        dtype: str,
        latency: float,
        callback: Callable[[NDArray[np.float32], int, Any, Any], None],
    ) -> None:
        self.card = cards.cards[device]
        if self.card.busy:
            raise PortAudioError("Error opening InputStream: Device unavailable", -9985)
        cards.check_input_settings(device, channels, dtype, None, samplerate)
        self.samplerate, self.blocksize, self.channels = samplerate, blocksize, channels
        self.latency = latency
        self.closed = False
        self.longest_call_s = 0.0
        self._callback = callback
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self.card.opened.append(self)

    def start(self) -> None:
        self.begun_s = time.monotonic()
        self._thread.start()

    @property
    def active(self) -> bool:
        return self._thread.is_alive() and not self._stop.is_set()

    def abort(self, ignore_errors: bool = True) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def close(self, ignore_errors: bool = True) -> None:
        self.closed = True

    def _play(self) -> None:
        memory = np.empty((self.blocksize, self.channels), np.float32)
        number = 0
        while number != self.card.blocks:
            sounded_s = number * self.blocksize / self.samplerate  # its first sample
            due_s = self.begun_s + sounded_s + WAY_S
            if self._stop.wait(max(0.0, due_s - time.monotonic())):
                return
            seconds = sounded_s + np.arange(self.blocksize) / self.samplerate
            memory[:] = 0.5 * np.sin(2 * np.pi * TONE_HZ * seconds)[:, None]
            memory[:, 1:] /= 2
            now_s = time.monotonic()
            times = SimpleNamespace(
                currentTime=ORIGIN_S + now_s,
                inputBufferAdcTime=ORIGIN_S + self.begun_s + sounded_s
                if self.card.tells_times
                else 0.0,
                outputBufferDacTime=0.0,
            )
            status = SimpleNamespace(input_overflow=number in self.card.overflows)
            self._callback(memory, self.blocksize, times, status)
            self.longest_call_s = max(self.longest_call_s, time.monotonic() - now_s)
            memory[:] = np.nan  # it is the driver's again
            number += 1
