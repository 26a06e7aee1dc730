"""Who is where in every frame of a clip, while the detector looks at every other frame only.

Between two looks that show the same people a face has moved by a few pixels, and where it was in the
middle is known better from both sides than a small detector sees it. So a look is saved wherever nobody
has come, gone or jumped meanwhile; else the frame in the middle is looked at as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..types import Face, Frame, intersection_over_union

MAX_STEP_S: Final = 0.06  # frames further apart than this are all looked at
MIN_STEADY_OVERLAP: Final = 0.5  # of a face's boxes on both sides of a frame that is not looked at
MAX_CHANGE: Final = (
    12.0  # grey levels by which such a frame differs on average, beyond what they do
)
POINTS: Final = 80  # of the longer side that are compared; every eighth pixel of a small picture
MIN_TRACK_OVERLAP: Final = 0.2  # intersection over union with the last box of the same face
AWAY_OVERLAP: Final = 0.1  # the same of one not seen in the frame before, who may be half hidden;
AWAY: Final = 0.1  # that overlap counts so much less than another's
TRACK_MEMORY_S: Final = 1.0  # a face that is away for longer comes back as another,
TRACK_MEMORY_FRAMES: Final = 3  # unless the frames themselves lie further apart,
HIDDEN_S: Final = (
    3.0  # or somebody is in front of where it should be; then it may be away for so long
)
PACE_S: Final = 0.8  # over which a face's movement is averaged: a face half hidden seems to halt

Detect = Callable[[NDArray[np.uint8]], tuple[Face, ...]]
"""The method of a ``FaceDetector``."""


def follow(frames: Iterator[Frame], detect: Detect) -> Iterator[tuple[Frame, tuple[Face, ...]]]:
    """Every frame with its faces, ``track_id`` set; call with the frames of one clip in order of time.

    Holds back one frame at most.
    """
    tracker = Tracker()
    before: Frame | None = None  # the last frame that was looked at,
    seen: tuple[Face, ...] = ()  # and its faces
    skipped: Frame | None = None
    for frame in frames:
        if before is not None and skipped is None and _near(before, frame):
            skipped = frame
            continue
        faces = detect(frame.image)
        if skipped is not None:
            assert before is not None
            share = (skipped.time_s - before.time_s) / (frame.time_s - before.time_s)
            alike = _near(skipped, frame) and _alike(before.image, skipped.image, frame.image)
            between = _between(seen, faces, share) if alike else None
            if between is None:
                between = _named(tracker, skipped, detect(skipped.image))
            yield skipped, between
            skipped = None
        seen = _named(tracker, frame, faces)
        yield frame, seen
        before = frame
    if skipped is not None:
        yield skipped, _named(tracker, skipped, detect(skipped.image))


def _near(one: Frame, other: Frame) -> bool:
    return other.time_s - one.time_s <= MAX_STEP_S and one.image.shape == other.image.shape


def _alike(before: NDArray[np.uint8], between: NDArray[np.uint8], after: NDArray[np.uint8]) -> bool:
    """Whether the picture in the middle shows what its neighbours show: no flash, no cut, no black."""
    stride = max(8, max(before.shape) // POINTS)
    one, middle, other = (
        image[::stride, ::stride].astype(np.int16) for image in (before, between, after)
    )
    moved = float(np.abs(other - one).mean())
    return max(float(np.abs(middle - side).mean()) for side in (one, other)) <= moved + MAX_CHANGE


def _named(tracker: Tracker, frame: Frame, faces: tuple[Face, ...]) -> tuple[Face, ...]:
    height, width = frame.image.shape[:2]
    return tracker.update(faces, frame.time_s, (width, height))


def _between(
    seen: tuple[Face, ...], faces: tuple[Face, ...], share: float
) -> tuple[Face, ...] | None:
    """Where the faces ``seen`` are at this share of the time to ``faces``; None unless all are in both."""
    if len(seen) != len(faces):
        return None
    left = list(faces)
    found = []
    for face in seen:
        match = max(left, key=lambda other: intersection_over_union(face, other))
        if intersection_over_union(face, match) < MIN_STEADY_OVERLAP:
            return None
        left = [other for other in left if other is not match]
        found.append(
            replace(
                face,
                box_xyxy=_mixed(face.box_xyxy, match.box_xyxy, share),
                landmarks=_mixed(face.landmarks, match.landmarks, share),
                confidence=min(face.confidence, match.confidence),
            )
        )
    return tuple(found)


def _mixed(
    one: NDArray[np.float32], other: NDArray[np.float32], share: float
) -> NDArray[np.float32]:
    return np.asarray(one + np.float32(share) * (other - one), np.float32)


class Tracker:
    """Says who is who along a clip: each face takes the id of the track whose next box it overlaps most.

    A track's next box is its last one, moved on as it has been moving: so two who pass each other stay who
    they are, also where one hides the other for a while.
    """

    def __init__(self) -> None:
        self._tracks: dict[int, _Track] = {}
        self._next_id = 0
        self._frame = 0

    def update(
        self, faces: tuple[Face, ...], time_s: float, size: tuple[int, int] = (1, 1)
    ) -> tuple[Face, ...]:
        """The same faces with ids; call with the frames of one clip in order of time.

        Args:
            faces: of one frame.
            time_s: of that frame, in seconds.
            size: width and height of that frame: a clip may change its resolution on the way.
        """
        whole = np.array([*size, *size], np.float32)
        seen = [replace(face, box_xyxy=face.box_xyxy / whole) for face in faces]
        self._frame += 1
        self._tracks = {
            name: track
            for name, track in self._tracks.items()
            if time_s - track.time_s <= TRACK_MEMORY_S
            or self._frame - track.frame <= TRACK_MEMORY_FRAMES
            or (time_s - track.time_s <= HIDDEN_S and _covered(track.at(time_s), seen))
        }
        pairs = []
        for name, track in self._tracks.items():
            away = self._frame - track.frame > 1
            for index, face in enumerate(seen):
                overlap = intersection_over_union(track.at(time_s), face)
                if overlap >= (AWAY_OVERLAP if away else MIN_TRACK_OVERLAP):
                    pairs.append((overlap - AWAY * away, name, index))
        pairs.sort(key=lambda pair: -pair[0])
        ids: dict[int, int] = {}
        for _, name, index in pairs:
            if index not in ids and name not in ids.values():
                ids[index] = name
        named = []
        for index, face in enumerate(faces):
            if index not in ids:
                ids[index], self._next_id = self._next_id, self._next_id + 1
            named.append(replace(face, track_id=ids[index]))
            known = self._tracks.get(ids[index])
            self._tracks[ids[index]] = (
                _Track(time_s, self._frame, seen[index], np.zeros(2, np.float32))
                if known is None
                else known.seen(time_s, self._frame, seen[index])
            )
        return tuple(named)


def _covered(face: Face, seen: list[Face]) -> bool:
    """Whether the head of one who is seen, twice as wide and high as the face, may be in front of it."""
    for other in seen:
        margin = (other.box_xyxy[2:] - other.box_xyxy[:2]) / 2
        head = other.box_xyxy + np.concatenate([-margin, margin])
        if intersection_over_union(face, replace(other, box_xyxy=head)) > 0:
            return True
    return False


@dataclass(frozen=True, eq=False)
class _Track:
    """When and where a face was last seen, how it moves, (2,) x and y a second, and since when."""

    time_s: float
    frame: int
    face: Face
    moves: NDArray[np.float32]
    moves_for_s: float = 0.0

    def at(self, time_s: float) -> Face:
        """Where it should be by now."""
        moved = self.moves * np.float32(min(time_s - self.time_s, HIDDEN_S))
        return replace(self.face, box_xyxy=self.face.box_xyxy + np.tile(moved, 2))

    def seen(self, time_s: float, frame: int, face: Face) -> _Track:
        """The same when it is there now."""
        took_s = max(time_s - self.time_s, 1e-3)
        for_s = min(self.moves_for_s + took_s, max(PACE_S, took_s))
        step = (face.box_xyxy - self.face.box_xyxy).reshape(2, 2).mean(axis=0)
        moves = self.moves + (step / took_s - self.moves) * (took_s / for_s)
        return _Track(time_s, frame, face, np.asarray(moves, np.float32), for_s)
