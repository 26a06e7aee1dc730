"""From labels and guesses to the rows of the accuracy report, each figure with its 95 % interval.

Faces are independent of one another, the utterances of one speaker are not: where a speaker is known,
whole speakers are drawn (cluster bootstrap); elsewhere shares have Wilson's interval and UAR a bootstrap
of faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.metrics import bootstrap, calibration_error, recalls, uar, wilson

DRAWS: Final = 2000
NOT_FOUND: Final = -1  # the guess where no face was found: wrong, whatever the truth
DIGITS: Final = 4

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Names = NDArray[np.str_]
Row = dict[str, Any]


def summary(label: Ints, guess: Ints, speaker: Names | None = None) -> Row:
    """How many, accuracy and UAR over the classes that occur.

    Args:
        label: (N,) the truth.
        guess: (N,) classes, ``NOT_FOUND`` where there is no answer.
        speaker: (N,) who is heard; None for pictures.
    """
    if not len(label):
        return {"count": 0}
    right = label == guess
    low, high = bootstrap(uar, label, guess, subject=_listed(speaker), draws=DRAWS)
    return {
        "count": len(label),
        "accuracy": _rounded(right.mean()),
        "accuracy_95": _share_95(right, speaker),
        "uar": _rounded(uar(label, guess)),
        "uar_95": [_rounded(low), _rounded(high)],
    }


def judged(label: Ints, guess: Ints, names: Sequence[str], speaker: Names | None = None) -> Row:
    """``summary`` with the recall of each class that occurs, the worst of them, and what was taken for what.

    The confusion counts have a column more, the last, for pictures without an answer, if there are any.
    """
    row = summary(label, guess, speaker)
    if not row["count"]:
        return row
    recall = recalls(label, guess, len(names))
    known = [c for c in range(len(names)) if np.isfinite(recall[c])]
    worst = min(known, key=lambda c: recall[c])
    columns = len(names) + int((guess == NOT_FOUND).any())
    confusion = np.zeros((len(names), columns), int)
    np.add.at(confusion, (label, guess), 1)  # NOT_FOUND counts from the end
    return {
        **row,
        "recall": {names[c]: _rounded(recall[c]) for c in known},
        "recall_95": {names[c]: _recall_95(label, guess, c, speaker) for c in known},
        "worst_class": names[worst],
        "worst_recall": _rounded(recall[worst]),
        "confusion_rows_are_truth": confusion.tolist(),
    }


def calibration(scores: Floats, label: Ints, speaker: Names | None = None) -> Row:
    """How far confidence is from accuracy: expected error over 15 bins, and the mean difference.

    The difference is positive where the scores promise too much. Chance alone makes the expected error
    of few scores larger than 0, and of drawn ones larger still: its interval lies high.
    """
    confidence, right = scores.max(1), scores.argmax(1) == label

    def excess(confidence: Floats, right: Flags) -> float:
        return float(confidence.mean(dtype=np.float64) - right.mean())

    who = _listed(speaker)
    error = bootstrap(calibration_error, scores, label, subject=who, draws=DRAWS)
    too_sure = bootstrap(excess, confidence, right, subject=who, draws=DRAWS)
    return {
        **summary(label, scores.argmax(1), speaker),
        "mean_confidence": _rounded(confidence.mean(dtype=np.float64)),
        "confidence_minus_accuracy": _rounded(excess(confidence, right)),
        "confidence_minus_accuracy_95": [_rounded(end) for end in too_sure],
        "expected_calibration_error": _rounded(calibration_error(scores, label)),
        "expected_calibration_error_95": [_rounded(end) for end in error],
    }


def _recall_95(label: Ints, guess: Ints, which: int, speaker: Names | None) -> list[float]:
    own = label == which
    return _share_95(guess[own] == which, None if speaker is None else speaker[own])


def _share_95(right: Flags, speaker: Names | None) -> list[float]:
    if speaker is None:
        ends = wilson(float(right.mean()), len(right))
    else:
        ends = bootstrap(np.mean, right, subject=_listed(speaker), draws=DRAWS)
    return [_rounded(end) for end in ends]


def _listed(speaker: Names | None) -> list[str] | None:
    return None if speaker is None else [str(who) for who in speaker]


def _rounded(value: float | np.floating[Any]) -> float:
    return round(float(value), DIGITS)
