"""Faces of a picture, from what the network says of it; and detectors of a user's own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from occam_sdk.backends import SessionInfo
from occam_sdk.video.faces import (
    GRID,
    LONG_SIDE,
    MAX_LONG_SIDE,
    MIN_LONG_SIDE,
    STRIDES,
    BundleDetector,
    YuNet,
    detector_input,
    looks,
)

Floats = NDArray[np.float32]


class Says:
    """A session that says the same of every picture of one size, and of others that there is no face.

    Args:
        shape: (H, W) of the pictures that show a face.
        stride: of the map that says so, in the cell
        cell: (row, column).
        face: (15,) what it says.
    """

    info = SessionInfo("none", "cpu", {})
    ports = (frozenset({"image"}), frozenset(f"stride_{stride}" for stride in STRIDES))

    def __init__(
        self, shape: tuple[int, int], stride: int, cell: tuple[int, int], face: list[float]
    ) -> None:
        self._shape, self._stride, self._cell, self._face = shape, stride, cell, face
        self.shown: list[tuple[int, int]] = []

    def run(self, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        height, width = inputs["image"].shape[2:]
        self.shown.append((height, width))
        maps = {
            f"stride_{s}": np.full((1, 15, height // s, width // s), -9, np.float32)
            for s in STRIDES
        }
        if (height, width) == self._shape:
            row, column = self._cell
            maps[f"stride_{self._stride}"][0, :, row, column] = self._face
        return maps


def test_boxes_and_landmarks_are_in_the_pictures_own_pixels() -> None:
    session = Says((192, 320), 16, (2, 3), [4, 0, 0, np.log(4), np.log(2), *[0.0] * 10])
    (face,) = BundleDetector(session).detect(np.zeros((360, 640, 3), np.uint8))
    assert session.shown == [(192, 320)], "half as wide; 180 rows become 192"
    np.testing.assert_allclose(face.box_xyxy, [48, 45, 176, 105], rtol=1e-5)
    np.testing.assert_allclose(face.landmarks, np.tile([112, 75], (5, 1)), rtol=1e-5)
    assert face.confidence == pytest.approx(1 / (1 + np.exp(-4)))


@pytest.mark.parametrize("shape", [(384, 640), (192, 320)])
def test_what_is_looked_at_in_large_size_is_looked_at_in_half_of_it_too(
    shape: tuple[int, int],
) -> None:
    session = Says(shape, 32, (3, 5), [4, 0, 0, 1, 1, *[0.0] * 10])
    (face,) = BundleDetector(session, long_side=640).detect(np.zeros((720, 1280, 3), np.uint8))
    assert session.shown == [(384, 640), (192, 320)]
    middle = (face.box_xyxy[:2] + face.box_xyxy[2:]) / 2
    expected = np.array([5.5 * 32 / shape[1] * 1280, 3.5 * 32 / shape[0] * 720])
    np.testing.assert_allclose(middle, expected, rtol=1e-4)


def test_boxes_end_at_the_pictures_edge_and_landmarks_do_not() -> None:
    image = np.zeros((MIN_LONG_SIDE, MIN_LONG_SIDE, 3), np.uint8)
    session = Says((MIN_LONG_SIDE, MIN_LONG_SIDE), 8, (0, 0), [4, -1, 0, 1, 1, *[-2.0] * 10])
    (face,) = BundleDetector(session).detect(image)
    assert face.box_xyxy[:2].tolist() == [0, 0]
    assert (face.landmarks < 0).all()
    session = Says((MIN_LONG_SIDE, MIN_LONG_SIDE), 8, (0, 0), [4, -9, 0, 1, 1, *[-2.0] * 10])
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


def test_yunet_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.onnx: no such file"):
        YuNet(tmp_path / "nowhere.onnx")
