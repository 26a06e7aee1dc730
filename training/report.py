"""The paper's tables with what was measured here beside them, as text and as one page of HTML.

Presentation only: nothing is learnt or judged here. Wherever a figure is shown, it says of what data.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, groupby
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from occam_sdk.labels import LABELS

from . import paper, plots
from .metrics import Spread, accuracy, recalls, spread, weighted_accuracy

TITLE: Final = "An Occam's razor view on emotion: the paper's figures and those measured here"
STYLE: Final = Path(__file__).with_name("report.css")
WIDTH: Final = 110  # characters of a line of text
WIDE: Final = 3  # columns; with more of them "here" stands below "paper" and not beside it
GAP: Final = "   "
_SPLITS: Final = {"train": "Train", "valid": "Val", "test": "Test"}
_SIDES: Final = ("paper", "here")


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
        return len(self.columns) > WIDE

    def lines(self, row: Row) -> list[tuple[str, ...]]:
        """The cells of a row without its name; what only the other has is left blank or out."""
        if self.wide:
            sides = zip(_SIDES, (row.paper, row.ours), strict=True)
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


def as_text(tables: Sequence[Table]) -> str:
    """The tables below one another in plain text, the paper's figures next to those measured here."""
    return "\n\n".join("\n".join(_table_text(table)) for table in tables) + "\n"


def as_html(
    tables: Sequence[Table],
    judged: Sequence[Judged] = (),
    curves: Sequence[Curve] = (),
    header: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """One page that needs nothing but itself: tables, confusions with recalls, curves.

    Args:
        tables: the paper's with what was measured here.
        judged: each becomes a confusion matrix and bars of the recalls.
        curves: each becomes a plot.
        header: what was run, shown on top, name by name.

    Raises:
        ImportError: there is something to plot and matplotlib is not installed.
    """
    entries = "".join(f"<div><dt>{_e(k)}</dt><dd>{_e(v)}</dd></div>\n" for k, v in header.items())
    plotted = "".join(_curve_html(curve, f"c{i}") for i, curve in enumerate(curves))
    parts = [
        ("The paper's tables", [_table_html(table) for table in tables]),
        (
            "Which class is taken for which",
            [_judged_html(j, f"j{i}") for i, j in enumerate(judged)],
        ),
        ("Curves", [f'<div class="pair">\n{plotted}</div>\n'] if plotted else []),
    ]
    sections = "".join(
        f"<section>\n<h2>{_e(title)}</h2>\n{''.join(blocks)}</section>\n"
        for title, blocks in parts
        if blocks
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_e(TITLE)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{_e(TITLE)}</h1>\n"
        + (f"<dl>\n{entries}</dl>\n" if entries else "")
        + f"{sections}</main>\n</body>\n</html>\n"
    )


def _table_text(table: Table) -> list[str]:
    """Its lines: title, data, heads, a rule, rows, notes."""
    columns = table.columns
    grid = [(table.head, "", *columns) if table.wide else (table.head, *_SIDES * len(columns))]
    for group, rows in groupby(table.rows, key=lambda row: row.group):
        if group:
            grid.append((group, *[""] * (len(grid[0]) - 1)))
        for row in rows:
            name = f"  {row.name}" if group else row.name
            grid.extend((("", name)[i == 0], *line) for i, line in enumerate(table.lines(row)))
    widths = [max(map(len, cells)) for cells in zip(*grid, strict=True)]
    over = []
    for i in range(0 if table.wide else len(columns)):
        beside = len(GAP) + widths[2 * i + 2]
        widths[2 * i + 1] = max(widths[2 * i + 1], len(columns[i]) - beside)
        over.append(columns[i].rjust(widths[2 * i + 1] + beside))
    lines = [
        GAP.join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]).rstrip()
        for name, *cells in grid
    ]
    rule = "-" * (sum(widths) + len(GAP) * (len(widths) - 1))
    return [
        *textwrap.wrap(f"{table.named}: {table.title}", WIDTH),
        *textwrap.wrap(f"here = {table.data}", WIDTH, subsequent_indent=" " * 7),
        "",
        *([GAP.join([" " * widths[0], *over])] if over else []),
        lines[0],
        rule,
        *lines[1:],
        rule,
        *(
            line
            for note in table.notes
            for line in textwrap.wrap(note, WIDTH, subsequent_indent="  ")
        ),
    ]


def _table_html(table: Table) -> str:
    if table.wide:
        span = len(table.columns) + 2
        columns = "".join(f'<th scope="col">{_e(name)}</th>' for name in table.columns)
        head = f'<tr><th scope="col">{_e(table.head)}</th><td></td>{columns}</tr>\n'
        groups = ""
    else:
        span = 2 * len(table.columns) + 1
        columns = "".join(
            f'<th scope="colgroup" colspan="2">{_e(name)}</th>' for name in table.columns
        )
        sides = "".join(f'<th scope="col" class="{side}">{side}</th>' for side in _SIDES)
        head = (
            f'<tr><th scope="col" rowspan="2">{_e(table.head)}</th>{columns}</tr>\n'
            f"<tr>{sides * len(table.columns)}</tr>\n"
        )
        groups = (
            "<colgroup></colgroup>" + '<colgroup span="2"></colgroup>' * len(table.columns) + "\n"
        )
    bodies = []
    for group, rows in groupby(table.rows, key=lambda row: row.group):
        title = (
            f'<tr><th scope="rowgroup" colspan="{span}">{_e(group)}</th></tr>\n' if group else ""
        )
        lines = "".join(_row_html(table, row) for row in rows)
        bodies.append(f"<tbody>\n{title}{lines}</tbody>\n")
    wide = ' class="wide"' if table.wide else ""
    notes = "".join(f"<li>{_e(note)}</li>\n" for note in table.notes)
    title = f"<strong>{table.named}.</strong> {_e(table.title)}"
    return _scrolled(
        table.named,
        f"<table{wide}>\n<caption><div>{title} {_data('here', table.data)}</div></caption>\n"
        f"{groups}<thead>\n{head}</thead>\n{''.join(bodies)}</table>\n",
    ) + (f"<ul>\n{notes}</ul>\n" if notes else "")


def _row_html(table: Table, row: Row) -> str:
    lines = [tuple(map(_figure, line)) for line in table.lines(row)]
    if not table.wide:
        sides = zip(_SIDES * len(table.columns), lines[0], strict=True)
        cells = "".join(f'<td class="{side}">{cell}</td>' for side, cell in sides)
        return f'<tr><th scope="row">{_e(row.name)}</th>{cells}</tr>\n'
    name = f'<th scope="row" rowspan="{len(lines)}">{_e(row.name)}</th>'
    html_lines = ""
    for side, *figures in lines:
        cells = "".join(f'<td class="{side}">{cell}</td>' for cell in figures)
        html_lines += f'<tr>{name}<th scope="row" class="{side}">{side}</th>{cells}</tr>\n'
        name = ""
    return html_lines


def _judged_html(judged: Judged, key: str) -> str:
    """Confusion matrix as a table whose cells are as dark as the part of the row they are; bars."""
    examples = np.bincount(judged.label, minlength=len(LABELS))
    seeds = len(judged.guesses)
    digits = 1 if seeds > 1 else 0
    rows = ""
    for name, counts, total in zip(LABELS, judged.counts, examples, strict=True):
        cells = ""
        for other, count in zip(LABELS, counts, strict=True):
            part = count / total if total else 0
            shown = f"{100 * part:.0f}<small>{count:.{digits}f}</small>" if total else paper.NONE
            right = ' class="right"' if other == name else ""
            cells += f'<td{right} style="--part:{part:.3f}">{shown}</td>'
        rows += f'<tr><th scope="row">{name}</th>{cells}</tr>\n'
    columns = "".join(f'<th scope="col"><abbr title="{n}">{n[:2]}.</abbr></th>' for n in LABELS)
    of_seeds = f", mean ± std over {seeds} seeds" if seeds > 1 else ""
    recalls_of = list(zip(LABELS, judged.spreads, strict=True))
    alt = f"{judged.name}, {judged.data}: recall in percent{of_seeds}: " + ", ".join(
        f"{name} {value or paper.NONE}" for name, value in recalls_of
    )
    data = _data("measured on", judged.data)
    matrix = _scrolled(
        f"Confusion matrix of {judged.name}",
        f'<table class="confusion">\n<caption><div><strong>Confusion matrix.</strong> Rows are the true '
        f"class, columns the one it was taken for: percent of the row, below it samples"
        f"{' (mean over seeds)' if seeds > 1 else ''}. {data}</div></caption>\n"
        f'<thead>\n<tr><th scope="col">true</th>{columns}</tr>\n</thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table>\n",
    )
    return (
        f"<article>\n<h3>{_e(judged.name)}</h3>\n<p>{_e(judged.summary)}</p>\n"
        f'<div class="pair">\n{matrix}<figure>\n<figcaption><strong>Recall</strong> in percent{of_seeds}. '
        f"{data}</figcaption>\n{plots.bars(LABELS, judged.spreads, alt, key)}</figure>\n</div>\n</article>\n"
    )


def _curve_html(curve: Curve, key: str) -> str:
    ends = ", ".join(
        f"{name} from {points[0][1]:.3g} to {points[-1][1]:.3g}"
        for name, points in curve.series.items()
    )
    alt = f"{curve.name}, {curve.data}: {curve.y_name} over {curve.x_name}: {ends}"
    plot = plots.lines((curve.x_name, curve.y_name), curve.series, alt, key)
    return (
        f"<figure>\n<figcaption><strong>{_e(curve.name)}</strong> {_data('measured on', curve.data)}"
        f"</figcaption>\n{plot}</figure>\n"
    )


def _data(label: str, data: str) -> str:
    return f'<span class="data">{label}: {_e(data)}</span>'


def _scrolled(name: str, table: str) -> str:
    """What is wider than a phone scrolls by itself, with the keys too."""
    return (
        f'<div class="scroll" role="region" aria-label="{_e(name)}" tabindex="0">\n{table}</div>\n'
    )


def _figure(text: str) -> str:
    """Where a line is too short for mean and std, it breaks before the sign and not after it."""
    return _e(text.replace(" ± ", " ±\N{NO-BREAK SPACE}"))


def _e(text: str) -> str:
    return html.escape(text)
