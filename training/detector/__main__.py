r"""Train the face detector on labelled pictures.

    python -m training.detector --labels runs/scenes --out runs/detector

Every epoch ends with a look at Valid (of the first zip file, the scenes), and at Train's pictures without
people and scenes: what the network takes for a face there and is none is shown to it more often, in all sizes
that a face has.
A run that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import math
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from occam_sdk.backends import SessionInfo
from occam_sdk.pipeline import STILL_LONG_SIDE
from occam_sdk.video.faces import BundleDetector

from ..fit import is_fast_in_bfloat16, update_average
from ..optimiser import Optimiser
from ..runs import Run, add_settings, settings_of
from .judge import Tally
from .label import FILE, Labels, load
from .loss import as_input, loss, targets
from .network import OUTPUTS, YUNET_SHA256, DetectorNetwork, adopt
from .pictures import SIDE, Pictures, read, split
from .teachers import Image


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result, besides the data.

    Attributes:
        epochs: of ``steps`` steps.
        steps: of ``batch`` canvases.
        batch: canvases a step.
        rate: highest learning rate.
        warmup: part of the steps until it is reached.
        weight_decay: of filters.
        average_decay: of the exponential average of the weights, which is what is kept.
        hard: times as often as a picture without people a place is shown that is taken for a face for sure.
        seed: of weights and canvases.
    """

    epochs: int = 12
    steps: int = 300
    batch: int = 32
    rate: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.01
    average_decay: float = 0.998
    hard: float = 20.0
    seed: int = 0


def train(
    labels_folder: Path, out: Path, settings: Settings, pretrained: Path | None = None
) -> DetectorNetwork:
    """Train, or go on, and return the average network of the last epoch.

    Args:
        labels_folder: of ``training.detector.label``.
        out: folder of this run.
        settings: all that decides the result besides.
        pretrained: YuNet's file, to begin with its weights.

    Raises:
        ValueError: the run was begun with others, or there is nothing to learn from.
    """
    labels = load(labels_folder)
    sha256 = hashlib.sha256((labels_folder / FILE).read_bytes()).hexdigest()
    torch.manual_seed(settings.seed)
    network = DetectorNetwork()
    if pretrained is not None:
        adopt(network, pretrained)
    begun = {} if pretrained is None else {"pretrained": YUNET_SHA256}
    with Run(out, settings, {"labels": sha256, **begun}) as run:
        pictures = Pictures(labels)
        searched = pictures.searched()
        rows = split(labels, "valid")
        rows = rows[labels.archive[rows] == 0]
        valid = list(zip(rows.tolist(), read(labels, rows), strict=True))
        network = network.to(memory_format=torch.channels_last)
        average = copy.deepcopy(network).eval()
        steps = settings.epochs * settings.steps
        optimiser = Optimiser(network, settings.rate, steps, settings.warmup, settings.weight_decay)
        saved = run.resume()
        if "network" in saved:
            network.load_state_dict(saved["network"])
            average.load_state_dict(saved["average"])
            optimiser.load_state_dict(saved["optimiser"])
            if saved["epoch"] < settings.epochs:
                pictures.taken_for_faces(mine(average, searched), settings.hard)
        for epoch in range(saved["epoch"], settings.epochs):
            row = _epoch(network, average, optimiser, pictures, epoch, settings)
            taken = pictures.taken_for_faces(mine(average, searched), settings.hard)
            run.log(
                {
                    "epoch": epoch,
                    **row,
                    "taken_for_faces": taken,
                    **evaluate(average, labels, valid),
                }
            )
            run.save(
                epoch + 1,
                {
                    "network": network.state_dict(),
                    "average": average.state_dict(),
                    "optimiser": optimiser.state_dict(),
                },
            )
    return average


def _epoch(
    network: DetectorNetwork,
    average: DetectorNetwork,
    optimiser: Optimiser,
    pictures: Pictures,
    epoch: int,
    settings: Settings,
) -> dict[str, Any]:
    """The mean losses, and how long it took."""
    network.train()
    mixed = is_fast_in_bfloat16(torch.device("cpu"))
    started = time.perf_counter()
    sums: dict[str, float] = {}
    seed = settings.seed * 10_000 + epoch
    for step, canvases in enumerate(pictures.batches(settings.steps, settings.batch, seed)):
        image = as_input(canvases).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            maps = network(image)
        parts = loss(maps, targets(canvases), SIDE, SIDE)
        error = sum(parts.values(), torch.zeros(()))
        if not torch.isfinite(error):
            raise FloatingPointError(f"the loss is {error} in epoch {epoch}, step {step}")
        optimiser.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step()
        done = epoch * settings.steps + step
        update_average(average, network, min(settings.average_decay, (1 + done) / (10 + done)))
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
    return {
        **{name: value / settings.steps for name, value in sums.items()},
        "seconds": round(time.perf_counter() - started, 1),
    }


class TorchSession:
    """The network in training as a session of the product, so that the product's code judges it."""

    info = SessionInfo("torch", "cpu", {"fp32": 1})
    ports = (frozenset({"image"}), frozenset(OUTPUTS))

    def __init__(self, network: DetectorNetwork) -> None:
        self._network = network

    @torch.no_grad()
    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """One (N, 3, H, W) float32 BGR "image" to the network's outputs."""
        maps = self._network(torch.from_numpy(inputs["image"]))
        return {
            name: np.ascontiguousarray(one.numpy()) for name, one in zip(OUTPUTS, maps, strict=True)
        }


def mine(network: DetectorNetwork, images: list[Image]) -> list[NDArray[np.float32]]:
    """What may be a face in each picture, at first sight: (N, 5), how sure, and its corners."""
    detector = BundleDetector(TorchSession(network), long_side=STILL_LONG_SIDE)
    return [detector.places(image)[:, :5] for image in images]


def evaluate(
    network: DetectorNetwork, labels: Labels, pictures: list[tuple[int, Image]]
) -> dict[str, float]:
    """Figures of the pictures with people, and false faces a picture without."""
    people, empty = Tally(), Tally()
    detector = BundleDetector(TorchSession(network), long_side=STILL_LONG_SIDE)
    for row, image in pictures:
        of = labels.picture == row
        tally = empty if labels.without_people[row] else people
        said = detector.detect(image)
        tally.add(
            said,
            labels.box[of],
            labels.landmarks[of],
            labels.certain[of],
            trusted=bool(labels.trusted[row]),
        )
    false = empty.figures()["false_24"] if empty.pictures else math.nan
    return {**people.figures(), "false_without_people": false}


def load_detector(run: Path) -> DetectorNetwork:
    """The average network of a run, for evaluation.

    Raises:
        FileNotFoundError: there is no such run.
    """
    path = run / "checkpoint.pt"
    if not path.is_file():
        raise FileNotFoundError(f"{run}: no run of training.detector, it has no checkpoint.pt")
    network = DetectorNetwork()
    network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["average"])
    return network.eval()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.detector",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--labels", type=Path, required=True, help="folder of training.detector.label"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    parser.add_argument("--pretrained", type=Path, help="YuNet, as first weights")
    add_settings(parser, Settings)
    args = parser.parse_args()
    try:
        train(args.labels, args.out, settings_of(args, Settings), args.pretrained)
    except (FloatingPointError, OSError, ValueError, zipfile.BadZipFile) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
