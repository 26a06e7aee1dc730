"""What was seen along a clip: every frame, and of each followed face its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..types import Face, FaceScores, FrameScores, TimelineRow

LONGEST_LOOK_S: Final = (
    1.0  # a frame stands for no more time than this, however late the next one is
)


class Watched:
    """Collects frames in order of time, and the scored faces of each as they become known."""

    def __init__(self) -> None:
        self._indices: list[int] = []
        self._times_s: list[float] = []
        self._pixels: list[int] = []
        self._faces: dict[int | None, dict[int, FaceScores]] = {}
        self._embeddings: dict[int | None, list[NDArray[np.float32]]] = {}

    def __len__(self) -> int:
        return len(self._times_s)

    @property
    def span_s(self) -> float:
        """From the first frame to the last, in seconds."""
        return self._times_s[-1] - self._times_s[0] if self._times_s else 0.0

    def add_frame(self, index: int, time_s: float, pixels: int) -> None:
        """One more frame, of so many pixels; its faces follow by ``add_face``."""
        self._pixels.append(pixels)
        self._indices.append(index)
        self._times_s.append(time_s)

    def add_face(self, row: int, face: FaceScores, embedding: NDArray[np.float32]) -> None:
        """A face of the ``row``-th frame; the rows of a track come in order."""
        track = face.face.track_id
        self._faces.setdefault(track, {})[row] = face
        self._embeddings.setdefault(track, []).append(embedding)

    def main_track(self) -> tuple[tuple[TimelineRow, ...], FrameScores | None]:
        """A row for every frame, and the scores of the face seen longest and largest, or None.

        A face counts by the part of the picture that it takes, times the time that it is seen for.
        """
        faces: dict[int, FaceScores] = {}
        scored = None
        if self._faces:
            tracks = {
                track: {row: face.face for row, face in seen.items()}
                for track, seen in self._faces.items()
            }
            track = main_track(tracks, self._times_s, self._pixels)
            faces = self._faces[track]
            scored = FrameScores(
                times_s=np.array([self._times_s[row] for row in faces], np.float64),
                scores=np.stack([face.scores for face in faces.values()]),
                valence_arousal=np.array(
                    [(face.valence, face.arousal) for face in faces.values()], np.float32
                ),
                embeddings=np.stack(self._embeddings[track]),
            )
        timeline = tuple(
            TimelineRow(index, time_s, faces.get(row))
            for row, (index, time_s) in enumerate(zip(self._indices, self._times_s, strict=True))
        )
        return timeline, scored


def main_track(
    tracks: Mapping[int | None, Mapping[int, Face]], times_s: Sequence[float], pixels: Sequence[int]
) -> int | None:
    """The track that counts most: the part of the picture that it takes, times how long it is seen.

    Args:
        tracks: of each followed face, its sightings by the frame's row; at least one.
        times_s: (T,) of every frame of the clip, in seconds, increasing.
        pixels: (T,) how many each frame has.
    """
    looks_s = _looks_s(times_s)
    return max(
        tracks,
        key=lambda track: sum(
            looks_s[row] * face.area / pixels[row] for row, face in tracks[track].items()
        ),
    )


def _looks_s(times_s: Sequence[float]) -> NDArray[np.float64]:
    """(T,) how long each frame stands, in seconds: until the next one."""
    if len(times_s) == 1:
        return np.ones(1)
    steps = np.diff(np.array(times_s, np.float64))
    return np.asarray(np.minimum(np.append(steps, steps[-1]), LONGEST_LOOK_S), np.float64)
