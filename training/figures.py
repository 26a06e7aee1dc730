"""What a report shows: tables of the paper with ours beside them, judged clips, curves.

Each says of what data it is, so that nothing measured on other clips is taken for AFEW's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from occam_sdk.labels import LABELS

from . import paper
from .metrics import Spread, accuracy, recalls, spread, weighted_accuracy

WIDE: Final = 3  # columns; with more of them "here" stands below "paper" and not beside it
SIDES: Final = ("paper", "here")
_SPLITS: Final = {"train": "Train", "valid": "Val", "test": "Test"}


@dataclass(frozen=True)
class Row:
    """A line of a table: what the paper has and what was measured here, a text for each column.

    An empty tuple is for a line that only the other has. Lines of one ``group`` stand together.
    """

    name: str
    paper: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    group: str = ""


@dataclass(frozen=True)
class Table:
    """One of the paper's tables.

    Attributes:
        number: the paper's; None for one that the paper does not have.
        title: what the figures are.
        data: what "here" was measured on, so that it is not taken for AFEW.
        columns: names of the figures.
        rows: one after the other.
        notes: below it.
        head: what ``name`` of a row is.
    """

    number: int | None
    title: str
    data: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    head: str = "Model"

    @property
    def named(self) -> str:
        """What it is called."""
        return "Besides" if self.number is None else f"Table {self.number}"

    @property
    def wide(self) -> bool:
        """Whether a row takes two lines, "paper" and "here", and not one with the two side by side."""
        return len(self.columns) > WIDE and not self.own

    @property
    def own(self) -> bool:
        """Whether the paper has none of these figures: its side is then left out."""
        return not any(row.paper for row in self.rows)

    def lines(self, row: Row) -> list[tuple[str, ...]]:
        """The cells of a row without its name; what only the other has is left blank or out."""
        if self.own:
            return [row.ours]
        if self.wide:
            sides = zip(SIDES, (row.paper, row.ours), strict=True)
            return [(side, *cells) for side, cells in sides if cells]
        blank = ("",) * len(self.columns)
        return [tuple(chain(*zip(row.paper or blank, row.ours or blank, strict=True)))]

    def __post_init__(self) -> None:
        for row in self.rows:
            if not (row.paper or row.ours):
                raise ValueError(f"Table {self.number}, {row.name!r}: no figures at all")
            for cells in (row.paper, row.ours):
                if cells and len(cells) != len(self.columns):
                    raise ValueError(
                        f"Table {self.number}, {row.name!r}: expected {len(self.columns)} figures "
                        f"({', '.join(self.columns)}), got {len(cells)}"
                    )


@dataclass(frozen=True, eq=False)
class Judged:
    """What a model took each clip for.

    Attributes:
        name: of the model.
        data: what the clips are.
        label: (N,) int, index into ``LABELS``.
        guesses: (S, N) int, by S models that differ in their seed.
    """

    name: str
    data: str
    label: NDArray[np.int64]
    guesses: NDArray[np.int64]

    def __post_init__(self) -> None:
        if (
            self.label.ndim != 1
            or self.guesses.shape[1:] != self.label.shape
            or not self.guesses.size
        ):
            raise ValueError(
                f"{self.name}: expected (N,) labels and (S, N) guesses, "
                f"got {self.label.shape} and {self.guesses.shape}"
            )
        for values in (self.label, self.guesses):
            if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= len(LABELS):
                raise ValueError(f"{self.name}: expected integers from 0 to {len(LABELS) - 1}")

    @cached_property
    def counts(self) -> NDArray[np.float64]:
        """(C, C) clips of class i that were taken for class j, mean over seeds."""
        table = np.zeros((len(LABELS), len(LABELS)))
        np.add.at(table, (np.broadcast_to(self.label, self.guesses.shape), self.guesses), 1)
        return table / len(self.guesses)

    @cached_property
    def recall(self) -> NDArray[np.float64]:
        """(S, C) recall of each class by each seed's model, NaN where it has no example."""
        return np.array([recalls(self.label, guess, len(LABELS)) for guess in self.guesses])

    @property
    def spreads(self) -> list[Spread | None]:
        """The recall of each class over seeds, None where it has no example."""
        return [None if np.isnan(column[0]) else spread(column) for column in self.recall.T]

    @property
    def summary(self) -> str:
        """Accuracy, UAR and weighted accuracy [2.5] over seeds, in one line."""
        uar = np.nanmean(self.recall, axis=1)
        weighted = [weighted_accuracy(recall, paper.TABLE1["test"]) for recall in self.recall]
        seeds, clips = self.guesses.shape
        return (
            f"{clips} samples, {seeds} seed{'s' if seeds > 1 else ''}: accuracy "
            f"{spread([accuracy(self.label, guess) for guess in self.guesses])} %, UAR {spread(uar)} %, "
            f"weighted by the counts of AFEW's test set {spread(weighted)} %"
        )


@dataclass(frozen=True)
class Curve:
    """Lines over a common axis, for instance of a loss over epochs.

    Attributes:
        name: what is shown.
        data: what it was measured on.
        x_name: with its unit.
        y_name: with its unit.
        series: points (x, y) in the order in which they are joined, by the line's name.
    """

    name: str
    data: str
    x_name: str
    y_name: str
    series: Mapping[str, Sequence[tuple[float, float]]]

    def __post_init__(self) -> None:
        if not self.series or not all(self.series.values()):
            raise ValueError(f"{self.name}: expected at least one line with a point in each")


def paper_table(
    number: int, data: str, ours: Mapping[str, tuple[str, ...]], notes: Iterable[str] = ()
) -> Table:
    """Table 1 to 4 of the paper with what was measured here beside it.

    Args:
        number: 1, 2, 3 or 4.
        data: what ``ours`` was measured on.
        ours: texts for the table's columns by the row: in Table 1 the split ("train"), in Tables 2 and
            3 the name in ``training.paper``, in Table 4 the number ("3"). Rows may be missing.
        notes: on ours, shown after those on the paper's.

    Raises:
        ValueError: the paper has no such row, or the row another number of figures.
    """
    rows = {
        1: {
            split: Row(_SPLITS[split], tuple(map(str, (*counts, sum(counts)))))
            for split, counts in paper.TABLE1.items()
        },
        2: {row.name: Row(row.name, row.cells) for row in paper.TABLE2},
        3: {row.name: Row(row.name, row.cells, group=row.modality) for row in paper.TABLE3},
        4: {
            str(row.number): Row(f"{row.number}  {row.visual} | {row.audio}", row.cells)
            for row in paper.TABLE4
        },
    }[number]
    if unknown := ours.keys() - rows.keys():
        raise ValueError(f"Table {number} has no row {sorted(unknown)}, only {list(rows)}")
    return Table(
        number,
        paper.CAPTIONS[number],
        data,
        paper.COLUMNS[number],
        tuple(replace(row, ours=ours.get(key, ())) for key, row in rows.items()),
        (*paper.NOTES[number], *notes),
        {1: "Split", 4: "#  Visual | Audio"}.get(number, "Model"),
    )
