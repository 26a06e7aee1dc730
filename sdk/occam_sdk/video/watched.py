"""What was seen along a clip: every frame, and of each followed face its scores."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final, overload

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..labels import LABELS
from ..types import Face, FaceScores, FrameScores, TimelineRow

LONGEST_LOOK_S: Final = (
    1.0  # a frame stands for no more time than this, however late the next one is
)
GONE_S: Final = 10.0  # a face that is away for longer than this,
GONE_FRAMES: Final = 12  # and for more frames than these, has another track when it comes back

_FRAME: Final = np.dtype([("index", np.int64), ("time_s", np.float64), ("pixels", np.int32)])
_FACE: Final = np.dtype(
    [
        ("row", np.int32),  # of its frame
        ("confidence", np.float32),
        ("valence", np.float32),
        ("arousal", np.float32),
        ("box_xyxy", np.float32, (4,)),
        ("landmarks", np.float32, (5, 2)),
        ("scores", np.float32, (len(LABELS),)),
    ]
)


class Watched:
    """Collects frames in order of time, and the scored faces of each as they become known.

    What it holds grows by 20 bytes a frame and 100 bytes a face and frame, and not with the number
    of faces that come and go: of those that are over only the ``most`` that count most are kept. Of the
    embeddings it keeps those that may still be picked, see ``Candidates``.

    Args:
        chunks: n of the frame selection; without it every frame counts as picked.
        most: faces that are told of.

    Example:
        >>> import numpy as np
        >>> face = Face(np.array([0, 0, 9, 9], np.float32), np.zeros((5, 2), np.float32), 0.9, 0)
        >>> watched = Watched(chunks=2)
        >>> for row, score in enumerate([0.5, 0.9, 0.6, 0.8, 0.7]):
        ...     watched.add_frame(row, row / 25, pixels=640 * 360)
        ...     scores = np.array([score, 0, 0, 0, 0, 0, 0], np.float32)
        ...     watched.add_face(row, FaceScores(face, scores, 0.5, 0.1), np.zeros(512, np.float32))
        >>> timeline, scored = watched.main_track()
        >>> len(timeline), scored.times_s.tolist()
        (5, [0.04, 0.12])
    """

    def __init__(self, chunks: int | None = None, most: int = 1) -> None:
        self._chunks, self._most = chunks, most
        self._frames = _Table(_FRAME)
        self._tracks: dict[int | None, _Track] = {}
        self._over: list[tuple[_Track, float]] = []  # those that count most, and how much
        self._born = 0

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def span_s(self) -> float:
        """From the first frame to the last, in seconds."""
        times_s = self._frames.rows["time_s"]
        return float(times_s[-1] - times_s[0]) if len(times_s) else 0.0

    def add_frame(self, index: int, time_s: float, pixels: int) -> None:
        """One more frame, of so many pixels; its faces follow by ``add_face``."""
        self._frames.append((index, time_s, pixels))

    def add_face(self, row: int, face: FaceScores, embedding: NDArray[np.float32]) -> None:
        """A face of the ``row``-th frame with its (512,) float32 embedding; rows come in order."""
        name = face.face.track_id
        if name not in self._tracks:
            self._let_go(row)
            self._tracks[name] = _Track(name, self._born, Candidates(self._chunks))
            self._born += 1
        track = self._tracks[name]
        track.faces.append(
            (
                row,
                face.face.confidence,
                face.valence,
                face.arousal,
                face.face.box_xyxy,
                face.face.landmarks,
                face.scores,
            )
        )
        track.candidates.add(float(face.scores.max()), embedding)

    def main_track(self) -> tuple[Timeline, FrameScores | None]:
        """A row for every frame, and the scores of the face seen longest and largest, or None."""
        tracks = self.main_tracks()
        return (
            tracks[0] if tracks else (Timeline(self._frames.rows, np.empty(0, _FACE), None), None)
        )

    def main_tracks(self) -> list[tuple[Timeline, FrameScores | None]]:
        """A row for every frame, and the scores, of each of the faces that count most, these first.

        A face counts by the part of the picture that it takes, times the time that it is seen for.
        Of its frames only those that are picked are returned, at most one a chunk: picking from
        them once more picks them all.
        """
        return [self._told(track) for track, _ in self._main([*self._tracks.values()])]

    def _told(self, track: _Track) -> tuple[Timeline, FrameScores | None]:
        frames, faces = self._frames.rows, track.faces.rows
        timeline = Timeline(frames, faces, track.name)
        if self._chunks is None:
            picked = np.arange(len(faces))
        else:
            picked = _core.select_frames(faces["scores"], self._chunks)
        if len(picked) == 0:
            return timeline, None
        return timeline, FrameScores(
            times_s=frames["time_s"][faces["row"][picked]],
            scores=faces["scores"][picked],
            valence_arousal=np.stack([faces["valence"][picked], faces["arousal"][picked]], axis=1),
            embeddings=np.stack([track.candidates[place] for place in picked.tolist()]),
        )

    def _let_go(self, row: int) -> None:
        """Forget the faces that will not come back, but for those that count most."""
        times_s = self._frames.rows["time_s"]
        since = {name: int(track.faces.rows["row"][-1]) for name, track in self._tracks.items()}
        gone = [
            self._tracks.pop(name)
            for name, last in since.items()
            if row - last > GONE_FRAMES and times_s[row] - times_s[last] > GONE_S
        ]
        self._over = self._main(gone)

    def _main(self, tracks: list[_Track]) -> list[tuple[_Track, float]]:
        """The tracks that count most of these and those that are over, of equals the first seen."""
        frames = self._frames.rows
        known = [*self._over]
        for track in tracks:
            faces = track.faces.rows
            sides = faces["box_xyxy"][:, 2:] - faces["box_xyxy"][:, :2]
            areas = np.fmax(sides, 0).prod(axis=1)
            known.append((track, _weight(faces["row"], areas, frames["time_s"], frames["pixels"])))
        return sorted(known, key=lambda pair: (-pair[1], pair[0].born))[: self._most]


class Timeline(Sequence[TimelineRow]):
    """A row for every frame of a clip, made when it is asked for; a part of it is a tuple of rows.

    Nothing in it can be changed, and a row is a new value each time. It holds 20 bytes a frame and
    100 a face, where the rows themselves would take 2 kB.

    Args:
        frames: (T,) index, time and pixels of each, as ``Watched`` collects them; kept, not copied.
        faces: (K,) of one track, each of another frame, in order; kept, not copied.
        track_id: of that track.
    """

    def __init__(
        self, frames: NDArray[np.void], faces: NDArray[np.void], track_id: int | None
    ) -> None:
        self._frames, self._faces, self.track_id = frames, faces, track_id

    def __repr__(self) -> str:
        return f"<Timeline of {len(self)} frames, {len(self._faces)} with the main face>"

    def __len__(self) -> int:
        return len(self._frames)

    @overload
    def __getitem__(self, place: int) -> TimelineRow: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[TimelineRow, ...]: ...
    def __getitem__(self, place: int | slice) -> TimelineRow | tuple[TimelineRow, ...]:
        rows = range(len(self))[place]
        return tuple(map(self._row, rows)) if isinstance(rows, range) else self._row(rows)

    def _row(self, row: int) -> TimelineRow:
        number, time_s, _ = self._frames[row].item()
        place = bisect_left(self._faces["row"], row)
        seen = place < len(self._faces) and self._faces["row"][place] == row
        return TimelineRow(number, time_s, self._face(self._faces[place]) if seen else None)

    def _face(self, cells: np.void) -> FaceScores:
        box, landmarks, confidence = cells["box_xyxy"], cells["landmarks"], cells["confidence"]
        return FaceScores(
            Face(box.copy(), landmarks.copy(), float(confidence), self.track_id),
            cells["scores"].copy(),
            float(cells["valence"]),
            float(cells["arousal"]),
        )


class Candidates:
    """The embeddings of those frames of a track that the selection may still pick.

    ``select_frames`` picks a frame if it is the first of the best of its chunk, and the chunks of T
    frames are floor(T/n) frames long, or one more. So a frame is out for good, whatever follows, as
    soon as the longest stretch of frames of which it is the first of the best is shorter than that.
    The stretch begins after the last frame before it that is as good, and ends before the next that
    is better: those that none has bettered yet are on a stack, the others wait in a heap until the
    chunks have outgrown their stretches.

    Of T scores in random order about 2 n are left and a few more: 40 to 50 for n = 16 and T = 20,000. Of
    scores that only rise, only fall or stay the same nearly all are, 2 kB each, and rightly: of those
    that fall, frame j is the first of the second chunk of a track that turns out to have j n frames.

    Args:
        chunks: n of the selection; None keeps every embedding.
    """

    def __init__(self, chunks: int | None) -> None:
        self._chunks = chunks
        self._count = 0
        self._embeddings: dict[int, NDArray[np.float32]] = {}
        self._unbettered: list[tuple[float, int, int]] = []  # score, place, start of its stretch
        self._bettered: list[tuple[int, int]] = []  # length of its stretch, place

    def __len__(self) -> int:
        return len(self._embeddings)

    def __getitem__(self, place: int) -> NDArray[np.float32]:
        """(512,) of the ``place``-th frame; ``KeyError`` if it cannot be picked any more."""
        return self._embeddings[place]

    def add(self, score: float, embedding: NDArray[np.float32]) -> None:
        """The next frame: its highest score, or NaN if it is never picked, and (512,) float32."""
        place, self._count = self._count, self._count + 1
        if self._chunks is None or not math.isnan(score):
            self._embeddings[place] = embedding.copy()  # else its whole batch stays in memory
        if self._chunks is None:
            return
        if not math.isnan(score):
            unbettered = self._unbettered
            while unbettered and unbettered[-1][0] < score:
                _, beaten, start = unbettered.pop()
                heappush(self._bettered, (place - start, beaten))
            unbettered.append((score, place, unbettered[-1][1] + 1 if unbettered else 0))
        while self._bettered and self._bettered[0][0] < self._count // self._chunks:
            del self._embeddings[heappop(self._bettered)[1]]


class _Table:
    """Rows of one dtype, in an array that doubles when it is full; a row that is in it never changes."""

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        self._cells: NDArray[np.void] = np.empty(16, dtype)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> NDArray[np.void]:
        """(count,) view, which stays as it is whatever is appended."""
        return self._cells[: self._count]

    def append(self, row: tuple[object, ...]) -> None:
        if self._count == len(self._cells):
            # The new half is left untouched: until it is written it takes no memory.
            cells = np.empty(2 * self._count, self._cells.dtype)
            cells[: self._count] = self._cells
            self._cells = cells
        self._cells[self._count] = row
        self._count += 1


@dataclass(frozen=True, eq=False)
class _Track:
    """A followed face: its name, how many were seen before it, and its frames."""

    name: int | None
    born: int
    candidates: Candidates
    faces: _Table = field(default_factory=lambda: _Table(_FACE))


def main_track(
    tracks: Mapping[int | None, Mapping[int, Face]], times_s: Sequence[float], pixels: Sequence[int]
) -> int | None:
    """The track that counts most: the part of the picture that it takes, times how long it is seen.

    Args:
        tracks: of each followed face, its sightings by the frame's row, in order; at least one.
        times_s: (T,) of every frame of the clip, in seconds, increasing.
        pixels: (T,) how many each frame has.
    """
    clock, sizes = np.array(times_s, np.float64), np.array(pixels, np.int64)

    def weight(track: int | None) -> float:
        areas = np.array([face.area for face in tracks[track].values()])
        return _weight(np.array([*tracks[track]]), areas, clock, sizes)

    return max(tracks, key=weight)


def _weight(
    rows: NDArray[np.int64],
    areas: NDArray[np.floating],
    times_s: NDArray[np.float64],
    pixels: NDArray[np.int64],
) -> float:
    """How much a face counts that takes these areas of these rows of the clip, in seconds."""
    first = max(int(rows[0]) - 1, 0)  # the last frame of the clip stands as long as that before it
    stands_s = looks_s(times_s[first : rows[-1] + 2])[rows - first]
    return float((stands_s * areas / pixels[rows]).sum())


def looks_s(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) how long each frame stands, in seconds: until the next one."""
    if len(times_s) == 1:
        return np.ones(1)
    steps = np.diff(times_s)
    return np.asarray(np.minimum(np.append(steps, steps[-1]), LONGEST_LOOK_S), np.float64)
