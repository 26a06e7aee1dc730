"""Tables, confusions and curves as plain text and as one page of HTML.

Presentation only: nothing is learnt or judged here. What there is to show is in ``training.figures``.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from occam_sdk.labels import LABELS

from . import paper, plots
from .figures import SIDES, Curve, Judged, Row, Table, paper_table

__all__ = ["Curve", "Judged", "Row", "Table", "as_html", "as_text", "paper_table"]

TITLE: Final = "An Occam's razor view on emotion: the paper's figures and those measured here"
STYLE: Final = Path(__file__).with_name("report.css")
WIDTH: Final = 110  # characters of a line of text
GAP: Final = "   "


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
    heads = columns if table.own else ("", *columns) if table.wide else SIDES * len(columns)
    grid = [(table.head, *heads)]
    for group, rows in groupby(table.rows, key=lambda row: row.group):
        if group:
            grid.append((group, *[""] * (len(grid[0]) - 1)))
        for row in rows:
            name = f"  {row.name}" if group else row.name
            grid.extend((("", name)[i == 0], *line) for i, line in enumerate(table.lines(row)))
    widths = [max(map(len, cells)) for cells in zip(*grid, strict=True)]
    over = []
    for i in range(0 if table.wide or table.own else len(columns)):
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
    if table.wide or table.own:
        span = len(table.columns) + 1 + table.wide
        columns = "".join(f'<th scope="col">{_e(name)}</th>' for name in table.columns)
        side = "<td></td>" if table.wide else ""
        head = f'<tr><th scope="col">{_e(table.head)}</th>{side}{columns}</tr>\n'
        groups = ""
    else:
        span = 2 * len(table.columns) + 1
        columns = "".join(
            f'<th scope="colgroup" colspan="2">{_e(name)}</th>' for name in table.columns
        )
        sides = "".join(f'<th scope="col" class="{side}">{side}</th>' for side in SIDES)
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
        named = ("here",) if table.own else SIDES
        sides = zip(named * len(table.columns), lines[0], strict=True)
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
