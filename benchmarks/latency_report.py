"""A latency report as tables, and two of them held against each other."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from .host import described

FORMAT: Final = "occam-sdk latency"
VERSION: Final = 1
NONE: Final = "–"
WIDTH: Final = 110  # characters of a line of text
GAP: Final = "  "
SAME: Final = ("model", "network", "backend", "device", "asked", "batch", "threads")
DIFFERS: Final = " (!)"
Report = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """What is shown of a part of a report; the first ``texts`` columns are words, the others figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    texts: int = 1


def read_report(path: Path) -> dict[str, Any]:
    """A report that ``benchmarks.latency --json`` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is something else.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: is no JSON ({error}); name files of --json") from error
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise ValueError(f"{path}: is no report of benchmarks.latency; name files of --json")
    if report.get("version") != VERSION:
        raise ValueError(
            f"{path}: version {report.get('version')}, this checkout reads {VERSION}; measure again"
        )
    parts = {"host": dict, "models": list, "networks": list, "stages": list, "paths": list}
    missing = [part for part, kind in parts.items() if not isinstance(report.get(part), kind)]
    if missing:
        raise ValueError(f"{path}: has no {', '.join(missing)}; measure again")
    return report


def as_text(tables: Sequence[Table]) -> str:
    """The tables below one another."""
    return "\n\n".join("\n".join(_lines(table)) for table in tables) + "\n"


def _lines(table: Table) -> list[str]:
    grid = [table.columns, *table.rows]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return GAP.join(
            cell.ljust(width) if place < table.texts else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    notes = [f"  {part}" for note in table.notes for part in textwrap.wrap(note, WIDTH - 2)]
    return [table.title, *(f"  {line(cells)}" for cells in grid), *notes]


def tables(report: Report) -> list[Table]:
    """Everything that a report says, the most asked for first."""
    host = Table("Machine", ("what", "is"), tuple(described(report["host"]).items()), texts=2)
    return [
        host,
        *path_tables(report),
        *map(stage_table, report["stages"]),
        *(network_table(rows) for rows in groups(report["networks"])),
        *other_tables(report),
    ]


def groups(rows: Sequence[Report]) -> list[list[Report]]:
    """Rows that measure the same: network, batch; the trained ones first, as they were measured."""

    def what(row: Report) -> tuple[Any, ...]:
        return not row["trained"], row["model"], row["network"], row["batch"]

    return [list(group) for _, group in groupby(sorted(rows, key=what), key=what)]


def group_title(rows: Sequence[Report]) -> str:
    """What they have in common, in words."""
    first = rows[0]
    size = f", {first['batch']} faces at once" if first["network"] == "expression" else ""
    untrained = "" if first["trained"] else " (untrained: speed only)"
    return f"{first['model']}{untrained}: {first['network']}{size}".replace("1 faces", "1 face")


def place(row: Report) -> str:
    """Runtime, and device where it is not the CPU."""
    return str(row["backend"]) + ("" if row["device"] == "cpu" else f" {row['device']}")


def threads(row: Report) -> str:
    """How many of the CPU; "all" leaves it to the runtime."""
    if row["device"] != "cpu":
        return NONE
    return "all" if row["threads"] is None else str(row["threads"])


def network_table(rows: Sequence[Report]) -> Table:
    """One network at one batch on every runtime."""
    accuracies = [row["accuracy"] for row in rows]
    sources = dict.fromkeys(
        f"Accuracy: {a['source']}, {a['faces']} faces of Test." for a in accuracies if a
    )
    judged = ("FER2013 %", "FER+ %") if sources else ()
    return Table(
        group_title(rows),
        (
            *("runtime", "asked", "runs", "threads", "p50 ms", "p90", "p95", "p99", "mean"),
            *("per second", "× OpenVINO fp32", "× ONNX Runtime fp32", *judged),
        ),
        tuple(
            (
                place(row),
                row["asked"],
                row["ran"] + (DIFFERS if row["notes"] else ""),
                threads(row),
                *(
                    milliseconds(row[name])
                    for name in ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "mean_ms")
                ),
                f"{row['per_second']:.0f}",
                _times(row["times_openvino_fp32"]),
                _times(row["times_onnxruntime_fp32"]),
                *((_percent(accuracy, "fer2013"), _percent(accuracy, "ferplus")) if judged else ()),
            )
            for row, accuracy in zip(rows, accuracies, strict=True)
        ),
        (
            *dict.fromkeys(f"(!) {note}" for row in rows for note in row["notes"]),
            *sources,
        ),
        texts=4,
    )


def path_tables(report: Report) -> list[Table]:
    """From the file to the result, and from nothing to the first result."""
    paths = report["paths"]
    if not paths:
        return []
    first = paths[0]
    clip = f"{report['settings']['clip']}: {first['frames']} frames, {first['clip_s']:.1f} s"
    notes = tuple(dict.fromkeys(f"(!) {note}" for row in paths for note in row["notes"]))
    whole = Table(
        f"Whole path, file to result, of {clip}",
        (
            *("model", "asked", "expression runs", "p50 s", "p90", "p99", "frames/s"),
            *("× real time", "peak memory MB"),
        ),
        tuple(
            (
                row["model"],
                row["asked"],
                row["ran"]["expression"] + (DIFFERS if row["notes"] else ""),
                *(f"{row[name] / 1000:.2f}" for name in ("p50_ms", "p90_ms", "p99_ms")),
                f"{row['fps']:.1f}",
                f"{row['real_time_factor']:.1f}",
                f"{row['peak_bytes'] / 1e6:.0f}",
            )
            for row in paths
        ),
        (*notes, f"{first['calls']} times each; peak memory is that of a process of its own."),
        texts=3,
    )
    parts = ("interpreter_s", "import_s", "open_s", "first_result_s", "total_s")
    start = Table(
        "Cold start: from a new process to the first result, of the 3 s demo clip, seconds",
        ("model", "asked", "Python", "import", "open", "first result", "together"),
        tuple(
            (row["model"], row["asked"], *(f"{row['start'][part]:.2f}" for part in parts))
            for row in paths
        ),
        texts=2,
    )
    return [whole, start]


def stage_table(stages: Report) -> Table:
    """Where each millisecond goes."""
    sums = (
        f"All stages: {milliseconds(stages['ms_per_frame'])} ms a frame; the same clip by "
        f"Recognizer.predict in the same rounds: {milliseconds(stages['predict_ms_per_frame'])} ms."
    )
    return Table(
        f"Where each millisecond goes: {stages['model']}, {stages['clip']}, "
        f"{stages['frames']} frames, {stages['faces']} faces",
        ("stage", "ms per frame", "share %", "how many", "ms each"),
        tuple(
            (
                row["stage"],
                f"{row['ms_per_frame']:.3f}",
                f"{100 * row['share']:.1f}",
                f"{row['count']} {row['of'].removesuffix('s') if row['count'] == 1 else row['of']}",
                milliseconds(row["ms_each"]),
            )
            for row in stages["stages"]
        ),
        (sums, *stages["notes"]),
    )


def other_tables(report: Report) -> list[Table]:
    """Files, power, and what was left out."""
    files = Table(
        "Model files",
        ("model", "network", "form", "MB", "SHA-256"),
        tuple(
            (f["model"], f["network"], f["precision"], f"{f['bytes'] / 1e6:.2f}", f["sha256"][:12])
            for f in report["models"]
        ),
        texts=3,
    )
    power = Table(
        "Power during the run, by the board's own sensors",
        ("rail", "mean W", "greatest W"),
        tuple(
            (name, f"{rail['mean_mw'] / 1000:.2f}", f"{rail['max_mw'] / 1000:.2f}")
            for name, rail in report["power"].items()
        ),
    )
    left_out = Table("Left out", ("what and why",), tuple((why,) for why in report["left_out"]))
    return [table for table in (files, power, left_out) if table.rows]


def compared(a: Report, b: Report) -> list[Table]:
    """How the second report differs from the first: machines, and ratios of medians, b to a."""
    hosts = described(a["host"]), described(b["host"])
    names = [name for name in {**hosts[0], **hosts[1]} if hosts[0].get(name) != hosts[1].get(name)]
    machines = Table(
        "What differs between the machines and the code",
        ("what", "a", "b"),
        tuple((name, *(host.get(name, NONE) for host in hosts)) for name in names),
        texts=3,
    )
    return [table for table in (machines, *_ratios(a, b)) if table.rows]


def _ratios(a: Report, b: Report) -> list[Table]:
    files = {(f["model"], f["network"], f["precision"]): f["sha256"] for f in a["models"]}
    changed = [
        f"{f['model']}, {f['network']}, {f['precision']}: another file in b"
        for f in b["models"]
        if files.get((f["model"], f["network"], f["precision"]), f["sha256"]) != f["sha256"]
    ]
    before = {tuple(row[name] for name in SAME): row for row in a["networks"]}
    after = {tuple(row[name] for name in SAME): row for row in b["networks"]}
    common = [key for key in after if key in before]
    alone = len(before) + len(after) - 2 * len(common)
    note = (f"Measured in one of the two only: {alone} rows.",) if alone else ()
    networks = Table(
        "Networks, b / a: below 1, b is faster",
        (*SAME, "a p50 ms", "b p50 ms", "b / a p50", "b / a p90"),
        tuple(
            (
                *("all" if part is None else str(part) for part in key),
                milliseconds(before[key]["p50_ms"]),
                milliseconds(after[key]["p50_ms"]),
                f"{after[key]['p50_ms'] / before[key]['p50_ms']:.2f}",
                f"{after[key]['p90_ms'] / before[key]['p90_ms']:.2f}",
            )
            for key in common
        ),
        (*note, *changed),
        texts=5,
    )
    parts = _parts(a), _parts(b)
    rest = Table(
        "Whole path and stages, b / a: below 1, b is faster",
        ("what", "a", "b", "b / a"),
        tuple(
            (name, f"{value:.3g}", f"{parts[1][name]:.3g}", f"{parts[1][name] / value:.2f}")
            for name, value in parts[0].items()
            if value and name in parts[1]
        ),
    )
    return [networks, rest]


def _parts(report: Report) -> dict[str, float]:
    """Figures of the whole path and of the stages, by what they are of: less is better."""
    found: dict[str, float] = {}
    for row in report["paths"]:
        name = f"{row['model']}, {row['asked']}, {report['settings']['clip']}"
        found[f"{name}: s a clip"] = row["p50_ms"] / 1000
        found[f"{name}: peak MB"] = row["peak_bytes"] / 1e6
        found[f"{row['model']}, {row['asked']}: s to the first result"] = row["start"]["total_s"]
    for stages in report["stages"]:
        for row in stages["stages"]:
            name = f"{stages['model']}, {stages['clip']}: {row['stage']}, ms a frame"
            found[name] = row["ms_per_frame"]
    return found


def milliseconds(value: float) -> str:
    """With three digits that count."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


def _times(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _percent(accuracy: Report | None, name: str) -> str:
    value = None if accuracy is None else accuracy[name]
    return NONE if value is None else f"{100 * value:.1f}"
