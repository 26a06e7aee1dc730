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


def find_faces(
    maps: Sequence[NDArray[np.float32]],
    strides: Sequence[tuple[float, float]],
    min_score: float,
    max_overlap: float,
    min_agreement: float,
) -> list[list[float]]:
    """Score, box and landmarks of each face, in Python floats; every cell by itself."""
    seen: list[list[float]] = []
    for said, (across, down) in zip(maps, strides, strict=True):
        for row in range(said.shape[1]):
            for column in range(said.shape[2]):
                logit, dx, dy, log_width, log_height, *points = said[:, row, column].tolist()
                if not logit > math.log(min_score / (1 - min_score)):
                    continue
                x, y = (column + 0.5) * across, (row + 0.5) * down
                width, height = math.exp(log_width) * across, math.exp(log_height) * down
                left, top = x + dx * across - width / 2, y + dy * down - height / 2
                landmarks = [
                    (x, y)[i % 2] + point * (across, down)[i % 2] for i, point in enumerate(points)
                ]
                seen.append(
                    [1 / (1 + math.exp(-logit)), left, top, left + width, top + height, *landmarks]
                )
    seen.sort(key=lambda face: -face[0])
    faces = []
    while seen:
        best = seen[0]
        same = [
            face for face in seen if face is best or overlap(best[1:5], face[1:5]) > max_overlap
        ]
        near = [
            face for face in same if face is best or overlap(best[1:5], face[1:5]) >= min_agreement
        ]
        weight = math.fsum(face[0] for face in near)
        mean = [math.fsum(face[0] * face[i] for face in near) / weight for i in range(1, 15)]
        faces.append([best[0], *mean])
        seen = [face for face in seen if not any(face is one for one in same)]
    return faces


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes of corners."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)
