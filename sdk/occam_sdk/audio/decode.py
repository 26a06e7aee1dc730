"""Sound of a clip as mono 16 kHz, in pieces, on the clock of its pictures."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from ..media import RESET_S, Damage, audio_stream, decode, open_media, start_s, time_s
from ..types import RATE_HZ, Waveform

PIECE_S: Final = 6.0
"""Longest piece that is scored at once, in seconds: the voice model has learnt from utterances of 2
to 5 s, and functionals over minutes mean something else."""

MIN_PIECE_S: Final = 1.5  # a rest shorter than this stays with the piece before it
GAP_S: Final = 0.25  # less than this between two sounds is a rough timestamp, not a pause


class AudioFile:
    """The sound of a file in pieces of at most 7.5 s, one at a time; iterate once.

    After the last piece ``damage`` tells what was lost.

    Example:
        >>> from occam_sdk import demo_clip
        >>> [round(piece.duration_s, 1) for piece in AudioFile(demo_clip())]
        [3.1]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self.damage = Damage()
        self.end_s = 0.0
        """When the last sample so far sounds, in seconds."""

    def __iter__(self) -> Iterator[Waveform]:
        return pieces(self.chunks())

    def chunks(self) -> Iterator[Waveform]:
        """The same as it is decoded, some hundredths of a second at a time, in place of pieces."""
        with open_media(self._path) as container:
            stream = audio_stream(container)
            if stream is None:
                return
            start, position_s = start_s(container), None
            last_pts, overlaps, left_out_s = -math.inf, False, 0.0
            resampler = Resampler()
            for sound in decode(container, stream, self.damage):
                due_s = time_s(sound, stream, start)
                if position_s is None:
                    position_s = due_s or 0.0
                elif due_s is not None:
                    late_s = due_s - position_s
                    if late_s > GAP_S:
                        told = f"no sound from {position_s:.1f} s to {due_s:.1f} s"
                        self.damage.notes.append(told)
                        position_s = due_s
                    elif late_s < -RESET_S:
                        start += late_s
                    # Many small overlaps, or a sound card whose clock is fast, must not add up.
                    overlaps = -RESET_S <= late_s < (0 if overlaps else -GAP_S)
                    stands, last_pts = sound.pts <= last_pts, sound.pts
                    if overlaps and not stands:
                        left_out_s += sound.samples / sound.sample_rate
                        continue
                for samples in resampler.feed(sound):
                    yield Waveform(samples, position_s)
                    position_s = self.end_s = position_s + len(samples) / RATE_HZ
            for samples in resampler.flush():
                assert position_s is not None  # there is a rest only after a sound
                yield Waveform(samples, position_s)
                position_s = self.end_s = position_s + len(samples) / RATE_HZ
            if left_out_s:
                self.damage.notes.append(
                    f"{left_out_s:.1f} s of sound left out: by its timestamps it overlaps what comes before"
                )


class Resampler:
    """Sounds of any rate, layout and sample format to (N,) float32, mono, 16 kHz, in [-1, 1]."""

    def __init__(self) -> None:
        self._kind: tuple[str, str, int] | None = None
        self._resampler = av.AudioResampler(format="fltp", rate=RATE_HZ)

    def feed(self, sound: av.AudioFrame) -> Iterator[NDArray[np.float32]]:
        """What is ready after one more sound."""
        kind = (sound.format.name, sound.layout.name, sound.sample_rate)
        if self._kind is not None and kind != self._kind:  # in joined or damaged files
            yield from self.flush()
            self._resampler = av.AudioResampler(format="fltp", rate=RATE_HZ)
        self._kind = kind
        yield from map(_mono, self._resampler.resample(sound))

    def flush(self) -> Iterator[NDArray[np.float32]]:
        """The rest."""
        yield from map(_mono, self._resampler.resample(None))


def _mono(sound: av.AudioFrame) -> NDArray[np.float32]:
    # FFmpeg's own downmix of float sound adds up to 3 dB and so leaves [-1, 1].
    channels = np.clip(np.nan_to_num(sound.to_ndarray(), nan=0.0), -1, 1)
    return np.asarray(channels.mean(axis=0), np.float32)


def pieces(chunks: Iterator[Waveform]) -> Iterator[Waveform]:
    """Cut sound into pieces of ``PIECE_S``; the last is up to ``MIN_PIECE_S`` longer.

    A pause in the timestamps ends a piece, too.
    """
    piece, rest = round(PIECE_S * RATE_HZ), round(MIN_PIECE_S * RATE_HZ)
    buffer: NDArray[np.float32] = np.zeros(0, np.float32)
    start = 0.0
    for chunk in chunks:
        if not len(buffer) or chunk.start_s > start + len(buffer) / RATE_HZ + GAP_S:
            if len(buffer):
                yield Waveform(buffer, start)
            buffer, start = np.zeros(0, np.float32), chunk.start_s
        buffer = np.concatenate([buffer, chunk.samples])
        while len(buffer) >= piece + rest:
            yield Waveform(buffer[:piece].copy(), start)
            buffer, start = buffer[piece:], start + PIECE_S
    if len(buffer):
        yield Waveform(buffer, start)
