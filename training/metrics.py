"""Figures of merit, as the field defines them, and how far a small set lets one trust them."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

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


def uar(label: ArrayLike, guess: ArrayLike) -> float:
    """Unweighted average recall: the mean recall of the classes that occur among the labels.

    A guess that is no class, such as -1 for a face that was not found, is wrong.

    >>> uar([0, 0, 0, 0, 2], [0, 0, 1, -1, 2])
    0.75
    """
    label, guess = np.asarray(label), np.asarray(guess)
    counts = np.bincount(label)
    right = np.bincount(label[label == guess], minlength=len(counts))
    return float((right[counts > 0] / counts[counts > 0]).mean())


def weighted_accuracy(recall: ArrayLike, counts: ArrayLike) -> float:
    """What the recalls promise on a set with other class counts: sum(a_i n_i) / sum(n_i) [2.5].

    A class that has no example has no recall: its NaN leaves both sums, as if the class were
    recognised as often as the others together. The result then says nothing of that class.

    Args:
        recall: (C,) the part of each class that was recognised, NaN where it has no example.
        counts: (C,) how many of each class the other set has; the paper's is ``paper.TABLE1["test"]``.

    Raises:
        ValueError: the shapes differ, a count is negative, or no class has both recall and count.

    >>> weighted_accuracy([0.5, 1.0, float("nan")], [30, 10, 7])
    0.625
    """
    a, n = np.asarray(recall, np.float64), np.asarray(counts, np.float64)
    if a.ndim != 1 or a.shape != n.shape:
        raise ValueError(
            f"expected a recall and a count of each class, got {a.shape} and {n.shape}"
        )
    if not (n >= 0).all():
        raise ValueError(f"expected counts of 0 or more, got {n.tolist()}")
    known = ~np.isnan(a)
    if not n[known].any():
        raise ValueError("no class has both a recall and a count")
    return float(a[known] @ n[known] / n[known].sum())


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


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of the runs of one model, as parts of 1; shown in percent.

    Attributes:
        mean: of the runs.
        std: of the population the runs were drawn from (ddof=1); None for a single run.
        n: how many runs.
    """

    mean: float
    std: float | None
    n: int

    def __format__(self, spec: str) -> str:
        """``f"{spread:.2f}"`` shows two digits of the percentage; without a format it is one."""
        percent = [100 * value for value in (self.mean, self.std) if value is not None]
        return " ± ".join(format(value, spec or ".1f") for value in percent)

    def __str__(self) -> str:
        return format(self, "")


def spread(values: ArrayLike) -> Spread:
    """Mean and standard deviation of a figure over seeds or folds [2.5].

    >>> print(spread([0.516, 0.522, 0.528]))
    52.2 ± 0.6
    """
    runs = np.asarray(values, np.float64)
    if runs.ndim != 1 or not len(runs):
        raise ValueError(f"expected at least one value in a row, got shape {runs.shape}")
    std = float(runs.std(ddof=1)) if len(runs) > 1 else None
    return Spread(float(runs.mean()), std, len(runs))


def bootstrap(
    figure: Callable[..., float],
    *clips: NDArray[Any],
    subject: Iterable[str | None] | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Confidence interval of a figure over clips: percentile bootstrap (Efron 1979).

    With ``subject``, whole speakers are drawn and not clips (cluster bootstrap): the utterances of
    one speaker are not independent, and an interval that takes them to be so is too narrow.

    Args:
        figure: takes the arrays of the clips drawn and returns a number.
        clips: arrays with one row a clip: labels and guesses, or the guesses of two models.
        subject: (N,) who is in each clip; "" or None where unknown, and then the clip is drawn alone.
        draws: how many times.
        level: how much of the draws lies within.
        seed: the same seed gives the same interval.

    Returns:
        Its low and its high end.

    >>> label, guess = np.arange(100) % 2, np.arange(100) % 5 // 2
    >>> low, high = bootstrap(accuracy, label, guess)
    >>> low < accuracy(label, guess) < high
    True
    """
    count = len(clips[0]) if clips else 0
    if not count or any(len(rows) != count for rows in clips):
        raise ValueError(f"expected arrays of one length, got {[len(rows) for rows in clips]}")
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"expected draws >= 1 and 0 < level < 1, got {draws} and {level}")
    group = np.arange(count) if subject is None else _groups(subject, count)
    groups = int(group.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = np.empty(draws)
    for i in range(draws):
        times = np.bincount(rng.integers(groups, size=groups), minlength=groups)
        index = np.repeat(np.arange(count), times[group])
        drawn[i] = figure(*(rows[index] for rows in clips))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class McNemar:
    """Two models on the same clips: b that only the first has right, c only the second, and p."""

    b: int
    c: int
    p: float


def mcnemar(right_a: ArrayLike, right_b: ArrayLike) -> McNemar:
    """Whether one of two models is better on the same clips: exact two-sided McNemar test.

    Where they differ, either is right equally often if they are equally good: b of b + c is then
    binomial with probability 1/2. Integers throughout, so p is exact for any number of clips. The
    test takes clips as independent; for clips of few speakers, ``bootstrap`` the difference.

    Args:
        right_a: (N,) bool, whether the first model is right.
        right_b: (N,) bool, whether the second is.

    >>> mcnemar([True] * 6 + [False], [False] * 6 + [False])
    McNemar(b=6, c=0, p=0.03125)
    """
    a, b = np.asarray(right_a), np.asarray(right_b)
    if a.dtype != np.bool_ or b.dtype != np.bool_ or a.ndim != 1 or a.shape != b.shape:
        raise ValueError(
            f"expected two (N,) bool, got {a.shape} {a.dtype} and {b.shape} {b.dtype}: pass guess == label"
        )
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    differ = only_a + only_b
    tail = sum(math.comb(differ, k) for k in range(min(only_a, only_b) + 1))
    return McNemar(only_a, only_b, min(1.0, 2 * tail / 2**differ))


def folds_by_subject(
    subject: Iterable[str | None], label: ArrayLike, count: int, seed: int = 0
) -> Iterator[NDArray[np.bool_]]:
    """Folds for cross-validation [2.5]: nobody is in two, and each has its share of each class.

    Subjects are dealt out from the largest to the smallest, equally large ones in an order drawn by
    the seed, each to the fold that has least of what the subject brings.

    Args:
        subject: (N,) who is in each sample; "" or None where unknown, and then the sample is taken
            for a subject of its own.
        label: (N,) classes, any integers.
        count: how many folds.
        seed: the same seed gives the same folds.

    Yields:
        (N,) bool for each fold, True where the sample is held out; none of them is empty.

    Raises:
        ValueError: fewer subjects than folds, or not a subject for each label.
    """
    kind = np.unique(np.asarray(label), return_inverse=True)[1]
    group = _groups(subject, len(kind))
    groups = int(group.max(initial=-1)) + 1
    if not 2 <= count <= groups:
        raise ValueError(
            f"expected from 2 to {groups} folds, one subject in each at least: got {count}"
        )
    has = np.zeros((groups, kind.max() + 1))
    np.add.at(has, (group, kind), 1)
    order = np.random.default_rng(seed).permutation(groups)
    order = order[np.argsort(-has[order].sum(axis=1), kind="stable")]
    rare = 1 / has.sum(axis=0) ** 2  # a class weighs the same in all, however rare
    held = np.zeros((count, has.shape[1]))
    fold = np.empty(groups, np.int64)
    for one in order:
        # what the sum of squares over folds and classes, (held + has)^2, grows by, less what does not
        # depend on the fold; rounded, so that a tie is one on every machine and goes to the smaller fold
        least = np.round(held @ (rare * has[one]), 12)
        fold[one] = np.lexsort((held.sum(axis=1), least))[0]
        held[fold[one]] += has[one]
    return (fold[group] == f for f in range(count))


def _groups(subject: Iterable[str | None], count: int) -> NDArray[np.int64]:
    """(count,) number of each sample's subject, from 0; an unknown one is nobody else's."""
    number: dict[Hashable, int] = {}
    groups = [number.setdefault(who or (i,), len(number)) for i, who in enumerate(subject)]
    if len(groups) != count:
        raise ValueError(f"expected a subject for each of {count} samples, got {len(groups)}")
    return np.array(groups, np.int64)


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
