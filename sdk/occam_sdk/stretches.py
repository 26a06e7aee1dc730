"""The faces of a clip as arrays, and the stretches in which each shows the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .audio.decode import MIN_PIECE_S, PIECE_S
from .labels import LABELS
from .types import ClipResult, FaceTrack, ModalityScores
from .video.watched import looks_s

SMOOTH_S: Final = 1.0  # scores are averaged over as long around a frame: a blink is no emotion


@dataclass(frozen=True)
class Stretch:
    """Frames one after the other in which a face is seen and shows the same.

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


@dataclass(frozen=True, eq=False)
class Course:
    """One face along a clip of T frames.

    Attributes:
        track_id: of the face.
        said: what it shows over the clip, or None.
        times_s: (T,) float64, of all frames.
        boxes_xyxy: (T, 4) float64, in pixels; NaN where the face is not seen, as in all that follows.
        scores: (T, 7) float64.
        feelings: (T, 2) float64, valence and arousal.
    """

    track_id: int | None
    said: ModalityScores | None
    times_s: NDArray[np.float64]
    boxes_xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]
    feelings: NDArray[np.float64]

    @property
    def name(self) -> str:
        """As people read it: "#3", or nothing for a face that was not followed."""
        return "" if self.track_id is None else f"#{self.track_id}"

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(T,) where the face is seen."""
        return ~np.isnan(self.boxes_xyxy[:, 0])

    @cached_property
    def smooth_scores(self) -> NDArray[np.float64]:
        """(T, 7) the scores averaged over ``SMOOTH_S`` around each frame."""
        return self._smooth(self.scores)

    @cached_property
    def smooth_feelings(self) -> NDArray[np.float64]:
        """(T, 2) valence and arousal, averaged likewise."""
        return self._smooth(self.feelings)

    @cached_property
    def stretches(self) -> tuple[Stretch, ...]:
        """The clip cut where the label changes, or where the face is not seen.

        The label is that of the mean scores of all frames with the face up to ``SMOOTH_S / 2`` before
        and after. A frame stands until the next one, but for a second at most, and the last
        one as long as that before it. Stretches are in order and do not overlap; frames without the
        face are in none.
        """
        places = np.flatnonzero(self.seen)
        if not len(places):
            return ()
        scores, feelings = self.smooth_scores[places], self.feelings[places]
        begins, finishes = self.times_s[places], (self.times_s + looks_s(self.times_s))[places]
        winners = scores.argmax(axis=1)
        goes_on = (winners[1:] == winners[:-1]) & (begins[1:] == finishes[:-1])
        edges = [0, *(np.flatnonzero(~goes_on) + 1).tolist(), len(places)]
        return tuple(
            Stretch(
                float(begins[first]),
                float(finishes[after - 1]),
                LABELS[winners[first]],
                float(scores[first:after, winners[first]].mean()),
                *feelings[first:after].mean(axis=0).tolist(),
            )
            for first, after in pairwise(edges)
        )

    def _smooth(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        means = np.full_like(values, np.nan)
        places = np.flatnonzero(self.seen)
        times_s = self.times_s[places]
        sums = np.cumsum(np.nan_to_num(values[places]), axis=0)
        sums = np.concatenate([np.zeros((1, values.shape[1])), sums])
        first = np.searchsorted(times_s, times_s - SMOOTH_S / 2, "left")
        after = np.searchsorted(times_s, times_s + SMOOTH_S / 2, "right")
        means[places] = (sums[after] - sums[first]) / (after - first)[:, None]
        return means


def courses(result: ClipResult) -> tuple[Course, ...]:
    """The faces that a result tells of, the main one first; where there is none, one never seen.

    Every row of every timeline is made once, here: of an hour they take a second and more.
    """
    tracks = result.tracks or (FaceTrack(None, result.face, result.timeline),)
    return tuple(map(_course, tracks))


def _course(track: FaceTrack) -> Course:
    count = len(track.timeline)
    times_s, boxes = np.empty(count), np.full((count, 4), np.nan)
    scores, feelings = np.full((count, len(LABELS)), np.nan), np.full((count, 2), np.nan)
    for place, row in enumerate(track.timeline):
        times_s[place] = row.time_s
        if row.face is not None:
            boxes[place] = row.face.face.box_xyxy
            scores[place] = row.face.scores
            feelings[place] = row.face.valence, row.face.arousal
    return Course(track.track_id, track.scores, times_s, boxes, scores, feelings)


def heard(result: ClipResult) -> Iterator[tuple[float, float]]:
    """From where to where the pieces of sound went that the voice was judged by."""
    starts = result.voice.evidence_s if result.voice else ()
    for start, following in zip(starts, (*starts[1:], result.duration_s), strict=False):
        # The sound's last piece is longer by a rest too short to be judged by itself.
        last = following >= result.duration_s and start + PIECE_S + MIN_PIECE_S > following
        yield start, following if last else min(start + PIECE_S, following)
