"""Sound of a clip as mono 16 kHz, in pieces, on the clock of its pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from ..media import Damage, audio_stream, decode, open_media, start_s
from ..types import RATE_HZ, Waveform

PIECE_S: Final = 6.0
"""Longest piece that is scored at once, in seconds: the voice model has learnt from utterances of 2 to
5 s, and functionals over minutes mean something else."""

MIN_PIECE_S: Final = 1.5  # a rest shorter than this stays with the piece before it


class AudioFile:
    """The sound of a file in pieces of at most 7.5 s, one at a time; iterate once.

    After the last piece ``damage`` tells what was lost.

    Example:
        >>> from occam_sdk import demo_clip
        >>> [round(piece.duration_s, 1) for piece in AudioFile(demo_clip())]
        [3.0]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self.damage = Damage()
        self.end_s = 0.0
        """When the last sample so far sounds, in seconds."""

    def __iter__(self) -> Iterator[Waveform]:
        return pieces(self._chunks())

    def _chunks(self) -> Iterator[Waveform]:
        with open_media(self._path) as container:
            stream = audio_stream(container)
            if stream is None:
                return
            resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
            start = start_s(container)
            position_s: float | None = None
            for sound in decode(container, stream, self.damage):
                if position_s is None:
                    position_s = 0.0 if sound.time is None else sound.time - start
                for resampled in resampler.resample(sound):
                    chunk = _waveform(resampled, position_s)
                    position_s = self.end_s = position_s + chunk.duration_s
                    yield chunk
            if position_s is not None:
                for resampled in resampler.resample(None):
                    yield _waveform(resampled, position_s)


def pieces(chunks: Iterator[Waveform]) -> Iterator[Waveform]:
    """The same sound, cut into pieces of ``PIECE_S``; the last is up to ``MIN_PIECE_S`` longer."""
    piece, rest = round(PIECE_S * RATE_HZ), round(MIN_PIECE_S * RATE_HZ)
    buffer: NDArray[np.float32] = np.zeros(0, np.float32)
    start: float | None = None
    for chunk in chunks:
        start = chunk.start_s if start is None else start
        buffer = np.concatenate([buffer, chunk.samples])
        while len(buffer) >= piece + rest:
            yield Waveform(buffer[:piece].copy(), start)
            buffer, start = buffer[piece:], start + PIECE_S
    if start is not None and len(buffer):
        yield Waveform(buffer, start)


def _waveform(sound: av.AudioFrame, start_s: float) -> Waveform:
    samples = sound.to_ndarray().reshape(-1).astype(np.float32)
    return Waveform(np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0), start_s)
