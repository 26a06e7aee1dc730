"""Figures of merit, as the field defines them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def accuracy(label: ArrayLike, guess: ArrayLike) -> float:
    """The part of the guesses that is right."""
    return float(np.mean(np.asarray(label) == np.asarray(guess)))


def recalls(label: ArrayLike, guess: ArrayLike, classes: int) -> NDArray[np.float64]:
    """(classes,) recall of each; NaN for a class without examples. Its mean is the UAR."""
    label, guess = np.asarray(label), np.asarray(guess)
    return np.array(
        [np.mean(guess[label == c] == c) if (label == c).any() else np.nan for c in range(classes)]
    )


def ccc(target: ArrayLike, guess: ArrayLike) -> float:
    """Concordance correlation coefficient (Lin 1989): 1 is perfect, a constant guess gets 0."""
    x, y = np.asarray(target, np.float64), np.asarray(guess, np.float64)
    covariance = np.mean((x - x.mean()) * (y - y.mean()))
    return float(2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def wilson(rate: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a rate over ``count`` trials (Wilson 1927)."""
    centre = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    return float(centre - half), float(centre + half)


def calibration_error(scores: NDArray[np.float32], label: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017): mean gap of confidence and accuracy, by confidence."""
    confidence = scores.max(axis=1).astype(np.float64)
    right = scores.argmax(axis=1) == np.asarray(label)
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        (which == b).mean() * abs(right[which == b].mean() - confidence[which == b].mean())
        for b in np.unique(which)
    ]
    return float(np.sum(gaps))
