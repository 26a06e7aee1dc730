"""The whole path from a file to its result, its memory, and how long the first result takes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from occam_sdk import BackendWarning, ClipResult, Recognizer, demo_clip
from occam_sdk.bundle import Bundle

from .latency_networks import percentiles

PRECISIONS: Final = ("auto", "fp32")
STARTS: Final = 5  # processes whose start is timed, at most

# Not getrusage: a process inherits the peak of the one that starts it.
CHILD: Final = """
import time
begun_s = time.monotonic()
import json, re, sys
from pathlib import Path
from occam_sdk import Recognizer
imported_s = time.monotonic()
bundle, precision, clip, started_s = sys.argv[1:]
recognizer = Recognizer(bundle, precision=precision)
opened_s = time.monotonic()
recognizer.predict(clip)
done_s = time.monotonic()
status = Path("/proc/self/status").read_text()
print(json.dumps({
    "interpreter_s": begun_s - float(started_s),
    "import_s": imported_s - begun_s,
    "open_s": opened_s - imported_s,
    "first_result_s": done_s - opened_s,
    "total_s": done_s - float(started_s),
    "peak_bytes": 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]),
}))
"""


def measure(bundles: Sequence[Bundle], clip: Path, rounds: int) -> list[dict[str, Any]]:
    """A row for each bundle, as it runs by default and in float32, taken by turns.

    Raises:
        MediaError: the clip is none.
    """
    ways = [(bundle, precision) for bundle in bundles for precision in PRECISIONS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BackendWarning)  # the notes are in the rows
        recognizers = [Recognizer(bundle.path, precision=kind) for bundle, kind in ways]
    taken: list[list[float]] = [[] for _ in ways]
    results: list[ClipResult] = []
    for number in range(rounds + 1):
        for recognizer, seconds in zip(recognizers, taken, strict=True):
            started = time.perf_counter()
            result = recognizer.predict(clip)
            if number:
                seconds.append(time.perf_counter() - started)
            else:  # the first round is warm-up
                results.append(result)
    starts: list[list[dict[str, float]]] = [[] for _ in ways]
    for _ in range(min(rounds, STARTS)):
        for (bundle, precision), found in zip(ways, starts, strict=True):
            found.append(in_a_new_process(bundle, precision, demo_clip()))
    return [
        {
            **_row(recognizer, result, precision, percentiles(seconds)),
            "peak_bytes": in_a_new_process(bundle, precision, clip)["peak_bytes"],
            "start": {
                name: statistics.median(start[name] for start in found)
                for name in found[0]
                if name != "peak_bytes"
            },
        }
        for (bundle, precision), recognizer, result, seconds, found in zip(
            ways, recognizers, results, taken, starts, strict=True
        )
    ]


def _row(
    recognizer: Recognizer, result: ClipResult, asked: str, times: dict[str, float]
) -> dict[str, Any]:
    info, median_s = recognizer.info, times["p50_ms"] / 1000
    sessions = {
        "detector": info.detector, "expression": info.expression, "voice": info.voice,
        "speech": info.speech,
    }  # fmt: skip
    return {
        "model": info.model,
        "asked": asked,
        "ran": {name: s.precision for name, s in sessions.items() if s is not None},
        "runtime": info.expression.backend,
        "its_device": info.expression.device,
        "notes": list(info.notes),
        "frames": len(result.timeline),
        "frames_with_face": sum(row.face is not None for row in result.timeline),
        "clip_s": result.duration_s,
        "status": result.status,
        **times,
        "fps": len(result.timeline) / median_s,
        "real_time_factor": result.duration_s / median_s,
    }


def in_a_new_process(bundle: Bundle, precision: str, clip: Path) -> dict[str, float]:
    """Seconds from a process's start to its first result, in parts, and its peak memory.

    Raises:
        RuntimeError: it did not get that far.
    """
    arguments = [str(bundle.path), precision, str(clip), str(time.monotonic())]
    done = subprocess.run(  # noqa: S603 - this Python, and code that stands above
        [sys.executable, "-W", "ignore", "-c", CHILD, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RuntimeError(f"a new process did not judge {clip.name}: {last}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
