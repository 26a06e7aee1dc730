"""Results for tests, made on the spot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from occam_sdk import (
    LABELS,
    ClipResult,
    Face,
    FaceScores,
    FaceTrack,
    FusionWeights,
    ModalityScores,
)
from occam_sdk.types import TimelineRow


def one_hot(label: str, score: float = 0.7) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(7,) float32 that sums to 1: ``score`` for ``label``, the rest shared by the others."""
    scores = np.full(len(LABELS), (1 - score) / (len(LABELS) - 1), np.float32)
    scores[LABELS.index(label)] = score
    return scores


def seen(label: str, track_id: int | None = 0) -> FaceScores:
    face = Face(np.array([10, 20, 30, 60], np.float32), np.zeros((5, 2), np.float32), 0.9, track_id)
    return FaceScores(face, one_hot(label), 0.5, -0.25)


def result_of(times_s: Sequence[float], labels: Sequence[str | None], **changes: Any) -> ClipResult:
    """A clip with a frame at each time, and a face that shows the label, or no face for None."""
    rows = tuple(
        TimelineRow(index, time_s, seen(label) if label else None)
        for index, (time_s, label) in enumerate(zip(times_s, labels, strict=True))
    )
    face = ModalityScores(one_hot("Happy"), 0.5, -0.25, tuple(times_s[:1]))
    result = ClipResult(
        scores=one_hot("Happy"),
        valence=0.5,
        arousal=-0.25,
        status="no_voice",
        face=face,
        voice=None,
        weights=FusionWeights(face=1.0, voice=0.0),
        timeline=rows,
        duration_s=times_s[-1] + 0.04 if times_s else 0.0,
    )
    return dataclasses.replace(result, **changes)


def of_several(
    times_s: Sequence[float], faces: dict[int, Sequence[str | None]], **changes: Any
) -> ClipResult:
    """A clip with a face of each id, the main one first, that shows these labels; side by side."""
    tracks = []
    for place, (track_id, labels) in enumerate(faces.items()):
        rows = []
        for index, (time_s, label) in enumerate(zip(times_s, labels, strict=True)):
            face = seen(label, track_id) if label else None
            if face:
                face.face.box_xyxy[[0, 2]] += 100 * place
            rows.append(TimelineRow(index, time_s, face))
        first = next((label for label in labels if label), None)
        said = ModalityScores(one_hot(first), 0.5, -0.25, tuple(times_s[:1])) if first else None
        tracks.append(FaceTrack(track_id, said, tuple(rows)))
    labels = next(iter(faces.values()))
    parts = {"timeline": tracks[0].timeline, "tracks": tuple(tracks), "face": tracks[0].scores}
    return result_of(times_s, labels, **(parts | changes))


def nothing(duration_s: float = 2.0) -> ClipResult:
    """A clip without evidence."""
    return ClipResult(
        scores=None,
        valence=None,
        arousal=None,
        status="no_evidence",
        face=None,
        voice=None,
        weights=FusionWeights(0.0, 0.0),
        timeline=(TimelineRow(0, 0.0, None), TimelineRow(1, 0.04, None)),
        duration_s=duration_s,
    )
