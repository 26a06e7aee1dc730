"""Frame selection and pooling in C++ (Vielzeuf et al. 2018, section 2.1), and the detector's decoding.

Matrices are float32 of any strides, read where they lie and never written; the GIL is released
meanwhile. Another dtype or no array is a ``TypeError``, another shape or elements that do not lie at
float32 boundaries a ``ValueError``.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def select_frames(scores: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    """Indices of the frames to keep, rising.

    (T, C) scores are cut into ``n`` chunks of equal length, chunk i from floor(iT/n); of each the
    frame with the highest score over frames and categories is kept, of equals the first. With T < n
    every frame is kept. A frame with a NaN never is.
    """

def mean_pool(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, D) to (D,), T >= 1: the mean of the frames."""

def sigmoid_weighted_pool(
    embeddings: NDArray[np.float32],
    valence_arousal: NDArray[np.float32],
    weight: Sequence[float],
    bias: float,
) -> NDArray[np.float32]:
    """(T, D) to (D,), T >= 1: the mean weighted by sigmoid(weight . (valence, arousal) + bias).

    ``weight`` holds two finite numbers. Weights too small for a float are still told apart.
    """

def find_faces(
    maps: list[NDArray[np.float32]],
    strides: Sequence[tuple[float, float]],
    min_score: float,
    max_overlap: float,
    min_agreement: float,
) -> NDArray[np.float32]:
    """(K, 15) faces of one picture, the most confident first: score, box, landmarks.

    ``maps`` are (15, H, W), C-contiguous; a cell says a logit, the distance of the box's centre from its
    own middle (x, y) and that of five landmarks in strides, and between them the logarithms of width and
    height in strides. ``strides`` are the pixels from one cell of a map to the next, across and down. Boxes
    are left, top, right, bottom, landmarks x, y, all in pixels.

    Of cells that score more than ``min_score`` and overlap by more than ``max_overlap`` one is left; it
    is where those are on average that overlap it by at least ``min_agreement``, weighted by their scores.
    Cells with numbers that are not finite are left out.
    """
