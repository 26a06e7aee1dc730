"""The stretches of a clip in which the main face shows the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .audio.decode import MIN_PIECE_S, PIECE_S
from .labels import LABELS
from .types import ClipResult, FaceScores
from .video.watched import looks_s

SMOOTH_S: Final = 1.0  # scores are averaged over as long around a frame: a blink is no emotion


@dataclass(frozen=True)
class Stretch:
    """Frames one after the other in which the main face is seen and shows the same.

    Attributes:
        start_s, end_s: in seconds; the last frame ends where the next begins.
        label: the class with the highest smoothed score.
        score: the mean of that class's smoothed scores.
        valence, arousal: means over the frames, in [-1, 1].
    """

    start_s: float
    end_s: float
    label: str
    score: float
    valence: float
    arousal: float


def stretches(result: ClipResult) -> tuple[Stretch, ...]:
    """Cut the timeline where the main face's label changes, or where the face is not seen.

    The label is that of the mean scores of all frames with the face up to ``SMOOTH_S / 2`` before
    and after. A frame stands until the next one, but for a second at most, and the last
    one as long as that before it. Stretches are in order and do not overlap; frames without the
    face are in none.
    """
    scores = smoothed(result)
    places = np.flatnonzero(~np.isnan(scores[:, 0]))
    if not len(places):
        return ()
    times_s = np.array([row.time_s for row in result.timeline], np.float64)
    scores, begins, finishes = (
        scores[places],
        times_s[places],
        (times_s + looks_s(times_s))[places],
    )
    feeling = np.array([(face.valence, face.arousal) for face in _faces(result)])
    winners = scores.argmax(axis=1)
    goes_on = (winners[1:] == winners[:-1]) & (begins[1:] == finishes[:-1])
    edges = [0, *(np.flatnonzero(~goes_on) + 1).tolist(), len(places)]
    return tuple(
        Stretch(
            float(begins[first]),
            float(finishes[after - 1]),
            LABELS[winners[first]],
            float(scores[first:after, winners[first]].mean()),
            *feeling[first:after].mean(axis=0).tolist(),
        )
        for first, after in pairwise(edges)
    )


def smoothed(result: ClipResult) -> NDArray[np.float64]:
    """(T, 7) the main face's scores averaged over ``SMOOTH_S`` around each frame; NaN without it."""
    return _smoothed(result, [face.scores for face in _faces(result)], len(LABELS))


def smoothed_feeling(result: ClipResult) -> NDArray[np.float64]:
    """(T, 2) valence and arousal, averaged likewise."""
    return _smoothed(result, [(face.valence, face.arousal) for face in _faces(result)], 2)


def _faces(result: ClipResult) -> list[FaceScores]:
    return [row.face for row in result.timeline if row.face is not None]


def _smoothed(result: ClipResult, values: Sequence[Any], width: int) -> NDArray[np.float64]:
    means = np.full((len(result.timeline), width), np.nan)
    places = [place for place, row in enumerate(result.timeline) if row.face is not None]
    if not places:
        return means
    times_s = np.array([row.time_s for row in result.timeline], np.float64)[places]
    sums = np.cumsum(np.nan_to_num(np.array(values, np.float64)), axis=0)
    sums = np.concatenate([np.zeros((1, width)), sums])
    first = np.searchsorted(times_s, times_s - SMOOTH_S / 2, "left")
    after = np.searchsorted(times_s, times_s + SMOOTH_S / 2, "right")
    means[places] = (sums[after] - sums[first]) / (after - first)[:, None]
    return means


def heard(result: ClipResult) -> Iterator[tuple[float, float]]:
    """From where to where the pieces of sound went that the voice was judged by."""
    starts = result.voice.evidence_s if result.voice else ()
    for start, following in zip(starts, (*starts[1:], result.duration_s), strict=False):
        # The sound's last piece is longer by a rest too short to be judged by itself.
        last = following >= result.duration_s and start + PIECE_S + MIN_PIECE_S > following
        yield start, following if last else min(start + PIECE_S, following)
