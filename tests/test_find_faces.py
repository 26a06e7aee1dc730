"""From the maps of the detector to faces, by the native core: decoding and non-maximum suppression."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from occam_sdk import _core
from tests import reference

Maps = list[NDArray[np.float32]]
STRIDES = ((8.0, 8.0), (16.0, 17.0), (32.0, 30.0))
USUAL = (0.5, 0.3, 0.6)


def nothing(*sizes: tuple[int, int]) -> Maps:
    """Maps that say of no cell that there is a face; boxes are of one stride, landmarks in the middle."""
    maps = [np.zeros((15, *size), np.float32) for size in sizes]
    for one in maps:
        one[0] = -10
    return maps


def test_a_cell_says_where_a_face_is_in_strides_from_its_own_middle() -> None:
    (said,) = nothing((3, 4))
    said[:, 1, 2] = [2, 0.5, -0.25, np.log(4), np.log(2), -1, -1, 1, -1, 0, 0, -1, 1, 1, 1]
    (face,) = _core.find_faces([said], [(8, 8)], *USUAL)
    assert face[0] == pytest.approx(1 / (1 + np.exp(-2)))
    assert face[1:5].tolist() == pytest.approx([24 - 16, 10 - 8, 24 + 16, 10 + 8])
    assert face[5:].tolist() == pytest.approx([12, 4, 28, 4, 20, 12, 12, 20, 28, 20])


def test_a_stride_may_differ_across_and_down() -> None:
    (said,) = nothing((2, 2))
    said[:, 1, 1] = [2, 0, 0, 0, 0, *[1] * 10]
    (face,) = _core.find_faces([said], [(10, 4)], *USUAL)
    assert face[1:5].tolist() == pytest.approx([10, 4, 20, 8])
    assert face[5:7].tolist() == pytest.approx([25, 10])


def test_no_cell_that_scores_enough_is_no_face() -> None:
    assert _core.find_faces(nothing((4, 4), (2, 2), (1, 1)), STRIDES, *USUAL).shape == (0, 15)
    assert _core.find_faces([], [], *USUAL).shape == (0, 15)
    assert _core.find_faces([np.zeros((15, 0, 4), np.float32)], [(8, 8)], *USUAL).shape == (0, 15)


def test_the_score_must_be_above_the_threshold() -> None:
    (said,) = nothing((1, 1))
    said[0] = 0  # a half
    assert len(_core.find_faces([said], [(8, 8)], *USUAL)) == 0
    assert len(_core.find_faces([said], [(8, 8)], 0.49, 0.3, 0.6)) == 1


def test_two_strides_that_see_one_face_say_one() -> None:
    fine, coarse = nothing((2, 2), (1, 1))
    fine[0, 0, 0], coarse[0, 0, 0] = 1, 2
    fine[1:3, 0, 0], fine[3:5, 0, 0] = 0.5, np.log(2)  # the same box as the coarse one's
    (face,) = _core.find_faces([fine, coarse], [(8, 8), (16, 16)], *USUAL)
    assert face[1:5].tolist() == pytest.approx([0, 0, 16, 16])
    assert face[0] == pytest.approx(1 / (1 + np.exp(-2)))


def test_a_face_is_where_the_cells_that_agree_see_it_on_average() -> None:
    (said,) = nothing((1, 2))
    said[0] = 3.0
    said[3:5] = np.log(4)  # 32 pixels, 8 apart: they share 60 %
    (face,) = _core.find_faces([said], [(8, 8)], 0.5, 0.3, 0.5)
    assert face[1:5].tolist() == pytest.approx([-8, -12, 24, 20])
    (face,) = _core.find_faces([said], [(8, 8)], 0.5, 0.3, 0.7)
    assert face[1:5].tolist() == pytest.approx([-12, -12, 20, 20]), "of equals the first"


def test_neighbours_that_hardly_touch_are_two() -> None:
    (said,) = nothing((1, 4))
    said[0, 0, ::3] = [1, 2]
    faces = _core.find_faces([said], [(8, 8)], *USUAL)
    assert faces[:, 1].tolist() == [24, 0], "the more confident first"


@pytest.mark.parametrize("place", [0, 1, 3, 5, 14])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_cell_with_a_number_that_is_not_finite_is_no_face(place: int, value: float) -> None:
    (said,) = nothing((1, 1))
    said[0] = 5
    said[place] = value
    found = _core.find_faces([said], [(8, 8)], *USUAL)
    assert np.isfinite(found).all()
    certain = (place, value) == (0, np.inf)  # sure beyond measure
    no_width = (place, value) == (3, -np.inf)
    assert len(found) == int(certain or no_width)


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95), st.floats(0, 1), st.floats(0, 1))
def test_it_finds_what_the_oracle_finds(
    seed: int, min_score: float, max_overlap: float, min_agreement: float
) -> None:
    rng = np.random.default_rng(seed)
    maps = [rng.normal(size=(15, *size)).astype(np.float32) for size in ((4, 6), (2, 3), (1, 2))]
    found = _core.find_faces(maps, STRIDES, min_score, max_overlap, min_agreement)
    expected = reference.find_faces(maps, STRIDES, min_score, max_overlap, min_agreement)
    assert len(found) == len(expected)
    for face, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(face, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("maps", "strides", "numbers", "error", "message"),
    [
        (
            [np.zeros((15, 2, 2))],
            [(8, 8)],
            USUAL,
            TypeError,
            r"\(15, H, W\) float32, got .* float64",
        ),
        ([[1.0]], [(8, 8)], USUAL, TypeError, "got list"),
        ([np.zeros((14, 2, 2), np.float32)], [(8, 8)], USUAL, ValueError, r"got \(14, 2, 2\)"),
        ([np.zeros((15, 2), np.float32)], [(8, 8)], USUAL, ValueError, r"got \(15, 2\)"),
        ([np.zeros((15, 2, 4), np.float32)[..., ::2]], [(8, 8)], USUAL, ValueError, "ascontiguous"),
        ([np.zeros((15, 2, 2), np.float32)], [(8, 8), (16, 16)], USUAL, ValueError, "got 2 for 1"),
        ([np.zeros((15, 2, 2), np.float32)], [(8, 0)], USUAL, ValueError, "strides: .* positive"),
        (
            [np.zeros((15, 2, 2), np.float32)],
            [(np.nan, 8)],
            USUAL,
            ValueError,
            "strides: .* positive",
        ),
        ([], [], (0, 0.3, 0.6), ValueError, "min_score"),
        ([], [], (1, 0.3, 0.6), ValueError, "min_score"),
        ([], [], (0.5, 1.1, 0.6), ValueError, "max_overlap"),
        ([], [], (0.5, 0.3, np.nan), ValueError, "min_agreement"),
    ],
)
def test_what_is_no_map_is_refused_by_name(
    maps: Maps,
    strides: list[tuple[float, float]],
    numbers: tuple[float, float, float],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        _core.find_faces(maps, strides, *numbers)
