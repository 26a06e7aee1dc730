"""How fast training is on this machine, and what bounds it.

    python -m benchmarks.training --faces runs/ferplus runs/diffusionfer --clips runs/standin

Faces a second of the whole loop in bfloat16 and float32, processor time of the loader (reading and
augmenting) against that of the network, and what k temporal heads cost against one. Every figure is the
median of some rounds with the smallest and the largest; the rounds of what is compared take turns.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from occam_sdk.bundle import DEFAULT_BUNDLE
from training import temporal
from training.clips import Clips, load_clips
from training.faces import LabelledFaces
from training.fit import Phase, Settings, Trainer, this_team
from training.network import FaceNetwork
from training.runs import environment

HEADS: Final = (1, 4, 50)
Rounds = dict[str, list[float]]


def faces(folders: Sequence[Path], steps: int, rounds: int) -> dict[str, Any]:
    """Steps of the training loop, and the loader alone."""
    data = LabelledFaces(folders)
    rows = data.train_rows()
    settings = Settings()
    needed = steps * settings.batch
    if steps < 1 or rounds < 1:
        raise ValueError(f"expected one step and one round at least, got {steps} and {rounds}")
    if len(rows) < needed:
        raise ValueError(f"{len(rows)} faces, {needed} are needed for {steps} steps: lower --steps")
    rows = np.random.default_rng(0).permutation(rows)[:needed]
    measured, team = data.statistics(), this_team()
    trainers = {}
    for precision in ("bfloat16", "float32"):
        network = FaceNetwork(settings.architecture, dropout=settings.dropout)
        network = network.to(team.device).to(memory_format=torch.channels_last)
        trainers[precision] = Trainer(
            network, copy.deepcopy(network).eval(), data, rows, measured,
            Phase("all", 0, rounds + 1, settings.rate), replace(settings, precision=precision), team,
        )  # fmt: skip
    found: Rounds = {}
    for number in range(rounds + 1):
        for precision, trainer in trainers.items():
            row = trainer.epoch(number)
            if number == 0:  # warm-up
                continue
            found.setdefault(f"{precision}: faces/s", []).append(row["faces_per_s"])
            loader, network_s = row["faces_cpu_s"], row["network_cpu_s"]
            found.setdefault(f"{precision}: loader, CPU ms a step", []).append(
                1000 * loader / steps
            )
            found.setdefault(f"{precision}: network, CPU ms a step", []).append(
                1000 * network_s / steps
            )
            found.setdefault(f"{precision}: loader's part of the CPU time, %", []).append(
                100 * loader / (loader + network_s)
            )
    return _summed_up(found)


def heads(clips: Clips, rounds: int) -> dict[str, Any]:
    """Seconds to train k heads of each kind, and the ratio to one head."""
    train = np.flatnonzero(clips.samples.split == "train")
    found: Rounds = {}
    for _ in range(rounds):
        for kind in temporal.KINDS[:2]:
            one = 0.0
            for count in HEADS:
                seconds = _timed(
                    partial(temporal.train, clips, train, kind, count, temporal.Settings())
                )
                one = one or seconds
                found.setdefault(f"{kind}, {count} heads: s", []).append(seconds)
                found.setdefault(f"{kind}, {count} heads: times one head", []).append(seconds / one)
        seconds = _timed(partial(temporal.train, clips, train, "lstm", 1, temporal.Settings()))
        found.setdefault("lstm, 1 head: s", []).append(seconds)
    return _summed_up(found)


def _timed(work: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    work()
    return time.perf_counter() - begun_s


def _summed_up(found: Mapping[str, list[float]]) -> dict[str, Any]:
    return {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for name, values in found.items()
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=Path, nargs="+", required=True, help="prepared faces")
    parser.add_argument("--clips", type=Path, help="prepared clips, for the heads")
    parser.add_argument(
        "--network", type=Path, default=DEFAULT_BUNDLE, help="that embeds the clips"
    )
    parser.add_argument("--steps", type=int, default=20, help="of the loop in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write every figure there")
    args = parser.parse_args()
    try:
        report = {"environment": environment(), "faces": faces(args.faces, args.steps, args.rounds)}
        if args.clips is not None:
            report["heads"] = heads(load_clips(args.clips, args.network), args.rounds)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    for part, figures in report.items():
        print(part)
        for name, figure in figures.items():
            shown = figure
            if isinstance(figure, dict):
                shown = "{median:.2f} ({min:.2f} to {max:.2f})".format(**figure)
            print(f"  {name:<42} {shown}")
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
