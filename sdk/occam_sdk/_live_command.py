"""``occam live``: a camera, an address or a file while it plays, in the terminal, a window or JSON lines."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
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
    MaxFacesOption,
    PrecisionOption,
    StrictOption,
    ThreadsOption,
    user_errors,
)
from .labels import LABELS

if TYPE_CHECKING:
    from ._live_window import LiveWindow
    from .stream import StreamUpdate


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(live)


def live(
    source: Annotated[
        str, typer.Argument(help="A camera's number, an address (rtsp://, http:// …), or a file.")
    ] = "0",
    window: Annotated[
        bool,
        typer.Option(
            "--window",
            help="Show the pictures, boxes and bars in a window; q, Escape or its cross ends it. A file is "
            "played at its own pace.",
        ),
    ] = False,
    microphone: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE",
            help="Hear a microphone beside the camera: default, or a number or part of the name as "
            "python -m sounddevice lists them.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each update.")
    ] = False,
    window_s: Annotated[float, typer.Option(help="Seconds that an update is about.")] = 3.0,
    hop_s: Annotated[float, typer.Option(help="Seconds from one update to the next.")] = 0.5,
    max_faces: MaxFacesOption = 1,
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    strict: StrictOption = False,
) -> None:
    """Say what a camera shows, twice a second, until Ctrl-C.

    With --window it can print --json, too.
    """
    from .backends import Runtime
    from .bundle import DEFAULT_BUNDLE
    from .recognizer import Recognizer

    with user_errors(), contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as opened:
        screen = opened.enter_context(contextlib.closing(_window(source))) if window else None
        tell = _told(screen, as_json=as_json) if screen else None
        asked = asdict(Runtime(backend, device, precision, threads, strict))
        recognizer = opened.enter_context(
            Recognizer(bundle or DEFAULT_BUNDLE, max_faces=max_faces, **asked)
        )
        updates = opened.enter_context(
            recognizer.stream(
                int(source) if source.isdecimal() else source,
                microphone=_device(microphone),
                realtime=window,
                window_s=window_s,
                hop_s=hop_s,
                on_update=tell,
            )
        )
        if screen:
            screen.show(updates)
        elif as_json:
            for update in updates:
                _print_json(update)
        else:
            console = Console()
            with Live(console=console, auto_refresh=False) as terminal:
                for update in updates:
                    terminal.update(dashboard(update, source, console.encoding), refresh=True)


def _device(microphone: str | None) -> int | str | bool | None:
    """What ``Recognizer.stream`` calls it."""
    if microphone == "default":
        return True
    return int(microphone) if microphone and microphone.isdecimal() else microphone


def _window(source: str) -> LiveWindow:
    from ._live_window import LiveWindow

    return LiveWindow(f"occam live {source}")


def _told(window: LiveWindow, *, as_json: bool) -> Callable[[StreamUpdate], None]:
    """Brings updates to the window; the frames that were dropped are counted from the beginning."""
    dropped = 0

    def tell(update: StreamUpdate) -> None:
        nonlocal dropped
        dropped += update.dropped
        said = "   ".join([update.label or "nobody", *_feeling(update)])
        window.tell(
            update, "\n".join([said, _figures(update, dropped), "; ".join(_troubles(update))])
        )
        if as_json:
            _print_json(update)

    return tell


def _print_json(update: StreamUpdate) -> None:
    sys.stdout.write(json.dumps(update.to_dict(), allow_nan=False) + "\n")
    sys.stdout.flush()


def dashboard(update: StreamUpdate, source: str, encoding: str = "utf-8") -> Group:
    """What an update says, to be drawn over the one before."""
    title = Text.assemble((update.label or "nobody", "bold"), "   ", (source, "dim"))
    table = scores_table(update.result, range(len(LABELS)), encoding)
    lines: list[RenderableType] = [title, table]
    lines += map(Text, _feeling(update))
    lines.append(Text(_figures(update, update.dropped), "dim"))
    lines += [Text(trouble, "yellow") for trouble in _troubles(update)]
    return Group(*lines)


def _feeling(update: StreamUpdate) -> list[str]:
    """Valence and arousal, if there are any."""
    result = update.result
    if result.valence is None or result.arousal is None:
        return []
    return [f"valence {result.valence:+.2f}   arousal {result.arousal:+.2f}"]


def _figures(update: StreamUpdate, dropped: int) -> str:
    """How fast it goes."""
    return (
        f"{update.time_s:.1f} s   {update.rate_hz:.0f} frames a second, {dropped} dropped   "
        f"{1e3 * update.lag_s:.0f} ms behind"
    )


def _troubles(update: StreamUpdate) -> list[str]:
    """What is missing and why."""
    lines = [*update.result.notes]
    if update.overflows:
        lines.append(f"sound was lost {update.overflows} times: this machine is too busy")
    if update.gap_s:
        lines.append(f"away for {update.gap_s:.1f} s")
    return lines
