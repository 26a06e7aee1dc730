"""The command line ``occam``. A mistake of the user's ends with one line on stderr and exit code 2."""

from __future__ import annotations

import csv
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from . import __version__
from .errors import OccamError
from .labels import LABELS
from .types import ClipResult, ModalityScores

LONG_CLIP_S: Final = 10.0  # from here on a progress bar is shown
USER_ERROR: Final = 2

app = typer.Typer(
    help="Which emotion do a face and a voice show?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
out = Console()
err = Console(stderr=True)

BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", help="Folder of a model bundle; by default the packaged one."),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, intel:gpu or intel:npu.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON (without the timeline).")]
TimelineOption = Annotated[
    Path | None, typer.Option("--timeline", help="Write a CSV with a row for every frame.")
]


@app.command()
def predict(
    clip: Annotated[Path, typer.Argument(help="A file that FFmpeg can play: mp4, mkv, mov, wav …")],
    as_json: JsonOption = False,
    timeline: TimelineOption = None,
    bundle: BundleOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Say which emotion a clip shows, from face and voice."""
    _predict(clip, as_json=as_json, timeline=timeline, bundle=bundle, device=device)


@app.command()
def demo(as_json: JsonOption = False, timeline: TimelineOption = None) -> None:
    """Do the same for the small clip that comes with the package."""
    from .demo import demo_clip

    _predict(demo_clip(), as_json=as_json, timeline=timeline, bundle=None, device="auto")


@app.command()
def info(
    as_json: JsonOption = False, bundle: BundleOption = None, device: DeviceOption = "auto"
) -> None:
    """Say what would run: model, runtime, device, precision, versions, terms of use."""
    with _user_errors():
        rows = _info(bundle, device)
    if as_json:
        out.print_json(data=rows)
        return
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(name.replace("_", " "), str(value))
    out.print(table)


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"occam-sdk {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    del version  # handled by the callback


def _predict(
    clip: Path, *, as_json: bool, timeline: Path | None, bundle: Path | None, device: str
) -> None:
    with _user_errors():
        if timeline is not None:
            _check_target(timeline)
        started = time.perf_counter()
        result = _run(clip, bundle, device)
        seconds = time.perf_counter() - started
        if timeline is not None:
            write_timeline(result, timeline)
    if as_json:
        sys.stdout.write(result.to_json(timeline=False, indent=2) + "\n")
    else:
        _show(clip, result, seconds)
        if timeline is not None:
            out.print(f"timeline: {timeline} ({len(result.timeline)} rows)", highlight=False)


def _run(clip: Path, bundle: Path | None, device: str) -> ClipResult:
    from .bundle import DEFAULT_BUNDLE
    from .media import probe
    from .recognizer import Recognizer

    duration_s = probe(clip).duration_s
    with Recognizer(bundle or DEFAULT_BUNDLE, device=device) as recognizer:
        if duration_s is None or duration_s < LONG_CLIP_S or not err.is_terminal:
            return recognizer.predict(clip)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task(clip.name, total=duration_s)
            return recognizer.predict(
                clip, progress=lambda time_s: bar.update(task, completed=time_s)
            )


def _show(clip: Path, result: ClipResult, seconds: float) -> None:
    """The answer as a table: a column a modality, a row a class."""
    out.print(
        f"[bold]{result.label or 'nothing to judge'}[/bold]   [dim]{clip.name}[/dim]",
        highlight=False,
    )
    if result.scores is not None:
        table = Table(box=None, header_style="dim")
        for name in ("", "fused", "face", "voice"):
            table.add_column(name, justify="left" if not name else "right")
        table.add_column("")
        for row in result.scores.argsort()[::-1].tolist():
            parts = (_percent(part, row) for part in (result.face, result.voice))
            bar = "█" * round(20 * float(result.scores[row]))
            table.add_row(LABELS[row], f"{100 * result.scores[row]:.0f} %", *parts, bar)
        out.print(table)
    if result.valence is not None and result.arousal is not None:
        out.print(f"valence {result.valence:+.2f}   arousal {result.arousal:+.2f}", highlight=False)
    weights = f"weights: face {result.weights.face:.2f}, voice {result.weights.voice:.2f}"
    out.print(f"status: {result.status}   {weights}", highlight=False)
    for note in result.notes:
        out.print(f"note: {note}", highlight=False, markup=False)
    if result.truncated:
        out.print(
            "[yellow]the file was cut short or damaged: this is about what could be decoded[/yellow]"
        )
    frames = len(result.timeline)
    seen = sum(row.face is not None for row in result.timeline)
    out.print(
        f"{result.duration_s:.1f} s of clip, {frames} frames, face in {seen}; took {seconds:.1f} s",
        style="dim", highlight=False,
    )  # fmt: skip


def _percent(part: ModalityScores | None, row: int) -> str:
    return "–" if part is None else f"{100 * part.scores[row]:.0f} %"


def _info(bundle: Path | None, device: str) -> dict[str, Any]:
    import platform

    import av
    import cv2
    import numpy as np

    from .bundle import DEFAULT_BUNDLE
    from .recognizer import Recognizer

    with Recognizer(bundle or DEFAULT_BUNDLE, device=device) as recognizer:
        found = recognizer.info
    networks = {
        f"{name}_network": "none" if session is None else ", ".join(asdict(session).values())
        for name, session in (
            ("detector", found.detector), ("expression", found.expression), ("voice", found.voice),
        )
    }  # fmt: skip
    return {
        "occam_sdk": __version__,
        "model": found.model,
        "bundle": str(found.bundle),
        **networks,
        "voice_features": found.voice_features,
        "commercial_use": ", ".join(f"{part}: {ok}" for part, ok in found.commercial_ok.items()),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pyav": av.__version__,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }


def write_timeline(result: ClipResult, target: Path) -> None:
    """Write a CSV with a row for every frame: whole, or not at all."""
    header = [
        "index", "time_s", "track_id", "left", "top", "right", "bottom", "confidence", "label",
        *LABELS, "valence", "arousal",
    ]  # fmt: skip
    handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for row in result.timeline:
                cells: list[Any] = [""] * (len(header) - 2)
                if row.face is not None:
                    box = [f"{side:.1f}" for side in row.face.face.box_xyxy.tolist()]
                    scores = [f"{score:.4f}" for score in row.face.scores.tolist()]
                    cells = [
                        row.face.face.track_id, *box, f"{row.face.face.confidence:.3f}",
                        row.face.label, *scores, f"{row.face.valence:.4f}", f"{row.face.arousal:.4f}",
                    ]  # fmt: skip
                writer.writerow([row.index, f"{row.time_s:.6f}", *cells])
        umask = os.umask(0)
        os.umask(umask)
        Path(partial).chmod(0o666 & ~umask)
        Path(partial).replace(target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _check_target(target: Path) -> None:
    """Raise before any work is done if a file cannot be written there."""
    if target.is_dir():
        raise ValueError(f"{target}: is a folder; name the CSV file to write")
    if not target.parent.is_dir():
        raise ValueError(f"{target.parent}: no such folder; make it first")
    if not os.access(target.parent, os.W_OK):
        raise ValueError(f"{target.parent}: may not be written to; choose another folder")


@contextmanager
def _user_errors() -> Iterator[None]:
    try:
        yield
    except (OccamError, ValueError, OSError) as error:
        err.print(f"occam: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(USER_ERROR) from error


def main() -> None:
    """Entry point of the command ``occam``."""
    app()


if __name__ == "__main__":
    main()
