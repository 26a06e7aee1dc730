"""What it brings to decode and look ahead in threads while networks score: a clip judged both ways, by turns.

    python -m benchmarks.overlap ../shared/data/clips/pyfeat_pexels.mp4
    python -m benchmarks.overlap ../shared/data/clips/pyfeat_pexels.mp4 --cores 1

Ways: as shipped; the same without threads; only decoding ahead. Each round takes every way once, in another
order; its ratios are of that round's own times, so that what else runs on the machine touches all alike.
The answers must be the same to the last bit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from occam_sdk import OccamError, Recognizer, recognizer
from occam_sdk.ahead import ahead

from .host import host

Ahead = Callable[[Iterable[Any], int], AbstractContextManager[Any]]


def in_turn(items: Iterable[Any], _most: int) -> AbstractContextManager[Any]:
    """In place of ``ahead``: the same items, made when they are asked for."""
    return closing(items)


def decoding(items: Iterable[Any], most: int) -> AbstractContextManager[Any]:
    """In place of ``ahead``: a thread for what is decoded, and none for what is looked at."""
    return in_turn(items, most) if most == recognizer.LOOKS_AHEAD else ahead(items, most)


WAYS: Final[dict[str, Ahead]] = {
    "in turn": in_turn,
    "decoding ahead": decoding,
    "as shipped": ahead,
}


def measure(clip: Path, rounds: int, threads: int | None) -> dict[str, dict[str, float]]:
    """Of each way the seconds (median), CPU seconds, and how many times as fast as in turn it is."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    answers = set()
    with Recognizer(threads=threads) as made:
        for number in range(rounds + 1):
            order = [*WAYS.items()][:: -1 if number % 2 else 1]
            for name, way in order:
                with patch.object(recognizer, "ahead", way):
                    started, used = time.perf_counter(), time.process_time()
                    answers.add(made.predict(clip).to_json())
                    seconds = time.perf_counter() - started, time.process_time() - used
                if number:  # the first round is warm-up
                    taken[name].append(seconds)
    if len(answers) != 1:
        raise ValueError(f"{clip}: is not judged alike by every way")
    slow = [wall for wall, _ in taken["in turn"]]
    found = {}
    for name, laps in taken.items():
        ratios = sorted(one / wall for one, (wall, _) in zip(slow, laps, strict=True))
        found[name] = {
            "seconds": statistics.median(wall for wall, _ in laps),
            "cpu_seconds": statistics.median(cpu for _, cpu in laps),
            "times_as_fast": statistics.median(ratios),
            "least": ratios[0],
            "most": ratios[-1],
        }
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cores", type=int, help="that this process may use; by default all")
    parser.add_argument("--threads", type=int, help="of each network")
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    allowed = sorted(os.sched_getaffinity(0))
    cores = len(allowed) if args.cores is None else args.cores
    if not 1 <= cores <= len(allowed):
        parser.error(f"--cores: {args.cores} of the {len(allowed)} that there are")
    if args.rounds < 1:
        parser.error("--rounds: one at least")
    os.sched_setaffinity(0, allowed[:cores])
    try:
        found = measure(args.clip, args.rounds, args.threads)
    except (OccamError, OSError, ValueError) as error:
        parser.error(str(error))
    print(f"{'way':16} {'s':>6} {'CPU s':>6}  times as fast as in turn, on {cores} cores")
    for name, row in found.items():
        print(
            f"{name:16} {row['seconds']:6.2f} {row['cpu_seconds']:6.2f}  {row['times_as_fast']:.2f} "
            f"({row['least']:.2f} to {row['most']:.2f})"
        )
    if args.json is not None:
        args.json.write_text(json.dumps({"host": host(), "cores": cores, "ways": found}, indent=1))


if __name__ == "__main__":
    main()
