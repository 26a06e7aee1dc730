"""What machine and what code a measurement was taken with: no name of the machine, no path, no user."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from occam_sdk import machine

FLAGS: Final = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_tile",
    "amx_int8", "amx_bf16", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve",
)  # fmt: skip
"""What networks in INT8 and half precision run faster with; ``asimddp`` is Arm's dot product."""

SAMPLE_S: Final = 0.25


def host() -> dict[str, Any]:
    """Machine, system, versions, commit and time, as plain JSON types; None is what nobody tells."""
    jetson, cuda = machine.jetson(), machine.cuda()
    tensorrt = machine.tensorrt_version()
    flags = machine.cpu_flags()
    return {
        "cpu": machine.cpu_model(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "architecture": platform.machine(),
        "cores": machine.physical_cores(),
        "threads": machine.logical_cores(),
        "threads_allowed": machine.usable_cores(),
        "governor": machine.scaling_governor(),
        "memory_bytes": machine.memory_bytes(),
        "board": machine.board_model(),
        "jetson": None if jetson is None else asdict(jetson),
        "cuda": None if cuda is None else {"version": cuda.version, "devices": list(cuda.devices)},
        "system": machine.system_name(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": machine.versions() | ({} if tensorrt is None else {"tensorrt": tensorrt}),
        "commit": commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "load": round(os.getloadavg()[0], 2),
    }


def commit() -> str | None:
    """Of this checkout, followed by "dirty" if files were changed since; None outside of git."""

    def git(*arguments: str) -> str:
        return subprocess.run(  # noqa: S603
            ["git", "-C", str(Path(__file__).parent), *arguments],  # noqa: S607
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + (" dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def described(facts: Mapping[str, Any]) -> dict[str, str]:
    """What ``host`` found in words, for a table; what is not known is left out."""
    memory, jetson, cuda = facts["memory_bytes"], facts["jetson"], facts["cuda"]
    cores = f"{facts['cores'] or '?'}, {facts['threads'] or '?'} threads"
    if facts["threads_allowed"] != facts["threads"]:
        cores += f", {facts['threads_allowed']} allowed"
    shown = {
        "CPU": facts["cpu"] or facts["architecture"],
        "CPU can": " ".join(facts["flags"]) or "none of the instructions that INT8 gains by",
        "cores": cores,
        "governor": facts["governor"],
        "memory": None if memory is None else f"{memory / 2**30:.1f} GiB",
        "board": facts["board"],
        "Jetson": jetson and ", ".join(f"{k} {v}" for k, v in jetson.items() if v),
        "CUDA": cuda and ", ".join([cuda["version"], *cuda["devices"]]),
        "system": ", ".join(filter(None, (facts["system"], f"kernel {facts['kernel']}"))),
        "versions": ", ".join(
            [f"Python {facts['python']}", *(f"{k} {v}" for k, v in facts["versions"].items())]
        ),
        "commit": facts["commit"],
        "measured": f"{facts['date']}, system load {facts['load']} at the start",
    }
    return {name: value for name, value in shown.items() if value}


class PowerMeter:
    """A context: meanwhile a Jetson's power sensors are read; elsewhere there are none to read.

    Args:
        read: milliwatts by rail, as ``machine.power_mw``.

    Attributes:
        rails: after it, mean and greatest milliwatts by rail.
    """

    def __init__(self, read: Callable[[], dict[str, float]] = machine.power_mw) -> None:
        self._read = read
        self._seen: list[dict[str, float]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.rails: dict[str, dict[str, float]] = {}

    def __enter__(self) -> PowerMeter:
        if self._read():
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        for rail in self._seen[0] if self._seen else ():
            values = [sample[rail] for sample in self._seen if rail in sample]
            self.rails[rail] = {"mean_mw": statistics.fmean(values), "max_mw": max(values)}

    def _sample(self) -> None:
        while True:
            self._seen.append(self._read())
            if self._done.wait(SAMPLE_S):
                return
