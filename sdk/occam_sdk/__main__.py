"""The command line ``occam``. A user's mistake ends with a message on stderr and exit code 2."""

from __future__ import annotations

import csv
import io
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from . import __version__, _batch_command, _doctor_command, _runtime_commands
from ._options import (
    BackendOption,
    BundleOption,
    DeviceOption,
    MinFaceOption,
    PrecisionOption,
    StrictOption,
    ThreadsOption,
    user_errors,
)
from .errors import BackendWarning
from .labels import LABELS
from .types import ClipResult

if TYPE_CHECKING:
    from .backends import Runtime, SessionInfo

LONG_CLIP_S: Final = 10.0  # from here on a progress bar is shown

app = typer.Typer(
    help="Which emotion do a face and a voice show?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
out = Console()
err = Console(stderr=True)

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
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    strict: StrictOption = False,
    min_face_px: MinFaceOption = None,
) -> None:
    """Say which emotion a clip shows, from face and voice."""
    with user_errors():
        asked = asdict(_runtime(backend, device, precision, threads, strict))
        asked["min_face_px"] = min_face_px
        _predict(clip, as_json=as_json, timeline=timeline, bundle=bundle, asked=asked)


@app.command()
def demo(as_json: JsonOption = False, timeline: TimelineOption = None) -> None:
    """Do the same for the small clip that comes with the package."""
    from .demo import demo_clip

    with user_errors():
        _predict(demo_clip(), as_json=as_json, timeline=timeline, bundle=None, asked={})


@app.command()
def info(
    as_json: JsonOption = False,
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    strict: StrictOption = False,
) -> None:
    """Say what would run: model, runtime, device, precision, versions, terms of use."""
    with user_errors():
        rows = _info(bundle, _runtime(backend, device, precision, threads, strict))
    if as_json:
        out.print_json(data=rows)
        return
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(name.replace("_", " "), Text(value))
    out.print(table)


_batch_command.register(app)
_runtime_commands.register(app)
_doctor_command.register(app)


def _runtime(
    backend: str, device: str, precision: str, threads: int | None, strict: bool
) -> Runtime:
    from .backends import Runtime

    return Runtime(backend, device, precision, threads, strict)


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
    clip: Path,
    *,
    as_json: bool,
    timeline: Path | None,
    bundle: Path | None,
    asked: Mapping[str, Any],
) -> None:
    if timeline is None:
        result, seconds = _run(clip, bundle, asked)
    else:
        with _new_file(timeline, clip) as file:
            result, seconds = _run(clip, bundle, asked)
            write_timeline(result, file)
    if as_json:
        sys.stdout.write(result.to_json(timeline=False, indent=2) + "\n")
    else:
        _show(clip, result, seconds)
        if timeline is not None:
            _line(f"timeline: {timeline} ({len(result.timeline)} rows)")
    sys.stdout.flush()


def _run(clip: Path, bundle: Path | None, asked: Mapping[str, Any]) -> tuple[ClipResult, float]:
    """The answer, and the seconds that it took once the networks were loaded."""
    from .bundle import DEFAULT_BUNDLE
    from .media import probe
    from .recognizer import Recognizer

    duration_s = probe(clip).duration_s
    with Recognizer(bundle or DEFAULT_BUNDLE, **asked) as recognizer:
        started = time.perf_counter()
        if err.is_terminal and (duration_s is None or duration_s >= LONG_CLIP_S):
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=err, transient=True) as bar:
                task = bar.add_task(clip.name, total=duration_s)
                result = recognizer.predict(
                    clip, progress=lambda time_s: bar.update(task, completed=time_s)
                )
        else:
            result = recognizer.predict(clip)
        return result, time.perf_counter() - started


def _show(clip: Path, result: ClipResult, seconds: float) -> None:
    """The answer as a table: a column a modality, a row a class."""
    block, dash = ("█", "–") if out.encoding.lower().startswith("utf") else ("#", "-")
    out.print(
        Text.assemble((result.label or "nothing to judge", "bold"), "   ", (clip.name, "dim"))
    )
    if result.scores is not None:
        table = Table(box=None, header_style="dim")
        table.add_column("", no_wrap=True, min_width=max(map(len, LABELS)))
        for name in ("fused", "face", "voice"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True, overflow="crop")
        for row in result.scores.argsort()[::-1].tolist():
            cells = [f"{100 * result.scores[row]:.0f} %"]
            cells += [
                dash if part is None else f"{100 * part.scores[row]:.0f} %"
                for part in (result.face, result.voice)
            ]
            table.add_row(LABELS[row], *cells, block * round(20 * float(result.scores[row])))
        out.print(table)
    if result.valence is not None and result.arousal is not None:
        _line(f"valence {result.valence:+.2f}   arousal {result.arousal:+.2f}")
    weights = f"weights: face {result.weights.face:.2f}, voice {result.weights.voice:.2f}"
    _line(f"status: {result.status}   {weights}")
    for note in result.notes:
        _line(f"note: {note}")
    if result.truncated:
        _line("the file was cut short or damaged: this is about what could be decoded", "yellow")
    frames = len(result.timeline)
    seen = sum(row.face is not None for row in result.timeline)
    clip_length = f"{result.duration_s:.1f} s of clip, {frames} frames, face in {seen}"
    _line(f"{clip_length}; judged in {seconds:.1f} s", "dim")


def _line(text: str, style: str = "") -> None:
    """One line as it is: a file's name may look like markup."""
    out.print(Text(text, style=style), soft_wrap=True)


def _info(bundle: Path | None, runtime: Runtime) -> dict[str, str]:
    import platform

    import av
    import cv2
    import numpy as np

    from .bundle import DEFAULT_BUNDLE
    from .recognizer import Recognizer

    with Recognizer(bundle or DEFAULT_BUNDLE, **asdict(runtime)) as recognizer:
        found = recognizer.info
    networks = {
        f"{name}_network": "none" if session is None else _ran(session)
        for name, session in (
            ("detector", found.detector), ("expression", found.expression), ("voice", found.voice),
            ("speech", found.speech),
        )
    }  # fmt: skip
    return {
        "occam_sdk": __version__,
        "model": found.model,
        "bundle": str(found.bundle),
        **networks,
        **({"instead": "; ".join(found.notes)} if found.notes else {}),
        "voice_features": found.voice_features,
        **{
            f"licence_of_{part}": f"{licence.name}; commercial use: {licence.commercial_ok}; {licence.terms}"
            for part, licence in found.licences.items()
        },
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": str(cv2.__version__),
        "pyav": av.__version__,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }


def _ran(session: SessionInfo) -> str:
    layers = ", ".join(f"{count} layers in {name}" for name, count in session.layers.items())
    return ", ".join(filter(None, (session.backend, session.device, layers, session.engine)))


def write_timeline(result: ClipResult, file: TextIO) -> None:
    """Write CSV with a row for every frame; a frame without the main face has empty cells."""
    header = [
        "index", "time_s", "track_id", "left", "top", "right", "bottom", "confidence", "label",
        *LABELS, "valence", "arousal",
    ]  # fmt: skip
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


@contextmanager
def _new_file(target: Path, clip: Path) -> Iterator[TextIO]:
    """A text file that takes ``target``'s place when the block ends well, and else never was.

    It is made at once, so that a place that cannot be written to is found before the work is done.
    """
    if target.is_dir():
        raise ValueError(f"{target}: is a folder; name the CSV file to write")
    if target.exists() and not target.is_file():
        raise ValueError(f"{target}: is no regular file; name the CSV file to write")
    if target.exists() and clip.exists() and target.samefile(clip):
        raise ValueError(f"{target}: is the clip itself; name another file to write")
    place = target.resolve()
    if not place.parent.is_dir():
        raise ValueError(f"{target.parent}: no such folder; make it first")
    try:
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=".occam-")
    except OSError as error:
        raise ValueError(
            f"{target.parent}: cannot be written to ({error.strerror}); choose another folder"
        ) from error
    partial = Path(name)
    try:
        with os.fdopen(handle, "w", newline="", encoding="utf-8") as file:
            yield file
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)
        partial.replace(place)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    err.print(Text(f"occam: {message}", style="yellow"), soft_wrap=True)


def main() -> None:
    """Entry point of the command ``occam``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be in any script
    warnings.showwarning = _warn
    warnings.simplefilter("always", BackendWarning)
    app()


if __name__ == "__main__":
    main()
