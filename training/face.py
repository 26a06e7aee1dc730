"""Train the face network: two label sets of the same faces on one trunk, and valence-arousal.

    python -m training.face --faces runs/faces.npz --run runs/face

Stops and starts again where it was: every epoch leaves a checkpoint. The best answer to annotations
that disagree is the paper's own, a head for each [2.1]: FER+ votes as soft targets, FER2013's labels
with label smoothing and half a logit adjustment (Menon et al. 2021), which trades a little accuracy
for the rare classes. Missing targets are masked.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from occam_sdk.labels import LABELS

from .augment import augment
from .metrics import accuracy, ccc, recalls
from .network import ResNet18Lite


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result, besides the data."""

    epochs: int = 40
    batch: int = 128
    rate: float = 3e-3
    warmup_epochs: int = 2
    weight_decay: float = 0.05
    dropout: float = 0.3
    smoothing: float = 0.1
    adjustment: float = 0.5
    synthetic_times: int = 3
    valence_arousal_weight: float = 1.0
    average_decay: float = 0.999
    seed: int = 0


@dataclass(frozen=True)
class Faces:
    """Tensors of one split: faces (N, S, S) uint8, label (N,) or -1, votes (N, 8), targets (N, 2) or NaN."""

    faces: Tensor
    label: Tensor
    votes: Tensor
    valence_arousal: Tensor

    def __len__(self) -> int:
        return len(self.faces)


@dataclass(frozen=True)
class Statistics:
    """Of the training faces: grey mean and spread in [0, 1], and how frequent each class is."""

    mean: float
    std: float
    prior: tuple[float, ...]


def load_faces(
    path: Path, keep: NDArray[np.bool_] | None = None, repeat_synthetic: int = 1
) -> Faces:
    """Faces of the file made by ``training.prepare_faces``; ``keep`` is a mask over its rows."""
    with np.load(path, allow_pickle=False) as file:
        rows = np.arange(len(file["label"])) if keep is None else np.flatnonzero(keep)
        synthetic = rows[file["synthetic"][rows]]
        rows = np.concatenate([rows, *[synthetic] * (repeat_synthetic - 1)])
        names = ("faces", "label", "votes", "valence_arousal")
        return Faces(*(torch.from_numpy(file[name][rows]) for name in names))


def training_mask(path: Path) -> NDArray[np.bool_]:
    """Train rows whose pixels are in no other split, and which say anything at all."""
    with np.load(path, allow_pickle=False) as file:
        labelled = (file["label"] >= 0) | (file["votes"].sum(1) > 0) | file["synthetic"]
        return np.asarray((file["split"] == "train") & ~file["twin"] & labelled)


def split_mask(path: Path, split: str, *, synthetic: bool) -> NDArray[np.bool_]:
    """Rows of one split, photographs or synthetic pictures."""
    with np.load(path, allow_pickle=False) as file:
        return np.asarray((file["split"] == split) & (file["synthetic"] == synthetic))


def statistics(train: Faces) -> Statistics:
    """Of the training faces alone."""
    grey = train.faces.float() / 255
    counts = torch.bincount(train.label[train.label >= 0], minlength=len(LABELS)).float()
    return Statistics(
        float(grey.mean()), float(grey.std()), tuple((counts / counts.sum()).tolist())
    )


def loss(out: dict[str, Tensor], batch: Faces, prior: Tensor, settings: Settings) -> Tensor:
    """Sum of the three heads' losses, each the mean over the faces that have its target."""
    known = batch.label >= 0
    adjusted = out["emotion"] + settings.adjustment * prior.log()
    emotion = functional.cross_entropy(
        adjusted[known], batch.label[known], label_smoothing=settings.smoothing
    )
    voted = batch.votes.sum(1) > 0
    target = batch.votes[voted] / batch.votes[voted].sum(1, keepdim=True)
    ferplus = functional.cross_entropy(out["ferplus"][voted], target)
    total = emotion + ferplus
    measured = ~batch.valence_arousal.isnan().any(1)
    if measured.any():
        error = functional.mse_loss(
            out["valence_arousal"][measured], batch.valence_arousal[measured]
        )
        total = total + settings.valence_arousal_weight * error
    return total


def train(faces: Path, run: Path, settings: Settings, start: Path | None = None) -> ResNet18Lite:
    """Train, or go on training, in the folder ``run``.

    Args:
        faces: from ``training.prepare_faces``.
        run: gets settings, statistics, log and checkpoint; one that was broken off is continued.
        settings: must be those of the run that is continued.
        start: folder of a finished run whose averaged weights are the first ones of this run.

    Returns:
        The averaged network.

    Raises:
        ValueError: the folder holds a run with other settings.
        FloatingPointError: the loss is not a number any more.
    """
    run.mkdir(parents=True, exist_ok=True)
    recorded = {
        **asdict(settings),
        "faces_sha256": hashlib.sha256(faces.read_bytes()).hexdigest(),
        "start": None if start is None else start.name,
    }
    _check_same(run / "settings.json", recorded)
    data = load_faces(faces, training_mask(faces), settings.synthetic_times)
    valid = load_faces(faces, split_mask(faces, "valid", synthetic=False))
    measured = statistics(data)
    (run / "settings.json").write_text(json.dumps(recorded, indent=1) + "\n")
    (run / "statistics.json").write_text(json.dumps(asdict(measured), indent=1) + "\n")

    torch.manual_seed(settings.seed)
    network = ResNet18Lite(dropout=settings.dropout).to(memory_format=torch.channels_last)
    if start is not None:
        network.load_state_dict(load_network(start).state_dict())
    average = copy.deepcopy(network).eval()
    decayed = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ],
        lr=settings.rate,
    )
    steps = len(data) // settings.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, total_steps=settings.epochs * steps,
        pct_start=min(0.5, settings.warmup_epochs / settings.epochs),
        cycle_momentum=False, final_div_factor=1e3,
    )  # fmt: skip
    state: dict[str, Any] = {
        "network": network, "average": average, "optimizer": optimizer, "schedule": schedule,
    }  # fmt: skip
    first = _resume(run / "checkpoint.pt", state)
    _forget_after(run / "log.jsonl", first)
    prior = torch.tensor(measured.prior)
    for epoch in range(first, settings.epochs):
        # The generator is made anew each epoch, so that a run which was broken off ends the same.
        generator = torch.Generator().manual_seed(settings.seed * 10_000 + epoch)
        torch.manual_seed(settings.seed * 10_000 + epoch)  # dropout
        started, total = time.perf_counter(), 0.0
        network.train()
        order = torch.randperm(len(data), generator=generator)
        for step in range(steps):
            rows = order[step * settings.batch : (step + 1) * settings.batch]
            batch = Faces(
                data.faces[rows], data.label[rows], data.votes[rows], data.valence_arousal[rows]
            )
            pixels = augment(batch.faces[:, None].float() / 255, generator)
            pixels = ((pixels - measured.mean) / measured.std).contiguous(
                memory_format=torch.channels_last
            )
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = network(pixels)
            error = loss(
                {name: value.float() for name, value in out.items()}, batch, prior, settings
            )
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            schedule.step()
            _update_average(average, network, settings.average_decay)
            total += error.item()
            if not math.isfinite(total):
                raise FloatingPointError(
                    f"the loss is {error.item()} in epoch {epoch}, step {step}"
                )
        row = {
            "epoch": epoch, "loss": total / steps, "seconds": time.perf_counter() - started,
            **evaluate(average, valid, measured),
        }  # fmt: skip
        with (run / "log.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
        _save(run / "checkpoint.pt", epoch + 1, state)
    return average


@torch.no_grad()
def predict(network: ResNet18Lite, faces: Tensor, measured: Statistics) -> dict[str, Tensor]:
    """The network's outputs for (N, S, S) uint8 faces, in float32 without augmentation."""
    network.eval()
    parts = [
        network((part[:, None].float() / 255 - measured.mean) / measured.std)
        for part in torch.split(faces, 256)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def evaluate(network: ResNet18Lite, data: Faces, measured: Statistics) -> dict[str, Any]:
    """Accuracy of both heads, UAR and recalls, or CCC where the faces have such targets."""
    out = predict(network, data.faces, measured)
    known = (data.label >= 0).numpy()
    voted = (data.votes.sum(1) > 0).numpy()
    label, guess = data.label.numpy()[known], out["emotion"].argmax(1).numpy()[known]
    recall = recalls(label, guess, len(LABELS))
    result: dict[str, Any] = {
        "accuracy": accuracy(label, guess),
        "uar": float(np.nanmean(recall)),
        "recall": {name: round(float(r), 4) for name, r in zip(LABELS, recall, strict=True)},
    }
    if voted.any():
        result["ferplus_accuracy"] = accuracy(
            data.votes.argmax(1).numpy()[voted], out["ferplus"].argmax(1).numpy()[voted]
        )
    if not data.valence_arousal.isnan().any():
        target, guess_va = data.valence_arousal.numpy(), out["valence_arousal"].numpy()
        result["ccc_valence"] = ccc(target[:, 0], guess_va[:, 0])
        result["ccc_arousal"] = ccc(target[:, 1], guess_va[:, 1])
    return result


@torch.no_grad()
def _update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def load_network(run: Path) -> ResNet18Lite:
    """The averaged network of a run's last checkpoint."""
    network = ResNet18Lite()
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    network.load_state_dict(saved["average"])
    return network.eval()


def _check_same(path: Path, recorded: dict[str, Any]) -> None:
    if path.is_file() and json.loads(path.read_text()) != recorded:
        raise ValueError(
            f"{path}: this run was begun with other settings, faces or start; "
            "give them again, or another folder"
        )


def _forget_after(log: Path, epoch: int) -> None:
    """Leave only the rows before ``epoch``: one more was written if the run died before its checkpoint."""
    if log.is_file():
        rows = log.read_text().splitlines()
        log.write_text("".join(f"{row}\n" for row in rows if json.loads(row)["epoch"] < epoch))


def _save(path: Path, epoch: int, state: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    torch.save(
        {"epoch": epoch, **{name: part.state_dict() for name, part in state.items()}}, partial
    )
    partial.replace(path)


def _resume(path: Path, state: dict[str, Any]) -> int:
    if not path.is_file():
        return 0
    saved = torch.load(path, weights_only=True)
    for name, part in state.items():
        part.load_state_dict(saved[name])
    return int(saved["epoch"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, required=True, help="from training.prepare_faces")
    parser.add_argument("--run", type=Path, required=True, help="folder of this run")
    parser.add_argument("--start", type=Path, help="folder of the run to start from")
    parser.add_argument("--epochs", type=int, default=Settings.epochs)
    parser.add_argument("--rate", type=float, default=Settings.rate, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=Settings.seed)
    args = parser.parse_args()
    settings = Settings(epochs=args.epochs, rate=args.rate, seed=args.seed)
    train(args.faces, args.run, settings, args.start)


if __name__ == "__main__":
    main()
