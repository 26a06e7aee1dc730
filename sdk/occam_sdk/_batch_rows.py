"""The rows of a batch: what a file's row holds, and how rows are written to a table and read again."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .errors import OccamError
from .labels import LABELS
from .machine import has_module

if TYPE_CHECKING:
    from .types import ClipResult

Value: TypeAlias = "str | int | float | bool | None"
Row: TypeAlias = dict[str, Value]
"""A value for every one of ``COLUMNS``; None for what there is not."""

COLUMNS: Final[Mapping[str, type]] = {
    "path": str,
    "label": str,
    "status": str,
    **dict.fromkeys(LABELS, float),
    "face_label": str,
    "voice_label": str,
    "face_weight": float,
    "voice_weight": float,
    "valence": float,
    "arousal": float,
    "duration_s": float,
    "frames": int,
    "frames_with_face": int,
    "truncated": bool,
    "notes": str,
    "error": str,
    "size_bytes": int,
    "modified": str,
    "judged_by": str,
}
DIGITS: Final = 6  # of a fraction: more than any of them is worth, and a table can be read


def result_figures(result: ClipResult) -> Row:
    """The columns that come from a clip's result.

    Raises:
        ValueError: a figure is no number, which no table of strict JSON holds.
    """
    scores: list[Any] = [None] * len(LABELS) if result.scores is None else result.scores.tolist()
    figures: Row = {
        "label": result.label,
        "status": result.status,
        **dict(zip(LABELS, scores, strict=True)),
        "face_label": result.face.label if result.face else None,
        "voice_label": result.voice.label if result.voice else None,
        "face_weight": result.weights.face,
        "voice_weight": result.weights.voice,
        "valence": result.valence,
        "arousal": result.arousal,
        "duration_s": result.duration_s,
        "frames": len(result.timeline),
        "frames_with_face": sum(row.face is not None for row in result.timeline),
        "truncated": result.truncated,
        "notes": printable("; ".join(result.notes)) or None,
    }
    for name, value in figures.items():
        if isinstance(value, float):
            if not math.isfinite(value):
                raise ValueError(f"{name} is no number but {value}")
            figures[name] = round(value, DIGITS)
    return figures


def printable(text: str) -> str:
    r"""A text that every table can hold: what is no UTF-8 in a file's name is shown as ``\xff``."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def to_line(row: Row) -> str:
    """A row as one line of strict JSON, with its end of line."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def to_cells(row: Row) -> list[Value]:
    """A row's values as ``csv`` is to write them."""
    return [str(value).lower() if isinstance(value, bool) else value for value in row.values()]


def from_line(line: str) -> Row:
    """The row that ``to_line`` wrote.

    Raises:
        ValueError: the line is none of those.
    """
    row = json.loads(line)
    if not isinstance(row, dict) or list(row) != list(COLUMNS):
        raise ValueError("is no row of occam batch")
    return row


@dataclass(frozen=True)
class Format:
    """A kind of table: how it is written and read; reading raises ``ValueError`` for another table."""

    write: Callable[[Sequence[Row], Path], None]
    read: Callable[[Path], list[Row]]


def format_of(out: Path) -> Format:
    """The format that the name of a table asks for.

    Raises:
        ValueError: its suffix is none of ``FORMATS``.
        OccamError: the package that the format needs is not installed.
    """
    if out.suffix.lower() not in FORMATS:
        raise ValueError(
            f"{out}: expected a name that ends with one of {', '.join(FORMATS)}, for the table"
        )
    if out.suffix.lower() == ".parquet" and not has_module("pyarrow"):
        raise OccamError(
            f'{out}: Parquet needs pyarrow: pip install "occam-sdk[parquet]"; or name a .csv file'
        )
    return FORMATS[out.suffix.lower()]


def _write_jsonl(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(map(to_line, rows))


def _read_jsonl(path: Path) -> list[Row]:
    with path.open(encoding="utf-8") as file:
        return [from_line(line) for line in file]


def _write_csv(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(map(to_cells, rows))


def _read_csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        try:
            header, *lines = csv.reader(file, strict=True)
        except csv.Error as error:
            raise ValueError("is no CSV") from error
        if header != list(COLUMNS):
            raise ValueError("has other columns")
        return [
            {
                name: _from_cell(cell, kind)
                for (name, kind), cell in zip(COLUMNS.items(), cells, strict=True)
            }
            for cells in lines
        ]


def _from_cell(cell: str, kind: type) -> Any:
    if cell == "":
        return None
    return cell == "true" if kind is bool else kind(cell)


def _write_parquet(rows: Sequence[Row], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    types = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows, schema), path)


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow.parquet

    with path.open("rb") as file:
        table = pyarrow.parquet.ParquetFile(file).read()
    if table.column_names != list(COLUMNS):
        raise ValueError("has other columns")
    rows: list[Row] = table.to_pylist()
    return rows


FORMATS: Final[Mapping[str, Format]] = {
    ".parquet": Format(_write_parquet, _read_parquet),
    ".csv": Format(_write_csv, _read_csv),
    ".jsonl": Format(_write_jsonl, _read_jsonl),
}
