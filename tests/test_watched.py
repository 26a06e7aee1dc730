"""What is remembered of a clip: little, and still all that its answer and its rows need."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occam_sdk.types import Face, FaceScores
from occam_sdk.video import watched as module
from occam_sdk.video.watched import Candidates, Timeline, Watched, main_track
from tests import reference

LANDMARKS = np.arange(10, dtype=np.float32).reshape(5, 2)
PIXELS = 640 * 360


def seen(score: float = 0.5, *, side: float = 10, track: int | None = 0) -> FaceScores:
    """A square face whose highest score is this one."""
    scores = np.array([0, 0, 0, score, 0, 0, 0], np.float32)
    return FaceScores(
        Face(np.array([0, 0, side, side], np.float32), LANDMARKS, 0.75, track), scores, 0.25, -0.5
    )


def embedding(row: int) -> np.ndarray:
    """(2,) float32 that names its frame."""
    return np.array([row, -row], np.float32)


def watch(scores: Iterable[float], chunks: int | None = 16) -> Watched:
    """One face in every frame, with these highest scores."""
    watched = Watched(chunks)
    for row, score in enumerate(scores):
        watched.add_frame(row, row / 25, PIXELS)
        watched.add_face(row, seen(score), embedding(row))
    return watched


# ---- which frames are picked

few_values = st.sampled_from([0.0, 0.25, 0.5, 0.75, float("nan")])
any_values = st.floats(-1, 1, width=32) | few_values
score_lists = st.one_of(
    st.lists(any_values, max_size=150),
    st.lists(few_values, max_size=150),
    st.lists(any_values, max_size=150).map(sorted),
    st.lists(any_values, max_size=150).map(lambda scores: sorted(scores, reverse=True)),
    st.builds(lambda score, count: [score] * count, any_values, st.integers(0, 150)),
)
chunk_counts = st.sampled_from([1, 2, 3, 5, 16, 40])


@settings(deadline=None)
@given(score_lists, chunk_counts)
def test_the_picked_frames_are_those_of_one_who_keeps_them_all(
    scores: list[float], chunks: int
) -> None:
    """After every frame, as if the clip ended there."""
    candidates, column = Candidates(chunks), np.array(scores, np.float32).reshape(-1, 1)
    for row, score in enumerate(column[:, 0].tolist()):
        candidates.add(score, embedding(row))
        for picked in reference.select_frames(column[: row + 1], chunks):
            np.testing.assert_array_equal(candidates[picked], embedding(picked))


@settings(max_examples=50, deadline=None)
@given(score_lists, chunk_counts)
def test_what_is_picked_comes_with_its_time_scores_and_embedding(
    scores: list[float], chunks: int
) -> None:
    timeline, picked = watch(scores, chunks).main_track()
    _, everything = watch(scores, None).main_track()
    assert len(timeline) == len(scores)
    if everything is None:
        assert picked is None
        return
    wanted = reference.select_frames(everything.scores, chunks)
    if picked is None:
        assert wanted == []
        return
    np.testing.assert_array_equal(picked.times_s, np.array(wanted) / 25)
    np.testing.assert_array_equal(picked.scores, everything.scores[wanted])
    np.testing.assert_array_equal(picked.valence_arousal, everything.valence_arousal[wanted])
    np.testing.assert_array_equal(picked.embeddings, everything.embeddings[wanted])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_of_many_frames_few_embeddings_are_kept(seed: int) -> None:
    candidates, most = Candidates(16), 0
    for score in np.random.default_rng(seed).random(20_000).tolist():
        candidates.add(score, np.zeros(1, np.float32))
        most = max(most, len(candidates))
    assert most <= 64


@pytest.mark.parametrize("step", [-1, 0])
def test_scores_that_never_rise_keep_all_for_each_may_begin_the_second_chunk(step: int) -> None:
    count, chunks = 100, 4
    candidates = Candidates(chunks)
    for row in range(count):
        candidates.add(step * row / count, embedding(row))
    assert len(candidates) == count
    for begins in range(count // chunks, count):
        longer = np.float32(step) * np.arange(begins * chunks, dtype=np.float32)[:, None]
        assert reference.select_frames(longer, chunks)[1] == begins


def test_a_kept_embedding_does_not_keep_its_batch() -> None:
    batch = np.zeros((16, 512), np.float32)
    candidates = Candidates(16)
    candidates.add(0.5, batch[3])
    assert candidates[0].base is None


def test_a_face_whose_every_score_is_nan_has_rows_and_nothing_to_judge() -> None:
    timeline, picked = watch([float("nan")] * 20).main_track()
    assert picked is None
    assert all(row.face is not None for row in timeline)


def test_a_longer_clip_takes_less_than_300_bytes_a_frame() -> None:
    scores = np.random.default_rng(1).random(6_000).tolist()
    tracemalloc.start()
    try:
        watched = watch(scores)
        timeline, _ = watched.main_track()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(timeline) == len(watched) == 6_000
    assert held < 6_000 * 2 * 300  # the collection and its result


# ---- the rows


@pytest.fixture(scope="module")
def timeline() -> Timeline:
    """Ten frames, numbered from 100, with a face in every second one."""
    watched = Watched(16)
    for row in range(10):
        watched.add_frame(100 + row, 4 + row / 25, PIXELS)
        if row % 2:
            watched.add_face(row, seen(row / 10, side=row, track=7), embedding(row))
    return watched.main_track()[0]


def test_every_frame_has_a_row_with_its_own_number_and_time(timeline: Timeline) -> None:
    assert isinstance(timeline, Sequence)
    assert len(timeline) == 10
    assert [row.index for row in timeline] == list(range(100, 110))
    assert [row.time_s for row in timeline] == [4 + row / 25 for row in range(10)]
    assert {(type(row.index), type(row.time_s)) for row in timeline} == {(int, float)}


def test_a_row_has_the_face_as_it_was_given(timeline: Timeline) -> None:
    assert [row.face is not None for row in timeline] == [False, True] * 5
    found, given_ = timeline[9].face, seen(0.9, side=9, track=7)
    assert found is not None
    np.testing.assert_array_equal(found.face.box_xyxy, given_.face.box_xyxy)
    np.testing.assert_array_equal(found.face.landmarks, given_.face.landmarks)
    np.testing.assert_array_equal(found.scores, given_.scores)
    assert found.to_dict() == given_.to_dict()


def test_rows_are_counted_from_either_end_and_cut_out(timeline: Timeline) -> None:
    assert timeline[-1].index == timeline[np.int64(9)].index == 109
    assert [row.index for row in timeline[2:5]] == [102, 103, 104]
    assert [row.index for row in timeline[::-4]] == [109, 105, 101]
    assert [row.index for row in reversed(timeline)] == list(range(109, 99, -1))
    for beyond in (10, -11):
        with pytest.raises(IndexError):
            timeline[beyond]


def test_nothing_done_to_a_row_changes_the_timeline(timeline: Timeline) -> None:
    found = timeline[1].face
    assert found is not None
    found.scores[:] = 9
    found.face.box_xyxy[:] = 9
    again = timeline[1].face
    assert again is not None
    assert again.to_dict() == seen(0.1, side=1, track=7).to_dict()
    with pytest.raises(TypeError):
        timeline[1] = timeline[0]  # type: ignore[index]


def test_frames_that_follow_leave_an_earlier_timeline_alone() -> None:
    watched = watch([0.5] * 3)
    before, _ = watched.main_track()
    watched.add_frame(3, 1.0, PIXELS)
    watched.add_face(3, seen(0.9), embedding(3))
    assert (len(before), len(watched.main_track()[0])) == (3, 4)


def test_a_timeline_may_be_sent_to_another_process(timeline: Timeline) -> None:
    copy = pickle.loads(pickle.dumps(timeline))
    assert [row.to_dict() for row in copy] == [row.to_dict() for row in timeline]


def test_a_timeline_stays_as_it_was_while_the_clip_goes_on() -> None:
    watched = watch([0.5] * 20)
    timeline, _ = watched.main_track()
    before = [row.to_dict() for row in timeline]
    for row in range(20, 100):
        watched.add_frame(row, row / 25, PIXELS)
        watched.add_face(row, seen(0.9), embedding(row))
    assert [row.to_dict() for row in timeline] == before


def test_frames_may_be_numbered_by_milliseconds_since_1970() -> None:
    watched = Watched(16)
    watched.add_frame(1_795_482_010_000, 0.0, PIXELS)
    assert watched.main_track()[0][0].index == 1_795_482_010_000


def test_a_timeline_tells_its_size_not_its_rows(timeline: Timeline) -> None:
    assert repr(timeline) == "<Timeline of 10 frames, 5 with the main face>"


def test_a_clip_without_faces_has_rows_without_faces() -> None:
    watched = Watched(16)
    assert (len(watched), watched.span_s) == (0, 0.0)
    rows, scored = watched.main_track()
    assert (list(rows), scored) == ([], None)
    watched.add_frame(0, 2.0, PIXELS)
    watched.add_frame(1, 2.5, PIXELS)
    rows, scored = watched.main_track()
    assert ([row.face for row in rows], scored) == ([None, None], None)
    assert watched.span_s == 0.5


# ---- the main face

sightings = st.lists(  # rows in order; of each the tracks that are seen there and their sides
    st.dictionaries(st.integers(0, 5), st.sampled_from([4.0, 8.0, 12.0]), max_size=3), max_size=40
)


@settings(deadline=None)
@given(
    sightings,
    st.lists(st.sampled_from([0.04, 0.5, 3.0]), min_size=40, max_size=40),
    st.integers(1, 3),
)
def test_the_main_faces_are_those_of_one_who_forgets_no_face(
    frames: list[dict[int, float]], steps_s: list[float], most: int
) -> None:
    """Faces that are over are let go, and that changes nothing while none comes back."""
    times_s = np.cumsum(steps_s).tolist()
    last: dict[int, int] = {}
    names: dict[int, int] = {}
    watched, tracks = Watched(16, most), dict[int | None, dict[int, Face]]()
    for row, faces in enumerate(frames):
        watched.add_frame(row, times_s[row], PIXELS)
        for person, side in faces.items():
            if person not in last or times_s[row] - times_s[last[person]] > module.GONE_S:
                names[person] = len(tracks)  # as the tracker does: one who comes back is another
            last[person] = row
            face = seen(side=side, track=names[person])
            watched.add_face(row, face, embedding(row))
            tracks.setdefault(names[person], {})[row] = face.face
    found = [
        (timeline.track_id, [row.index for row in timeline if row.face])
        for timeline, _ in watched.main_tracks()
    ]
    expected = []
    while tracks and len(expected) < most:
        main = main_track(tracks, times_s[: len(frames)], [PIXELS] * len(frames))
        expected.append((main, [*tracks.pop(main)]))
    assert found == expected


def test_of_equal_faces_the_first_seen_is_the_main_one() -> None:
    watched = Watched(16)
    for row in range(4):
        watched.add_frame(row, row / 25, PIXELS)
        for track in (5, 3):
            watched.add_face(row, seen(track=track), embedding(row))
    assert {row.face.face.track_id for row in watched.main_track()[0] if row.face} == {5}


def test_a_crowd_that_passes_by_is_forgotten_but_for_the_one_that_counts_most() -> None:
    """A new face every second for ten minutes; the one of the 100th second is the largest."""
    watched = Watched(16)
    for row in range(6_000):
        second = row // 10
        watched.add_frame(row, row / 10, PIXELS)
        watched.add_face(row, seen(side=20 if second == 100 else 10, track=second), embedding(row))
    assert len(watched._tracks) <= module.GONE_S + 2
    timeline, scored = watched.main_track()
    assert [row.index for row in timeline if row.face] == list(range(1_000, 1_010))
    assert scored is not None
    np.testing.assert_array_equal(scored.embeddings[:, 0], np.arange(1_000, 1_010))


def test_faces_are_forgotten_later_than_the_tracker_forgets_them() -> None:
    follow = pytest.importorskip("occam_sdk.video.follow")
    assert module.GONE_S > 2 * follow.TRACK_MEMORY_S
    assert module.GONE_FRAMES > 2 * (follow.TRACK_MEMORY_FRAMES + 1)  # it looks at every other one


def test_a_face_counts_for_the_time_until_the_next_frame_and_a_second_at_most() -> None:
    small, large = seen(side=10).face, seen(side=20).face
    tracks = {1: {0: small}, 2: {1: large}, 3: {2: small}}
    assert main_track(tracks, [0.0, 60.0, 60.1], [PIXELS] * 3) == 1
    assert main_track(tracks, [0.0, 0.1, 0.2], [PIXELS] * 3) == 2
    assert main_track(tracks, [0.0, 0.1, 0.2], [PIXELS, PIXELS * 100, PIXELS]) == 1


def test_a_single_frame_stands_for_a_second() -> None:
    assert main_track({4: {0: seen().face}}, [7.0], [PIXELS]) == 4
    assert len(watch([0.5]).main_track()[0]) == 1
