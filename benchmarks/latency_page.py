"""A latency report as one page of HTML that needs nothing but itself."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .host import described
from .latency_report import (
    NONE,
    Report,
    Table,
    compared,
    group_title,
    groups,
    milliseconds,
    network_table,
    other_tables,
    path_tables,
    place,
    stage_table,
    threads,
)

STYLES: Final = (
    Path(__file__).parents[1] / "training" / "report.css",
    Path(__file__).with_name("latency.css"),
)
LONGEST: Final = 3.0  # times the longest median: a whisker that is longer leaves the picture
READING: Final = (
    "Bars are medians; the marks beyond them are the 90th and the 99th percentile of the calls; warm-up is "
    "left out. What is compared took turns, in another order each round, so that whatever else the machine "
    "did met all alike."
)


def report_page(report: Report) -> str:
    """Machine, whole path, stages, networks with bars, files."""
    title = f"Latency of occam-sdk on {described(report['host'])['CPU']}"
    networks = "".join(
        f"<h3>{_e(group_title(rows))}</h3>\n{_network_bars(rows)}{_table(network_table(rows), '')}"
        for rows in groups(report["networks"])
    )
    stages = "".join(_table(stage_table(part)) + _stage_bars(part) for part in report["stages"])
    parts = [
        ("Whole path", "".join(map(_table, path_tables(report)))),
        ("Stages", stages),
        ("Networks alone", networks),
        ("Files, and what was left out", "".join(map(_table, other_tables(report)))),
    ]
    sections = "".join(
        f"<section>\n<h2>{_e(name)}</h2>\n{content}</section>\n"
        for name, content in parts
        if content
    )
    return _page(title, f'{_facts(report)}<p class="note">{READING}</p>\n{sections}')


def comparison_page(a: Report, b: Report) -> str:
    """What differs, and the ratios."""
    return _page("Latency of occam-sdk, b against a", "".join(map(_table, compared(a, b))))


def _page(title: str, body: str) -> str:
    style = "".join(path.read_text(encoding="utf-8") for path in STYLES)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_e(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{_e(title)}</h1>\n{body}</main>\n</body>\n</html>\n"
    )


def _facts(report: Report) -> str:
    entries = "".join(
        f"<div><dt>{_e(name)}</dt><dd>{_e(value)}</dd></div>\n"
        for name, value in described(report["host"]).items()
    )
    return f"<dl>\n{entries}</dl>\n"


def _network_bars(rows: Sequence[Report]) -> str:
    """A line for each variant, the fastest first."""
    longest = max(row["p50_ms"] for row in rows)
    end = min(max(row["p99_ms"] for row in rows), LONGEST * longest)
    lines = []
    for row in sorted(rows, key=lambda row: row["p50_ms"]):
        count = threads(row)
        of_cpu = {NONE: "", "1": ", 1 thread"}.get(count, f", {count} threads")
        name = f"{place(row)} {row['asked']}{of_cpu}"
        if row["notes"]:
            name += f" (runs {row['ran']})"
        value = (
            f"<strong>{milliseconds(row['p50_ms'])} ms</strong> (p99 {milliseconds(row['p99_ms'])})"
        )
        ends = tuple(100 * min(row[rank] / end, 1) for rank in ("p50_ms", "p90_ms", "p99_ms"))
        lines.append(_bar(name, value, ends))
    return f'<ul class="bars">\n{"".join(lines)}</ul>\n'


def _stage_bars(stages: Report) -> str:
    longest = max(row["share"] for row in stages["stages"])
    lines = [
        _bar(
            row["stage"],
            f"<strong>{row['ms_per_frame']:.2f} ms</strong> ({100 * row['share']:.1f} %)",
            (100 * row["share"] / longest,),
        )
        for row in stages["stages"]
    ]
    return f'<ul class="bars">\n{"".join(lines)}</ul>\n'


def _bar(name: str, value: str, ends: tuple[float, ...]) -> str:
    """Name, bar as long as the first of ``ends`` in percent, whisker from the second to the third."""
    whisker = ""
    if len(ends) > 1:
        low, high = ends[1:]
        whisker = "".join(
            f'<line x1="{x1:.2f}" y1="{y1}" x2="{x2:.2f}" y2="{y2}" vector-effect="non-scaling-stroke"/>'
            for x1, y1, x2, y2 in (
                (ends[0], 5, high, 5), (low, 2, low, 8), (high, 2, high, 8),
            )
        )  # fmt: skip
    return (
        f'<li><span>{_e(name)}</span><svg viewBox="0 0 100 10" preserveAspectRatio="none" '
        f'aria-hidden="true"><rect x="0" y="1" width="{ends[0]:.2f}" height="8"/>{whisker}</svg>'
        f"<span>{value}</span></li>\n"
    )


def _table(table: Table, title: str | None = None) -> str:
    """In a box of its own that scrolls where it is wider than the screen."""
    name = table.title if title is None else title

    def cells(kind: str, row: Sequence[str]) -> str:
        parts = []
        for place_, text in enumerate(row):
            attributes = ' class="text"' if 0 < place_ < table.texts else ""
            scope = f' scope="{"col" if kind == "th" else "row"}"'
            tag = "th" if kind == "th" or place_ == 0 else "td"
            parts.append(f"<{tag}{scope if tag == 'th' else ''}{attributes}>{_e(text)}</{tag}>")
        return f"<tr>{''.join(parts)}</tr>\n"

    caption = f"<caption><div><strong>{_e(name)}</strong></div></caption>\n" if name else ""
    long = ' class="long"' if table.texts == len(table.columns) else ""
    notes = "".join(f"<li>{_e(note)}</li>\n" for note in table.notes)
    return (
        f'<div class="scroll" role="region" aria-label="{_e(table.title)}" tabindex="0">\n'
        f"<table{long}>\n{caption}<thead>\n{cells('th', table.columns)}</thead>\n"
        f"<tbody>\n{''.join(cells('td', row) for row in table.rows)}</tbody>\n</table>\n</div>\n"
        + (f"<ul>\n{notes}</ul>\n" if notes else "")
    )


def _e(text: str) -> str:
    return html.escape(text)
