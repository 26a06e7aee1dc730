"""Which frames and sounds of a long clip belong to which of its segments, one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from .types import RATE_HZ, Waveform

MIN_SOUND_S: Final = 1.0  # less than this cannot be judged

ROUNDING: Final = 1e-9  # of a segment: 0.6 / 0.2 is a little less than 3

T = TypeVar("T")


class Groups(Generic[T]):
    """Items that come with the number of their group, taken group by group; none is held but the next.

    Example:
        >>> groups = Groups(iter([(0, "a"), (0, "b"), (2, "c")]))
        >>> groups.number, list(groups.take(0)), groups.number, list(groups.take(2)), groups.number
        (0, ['a', 'b'], 2, ['c'], None)
    """

    def __init__(self, numbered: Iterator[tuple[int, T]]) -> None:
        self._numbered = numbered
        self._next: tuple[int, T] | None = None
        self._begun = False

    @property
    def number(self) -> int | None:
        """Of the next item; None if there is none."""
        if not self._begun:
            self._begun, self._next = True, next(self._numbered, None)
        return None if self._next is None else self._next[0]

    def take(self, number: int) -> Iterator[T]:
        """The items up to this group's last."""
        while self.number is not None and self.number <= number:
            assert self._next is not None
            item = self._next[1]
            self._next = next(self._numbered, None)
            yield item


def number_of(time_s: float, segment_s: float) -> int:
    """The segment, from 0, in which a time lies; what comes before 0 lies in the first.

    Example:
        >>> [number_of(time_s, 0.2) for time_s in (-0.02, 0.0, 0.19, 0.2, 0.6)]
        [0, 0, 0, 1, 3]
    """
    return max(0, math.floor(time_s / segment_s + ROUNDING))


def in_segments(sound: Iterator[Waveform], segment_s: float) -> Iterator[tuple[int, Waveform]]:
    """Sound cut where segments end, each part with the segment's number.

    Sound that ends less than ``MIN_SOUND_S``, or half a segment, after a segment has begun belongs to the one
    before: an encoder pads more than the pictures last.
    """
    held: list[Waveform] = []  # the first sounds of a segment that may be too short
    last, length_s = None, 0.0
    for number, part in _cut(sound, segment_s):
        if number != last:
            yield from ((last or 0, waveform) for waveform in held)
            before, last, held, length_s = last, number, [], 0.0
        length_s += part.duration_s
        held.append(part)
        if last == 0 or length_s >= min(MIN_SOUND_S, segment_s / 2):
            yield from ((last, waveform) for waveform in held)
            held.clear()
    if held and last is not None:
        yield from ((last - 1 if before == last - 1 else last, waveform) for waveform in held)


def _cut(sound: Iterator[Waveform], segment_s: float) -> Iterator[tuple[int, Waveform]]:
    """The same sound in parts that each lie in one segment."""
    length = segment_s * RATE_HZ
    for waveform in sound:
        first, samples = round(waveform.start_s * RATE_HZ), waveform.samples
        while len(samples):
            number = max(0, math.floor(first / length))
            count = min(len(samples), math.ceil((number + 1) * length) - first)
            yield number, Waveform(samples[:count], first / RATE_HZ)
            first, samples = first + count, samples[count:]
