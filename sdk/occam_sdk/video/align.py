"""Alignment: a similarity transform of five landmarks onto one template [2.1].

The same function makes the training data and runs in the product.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def align_face(
    image: NDArray[np.uint8],
    landmarks: NDArray[np.float32],
    template: NDArray[np.float32],
    size: int,
) -> NDArray[np.uint8]:
    """Cut a face out of a picture, upright and at one scale.

    Args:
        image: (H, W, 3) uint8.
        landmarks: (5, 2) float32, pixels of ``image``.
        template: (5, 2) float32, where the landmarks shall lie, in fractions of the crop's side.
        size: the crop's side in pixels.

    Returns:
        (size, size, 3) uint8. What lies outside the picture repeats the picture's border.

    Example:
        >>> import numpy as np
        >>> template = np.array([[.3, .4], [.7, .4], [.5, .6], [.35, .8], [.65, .8]], np.float32)
        >>> image = np.full((100, 100, 3), 7, np.uint8)
        >>> align_face(image, template * 100, template, 64).shape
        (64, 64, 3)
    """
    matrix = similarity(landmarks, template * size)
    region, (left, top) = _face_region(image, matrix, size)
    # warpAffine samples four pixels, however far it shrinks: average blocks first, or fine detail
    # of a large face turns into noise that the 48-pixel training faces never had.
    block = max(1, int(1 / np.hypot(matrix[0, 0], matrix[1, 0])))
    if block > 1:
        height, width = max(1, region.shape[0] // block), max(1, region.shape[1] // block)
        region = region[: height * block, : width * block]
        region = cv2.resize(region, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    # From the region's pixel p to the picture's: block * (p + 0.5) - 0.5 + corner.
    shift = np.array([left, top]) + (block - 1) / 2
    local = np.concatenate(
        [matrix[:, :2] * block, (matrix[:, :2] @ shift + matrix[:, 2])[:, None]], axis=1
    )
    crop = cv2.warpAffine(
        region, local, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(crop, np.uint8)


def similarity(source: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float64]:
    """The (2, 3) rotation, scale and shift that maps ``source`` (N, 2) onto ``target`` best.

    Least squares in closed form: a similarity of the plane is w = a z + b in complex numbers.

    Raises:
        ValueError: a source point is not finite, or all of them or of the target coincide, so that
            no scale is defined.
    """
    if not np.isfinite(source).all() or (source == source[0]).all():
        raise ValueError(f"landmarks: expected finite points that differ, got {source.tolist()}")
    z = source[:, 0].astype(np.float64) + 1j * source[:, 1]
    w = target[:, 0].astype(np.float64) + 1j * target[:, 1]
    centred = z - z.mean()
    a = (centred.conj() * (w - w.mean())).sum() / (np.abs(centred) ** 2).sum()
    if a == 0:
        raise ValueError(f"landmarks: no similarity maps {source.tolist()} onto {target.tolist()}")
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def _face_region(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], size: int
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The part of the picture that the crop is made of, with its top left corner (x, y)."""
    inverse = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]], np.float64)
    seen = corners @ inverse[:, :2].T + inverse[:, 2]
    margin = 2 + 1 / np.hypot(matrix[0, 0], matrix[1, 0])  # a block, and the pixels beside the edge
    height, width = image.shape[:2]
    left, top = np.clip(np.floor(seen.min(0) - margin), 0, [width - 1, height - 1]).astype(int)
    right, bottom = np.clip(
        np.ceil(seen.max(0) + margin), [left + 1, top + 1], [width, height]
    ).astype(int)
    return image[top:bottom, left:right], (int(left), int(top))
