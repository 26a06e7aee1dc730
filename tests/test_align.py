"""Alignment: five landmarks onto one template, at any size, angle and place."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from occam_sdk.video.align import align_face, similarity

from .bundles import TEMPLATE

SIZE = 48
TARGET = np.array(TEMPLATE, np.float32)
Points = NDArray[np.float32]
Image = NDArray[np.uint8]


def _points(scale: float, angle_deg: float, centre: tuple[float, float]) -> Points:
    """The template, ``scale`` crops large, turned, with the crop's centre at ``centre``."""
    turn = np.exp(1j * np.radians(angle_deg))
    offset = (TARGET.astype(float) - 0.5) * SIZE * scale
    z = (offset[:, 0] + 1j * offset[:, 1]) * turn + complex(*centre)
    return np.stack([z.real, z.imag], axis=1).astype(np.float32)


def _seen_from(
    scale: float, angle_deg: float, centre: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where in the picture each pixel of the crop lies, x and y, if the landmarks are _points."""
    row, column = np.mgrid[0:SIZE, 0:SIZE]
    turn = np.exp(1j * np.radians(angle_deg))
    z = ((column - SIZE / 2) + 1j * (row - SIZE / 2)) * scale * turn + complex(*centre)
    return z.real, z.imag


def _ramps(height: int, width: int) -> Image:
    """Blue rises by one a column, green by one a row; red is 77."""
    row, column = np.mgrid[0:height, 0:width]
    return np.stack([column, row, np.full_like(row, 77)], axis=2).astype(np.uint8)


# ---- the transform


@pytest.mark.parametrize("seed", range(10))
def test_a_known_similarity_is_recovered(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale, angle = np.exp(rng.uniform(-3, 3)), rng.uniform(-np.pi, np.pi)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    shift = rng.uniform(-100, 100, 2)
    source = rng.uniform(0, 100, (5, 2)).astype(np.float32)
    target = (source @ np.array([[cos, -sin], [sin, cos]]).T + shift).astype(np.float32)
    expected = [[cos, -sin, shift[0]], [sin, cos, shift[1]]]
    # The target is rounded to float32: 1e-7 of numbers up to 3,000.
    np.testing.assert_allclose(similarity(source, target), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_similarity_comes_closer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = rng.uniform(0, 100, (5, 2)).astype(np.float32)
    target = TARGET * SIZE
    best = similarity(source, target)

    def error(a: float, b: float, x: float, y: float) -> float:
        mapped = source @ np.array([[a, -b], [b, a]]).T + [x, y]
        return float(((mapped - target) ** 2).sum())

    parts = np.array([best[0, 0], best[1, 0], best[0, 2], best[1, 2]])
    for nudge in np.vstack([np.eye(4), -np.eye(4), rng.normal(size=(20, 4))]):
        assert error(*parts) < error(*(parts + 1e-3 * nudge))


@pytest.mark.parametrize(
    "landmarks",
    [
        pytest.param(np.full((5, 2), 7.25, np.float32), id="all in one place"),
        pytest.param(np.full((5, 2), np.nan, np.float32), id="NaN"),
        pytest.param(np.array([[np.inf, 0], [1, 0], [2, 1], [0, 2], [1, 2]], "f"), id="infinity"),
    ],
)
def test_landmarks_without_a_layout_are_refused(landmarks: Points) -> None:
    with pytest.raises(ValueError, match=r"^landmarks: expected finite points that differ"):
        align_face(_ramps(60, 80), landmarks, TARGET, SIZE)


def test_landmarks_that_no_similarity_brings_onto_the_template_are_refused() -> None:
    square = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
    mirrored = square * np.array([1, -1], np.float32)
    with pytest.raises(ValueError, match=r"^landmarks: no similarity maps"):
        similarity(square, mirrored)


# ---- the crop

# Also from one to two source pixels a pixel, where no block is averaged, and well beyond.
SCALES = (0.2, 0.7, 1.0, 1.5, 2.0, 2.5, 3.0, 3.9, 4.5)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("angle_deg", [0, 20, -35, 90, 180])
def test_every_pixel_shows_the_place_that_it_stands_for(scale: float, angle_deg: float) -> None:
    centre = (128.3, 126.8)
    crop = align_face(_ramps(256, 256), _points(scale, angle_deg, centre), TARGET, SIZE)
    x, y = _seen_from(scale, angle_deg, centre)
    # Averages of a ramp are exact; away from the picture's edge two roundings remain.
    inside = (x > 8) & (x < 247) & (y > 8) & (y < 247)
    assert inside.mean() > 0.6
    np.testing.assert_allclose(crop[inside][:, 0], x[inside], atol=1.1)
    np.testing.assert_allclose(crop[inside][:, 1], y[inside], atol=1.1)
    np.testing.assert_array_equal(crop[..., 2], 77)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "centre",
    [(0, 60), (119, 60), (60, 0), (60, 119), (0, 0), (119, 119), (-300, 60), (60, 900)],
    ids=str,
)
def test_beyond_the_picture_its_border_is_repeated(
    scale: float, centre: tuple[float, float]
) -> None:
    crop = align_face(_ramps(120, 120), _points(scale, 10, centre), TARGET, SIZE)
    x, y = _seen_from(scale, 10, centre)
    # A border pixel is averaged with its block, and less than a block may be cut off.
    tolerance = 1.1 + 1.5 * int(scale)
    np.testing.assert_allclose(crop[..., 0], np.clip(x, 0, 119), atol=tolerance)
    np.testing.assert_allclose(crop[..., 1], np.clip(y, 0, 119), atol=tolerance)
    np.testing.assert_array_equal(crop[..., 2], 77)


def _scenery(height: int, width: int) -> Image:
    """One smooth picture, drawn at any size."""
    y, x = np.mgrid[0:height, 0:width]
    u, v = (x + 0.5) / width, (y + 0.5) / height
    waves = [
        np.sin(9 * u + 4 * v),
        np.cos(7 * v * u + 3 * u),
        np.sin(12 * v) * np.cos(10 * u),
    ]
    return np.stack([127 + 120 * wave for wave in waves], axis=2).round().astype(np.uint8)


@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0, 4.25, 8.0])
@pytest.mark.parametrize("angle_deg", [0, 25])
def test_a_large_and_a_small_version_of_a_picture_give_the_same_crop(
    factor: float, angle_deg: float
) -> None:
    small = _points(0.9, angle_deg, (80, 62))
    large = ((small + 0.5) * factor - 0.5).astype(np.float32)
    expected = align_face(_scenery(120, 160), small, TARGET, SIZE)
    crop = align_face(_scenery(round(120 * factor), round(160 * factor)), large, TARGET, SIZE)
    difference = np.abs(crop.astype(int) - expected)
    assert difference.mean() < 1
    assert difference.max() <= 4


@pytest.mark.parametrize("scale", [2.1, 2.7, 3.1, 4.1, 5.5, 8.0, 20.0])
@pytest.mark.parametrize("angle_deg", [0, 17])
def test_detail_too_fine_for_the_crop_averages_out(scale: float, angle_deg: float) -> None:
    side = int(SIZE * scale * 1.5)
    row, column = np.mgrid[0:side, 0:side]
    checkers = np.repeat(((row + column) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    crop = align_face(checkers, _points(scale, angle_deg, (side / 2, side / 2)), TARGET, SIZE)
    # Sampled without averaging, black and white pixels would spread by about 100.
    assert abs(float(crop.mean()) - 127.5) < 4
    assert float(crop.std()) < 16


@pytest.mark.parametrize("size", [1, 16, 48, 112, 224])
def test_the_crop_has_the_size_asked_for_and_is_the_callers_own(size: int) -> None:
    image = _ramps(100, 100)
    crop = align_face(image, _points(1.0, 0, (50, 50)), TARGET, size)
    assert (crop.shape, crop.dtype) == ((size, size, 3), np.uint8)
    assert not np.shares_memory(crop, image)


@pytest.mark.parametrize("scale", [0.7, 3.0])
@pytest.mark.parametrize(
    "view",
    [
        pytest.param(np.s_[:, :, ::-1], id="RGB to BGR"),
        pytest.param(np.s_[:, ::-1], id="mirrored"),
        pytest.param(np.s_[::-1, ::2], id="upside down, every second column"),
    ],
)
def test_a_view_of_a_picture_gives_what_its_copy_gives(view: object, scale: float) -> None:
    image = _scenery(200, 300)[view]
    landmarks = _points(scale, 10, (70, 90))
    np.testing.assert_array_equal(
        align_face(image, landmarks, TARGET, SIZE),
        align_face(np.ascontiguousarray(image), landmarks, TARGET, SIZE),
    )


def test_picture_and_landmarks_are_not_changed() -> None:
    image, landmarks = _scenery(120, 160), _points(1.2, 5, (80, 60))
    image.flags.writeable = landmarks.flags.writeable = False
    before = image.tobytes(), landmarks.tobytes()
    align_face(image, landmarks, TARGET, SIZE)
    assert (image.tobytes(), landmarks.tobytes()) == before


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 2)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 7.0, 1e4])
def test_the_smallest_pictures_and_the_wildest_landmarks_give_a_crop(
    shape: tuple[int, int], scale: float
) -> None:
    image = np.full((*shape, 3), 200, np.uint8)
    crop = align_face(image, _points(scale, 30, (0.5, 0.5)), TARGET, SIZE)
    np.testing.assert_array_equal(crop, 200)
