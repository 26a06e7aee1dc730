"""``occam live``: a camera, an address or a file while it plays, in the terminal or as JSON lines."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ._judge import scores_table
from ._options import (
    BackendOption,
    BundleOption,
    DeviceOption,
    PrecisionOption,
    StrictOption,
    ThreadsOption,
    user_errors,
)
from .labels import LABELS

if TYPE_CHECKING:
    from .stream import StreamUpdate


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(live)


def live(
    source: Annotated[
        str, typer.Argument(help="A camera's number, an address (rtsp://, http:// …), or a file.")
    ] = "0",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each update.")
    ] = False,
    window_s: Annotated[float, typer.Option(help="Seconds that an update is about.")] = 3.0,
    hop_s: Annotated[float, typer.Option(help="Seconds from one update to the next.")] = 0.5,
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    strict: StrictOption = False,
) -> None:
    """Say what a camera shows, twice a second, until Ctrl-C."""
    from .backends import Runtime
    from .bundle import DEFAULT_BUNDLE
    from .recognizer import Recognizer

    with user_errors(), contextlib.suppress(KeyboardInterrupt):
        asked = asdict(Runtime(backend, device, precision, threads, strict))
        with (
            Recognizer(bundle or DEFAULT_BUNDLE, **asked) as recognizer,
            recognizer.stream(
                int(source) if source.isdecimal() else source,
                window_s=window_s,
                hop_s=hop_s,
            ) as updates,
        ):
            if as_json:
                for update in updates:
                    sys.stdout.write(json.dumps(update.to_dict(), allow_nan=False) + "\n")
                    sys.stdout.flush()
                return
            console = Console()
            with Live(console=console, auto_refresh=False) as screen:
                for update in updates:
                    screen.update(dashboard(update, source, console.encoding), refresh=True)


def dashboard(update: StreamUpdate, source: str, encoding: str = "utf-8") -> Group:
    """What an update says, to be drawn over the one before."""
    result = update.result
    title = Text.assemble((update.label or "nobody", "bold"), "   ", (source, "dim"))
    table = scores_table(result, range(len(LABELS)), encoding)
    lines: list[RenderableType] = [title, table]
    if result.valence is not None and result.arousal is not None:
        lines.append(Text(f"valence {result.valence:+.2f}   arousal {result.arousal:+.2f}"))
    rate = (len(result.timeline) - 1) / result.duration_s if result.duration_s > 0 else 0.0
    lines.append(
        Text(
            f"{update.time_s:.1f} s   {rate:.0f} frames a second, {update.dropped} dropped   "
            f"{1e3 * update.lag_s:.0f} ms behind",
            "dim",
        )
    )
    lines += [Text(note, "yellow") for note in result.notes]
    if update.gap_s:
        lines.append(Text(f"away for {update.gap_s:.1f} s", "yellow"))
    return Group(*lines)
