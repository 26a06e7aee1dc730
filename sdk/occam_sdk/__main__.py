"""The command line ``occam``. A user's mistake ends with a message on stderr and exit code 2."""

from __future__ import annotations

import io
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import (
    __version__,
    _batch_command,
    _doctor_command,
    _live_command,
    _results_commands,
    _runtime_commands,
)
from ._judge import err, judge, judge_segments, new_file, scores_table
from ._options import (
    BackendOption,
    BundleOption,
    DeviceOption,
    MaxFacesOption,
    MinFaceOption,
    PrecisionOption,
    StrictOption,
    ThreadsOption,
    user_errors,
)
from .errors import BackendWarning
from .types import ClipResult, Segment

if TYPE_CHECKING:
    from .backends import Runtime, SessionInfo

TIMELINES: Final = (".csv", ".vtt", ".eaf")
SEGMENT_HEADER: Final = (
    f"{'start':>10} {'end':>10}  {'label':8} {'score':>6} {'valence':>8} {'arousal':>8}  status\n"
)

app = typer.Typer(
    help="Which emotion do a face and a voice show?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
out = Console()

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON (without the timeline).")]
TimelineOption = Annotated[
    Path | None,
    typer.Option(
        "--timeline",
        help="Write what is seen when: .csv, a row for every frame (or segment); .vtt, subtitles; "
        ".eaf, for ELAN.",
    ),
]

SegmentOption = Annotated[
    float | None,
    typer.Option(
        "--segment",
        metavar="SECONDS",
        help="Score every so many seconds, each as a clip: a row each, with --json a line of JSON.",
    ),
]


@app.command()
def predict(
    clip: Annotated[Path, typer.Argument(help="A file that FFmpeg can play: mp4, mkv, mov, wav …")],
    as_json: JsonOption = False,
    timeline: TimelineOption = None,
    segment_s: SegmentOption = None,
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    strict: StrictOption = False,
    min_face_px: MinFaceOption = None,
    max_faces: MaxFacesOption = 1,
) -> None:
    """Say which emotion a clip shows, from face and voice."""
    with user_errors():
        asked = asdict(_runtime(backend, device, precision, threads, strict))
        asked |= {"min_face_px": min_face_px, "max_faces": max_faces}
        if segment_s is None:
            _predict(clip, as_json=as_json, timeline=timeline, bundle=bundle, asked=asked)
        else:
            segments = judge_segments(clip, segment_s, bundle, asked)
            _predict_segments(segments, clip, as_json=as_json, table=timeline)


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


_live_command.register(app)
_results_commands.register(app)
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
        result, seconds = judge(clip, bundle, asked)
    else:
        with new_file(timeline, clip, TIMELINES) as file:
            result, seconds = judge(clip, bundle, asked)
            file.write_text(_timeline(result, timeline, clip), encoding="utf-8", newline="")
    if as_json:
        sys.stdout.write(result.to_json(timeline=False, indent=2) + "\n")
    else:
        _show(clip, result, seconds)
        if timeline is not None:
            _line(f"timeline: {timeline} ({len(result.timeline)} frames)")
    sys.stdout.flush()


def _predict_segments(
    segments: Iterator[Segment], clip: Path, *, as_json: bool, table: Path | None
) -> None:
    told = _told_json(segments) if as_json else _told(segments)
    if table is None:
        for _ in told:
            pass
    else:
        from .formats import to_csv

        with new_file(table, clip, (".csv",)) as file:
            file.write_text(to_csv(told), encoding="utf-8", newline="")


def _told_json(segments: Iterator[Segment]) -> Iterator[Segment]:
    """Print each as soon as it is known: a film takes its time."""
    for segment in segments:
        sys.stdout.write(json.dumps(segment.to_dict(), allow_nan=False) + "\n")
        sys.stdout.flush()
        yield segment


def _told(segments: Iterator[Segment]) -> Iterator[Segment]:
    """The same as rows of a table; what the file has lost is below the last."""
    for number, segment in enumerate(segments):
        if number == 0:
            sys.stdout.write(SEGMENT_HEADER)
        result = segment.result
        score = "" if result.scores is None else f"{100 * result.scores.max():.0f} %"
        mood = ["" if v is None else f"{v:+.2f}" for v in (result.valence, result.arousal)]
        sys.stdout.write(
            f"{_clock(segment.start_s):>10} {_clock(segment.end_s):>10}  {result.label or '-':8} "
            f"{score:>6} {mood[0]:>8} {mood[1]:>8}  {result.status}\n"
        )
        if result.truncated:
            sys.stdout.writelines(f"note: {note}\n" for note in result.notes)
        sys.stdout.flush()
        yield segment


def _clock(time_s: float) -> str:
    """As "1:02:03.5"."""
    minutes, tenths = divmod(round(10 * time_s), 600)
    return f"{minutes // 60}:{minutes % 60:02d}:{tenths / 10:04.1f}"


def _timeline(result: ClipResult, target: Path, clip: Path) -> str:
    """The text that the ending of ``target`` asks for, one of ``TIMELINES``."""
    from .formats import to_csv, to_eaf, to_webvtt

    match target.suffix.lower():
        case ".vtt":
            return to_webvtt(result)
        case ".eaf":
            return to_eaf(result, media=os.path.relpath(clip.resolve(), target.resolve().parent))
    return to_csv(result)


def _show(clip: Path, result: ClipResult, seconds: float) -> None:
    """The answer as a table: a column a modality, a row a class."""
    out.print(
        Text.assemble((result.label or "nothing to judge", "bold"), "   ", (clip.name, "dim"))
    )
    if result.scores is not None:
        highest_first = result.scores.argsort()[::-1].tolist()
        out.print(scores_table(result, highest_first, out.encoding))
    if result.valence is not None and result.arousal is not None:
        _line(f"valence {result.valence:+.2f}   arousal {result.arousal:+.2f}")
    for track in result.tracks[1:]:
        shown = track.scores
        says = f"{shown.label} {100 * shown.scores.max():.0f} %" if shown else "nothing to judge"
        count = sum(row.face is not None for row in track.timeline)
        _line(f"another face, #{track.track_id}: {says}, in {count} frames")
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
