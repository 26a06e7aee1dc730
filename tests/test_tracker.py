"""Who is who along a clip."""

from __future__ import annotations

import numpy as np
import pytest

from occam_sdk.types import Face, intersection_over_union
from occam_sdk.video.follow import HIDDEN_S, TRACK_MEMORY_S, Tracker


def _face(left: float, top: float = 100, side: float = 50, confidence: float = 0.9) -> Face:
    box = np.array([left, top, left + side, top + side], np.float32)
    return Face(box, np.zeros((5, 2), np.float32), confidence)


def _ids(tracker: Tracker, time_s: float, *faces: Face) -> list[int | None]:
    return [face.track_id for face in tracker.update(faces, time_s)]


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        pytest.param(_face(0), _face(0), 1.0, id="the same"),
        pytest.param(_face(0), _face(25), 1 / 3, id="half of each"),
        pytest.param(_face(0, side=100), _face(25, 125, side=50), 0.25, id="inside"),
        pytest.param(_face(0), _face(50), 0.0, id="side by side"),
        pytest.param(_face(0), _face(400), 0.0, id="apart"),
        pytest.param(_face(0), _face(25, 125), 1 / 7, id="corner"),
        pytest.param(_face(0, side=0), _face(0, side=0), 0.0, id="without area"),
    ],
)
def test_overlap_is_intersection_over_union(one: Face, other: Face, overlap: float) -> None:
    assert intersection_over_union(one, other) == pytest.approx(overlap, rel=1e-6)
    assert intersection_over_union(other, one) == pytest.approx(overlap, rel=1e-6)


def test_a_moving_face_keeps_its_id() -> None:
    tracker = Tracker()
    ids = [_ids(tracker, frame / 25, _face(10 * frame)) for frame in range(50)]
    assert ids == [[0]] * 50


def test_a_face_that_grows_keeps_its_id() -> None:
    tracker = Tracker()
    ids = [_ids(tracker, n / 25, _face(200 - n, 200 - n, side=50 + 2 * n)) for n in range(50)]
    assert ids == [[0]] * 50


def test_a_face_somewhere_else_is_somebody_else() -> None:
    tracker = Tracker()
    assert _ids(tracker, 0.0, _face(0)) == [0]
    assert _ids(tracker, 0.04, _face(400)) == [1]


@pytest.mark.parametrize(
    ("away_s", "same"), [(0.04, True), (0.5, True), (1.0, True), (1.25, False), (60.0, False)]
)
def test_a_face_that_returns_is_the_same_within_the_memory(away_s: float, same: bool) -> None:
    assert TRACK_MEMORY_S == 1.0
    tracker = Tracker()
    assert _ids(tracker, 2.0, _face(0)) == [0]
    for empty in range(1, 10):
        assert _ids(tracker, 2.0 + away_s * empty / 10) == []
    assert _ids(tracker, 2.0 + away_s, _face(5)) == [0 if same else 1]


@pytest.mark.parametrize(("missed", "same"), [(0, True), (2, True), (3, False)])
def test_where_frames_lie_far_apart_the_memory_is_three_frames(missed: int, same: bool) -> None:
    tracker = Tracker()
    assert _ids(tracker, 0.0, _face(0)) == [0]
    for frame in range(missed):
        assert _ids(tracker, 5.0 * (frame + 1)) == []
    assert _ids(tracker, 5.0 * (missed + 1), _face(0)) == [0 if same else 1]


def test_the_memory_starts_anew_whenever_the_face_is_seen() -> None:
    tracker = Tracker()
    ids = [_ids(tracker, 0.75 * n, _face(0)) for n in range(8)]
    assert ids == [[0]] * 8


@pytest.mark.parametrize("swap", [False, True], ids=["same order", "order changes"])
def test_two_faces_that_change_sides_keep_their_ids(swap: bool) -> None:
    tracker = Tracker()
    for frame in range(40):
        walker, passer = _face(10 * frame, top=100), _face(400 - 10 * frame, top=135)
        if swap and frame % 2:
            assert _ids(tracker, frame / 25, passer, walker) == [1, 0]
        else:
            assert _ids(tracker, frame / 25, walker, passer) == [0, 1]


def test_one_face_hides_behind_another_and_comes_back() -> None:
    tracker = Tracker()
    assert _ids(tracker, 0.0, _face(0), _face(100)) == [0, 1]
    assert _ids(tracker, 0.2, _face(5)) == [0]
    assert _ids(tracker, 0.4, _face(95), _face(10)) == [1, 0]


@pytest.mark.parametrize(("away_s", "same"), [(0.5, True), (2.0, True), (2.8, True), (3.5, False)])
def test_who_walks_behind_another_may_be_away_for_longer(away_s: float, same: bool) -> None:
    assert HIDDEN_S == 3.0
    tracker = Tracker()
    pace = 100 / away_s  # so much it walks meanwhile
    for frame in range(25):
        walker = _face(150 - pace * (1 - frame / 25))
        assert _ids(tracker, frame / 25, _face(200), walker) == [0, 1]
    for frame in range(25, round((1 + away_s) * 25)):
        assert _ids(tracker, frame / 25, _face(200)) == [0]
    assert _ids(tracker, 1 + away_s, _face(200), _face(250)) == [0, 1 if same else 2]


def test_a_face_that_seems_slower_as_it_is_covered_is_found_on_the_other_side() -> None:
    tracker = Tracker()
    for frame in range(12):
        walker = _face(20 + 12 * frame - 6 * max(0, frame - 9))
        assert _ids(tracker, frame / 25, _face(200), walker) == [0, 1]
    for frame in range(12, 19):
        assert _ids(tracker, frame / 25, _face(200)) == [0]
    assert _ids(tracker, 19 / 25, _face(200), _face(20 + 12 * 19)) == [0, 1]


def test_the_best_overlap_has_the_first_choice() -> None:
    tracker = Tracker()
    assert _ids(tracker, 0.0, _face(0)) == [0]
    # Both overlap it; the nearer one is it, whatever the order and the confidence.
    far, near = _face(20, confidence=0.99), _face(2, confidence=0.5)
    assert _ids(tracker, 0.04, far, near) == [1, 0]


def test_no_two_faces_of_one_frame_share_an_id() -> None:
    tracker = Tracker()
    rng = np.random.default_rng(0)
    for frame in range(100):
        faces = [_face(left, top) for left, top in rng.uniform(0, 120, (6, 2))]
        assert len(set(_ids(tracker, frame / 25, *faces))) == 6


def test_frames_without_faces_change_nothing() -> None:
    tracker = Tracker()
    assert _ids(tracker, 0.0) == []
    assert _ids(tracker, 0.1, _face(0)) == [0]
    assert [_ids(tracker, 0.1 + n / 25) for n in range(1, 20)] == [[]] * 19
    assert _ids(tracker, 0.9, _face(0)) == [0]


def test_a_new_clip_starts_with_a_new_tracker_at_zero() -> None:
    assert _ids(Tracker(), 0.0, _face(0)) == _ids(Tracker(), 0.0, _face(300)) == [0]


def test_the_faces_given_are_not_changed_and_nothing_but_the_id_is_added() -> None:
    given = _face(0)
    (named,) = Tracker().update((given,), 0.0)
    assert given.track_id is None
    assert (named.track_id, named.confidence) == (0, given.confidence)
    np.testing.assert_array_equal(named.box_xyxy, given.box_xyxy)
    np.testing.assert_array_equal(named.landmarks, given.landmarks)
