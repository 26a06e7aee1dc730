"""Slow, obvious answers to what the native core computes; it shares no trick with the C++."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# Wide enough that no sigmoid of a double rounds to zero or one.
_EXACT = Context(prec=60, Emin=-(10**15), Emax=10**15)


def chunk_bounds(frames: int, n: int) -> list[int]:
    """The n + 1 bounds floor(iT/n) of n chunks of T frames."""
    return [math.floor(Fraction(i * frames, n)) for i in range(n + 1)]


def select_frames(scores: NDArray[np.float32], n: int) -> list[int]:
    """The frame with the highest score of each chunk; every frame if T < n."""
    frames: list[list[float]] = scores.tolist()
    usable = [bool(row) and not any(math.isnan(score) for score in row) for row in frames]
    if len(frames) < n:
        return [frame for frame in range(len(frames)) if usable[frame]]
    kept = []
    bounds = chunk_bounds(len(frames), n)
    for start, end in pairwise(bounds):
        candidates = [frame for frame in range(start, end) if usable[frame]]
        if candidates:
            highest = max(max(frames[frame]) for frame in candidates)
            kept.append(next(frame for frame in candidates if max(frames[frame]) == highest))
    return kept


def mean_pool(embeddings: NDArray[np.float32]) -> list[float]:
    """The mean of each column, rounded once."""
    return [_mean(embeddings[:, column].tolist()) for column in range(embeddings.shape[1])]


def _mean(values: list[float]) -> float:
    try:
        return math.fsum(values) / len(values)
    except ValueError:  # infinities of both signs
        return math.nan


def sigmoid_weighted_pool(
    embeddings: NDArray[np.float32],
    valence_arousal: NDArray[np.float32],
    weight: Sequence[float],
    bias: float,
) -> list[float]:
    """The mean of each column weighted by sigmoid(weight . va + bias), in 60 decimal digits.

    For finite numbers only.
    """
    with localcontext(_EXACT):
        weights = []
        for valence, arousal in valence_arousal.tolist():
            x = Decimal(weight[0]) * Decimal(valence) + Decimal(weight[1]) * Decimal(arousal)
            weights.append(1 / (1 + (-(x + Decimal(bias))).exp()))
        pooled = []
        for column in range(embeddings.shape[1]):
            values = [Decimal(value) for value in embeddings[:, column].tolist()]
            weighted = sum((w * v for w, v in zip(weights, values, strict=True)), Decimal(0))
            pooled.append(float(weighted / sum(weights)))
        return pooled


def softmax(logits: NDArray[np.float32], temperature: float) -> list[float]:
    """The textbook's, in Python floats."""
    exponentials = [math.exp(logit / temperature) for logit in logits.tolist()]
    return [value / sum(exponentials) for value in exponentials]
