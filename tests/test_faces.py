"""Faces of a picture, from what the network says of it; and detectors of a user's own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from occam_sdk.backends import SessionInfo, open_session
from occam_sdk.bundle import load_bundle
from occam_sdk.verify import demo_frames
from occam_sdk.video.faces import (
    CLOSE_SIDE,
    GRID,
    LONG_SIDE,
    MAX_LONG_SIDE,
    MIN_LONG_SIDE,
    MOST_LOOKS,
    ROOM,
    STRIDES,
    BundleDetector,
    YuNet,
    closer,
    detector_input,
    looks,
)

Floats = NDArray[np.float32]


Cell = tuple[int, int, int, list[float]]
"""Stride, row, column, and the (15,) that the network says there."""


class Says:
    """A session that says of every picture of one size what it is told to, of others that there is no face.

    Args:
        faces: by the (H, W) of the pictures, what it says of them.
    """

    info = SessionInfo("none", "cpu", {})
    ports = (frozenset({"image"}), frozenset(f"stride_{stride}" for stride in STRIDES))

    def __init__(self, faces: Mapping[tuple[int, int], Sequence[Cell]]) -> None:
        self._faces = faces
        self.shown: list[tuple[int, int]] = []

    def run(self, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        height, width = inputs["image"].shape[2:]
        self.shown.append((height, width))
        maps = {
            f"stride_{s}": np.full((1, 15, height // s, width // s), -9, np.float32)
            for s in STRIDES
        }
        for stride, row, column, said in self._faces.get((height, width), ()):
            maps[f"stride_{stride}"][0, :, row, column] = said
        return maps


def a_face(logit: float, width: float, height: float, landmarks: float = 0.0) -> list[float]:
    """In the middle of its cell; sizes, and how far all landmarks lie from there, in strides."""
    return [logit, 0, 0, np.log(width), np.log(height), *[landmarks] * 10]


CLOSE: Final = (CLOSE_SIDE, CLOSE_SIDE)
IN_THE_MIDDLE: Final = (32, 2, 2, a_face(4, 3, 3))  # (80, 80) of 192, 96 wide
EMPTY: Final = np.zeros((360, 640, 3), np.uint8)


def test_landmarks_are_the_closer_looks_and_the_box_is_the_mean_of_both() -> None:
    far = (16, 2, 3, a_face(2, 4, 2))
    session = Says({(192, 320): [far], CLOSE: [(16, 5, 6, a_face(4, 7, 5, 1))]})
    (face,) = BundleDetector(session).detect(EMPTY)
    assert session.shown == [(192, 320), CLOSE], "half as wide, 180 rows become 192; then a part"
    # From afar it is 48, 45 to 176, 105: the part has 192 pixels and begins at (16, 0), not above.
    middle = np.array([16 + 6.5 * 16, 5.5 * 16])
    half = np.array([7 * 16, 5 * 16]) / 2
    close = np.array([*(middle - half), *(middle + half)])
    np.testing.assert_allclose(face.box_xyxy, (close + np.array([48, 45, 176, 105])) / 2, rtol=1e-5)
    point = middle + 16
    np.testing.assert_allclose(face.landmarks, np.tile(point, (5, 1)), rtol=1e-5)
    scores = [1 / (1 + np.exp(-logit)) for logit in (2, 4)]
    assert face.confidence == pytest.approx(np.sqrt(np.prod(scores)))


def test_what_is_no_face_when_looked_at_closer_is_none() -> None:
    far = (16, 5, 9, a_face(9, 4, 4))
    assert BundleDetector(Says({(192, 320): [far]})).detect(EMPTY) == ()
    beside = (8, 2, 2, a_face(9, 2, 2))  # a small one, in a corner of the part
    assert BundleDetector(Says({(192, 320): [far], CLOSE: [beside]})).detect(EMPTY) == ()


@pytest.mark.parametrize(
    ("far", "close", "found"),
    [(0, 4, 1), (4, 0, 1), (4, -0.7, 1), (2, -0.7, 0), (-0.3, 0.2, 0), (-1, 9, 0)],
)
def test_both_looks_together_must_be_sure(far: float, close: float, found: int) -> None:
    """A third is enough for the closer look if the first is sure; for the first less than 0.4 never is."""
    session = Says(
        {(192, 320): [(32, 3, 5, a_face(far, 2, 2))], CLOSE: [(32, 2, 2, a_face(close, 3.5, 3.5))]}
    )
    assert len(BundleDetector(session).detect(EMPTY)) == found


def test_two_places_that_are_one_face_when_looked_at_closer_are_one() -> None:
    """From afar the boxes overlap by a quarter; closer, each is seen to be the whole face."""
    far = [(32, 3, 4, a_face(2, 1.8, 1.8)), (32, 3, 5, a_face(3, 1.8, 1.8))]
    wide = (32, 2, 2, a_face(4, 5, 4))
    session = Says({(192, 320): far, CLOSE: [wide]})
    assert len(BundleDetector(session).detect(EMPTY)) == 1
    assert session.shown.count(CLOSE) == 2


def test_a_face_keeps_its_landmarks_in_a_larger_picture() -> None:
    """Of the size in which it is searched, a face has 144 of 320 pixels in the one, 38 in the other."""
    frame = demo_frames()[0]
    larger = np.full((900, 1200, 3), 128, np.uint8)
    larger[200:520, 100:420] = frame
    detector = BundleDetector(open_session(load_bundle().network("detector")))
    (alone,), (inside,) = (detector.detect(image) for image in (frame, larger))
    eyes = float(np.linalg.norm(alone.landmarks[0] - alone.landmarks[1]))
    apart = np.linalg.norm(inside.landmarks - np.float32([100, 200]) - alone.landmarks, axis=1)
    assert apart.mean() < 0.04 * eyes


@pytest.mark.parametrize("most", [3, MOST_LOOKS])
def test_of_a_picture_full_of_faces_the_largest_are_looked_at_and_no_more(most: int) -> None:
    """The larger they are, the less they are like faces, and the further down."""
    far = [
        (8, row, column, a_face(3 - row / 10, 1 + row / 100, 1))
        for row in range(2, 22)
        for column in range(2, 38)
    ]
    session = Says({(192, 320): far, CLOSE: [IN_THE_MIDDLE]})
    found = BundleDetector(session, most_looks=most).detect(EMPTY)
    assert session.shown.count(CLOSE) == most
    assert 0 < len(found) <= most
    middles = [(face.box_xyxy[1] + face.box_xyxy[3]) / 2 for face in found]
    assert min(middles) > 360 * (21 - most // 36 - 1) / 24


def test_the_closer_looks_have_a_session_of_their_own() -> None:
    seen = {(192, 320): [(16, 2, 3, a_face(2, 4, 2))], CLOSE: [(16, 5, 6, a_face(4, 7, 5))]}
    far, close = Says(seen), Says(seen)
    assert len(BundleDetector(far, close).detect(EMPTY)) == 1
    assert (far.shown, close.shown) == ([(192, 320)], [CLOSE])


def test_places_are_what_one_look_takes_for_a_face() -> None:
    session = Says({(192, 320): [(16, 5, 9, a_face(2, 4, 4)), (16, 5, 2, a_face(3, 4, 4))]})
    places = BundleDetector(session).places(EMPTY)
    np.testing.assert_allclose(places[:, 0], 1 / (1 + np.exp([-3.0, -2.0])), rtol=1e-6)
    assert session.shown == [(192, 320)]


@given(
    st.integers(1, 90), st.integers(1, 90), st.tuples(*[st.floats(0, 1, width=32)] * 4),
)  # fmt: skip
def test_a_closer_look_is_at_a_part_of_the_picture_around_the_box(
    height: int, width: int, ends: tuple[float, ...]
) -> None:
    image = np.arange(height * width, dtype=np.int64).reshape(height, width)
    x, y = sorted(ends[:2]), sorted(ends[2:])
    box = np.float32([x[0] * width, y[0] * height, x[1] * width, y[1] * height])
    assume((box[2:] > box[:2]).all())
    part, corner = closer(image, box)  # type: ignore[arg-type]
    left, top = corner.astype(int).tolist()
    assert min(part.shape) > 0
    assert part[0, 0] == image[top, left], "the corner is where it is said to be"
    assert (corner <= box[:2] + 1).all(), "all of the box is in it, but for a part of a pixel"
    assert (corner + part.shape[::-1] >= box[2:] - 1).all()
    assert max(part.shape) <= ROOM * max(box[2:] - box[:2]) + 1


@pytest.mark.parametrize("corner", [(0, 0), (240, 0), (0, 140), (240, 140), (120, 70)])
def test_a_part_at_the_edge_is_as_large_and_as_square(corner: tuple[int, int]) -> None:
    box = np.array([*corner, corner[0] + 60, corner[1] + 60], np.float32)
    part, _ = closer(np.zeros((200, 300, 3), np.uint8), box)
    assert part.shape[:2] == (90, 90)


@pytest.mark.parametrize("shape", [(384, 640), (192, 320)])
def test_what_is_looked_at_in_large_size_is_looked_at_in_half_of_it_too(
    shape: tuple[int, int],
) -> None:
    far = (32, 3, 5, a_face(4, 3, 3))
    session = Says({shape: [far], CLOSE: [(32, 3, 3, a_face(4, 4, 4))]})
    (face,) = BundleDetector(session, long_side=640).detect(np.zeros((720, 1280, 3), np.uint8))
    assert session.shown == [(384, 640), (192, 320), CLOSE]
    middle = (face.box_xyxy[:2] + face.box_xyxy[2:]) / 2
    expected = np.array([5.5 * 32 / shape[1] * 1280, 3.5 * 32 / shape[0] * 720])
    size = 3 * 32 / shape[1] * 1280
    assert np.abs(middle - expected).max() < size / 4


def test_boxes_end_at_the_pictures_edge_and_landmarks_do_not() -> None:
    image = np.zeros((MIN_LONG_SIDE, MIN_LONG_SIDE, 3), np.uint8)
    far = (
        32,
        0,
        0,
        a_face(4, 4, 4),
    )  # its middle is at (16, 16), 128 wide: 80 of it are in the picture
    session = Says(
        {(MIN_LONG_SIDE, MIN_LONG_SIDE): [far], CLOSE: [(32, 1, 1, a_face(4, 4, 4, -2))]}
    )
    (face,) = BundleDetector(session).detect(image)
    assert face.box_xyxy[:2].tolist() == [0, 0]
    assert (face.landmarks < 0).all()
    outside = (8, 0, 0, [4, -9, 0, 1, 1, *[-2.0] * 10])
    session = Says({(MIN_LONG_SIDE, MIN_LONG_SIDE): [outside], CLOSE: [IN_THE_MIDDLE]})
    assert BundleDetector(session).detect(image) == (), "nothing of it is in the picture"


@given(st.integers(1, 5000), st.integers(1, 2000), st.one_of(st.none(), st.floats(0.01, 5000)))
def test_sizes_to_look_at_are_within_bounds(
    stored: int, long_side: int, min_face_px: float | None
) -> None:
    sides = looks(stored, long_side, min_face_px)
    assert MIN_LONG_SIDE <= sides[0] <= MAX_LONG_SIDE
    assert LONG_SIDE // 2 <= sides[-1] <= LONG_SIDE, (
        "a face that fills the picture is not too large"
    )
    assert all(half == side // 2 for side, half in itertools.pairwise(sides))
    if min_face_px is None:
        assert sides[0] <= max(MIN_LONG_SIDE, stored)


def test_smaller_faces_are_looked_for_in_larger_pictures() -> None:
    sides = [looks(1280, 320, size)[0] for size in (200, 64, 32, 16)]
    assert sides == [MIN_LONG_SIDE, 320, 640, 1280]


@given(st.integers(1, 400), st.integers(1, 400), st.integers(32, 400))
def test_what_the_network_is_shown_has_sides_of_the_grid(
    height: int, width: int, side: int
) -> None:
    shown = detector_input(np.full((height, width, 3), 7, np.uint8), side)
    assert shown.shape[:2] == (1, 3)
    assert all(n % GRID == 0 and n >= GRID for n in shown.shape[2:])
    assert (shown == 7).all()


@given(st.integers(321, 1280))
def test_a_large_picture_is_averaged_and_not_picked_from(stored: int) -> None:
    """A pattern as fine as can be comes out as its mean brightness."""
    stripes = np.zeros((stored, stored, 3), np.uint8)
    stripes[:, ::2] = 200
    shown = detector_input(stripes, 160)
    assert shown.mean() == pytest.approx(stripes.mean(), abs=4)


def test_yunet_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.onnx: no such file"):
        YuNet(tmp_path / "nowhere.onnx")
