"""``occam compile``, ``occam prefetch`` and ``occam verify``: what runs here, and is it right."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ._options import (
    BackendOption,
    BundleOption,
    DeviceOption,
    PrecisionOption,
    StrictOption,
    ThreadsOption,
    user_errors,
)

if TYPE_CHECKING:
    from .backends import Runtime
    from .verify import Check

FAILED: Final = 1
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

out = Console()


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(name="compile")(compile_engines)
    app.command()(prefetch)
    app.command()(verify)


def compile_engines(
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    strict: StrictOption = False,
) -> None:
    """Build the engines ahead of time, so that the first clip need not wait for them.

    They are kept in OCCAM_CACHE_DIR, by default ~/.cache/occam-sdk.
    """
    from .backends import Runtime

    with user_errors():
        _compile(bundle, Runtime(backend, device, precision, threads, strict))


def prefetch(bundle: BundleOption = None) -> None:
    """Make ready for work without a network: check every file, build engines, judge the demo clip.

    Nothing is downloaded, now or later: all models are in the package.
    """
    from .backends import Runtime
    from .bundle import DEFAULT_BUNDLE
    from .demo import demo_clip
    from .recognizer import Recognizer

    with user_errors():
        _compile(bundle, Runtime())
        with Recognizer(bundle or DEFAULT_BUNDLE) as recognizer:
            result = recognizer.predict(demo_clip())
            features = recognizer.info.voice_features
        _line(f"demo clip: {result.label}, {result.status}; voice features: {features}")
        _line("ready: nothing more is needed from a network")


def _compile(bundle: Path | None, runtime: Runtime) -> None:
    from .backends import open_session
    from .bundle import DEFAULT_BUNDLE, load_bundle

    loaded = load_bundle(bundle or DEFAULT_BUNDLE)
    _line(f"{loaded.path}: {loaded.name}, every file is as the manifest says")
    for name in loaded.networks:
        info = open_session(loaded.network(name), runtime, build=True).info
        what = f"{name}: {info.backend}, {info.device}, {info.precision}"
        _line(f"{what}: {info.engine or 'this runtime keeps no engine; it compiles when it opens'}")
        for note in info.notes:
            _line(f"  {note}", "yellow")


def verify(
    as_json: JsonOption = False,
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Hold every runtime and precision of this machine against the samples in the bundle.

    Exit code 0: all answer as where the bundle was made; a note says where another precision ran.
    1: something answers otherwise.
    """
    from .backends import Runtime
    from .bundle import DEFAULT_BUNDLE, load_bundle
    from .verify import every_runtime
    from .verify import verify as checks_of

    with user_errors():
        asked = Runtime(backend, device, precision)
        runtimes = [
            runtime
            for runtime in every_runtime()
            if backend in ("auto", runtime.backend)
            and device in ("auto", runtime.device)
            and precision in ("auto", runtime.precision)
        ] or [asked]
        loaded = load_bundle(bundle or DEFAULT_BUNDLE)
        checks = list(checks_of(loaded, runtimes))
        if not checks:
            raise ValueError(f"{loaded.path}: has no INT8 form, so there is none to verify")
    if as_json:
        sys.stdout.write(json.dumps([check.to_dict() for check in checks], indent=2) + "\n")
    else:
        out.print(table_of(checks))
        for check in checks:
            if check.failure:
                where = f"{check.network} on {check.backend}, {check.device}, {check.precision}"
                _line(f"{where}: {check.failure}", "red")
        for note in dict.fromkeys(check.note for check in checks if check.note):
            _line(f"note: {note}", "yellow")
    raise typer.Exit(FAILED if any(check.failure for check in checks) else 0)


def table_of(checks: list[Check]) -> Table:
    """A row for each check."""
    table = Table(box=None, header_style="dim")
    for name in ("network", "runtime", "asked", "runs"):
        table.add_column(name)
    for name in ("max Δ", "same", "ms", ""):
        table.add_column(name, justify="right")
    for check in checks:
        info = check.info
        numbers: list[Any] = [check.max_delta, check.agreement, check.latency_ms]
        known = all(number is not None for number in numbers)
        table.add_row(
            check.network,
            f"{check.backend} {check.device}" if info is None else f"{info.backend} {info.device}",
            check.precision,
            "nothing" if info is None else _layers(info.layers),
            *(
                (f"{numbers[0]:.4f}", f"{100 * numbers[1]:.0f} %", f"{numbers[2]:.2f}")
                if known
                else ("", "", "")
            ),
            Text("failed", style="red") if check.failure else Text("right", style="green"),
        )
    return table


def _layers(layers: Mapping[str, int]) -> str:
    return " + ".join(f"{count} {name}" for name, count in layers.items())


def _line(text: str, style: str = "") -> None:
    out.print(Text(text, style=style), soft_wrap=True)
