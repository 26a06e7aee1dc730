"""The command ``occam batch``: many files into one table."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ._options import (
    BackendOption,
    BundleOption,
    DeviceOption,
    MinFaceOption,
    PrecisionOption,
    StrictOption,
    user_errors,
)

if TYPE_CHECKING:
    from .batch import BatchSettings, BatchSummary

SOME_FAILED: Final = 1
INTERRUPTED: Final = 130  # as a shell says it of Ctrl-C
SPEED_OVER_S: Final = 3600.0  # a single file may take minutes

err = Console(stderr=True)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(batch)


def batch(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER", help="Folders with clips, searched at all depths, or single files."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="The table to write: .parquet, .csv or .jsonl.")
    ],
    workers: Annotated[
        int | None,
        typer.Option(help="How many processes; by default one for each core it may use."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Judge on a Ray cluster: its address, auto, or local."),
    ] = None,
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    strict: StrictOption = False,
    min_face_px: MinFaceOption = None,
) -> None:
    """Judge all clips of a folder, on all cores: a table with a row for each.

    Taken are the files named as video and sound are: .mp4, .mkv, .mov,
    .webm, .avi, .wav, .mp3, .flac and others like them. What is hidden is
    left out, and links to folders are not followed.

    Stopped or killed, the same command goes on where it was. What is done
    lies in OUT.partial until the table is complete. Of a complete table it
    judges what is new, was changed or failed.

    Exit code 0: every file is judged. 1: some could not be; they are listed
    at the end, and their rows have an error. 2: it could not begin or go on.
    130: stopped by Ctrl-C.
    """
    from .backends import Runtime
    from .batch import BatchSettings

    with user_errors():
        settings = BatchSettings(
            bundle=bundle,
            runtime=Runtime(backend, device, precision, threads=1, strict=strict),
            min_face_px=min_face_px,
            workers=workers,
            ray=ray,
        )
        summary = _run(paths, out, settings)
    _tell(summary, out)
    if summary.failed:
        raise typer.Exit(SOME_FAILED)


def _run(paths: list[Path], out: Path, settings: BatchSettings) -> BatchSummary:
    from .batch import judge_files

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files, time left"),
        TimeRemainingColumn(),
    )
    bar = Progress(
        *columns,
        console=err,
        transient=True,
        disable=not err.is_terminal,
        speed_estimate_period=SPEED_OVER_S,
    )
    with redirect_stdout(sys.stderr), bar:  # Ray tells of its own on stdout
        task = bar.add_task("", total=None)

        def tell(done: int, total: int) -> None:
            if bar.tasks[0].total is None:  # what was judged before says nothing about the speed
                bar.reset(task, completed=done, total=total)
            else:
                bar.update(task, completed=done)

        try:
            return judge_files(paths, out, settings, progress=tell)
        except KeyboardInterrupt:
            bar.stop()
            done = f"{bar.tasks[0].completed:.0f} of {bar.tasks[0].total or 0:.0f} files"
            _line(err, f"occam: stopped at {done}; the same command goes on from there", "yellow")
            raise typer.Exit(INTERRUPTED) from None


def _tell(summary: BatchSummary, out: Path) -> None:
    """What failed and what was left out on stderr, the outcome on stdout."""
    for path, reason in summary.failed:
        _line(err, f"failed: {path}: {reason}", "red")
    if summary.not_clips:
        _line(err, f"left out: {_files(summary.not_clips)} not named as clips are", "dim")
    if summary.gone:
        _line(err, f"no longer there: {_files(summary.gone)} that had been judged before", "dim")
    parts = [f"{_files(summary.judged)} judged"]
    if summary.taken_over:
        parts.append(f"{summary.taken_over} judged before")
    if summary.failed:
        parts.append(f"{len(summary.failed)} failed")
    per_minute = 60 * summary.judged / summary.seconds
    speed = f" ({per_minute:.0f} files a minute)" if summary.judged else ""
    _line(Console(), f"{out}: {', '.join(parts)}{speed}")
    sys.stdout.flush()


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)
