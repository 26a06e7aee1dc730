"""Who is where in every frame, while the detector looks at every other frame only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occam_sdk import Face, Frame, demo_clip
from occam_sdk.backends import Runtime, open_session
from occam_sdk.bundle import load_bundle
from occam_sdk.video.decode import VideoFile
from occam_sdk.video.faces import open_detector
from occam_sdk.video.follow import MAX_STEP_S, MIN_STEADY_OVERLAP, follow

from . import clips

POINTS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
SMALL, LARGE = (4, 6, 3), (8, 12, 3)  # shapes of pictures

Faces = tuple[Face, ...]


def face(left: float, top: float = 100, side: float = 50, confidence: float = 0.9) -> Face:
    box = np.array([left, top, left + side, top + side], np.float32)
    return Face(box, box[:2] + np.float32(side) * POINTS, confidence)


class Film:
    """Frames, and a detector that knows what is on each and writes down which it was shown."""

    def __init__(
        self,
        faces: Sequence[Faces],
        times_s: Sequence[float] | None = None,
        shapes: Sequence[tuple[int, int, int]] | None = None,
    ) -> None:
        self.faces = faces
        self.looked: list[int] = []
        self.frames = []
        for index in range(len(faces)):
            image = np.zeros(SMALL if shapes is None else shapes[index], np.uint8)
            image[0, 0, :2] = divmod(index, 256)
            time_s = 0.04 * index if times_s is None else times_s[index]
            self.frames.append(Frame(index, time_s, image))

    def detect(self, image: np.ndarray) -> Faces:
        self.looked.append(256 * int(image[0, 0, 0]) + int(image[0, 0, 1]))
        return self.faces[self.looked[-1]]

    def follow(self) -> list[Faces]:
        """The faces of every frame; each comes out once and in order, with ids."""
        found = list(follow(iter(self.frames), self.detect))
        assert [id(frame) for frame, _ in found] == [id(frame) for frame in self.frames]
        for _, faces in found:
            ids = [one.track_id for one in faces]
            assert None not in ids
            assert len(set(ids)) == len(ids)
        return [faces for _, faces in found]


def ids(found: Sequence[Faces]) -> list[list[int | None]]:
    return [[one.track_id for one in faces] for faces in found]


# Every other frame


@pytest.mark.parametrize(
    ("count", "looked"),
    [
        (0, []),
        (1, [0]),
        (2, [0, 1]),
        (3, [0, 2]),
        (4, [0, 2, 3]),  # the last one has no frame after it to tell where its face is
        (7, [0, 2, 4, 6]),
        (8, [0, 2, 4, 6, 7]),
    ],
)
def test_a_steady_face_is_looked_at_in_every_other_frame(count: int, looked: list[int]) -> None:
    film = Film([(face(2 * index),) for index in range(count)])
    found = film.follow()
    assert film.looked == looked
    assert ids(found) == [[0]] * count
    for index, (one,) in enumerate(found):
        np.testing.assert_allclose(one.box_xyxy, face(2 * index).box_xyxy, atol=1e-4)
        np.testing.assert_allclose(one.landmarks, face(2 * index).landmarks, atol=1e-4)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_the_face_in_the_middle_lies_on_the_line_by_time(share: float) -> None:
    """A stream's times need not be even: what counts is when the frame is shown."""
    before, after = face(0, confidence=0.9), face(8, top=105, side=55, confidence=0.7)
    film = Film([(before,), (), (after,)], times_s=[5.0, 5 + share * 0.05, 5.05])
    _, (middle,), _ = film.follow()
    assert film.looked == [0, 2]
    for got, one, other in (
        (middle.box_xyxy, before.box_xyxy, after.box_xyxy),
        (middle.landmarks, before.landmarks, after.landmarks),
    ):
        np.testing.assert_allclose(got, (1 - share) * one + share * other, atol=1e-2)
        assert got.dtype == np.float32
    assert middle.confidence == 0.7


def test_what_is_looked_at_is_told_as_it_was_seen() -> None:
    rng = np.random.default_rng(0)
    film = Film([(face(3 * n + rng.normal(), side=50 + rng.normal()),) for n in range(9)])
    found = film.follow()
    for index in film.looked:
        (one,), (seen,) = found[index], film.faces[index]
        np.testing.assert_array_equal(one.box_xyxy, seen.box_xyxy)
        np.testing.assert_array_equal(one.landmarks, seen.landmarks)


def test_where_nobody_is_every_other_frame_will_do() -> None:
    film = Film([()] * 7)
    assert film.follow() == [()] * 7
    assert film.looked == [0, 2, 4, 6]


def test_no_more_than_one_frame_is_held_back() -> None:
    film = Film([(face(0),)] * 9)
    given_out = 0

    def frames() -> Iterator[Frame]:
        nonlocal given_out
        for frame in film.frames:
            given_out += 1
            yield frame

    for index, (frame, _) in enumerate(follow(frames(), film.detect)):
        assert frame.index == index
        assert given_out - index <= 2


# What makes the frame in the middle be looked at


CHANGES = {
    "appears": ([()], [(face(0),)]),
    "disappears": ([(face(0),)], [()]),
    "is joined": ([(face(0),)], [(face(0), face(300))]),
    "is left alone": ([(face(0), face(300))], [(face(0),)]),
    "jumps": ([(face(0),)], [(face(300),)]),
    "hurries": ([(face(0),)], [(face(20),)]),
    "comes closer at once": ([(face(100, 100, 50),)], [(face(50, 50, 150),)]),
    "gives place": ([(face(0), face(300))], [(face(0), face(600))]),
}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("early", [False, True], ids=["late", "early"])
def test_when_a_face_does_anything_at_once_the_frame_between_is_looked_at(
    kind: str, early: bool
) -> None:
    before, after = CHANGES[kind]
    film = Film([*before, *(after if early else before), *after])
    found = film.follow()
    assert film.looked == [0, 2, 1]
    for faces, seen in zip(found, film.faces, strict=True):
        assert [one.box_xyxy.tolist() for one in faces] == [one.box_xyxy.tolist() for one in seen]


def test_how_far_a_face_may_move_is_half_of_both_boxes() -> None:
    assert MIN_STEADY_OVERLAP == 0.5
    for step, looks in ((16, 2), (17, 3)):  # 34 / 66 and 33 / 67 of 50 pixels
        film = Film([(face(0),), (face(step / 2),), (face(step),)])
        film.follow()
        assert len(film.looked) == looks


def test_after_a_change_every_other_frame_will_do_again() -> None:
    film = Film([()] * 4 + [(face(0),)] * 7)
    assert ids(film.follow()) == [[]] * 4 + [[0]] * 7
    assert film.looked == [0, 2, 4, 3, 6, 8, 10]


def test_a_look_away_of_one_frame_between_two_looks_is_not_seen() -> None:
    """The price: what lasts for one frame, and is undone in the next, may be missed."""
    film = Film([(face(0),), (), (face(0),)])
    assert ids(film.follow()) == [[0], [0], [0]]


# Several faces


def test_two_faces_that_pass_each_other_keep_their_ids() -> None:
    film = Film([(face(5 * n, top=100), face(300 - 5 * n, top=135)) for n in range(61)])
    found = film.follow()
    assert ids(found) == [[0, 1]] * 61
    for index, (one, other) in enumerate(found):
        np.testing.assert_allclose(one.box_xyxy[0], 5 * index, atol=1e-3)
        np.testing.assert_allclose(other.box_xyxy[0], 300 - 5 * index, atol=1e-3)
    assert len(film.looked) == 31


@pytest.mark.parametrize("front", [0, 1])
@pytest.mark.parametrize("step", [3, 6])
def test_two_faces_of_which_one_hides_the_other_keep_their_ids(front: int, step: int) -> None:
    """While they overlap, the detector sees the one in front alone."""
    film = []
    for index in range(300 // step):
        both = face(step * index), face(300 - step * index)
        hidden = abs(300 - 2 * step * index) < 30
        film.append((both[front],) if hidden else both)
    found = Film(film).follow()
    assert {len(faces) for faces in found} == {1, 2}
    for index, faces in enumerate(found):
        for one in faces:
            goes_right = abs(one.box_xyxy[0] - step * index) < 1e-3
            goes_left = abs(one.box_xyxy[0] - 300 + step * index) < 1e-3
            assert (goes_right and one.track_id == 0) or (goes_left and one.track_id == 1)


def test_the_order_in_which_a_detector_names_faces_does_not_matter() -> None:
    pairs = [(face(2 * n), face(300 + 2 * n)) for n in range(9)]
    film = Film([pair[::-1] if index % 4 == 2 else pair for index, pair in enumerate(pairs)])
    by_id = [{one.track_id: one for one in faces} for faces in film.follow()]
    assert film.looked == [0, 2, 4, 6, 8]
    for index, faces in enumerate(by_id):
        assert faces.keys() == {0, 1}
        np.testing.assert_allclose(faces[0].box_xyxy[0], 2 * index, atol=1e-3)
        np.testing.assert_allclose(faces[1].box_xyxy[0], 300 + 2 * index, atol=1e-3)


def test_no_two_faces_lie_between_the_same_two() -> None:
    """Two boxes before, of which both overlap the same one after, are not both that one."""
    film = Film([(face(0), face(8)), (), (face(4), face(300))])
    film.follow()
    assert film.looked == [0, 2, 1]


# Time and size


@pytest.mark.parametrize(
    ("rate_hz", "every"), [(120, 2), (50, 2), (30, 2), (25, 2), (17, 2), (16, 1), (10, 1), (1, 1)]
)
def test_a_slow_source_is_looked_at_in_every_frame(rate_hz: float, every: int) -> None:
    assert MAX_STEP_S == 0.06
    film = Film([(face(0),)] * 9, times_s=clips.regular(9, rate_hz, start_s=10.0))
    assert ids(film.follow()) == [[0]] * 9
    assert film.looked == list(range(0, 9, every))


@pytest.mark.parametrize(
    ("times_s", "looked"),
    [
        ([0, 0.04, 0.5], [0, 2, 1]),  # the look after the gap tells nothing of the frame before it
        ([0, 0.5, 0.54], [0, 1, 2]),
        ([0, 0.5, 0.54, 0.58], [0, 1, 3]),
        ([0, 0.04, 0.08, 0.5, 0.54, 0.58], [0, 2, 3, 5]),
    ],
)
def test_a_gap_in_the_stream_is_not_bridged(times_s: list[float], looked: list[int]) -> None:
    film = Film([(face(0),)] * len(times_s), times_s)
    film.follow()
    assert film.looked == looked


@pytest.mark.parametrize(
    ("shapes", "looked"),
    [
        ([SMALL, LARGE, LARGE, LARGE], [0, 1, 3]),
        ([SMALL, SMALL, LARGE, LARGE, LARGE], [0, 2, 1, 4]),
        ([SMALL, LARGE, SMALL, LARGE], [0, 1, 2, 3]),
    ],
)
def test_another_resolution_is_looked_at_at_once_and_the_face_stays_who_it_is(
    shapes: list[tuple[int, int, int]], looked: list[int]
) -> None:
    seen = [face(0, 0, 2) if shape == SMALL else face(0, 0, 4) for shape in shapes]
    film = Film([(one,) for one in seen], shapes=shapes)
    found = film.follow()
    assert film.looked == looked
    assert ids(found) == [[0]] * len(shapes)
    for (one,), wanted in zip(found, seen, strict=True):
        np.testing.assert_allclose(one.box_xyxy, wanted.box_xyxy, atol=1e-5)


# Whatever comes


@st.composite
def films(draw: st.DrawFn) -> Film:
    steps_s = st.sampled_from([0.001, 0.02, 0.04, 0.06, 0.07, 0.5, 3.0])
    places = st.tuples(
        st.integers(0, 80), st.sampled_from([0, 5, 40]), st.sampled_from([0, 10, 50, 55])
    )
    faces = draw(st.lists(st.lists(places, max_size=3), max_size=14))
    times_s = np.cumsum([draw(steps_s) for _ in faces]).tolist()
    shapes = [draw(st.sampled_from([SMALL] * 4 + [LARGE])) for _ in faces]
    return Film([tuple(face(*place) for place in some) for some in faces], times_s, shapes)


@settings(max_examples=300, deadline=None)
@given(films())
def test_any_film_comes_out_whole(film: Film) -> None:
    found = film.follow()  # the same frames in order, and no id twice in one
    looked = set(film.looked)
    assert len(looked) == len(film.looked), "looked at twice"
    for index in looked:
        boxes = [one.box_xyxy.tolist() for one in found[index]]
        assert boxes == [one.box_xyxy.tolist() for one in film.faces[index]]
    left_out = set(range(len(found))) - looked
    assert not left_out & {0, len(found) - 1}
    assert not any(one + 1 == other for one, other in pairwise(sorted(left_out)))
    for index in left_out:
        before, frame, after = film.frames[index - 1 : index + 2]
        assert after.time_s - frame.time_s <= MAX_STEP_S
        assert frame.time_s - before.time_s <= MAX_STEP_S
        assert before.image.shape == frame.image.shape == after.image.shape
        assert ids(found)[index] == ids(found)[index - 1]
        assert len(found[index]) == len(found[index + 1])
        later = {one.track_id: one.box_xyxy for one in found[index + 1]}
        for one, early in zip(found[index], found[index - 1], strict=True):
            if one.track_id in later:
                sides = np.stack([early.box_xyxy, later[one.track_id]])
                assert (one.box_xyxy >= sides.min(0) - 1e-3).all()
                assert (one.box_xyxy <= sides.max(0) + 1e-3).all()


# A real face


def test_a_moving_face_is_where_a_look_at_every_frame_finds_it(tmp_path: Path) -> None:
    """A smiling face that goes round in a circle once in two seconds, 300 pixels wide a second."""
    portrait = [frame.image for frame in VideoFile(demo_clip())][:50]
    images = []
    for index, image in enumerate(portrait):
        canvas = np.full((360, 480, 3), 90, np.uint8)
        angle = 2 * np.pi * index / 50
        left, top = round(140 + 90 * np.cos(angle)), round(80 + 70 * np.sin(angle))
        canvas[top : top + 200, left : left + 200] = cv2.resize(
            image, (200, 200), interpolation=cv2.INTER_AREA
        )
        images.append(canvas)
    clip = clips.write_clip(tmp_path / "moving.mp4", images=images, options={"crf": "18"})
    network = load_bundle().network("detector")
    detector = open_detector(open_session(network, Runtime("openvino", "cpu", "fp32")))
    looks = 0

    def detect(image: np.ndarray) -> Faces:
        nonlocal looks
        looks += 1
        return detector.detect(image)

    followed = [faces for _, faces in follow(iter(VideoFile(clip)), detect)]
    assert looks <= 0.6 * len(followed)
    assert ids(followed) == [[0]] * 50
    off = []
    for (one,), frame in zip(followed, VideoFile(clip), strict=True):
        (seen,) = detector.detect(frame.image)
        eyes = np.linalg.norm(seen.landmarks[0] - seen.landmarks[1])
        off.append(np.linalg.norm(one.landmarks - seen.landmarks, axis=1).max() / eyes)
    assert np.max(off) < 0.15
    assert np.mean(off) < 0.05


@pytest.mark.parametrize("strange", [0, 255], ids=["black", "flash"])
def test_a_frame_that_shows_something_else_is_looked_at(strange: int) -> None:
    usual = np.full((64, 64, 3), 120, np.uint8)
    other = np.full((64, 64, 3), strange, np.uint8)
    images = [usual, other, usual, usual, usual]
    frames = [Frame(i, 0.04 * i, image) for i, image in enumerate(images)]
    found = list(follow(iter(frames), lambda image: (face(100),) if image[0, 0, 0] == 120 else ()))
    assert [len(faces) for _, faces in found] == [1, 0, 1, 1, 1]
