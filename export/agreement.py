"""How far two forms of a network agree, on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.metrics import ccc

Outputs = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Targets:
    """What is known of N faces.

    Attributes:
        label: (N,) int64 over the seven classes, -1 where unknown.
        votes: (N, 8) float32, zeros where there are none.
        valence_arousal: (N, 2) float32, NaN where unknown.
    """

    label: NDArray[np.int64]
    votes: NDArray[np.float32]
    valence_arousal: NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """One form of a network held against another.

    Attributes:
        count: how many inputs.
        max_delta, mean_delta: |difference| of the seven classes' logits.
        labels, labels_of_eight: share of inputs on which both say the same class.
        accuracy, accuracy_of_eight: of this form less that of the other, None without labels.
        ccc: the worse of valence's and arousal's CCC, less that of the other; None without targets.
    """

    count: int
    max_delta: float
    mean_delta: float
    labels: float
    labels_of_eight: float | None = None
    accuracy: float | None = None
    accuracy_of_eight: float | None = None
    ccc: float | None = None


def agreement(outputs: Outputs, reference: Outputs, targets: Targets | None = None) -> Agreement:
    """Hold outputs against those of the reference, row by row."""
    delta = np.abs(outputs["emotion"] - reference["emotion"])
    said = {name: _classes(outputs, name) for name in ("emotion", "ferplus") if name in outputs}
    there = {name: _classes(reference, name) for name in said}
    same = {name: float((said[name] == there[name]).mean()) for name in said}
    found = Agreement(
        count=len(delta),
        max_delta=float(delta.max()),
        mean_delta=float(delta.mean()),
        labels=same["emotion"],
        labels_of_eight=same.get("ferplus"),
    )
    if targets is None:
        return found
    known, voted = targets.label >= 0, targets.votes.sum(1) > 0
    rated = ~np.isnan(targets.valence_arousal).any(1)
    label, vote = targets.label[known], targets.votes[voted].argmax(1)

    def right(name: str, rows: NDArray[np.bool_], truth: NDArray[np.int64]) -> float | None:
        if name not in said or not rows.any():
            return None
        return float((said[name][rows] == truth).mean() - (there[name][rows] == truth).mean())

    losses = [
        ccc(truth, outputs["valence_arousal"][rated, axis])
        - ccc(truth, reference["valence_arousal"][rated, axis])
        for axis, truth in enumerate(targets.valence_arousal[rated].T)
        if rated.any()
    ]
    return replace(
        found,
        accuracy=right("emotion", known, label),
        accuracy_of_eight=right("ferplus", voted, vote),
        ccc=min(losses, default=None),
    )


def accuracies(outputs: Outputs, targets: Targets) -> dict[str, float]:
    """Share of faces with a known label that both heads get right: "seven" and "eight", where known."""
    known, voted = targets.label >= 0, targets.votes.sum(1) > 0
    found = {}
    if known.any():
        right = _classes(outputs, "emotion")[known] == targets.label[known]
        found["seven"] = float(right.mean())
    if voted.any() and "ferplus" in outputs:
        right = _classes(outputs, "ferplus")[voted] == targets.votes[voted].argmax(1)
        found["eight"] = float(right.mean())
    return found


def _classes(outputs: Outputs, name: str) -> NDArray[np.int64]:
    return np.asarray(outputs[name].argmax(1), np.int64)
