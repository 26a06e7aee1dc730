"""What of the paper's findings holds on the clips at hand: differences between models on the same clips."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .board import TABLE4, Board, data_of, known_subjects
from .metrics import bootstrap, mcnemar
from .report import Row, Table

LEVEL: Final = 0.02  # two models that differ by less are level: three times the paper's spread


@dataclass(frozen=True)
class Finding:
    """Something that the paper says: of two models the first is better, by how many points there."""

    says: str
    better: str
    worse: str
    paper: str
    equal: bool = False


FINDINGS: Final = (
    Finding("aggregating features helps", "average", "frames", "+0.3"),
    Finding("weighted and plain average are level", "weighted", "average", "+0.5", equal=True),
    Finding("average is better than the LSTM", "average", "lstm", "+0.2"),
    Finding("4 heads are better than 1", "average*4", "average", "+0.7"),
    Finding("50 heads are better than 1", "average*50", "average", "+2.5"),
    Finding("pre-training the MLP helps", "tuned", "mlp", "+1.5"),
    Finding("the forest is better than the MLP", "forest", "tuned", "+3.8"),
    Finding("the face says more than the voice", "average", "tuned", "+14.7"),
    Finding("both are better than the face", "@1", "average", "+3"),
    Finding("both are better than the voice", "@1", "tuned", ""),
    Finding("more models fuse better (3 against 1)", "@3", "@1", "+3.4"),
    Finding("learning from Valid too does not help (3)", "@3 both", "@3", "-0.1", equal=True),
)


def findings(board: Board, part: str) -> Table:
    """What of the paper's findings holds: differences over clips, with their interval."""
    rows = []
    for finding in FINDINGS:
        pair = [_scores_of(board, name, part) for name in (finding.better, finding.worse)]
        if any(scores is None for scores in pair):
            continue
        label = board.clips.samples.label[board.rows[part]]
        right = [board.guesses(scores, part) == label for scores in pair if scores is not None]
        gain = right[0].mean(0) - right[1].mean(0)
        subject = board.clips.samples.subject[board.rows[part]].tolist()
        low, high = bootstrap(lambda some: float(some.mean()), gain, subject=subject)
        paired = mcnemar(right[0][0], right[1][0])
        cells = (
            finding.paper, f"{100 * gain.mean():+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}",
            f"{paired.p:.3f}", _verdict(low, high, equal=finding.equal),
        )  # fmt: skip
        rows.append(Row(finding.says, (), cells))
    people = known_subjects(board.clips, board.rows[part])
    drawn = (
        f"{people} subjects; of few it is too narrow"
        if people
        else "clips: nobody is known by name"
    )
    notes = [
        f"Points of accuracy, mean over seeds, with the 95 % percentile bootstrap over {drawn}. p: exact "
        "McNemar test of the first seed's two models on the same clips.",
        f"Level is what lies within ± {100 * LEVEL:.0f} points with all of its interval.",
        "The paper's differences are of Valid (Table 3) and Test (Table 4) of AFEW; the +3 of both "
        "modalities is cited there from Fan et al.",
    ]
    if part == "valid":
        notes.append(
            "Test has no labels here. Valid must not choose what it judges: the modalities are weighed "
            "1/2 to 1/2, and what has learnt from Valid is left out."
        )
    return Table(
        None, f"The paper's findings, on the {part} part.", data_of(board.clips),
        ("paper", "here", "95 %", "p", "here it"), tuple(rows), tuple(notes), "Finding",
    )  # fmt: skip


def _verdict(low: float, high: float, *, equal: bool) -> str:
    """What an interval says of a finding; one that lies across the line says nothing."""
    if equal:
        if low >= -LEVEL and high <= LEVEL:
            return "holds"
        return "is not decided" if low <= LEVEL and high >= -LEVEL else "does not hold"
    if low <= 0 <= high:
        return "is not decided"
    return "holds" if low > 0 else "is the other way"


def _scores_of(board: Board, name: str, part: str) -> NDArray[np.float32] | None:
    """Of an ensemble, or of a submission "@3"; None if it was not trained, or not apart from the part."""
    if not name.startswith("@"):
        return board.scores(name) if board.has(name) else None
    row = TABLE4[name[1]]
    row = replace(row, way=name[3:] or row.way)
    if part == "valid":
        if row.way != "train":
            return None
        row = replace(row, weight="mean")
    return board.fused(row)[0] if board.can_fuse(row) else None
