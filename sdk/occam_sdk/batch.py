"""Judging many files: a row for each in one table, on all cores, and on again after an interruption.

Each row is written to a journal beside the table, ``OUT.partial``, as soon as it is there; at the end
the table is made of it. Every row says which file (name, size, last change) was judged by what, so
that a journal and a finished table tell alike what need not be judged again.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from . import _batch_ray, _batch_workers
from ._batch_journal import Journal
from ._batch_judge import BatchSettings, Clip, Judge
from ._batch_rows import Row, format_of, printable

__all__ = ["CLIP_SUFFIXES", "BatchSettings", "BatchSummary", "judge_files"]

CLIP_SUFFIXES: Final = (
    ".3g2", ".3gp", ".aac", ".aif", ".aiff", ".amr", ".asf", ".au", ".avi", ".caf", ".flac", ".flv",
    ".m2ts", ".m4a", ".m4v", ".mka", ".mkv", ".mov", ".mp3", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf",
    ".oga", ".ogg", ".ogv", ".opus", ".rm", ".ts", ".vob", ".wav", ".webm", ".wma", ".wmv",
)  # fmt: skip
"""How the names of the files end that are taken from a folder, in small letters or capitals."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BatchSummary:
    """What was done.

    Attributes:
        judged: how many files were judged in this run.
        taken_over: how many had been judged before.
        failed: name in the table and reason of each file that could not be judged.
        not_clips: how many files in the folders have no name of a clip.
        gone: how many files that were judged before are no longer there, nor in the table.
        seconds: how long it took.
    """

    judged: int
    taken_over: int
    failed: tuple[tuple[str, str], ...]
    not_clips: int
    gone: int
    seconds: float


def judge_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    settings: BatchSettings | None = None,
    *,
    progress: Progress | None = None,
) -> BatchSummary:
    """Judge files, and all clips in folders, and write a table with a row for each.

    Called again with the same table, it judges what is new, was changed or failed, and nothing else.
    It starts processes: a script must call it below ``if __name__ == "__main__":``.

    Args:
        paths: files, and folders whose clips (``CLIP_SUFFIXES``) are looked for at all depths. What
            is hidden is left out, and links to folders are not followed. Names in the table are
            relative to a folder that is given alone; else they begin with what was given.
        out: the table to write: .parquet, .csv or .jsonl.
        settings: how to judge.
        progress: called with how many files are done, and how many there are.

    Raises:
        OccamError, ValueError, OSError: a path is not there, or no clip; the table cannot be written,
            another batch is writing it, or it was made otherwise; the networks cannot be opened.
            What is wrong with a single clip is the ``error`` of its row.
    """
    started = time.perf_counter()
    settings, tell = settings or BatchSettings(), progress or _ignore
    out = Path(out)
    if settings.ray is not None:
        _batch_ray.check_ray()
    table = format_of(out)
    _check_place(out)
    clips, not_clips = _find([paths] if isinstance(paths, (str, os.PathLike)) else paths)
    judge = Judge(settings)
    with Journal(out) as journal:
        before = _read(out, table.read)
        known = {str(row["path"]): row for row in (*before, *journal.rows)}
        _check_known(known, clips, judge.judged_by, out)
        rows = {clip.path: known[clip.path] for clip in clips if _is_judged(clip, known)}
        waiting = [clip for clip in clips if clip.path not in rows]
        taken_over = len(rows)
        tell(len(rows), len(clips))
        for row in _judged(waiting, judge, settings):
            journal.add(row)
            rows[str(row["path"])] = row
            tell(len(rows), len(clips))
        now = [rows[clip.path] for clip in clips]
        if now != before:
            _write(now, out, table.write)
    failed = tuple((str(row["path"]), str(row["error"])) for row in now if row["error"])
    return BatchSummary(
        judged=len(waiting) - len(failed),
        taken_over=taken_over,
        failed=failed,
        not_clips=not_clips,
        gone=len(known.keys() - rows.keys()),
        seconds=time.perf_counter() - started,
    )


def _judged(clips: Sequence[Clip], judge: Judge, settings: BatchSettings) -> Iterator[Row]:
    if settings.ray is None:
        return _batch_workers.judge_all(clips, judge, settings.workers)
    return _batch_ray.judge_all(clips, judge, settings.workers, settings.ray)


def _find(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Clip], int]:
    """The clips, each once and always in the same order, and how many other files there are."""
    places = [Path(path) for path in paths]
    found: dict[str, Clip] = {}
    not_clips = 0
    for place in places:
        if not place.is_dir():
            if not place.exists():
                raise ValueError(f"{place}: no such file or folder; check the name")
            found.setdefault(str(place.absolute()), _clip(place, place))
            continue
        for file in _files(place):
            if file.suffix.lower() in CLIP_SUFFIXES:
                name = file.relative_to(place) if len(places) == 1 else file
                found.setdefault(str(file.absolute()), _clip(file, name))
            else:
                not_clips += 1
    if not found:
        names = ", ".join(map(str, places)) or "no file or folder was given"
        raise ValueError(
            f"{names}: no clip in it; looked for names that end with {' '.join(CLIP_SUFFIXES)}"
        )
    return list(found.values()), not_clips


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder, onerror=_warn_of_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))


def _warn_of_folder(error: OSError) -> None:
    warnings.warn(
        f"{error.filename}: cannot be read ({error.strerror}); its files are left out", stacklevel=2
    )


def _clip(file: Path, name: Path) -> Clip:
    try:
        stat = file.stat()
    except OSError:  # a link to nothing: judging it says so
        return Clip(file, printable(str(name)), None, None)
    changed = datetime.fromtimestamp(stat.st_mtime_ns // 1000 / 1e6, timezone.utc)
    return Clip(file, printable(str(name)), stat.st_size, changed.isoformat())


def _is_judged(clip: Clip, known: Mapping[str, Row]) -> bool:
    row = known.get(clip.path)
    if row is None or row["error"] is not None:
        return False
    return (row["size_bytes"], row["modified"]) == (clip.size_bytes, clip.modified)


def _check_known(
    known: Mapping[str, Row], clips: Sequence[Clip], judged_by: str, out: Path
) -> None:
    others = {str(row["judged_by"]) for row in known.values() if row["error"] is None} - {judged_by}
    if others:
        raise ValueError(
            f"{out}: was begun with other settings ({'; '.join(sorted(others))}) than these "
            f"({judged_by}); name another table, or remove it and {out.name}.partial to begin anew"
        )
    if known and known.keys().isdisjoint(clip.path for clip in clips):
        raise ValueError(
            f"{out}: has the results of other files; name another table, or remove it "
            f"and {out.name}.partial"
        )


def _check_place(out: Path) -> None:
    if out.exists() and not out.is_file():
        raise ValueError(f"{out}: is no regular file; name the table to write")
    if not out.resolve().parent.is_dir():
        raise ValueError(f"{out.parent}: no such folder; make it first")


def _read(out: Path, read: Callable[[Path], list[Row]]) -> list[Row]:
    try:
        return read(out) if out.exists() else []
    except ValueError as error:  # pyarrow's too
        raise ValueError(
            f"{out}: is no table of this version of occam batch; name another, or move it away"
        ) from error


def _write(rows: Sequence[Row], out: Path, write: Callable[[Sequence[Row], Path], None]) -> None:
    """Put a table in ``out``'s place, whole or not at all."""
    place = out.resolve()
    partial = place.with_name(f"{place.name}.new")
    try:
        write(rows, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(place)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _ignore(_done: int, _total: int) -> None:
    """What is told to nobody."""
