"""Train the face network: two label sets on one trunk, and valence-arousal [2.1].

    python -m training.face --faces runs/ferplus runs/diffusionfer --run runs/face

The best answer to annotations that disagree is the paper's own, a head for each: FER+ votes (and every
other set of eight classes) as soft targets, seven classes with label smoothing and half a logit
adjustment (Menon et al. 2021), which trades a little accuracy for the rare classes. Missing targets are
masked. The two-step transfer to another corpus is the same command with a start:

    python -m training.face --faces runs/rafdb runs/sfew --run runs/transferred \
        --start runs/face --heads-epochs 5 --rate 3e-4

First the heads are fitted alone, then all of the network at the lower rate. Every epoch leaves a
checkpoint, from which a run that was killed goes on. On several GPUs or machines, or with several
processes of one machine: torchrun --nproc-per-node 2 -m training.face ...
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from occam_sdk.labels import FERPLUS_LABELS, LABELS

from .augment import augment
from .cache import write_whole
from .faces import Batch, LabelledFaces, Statistics
from .metrics import accuracy, ccc, recalls
from .network import ARCHITECTURES, HEADS, FaceNetwork
from .runs import Run, add_settings, settings_of

State = dict[str, Any]
_SEVEN: Final = [FERPLUS_LABELS.index(name) for name in LABELS]


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result, besides the data.

    Attributes:
        architecture: a name of ``ARCHITECTURES``.
        heads_epochs: epochs in which only the heads are fitted, before all else.
        heads_rate: highest learning rate of these.
        epochs, rate: of the whole network.
        batch: faces a step, over all processes together.
        warmup_epochs: until the rate is highest; then it falls to nearly nothing.
        weight_decay, dropout, smoothing: regularisation.
        adjustment: part of the log prior that is added to the seven classes' logits in training.
        augmentation: whether faces are jittered, turned, relit, cut out.
        synthetic_times: how often a synthetic face is shown each epoch.
        emotion_weight, ferplus_weight, valence_arousal_weight: of the heads' losses: seven classes,
            eight classes, regression. A head of weight 0 learns nothing and chooses nothing.
        average_decay: of the exponential average of the weights, which is what is kept.
        patience: epochs without a better Valid figure after which training stops early.
        precision: "bfloat16", "float32", or "auto": bfloat16 where the processor computes in it.
        seed: of weights, order, augmentation and dropout.
    """

    architecture: str = "resnet18-lite"
    heads_epochs: int = 0
    heads_rate: float = 3e-3
    epochs: int = 40
    rate: float = 3e-3
    batch: int = 128
    warmup_epochs: int = 2
    weight_decay: float = 0.05
    dropout: float = 0.3
    smoothing: float = 0.1
    adjustment: float = 0.5
    augmentation: bool = True
    synthetic_times: int = 3
    emotion_weight: float = 1.0
    ferplus_weight: float = 1.0
    valence_arousal_weight: float = 1.0
    average_decay: float = 0.999
    patience: int = 15
    precision: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Phase:
    """Epochs with one optimiser: the heads alone, or the whole network."""

    name: Literal["heads", "all"]
    first: int
    last: int
    rate: float


@dataclass(frozen=True)
class Team:
    """The processes that train together: this one's number, how many there are, and its device."""

    rank: int
    size: int
    device: torch.device

    def mine(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The share of a batch that is for this process."""
        return rows[self.rank :: self.size]

    def summed(self, values: Tensor) -> Tensor:
        """Over all processes."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values


def phases(settings: Settings) -> Iterator[Phase]:
    """In their order."""
    if settings.heads_epochs:
        yield Phase("heads", 0, settings.heads_epochs, settings.heads_rate)
    if settings.epochs:
        last = settings.heads_epochs + settings.epochs
        yield Phase("all", settings.heads_epochs, last, settings.rate)


def loss_parts(
    out: dict[str, Tensor], batch: Batch, prior: Tensor, settings: Settings
) -> tuple[Tensor, Tensor]:
    """(3,) sums of the heads' losses over the faces that have the target, and (3,) how many have it."""
    known = batch.label >= 0
    adjusted = out["emotion"] + settings.adjustment * prior.log()
    emotion = functional.cross_entropy(
        adjusted[known], batch.label[known], label_smoothing=settings.smoothing, reduction="sum"
    )
    voted = batch.votes.sum(1) > 0
    target = batch.votes[voted] / batch.votes[voted].sum(1, keepdim=True)
    ferplus = functional.cross_entropy(out["ferplus"][voted], target, reduction="sum")
    measured = ~batch.valence_arousal.isnan().any(1)
    error = functional.mse_loss(
        out["valence_arousal"][measured], batch.valence_arousal[measured], reduction="sum"
    )
    weights = (settings.emotion_weight, settings.ferplus_weight, settings.valence_arousal_weight)
    sums = torch.stack([emotion, ferplus, error / 2]) * torch.tensor(weights, device=prior.device)
    return sums, torch.stack([known.sum(), voted.sum(), measured.sum()])


def train(
    folders: Sequence[Path], run_folder: Path, settings: Settings, start: Path | None = None
) -> FaceNetwork:
    """Train, or go on training, in the folder ``run_folder``.

    Args:
        folders: prepared corpora of faces, all of the architecture's input size.
        run_folder: gets settings, statistics, log and checkpoint; a run that was broken off is
            continued.
        settings: must be those of the run that is continued.
        start: folder of a finished run whose network is the first one of this run.

    Returns:
        The averaged network of the epoch that was best on Valid.

    Raises:
        ValueError: other settings than those of the run, faces of another size, no face to learn
            from or to choose on.
        FloatingPointError: the loss is not a number any more.
    """
    team = _team()
    data = LabelledFaces(folders)
    size = ARCHITECTURES[settings.architecture].size
    if data.size != size:
        raise ValueError(
            f"faces of {data.size} pixels, {settings.architecture} takes {size}; "
            f"prepare them with --size {size}"
        )
    rows, valid = data.train_rows(settings.synthetic_times), data.valid_rows()
    if len(rows) < settings.batch or not len(valid):
        raise ValueError(
            f"{len(rows)} faces to learn from and {len(valid)} to choose on: too few for batches of "
            f"{settings.batch}; prepare more, or lower --batch"
        )
    inputs = {"data": data.inputs, "start": None if start is None else _started(start)}
    run = Run(run_folder, settings, inputs, writes=team.rank == 0)
    measured = data.statistics() if start is None else _as_started(data.statistics(), start)
    if run.writes:
        write_whole(run_folder / "statistics.json", json.dumps(asdict(measured), indent=1) + "\n")

    torch.manual_seed(settings.seed)
    network = FaceNetwork(settings.architecture, dropout=settings.dropout)
    if start is not None:
        network.load_state_dict(load_network(start).state_dict())
    network = network.to(team.device).to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    saved = run.resume()
    best: State = saved.get("best", {"worth": -math.inf, "epoch": -1, "network": {}})
    if "network" in saved:
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
    for phase in phases(settings):
        first = max(phase.first, saved["epoch"])
        if first >= phase.last or _patience_ended(best, first, phase, settings):
            continue
        trainer = _Trainer(network, average, data, rows, measured, phase, settings, team)
        if first > phase.first:
            trainer.load_state_dict(saved)
        for epoch in range(first, phase.last):
            row = {"epoch": epoch, "phase": phase.name, **trainer.epoch(epoch)}
            stop = torch.zeros(1)
            if run.writes:
                figures = evaluate(average, data, valid, measured, settings)
                if figures["worth"] > best["worth"]:
                    kept = {k: v.cpu().clone() for k, v in average.state_dict().items()}
                    best = {"worth": figures["worth"], "epoch": epoch, "network": kept}
                run.log({**row, **figures})
                run.save(epoch + 1, {**trainer.state_dict(), "best": best})
                stop += _patience_ended(best, epoch + 1, phase, settings)
            if team.summed(stop) > 0:
                break
    run.close()
    if team.size > 1:
        distributed.barrier()
    return load_network(run_folder)


def _patience_ended(best: State, epoch: int, phase: Phase, settings: Settings) -> bool:
    """Whether a phase has had its patience of epochs without a better one."""
    return bool(epoch - 1 - max(best["epoch"], phase.first) >= settings.patience)


class _Trainer:
    """One phase's optimiser, and an epoch of it."""

    def __init__(
        self,
        network: FaceNetwork,
        average: FaceNetwork,
        data: LabelledFaces,
        rows: NDArray[np.int64],
        measured: Statistics,
        phase: Phase,
        settings: Settings,
        team: Team,
    ) -> None:
        self._network, self._average, self._data, self._rows = network, average, data, rows
        self._measured, self._phase, self._settings, self._team = measured, phase, settings, team
        self._prior = torch.tensor(measured.prior, device=team.device)
        self._dtype = torch.bfloat16 if _has_bfloat16(settings, team.device) else torch.float32
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(phase.name == "all" or name.split(".")[0] in HEADS)
        learnt = [parameter for parameter in network.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in learnt if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._steps = len(rows) // settings.batch
        epochs = phase.last - phase.first
        self._optimizer = torch.optim.AdamW(groups, lr=phase.rate)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, phase.rate, total_steps=epochs * self._steps,
            pct_start=min(0.5, settings.warmup_epochs / epochs),
            cycle_momentum=False, final_div_factor=1e3,
        )  # fmt: skip
        self._forward: nn.Module = network
        if team.size > 1:
            self._forward = DistributedDataParallel(network)

    def state_dict(self) -> State:
        """All that the next epoch needs."""
        return {
            "network": self._network.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def load_state_dict(self, saved: State) -> None:
        """Go on in the middle of the phase."""
        self._optimizer.load_state_dict(saved["optimizer"])
        self._schedule.load_state_dict(saved["schedule"])

    def epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch; the mean loss, and what faces and network cost.

        Everything random is seeded anew, so that a run which was broken off ends the same.
        """
        settings, team = self._settings, self._team
        seed = settings.seed * 10_000 + epoch
        torch.manual_seed(seed * 1_000 + team.rank)  # dropout
        generator = torch.Generator(team.device).manual_seed(seed * 1_000 + team.rank)
        order = np.random.default_rng(seed).permutation(self._rows)
        self._network.train()
        if self._phase.name == "heads":  # a frozen trunk keeps its batch norm, too
            for name, part in self._network.named_children():
                part.train(name in HEADS or name == "dropout")
        total = torch.zeros(())
        started_s = time.perf_counter()
        faces_cpu_s = network_cpu_s = 0.0
        for step in range(self._steps):
            begun_s = time.process_time()
            rows = team.mine(order[step * settings.batch : (step + 1) * settings.batch])
            batch = self._data.batch(rows).to(team.device)
            pixels = batch.faces[:, None].float() / 255
            if settings.augmentation:
                pixels = augment(pixels, generator)
            pixels = (pixels - self._measured.mean) / self._measured.std
            made_s = time.process_time()
            total += self._step(pixels, batch).cpu()
            faces_cpu_s += made_s - begun_s
            network_cpu_s += time.process_time() - made_s
            if not torch.isfinite(total):
                raise FloatingPointError(f"the loss is {total} in epoch {epoch}, step {step}")
        seconds = time.perf_counter() - started_s
        return {
            "loss": float(total) / self._steps,
            "seconds": round(seconds, 3),
            "faces_per_s": round(self._steps * settings.batch / seconds, 1),
            "faces_cpu_s": round(faces_cpu_s, 3),
            "network_cpu_s": round(network_cpu_s, 3),
        }

    def _step(self, pixels: Tensor, batch: Batch) -> Tensor:
        """One step of the optimiser; returns the loss over all processes."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        mixed = self._dtype == torch.bfloat16
        with torch.autocast(self._team.device.type, torch.bfloat16, enabled=mixed):
            out = self._forward(pixels)
        sums, counts = loss_parts(
            {name: value.float() for name, value in out.items()}, batch, self._prior, self._settings
        )
        counts = self._team.summed(counts.float()).clamp(min=1)
        # Gradients are averaged over the processes: the sum over all of them is wanted.
        error = (sums / counts).sum() * self._team.size
        self._optimizer.zero_grad()
        error.backward()
        self._optimizer.step()
        self._schedule.step()
        _update_average(self._average, self._network, self._settings.average_decay)
        return self._team.summed((sums.detach() / counts).sum())


def _team() -> Team:
    """One process alone, or several as ``torchrun`` has started it."""
    gpu = torch.cuda.is_available()
    if "WORLD_SIZE" not in os.environ:
        return Team(0, 1, torch.device("cuda" if gpu else "cpu"))
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if gpu else "gloo")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    return Team(distributed.get_rank(), distributed.get_world_size(), device)


def _has_bfloat16(settings: Settings, device: torch.device) -> bool:
    """Whether to compute in bfloat16: as asked, or where the processor does it fast."""
    if settings.precision not in ("auto", "bfloat16", "float32"):
        raise ValueError(
            f"precision: expected auto, bfloat16 or float32, got {settings.precision!r}"
        )
    if settings.precision != "auto":
        return settings.precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))


@torch.no_grad()
def _update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


@torch.no_grad()
def predict(network: FaceNetwork, faces: Tensor, measured: Statistics) -> dict[str, Tensor]:
    """The network's outputs for (N, S, S) uint8 faces, in float32 without augmentation."""
    network.eval()
    device = next(network.parameters()).device
    parts = [
        network((part.to(device)[:, None].float() / 255 - measured.mean) / measured.std)
        for part in torch.split(faces, 256)
    ]
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}


def evaluate(
    network: FaceNetwork,
    data: LabelledFaces,
    rows: NDArray[np.int64],
    measured: Statistics,
    settings: Settings,
) -> dict[str, Any]:
    """Accuracy, UAR and recalls, accuracy over eight classes, CCC, as far as there are targets.

    "worth" is what an epoch is chosen by: the mean of accuracy and UAR over the seven classes; if they
    are not learnt, the accuracy over the eight; if neither is, the mean CCC.
    "accuracy_by_eight" is that of the eight-class head read as seven: what a network pre-trained on
    other annotations is worth before it is transferred.
    """
    batch = data.batch(rows)
    out = {name: value.numpy() for name, value in predict(network, batch.faces, measured).items()}
    known = (batch.label >= 0).numpy()
    voted = (batch.votes.sum(1) > 0).numpy()
    rated = ~batch.valence_arousal.isnan().any(1).numpy()
    result: dict[str, Any] = {}
    worth: list[float] = []
    if known.any():
        label, guess = batch.label.numpy()[known], out["emotion"][known].argmax(1)
        recall = recalls(label, guess, len(LABELS))
        result["accuracy"], result["uar"] = accuracy(label, guess), float(np.nanmean(recall))
        named = zip(LABELS, recall, strict=True)
        result["recall"] = {name: round(float(r), 4) for name, r in named if np.isfinite(r)}
        result["accuracy_by_eight"] = accuracy(label, out["ferplus"][known][:, _SEVEN].argmax(1))
        worth += [(result["accuracy"] + result["uar"]) / 2] * (settings.emotion_weight > 0)
    if voted.any():
        label, guess = batch.votes.numpy()[voted].argmax(1), out["ferplus"][voted].argmax(1)
        result["ferplus_accuracy"] = accuracy(label, guess)
        worth += [result["ferplus_accuracy"]] * (settings.ferplus_weight > 0)
    if rated.any():
        target, guess = batch.valence_arousal.numpy()[rated], out["valence_arousal"][rated]
        result["ccc_valence"] = ccc(target[:, 0], guess[:, 0])
        result["ccc_arousal"] = ccc(target[:, 1], guess[:, 1])
        worth += [(result["ccc_valence"] + result["ccc_arousal"]) / 2]
    if not worth:
        raise ValueError("the faces to choose on have none of the targets that are learnt")
    return {**result, "worth": worth[0]}


def load_network(run: Path) -> FaceNetwork:
    """The averaged network of a run's best epoch."""
    saved = torch.load(run / "checkpoint.pt", weights_only=True, map_location="cpu")
    network = FaceNetwork(json.loads((run / "settings.json").read_text())["architecture"])
    network.load_state_dict(saved["best"]["network"])
    return network.eval()


def load_statistics(run: Path) -> Statistics:
    """Of the faces that a run has learnt from."""
    saved = json.loads((run / "statistics.json").read_text())
    return Statistics(saved["mean"], saved["std"], tuple(saved["prior"]))


def _started(start: Path) -> dict[str, Any]:
    """What identifies the run that this one starts from."""
    saved = torch.load(start / "checkpoint.pt", weights_only=True, map_location="cpu")
    return {"run": start.name, "epoch": saved["best"]["epoch"], "worth": saved["best"]["worth"]}


def _as_started(measured: Statistics, start: Path) -> Statistics:
    """Grey mean and spread as the network knows them, the classes' frequency of the new data."""
    known = load_statistics(start)
    return Statistics(known.mean, known.std, measured.prior)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--faces", type=Path, nargs="+", required=True, help="folders from training.prepare"
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of this run")
    parser.add_argument("--start", type=Path, help="folder of the run to start from")
    add_settings(parser, Settings)
    args = parser.parse_args()
    if args.architecture not in ARCHITECTURES:
        parser.error(f"--architecture: expected one of {', '.join(ARCHITECTURES)}")
    try:
        train(args.faces, args.run, settings_of(args, Settings), args.start)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
