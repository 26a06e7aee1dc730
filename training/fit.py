"""One epoch of the face network: batches, loss, optimiser, in one process or in several [2.1]."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from .augment import augment
from .distil import Teacher, mean_scores, scores_loss
from .faces import Batch, LabelledFaces, Statistics
from .network import ARCHITECTURES, HEADS, FaceNetwork
from .optimiser import Optimiser

State = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result, besides the data.

    Attributes:
        architecture: a name of ``ARCHITECTURES``.
        size: side of the faces in pixels; 0 is that of the architecture.
        heads_epochs: epochs in which only the heads are fitted, before all else.
        heads_rate: highest learning rate of these.
        epochs, rate: of the whole network.
        batch: faces a step, over all processes together.
        warmup_epochs: until the rate is highest; then it falls to nearly nothing.
        weight_decay, dropout, smoothing: regularisation.
        adjustment: part of the log prior that is added to the seven classes' logits in training.
        augmentation: how much faces are jittered, turned, relit, cut out: 1 as ``augment`` says, 0 not
            at all. A network that is right of what it has learnt little more often than of Valid has
            been shown too little, and wants less of it.
        distillation: share of the teachers in the loss, 0 to 1: their scores as soft targets.
        synthetic_times: how often a synthetic face is shown each epoch.
        emotion_weight, ferplus_weight, valence_arousal_weight: of the heads' losses: seven classes,
            eight classes, regression. A head of weight 0 learns nothing and chooses nothing.
        average_decay: of the exponential average of the weights, which is what is kept.
        patience: epochs without a better Valid figure after which training stops early.
        precision: "bfloat16", "float32", or "auto": bfloat16 where the processor computes in it.
        seed: of weights, order, augmentation and dropout.
    """

    architecture: str = "resnet-lite"
    size: int = 0
    heads_epochs: int = 0
    heads_rate: float = 3e-3
    epochs: int = 40
    rate: float = 1.5e-3
    batch: int = 128
    warmup_epochs: int = 2
    weight_decay: float = 0.05
    dropout: float = 0.3
    smoothing: float = 0.1
    adjustment: float = 0.5
    augmentation: float = 1.0
    distillation: float = 0.0
    synthetic_times: int = 3
    emotion_weight: float = 1.0
    ferplus_weight: float = 1.0
    valence_arousal_weight: float = 1.0
    average_decay: float = 0.999
    patience: int = 15
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = [
            f"{name} of {getattr(self, name)}"
            for name, right in (
                ("architecture", self.architecture in ARCHITECTURES),
                ("size", self.size == 0 or self.size >= 32),
                ("precision", self.precision in ("auto", "bfloat16", "float32")),
                ("heads_epochs", self.heads_epochs >= 0),
                ("epochs", self.epochs >= 0 and self.epochs + self.heads_epochs > 0),
                ("batch", self.batch >= 2),
                ("warmup_epochs", self.warmup_epochs >= 0),
                ("rate", self.rate > 0),
                ("heads_rate", self.heads_rate > 0),
                ("dropout", 0 <= self.dropout < 1),
                ("smoothing", 0 <= self.smoothing < 1),
                ("augmentation", 0 <= self.augmentation <= 1),
                ("distillation", 0 <= self.distillation <= 1),
                ("average_decay", 0 <= self.average_decay < 1),
                ("synthetic_times", self.synthetic_times >= 1),
                ("patience", self.patience >= 1),
            )
            if not right
        ]
        if wrong:
            raise ValueError(f"cannot train with {', '.join(wrong)}")


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


class Trainer:
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
        teachers: Sequence[Teacher] = (),
    ) -> None:
        self._teachers = teachers
        self._network, self._average, self._data, self._rows = network, average, data, rows
        self._measured, self._phase, self._settings, self._team = measured, phase, settings, team
        self._prior = torch.tensor(measured.prior, device=team.device)
        self._dtype = torch.bfloat16 if has_bfloat16(settings, team.device) else torch.float32
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(phase.name == "all" or name.split(".")[0] in HEADS)
        self._steps = len(rows) // settings.batch
        epochs = phase.last - phase.first
        self._optimiser = Optimiser(
            network, phase.rate, epochs * self._steps, settings.warmup_epochs / epochs,
            settings.weight_decay,
        )  # fmt: skip
        self._forward: nn.Module = network
        if team.size > 1:
            self._forward = DistributedDataParallel(network)

    def state_dict(self) -> State:
        """All that the next epoch needs."""
        return {
            "network": self._network.state_dict(),
            "average": self._average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }

    def load_state_dict(self, saved: State) -> None:
        """Go on in the middle of the phase."""
        self._optimiser.load_state_dict(saved["optimiser"])

    def epoch(self, epoch: int) -> dict[str, Any]:
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
            pixels = augment(pixels, generator, settings.augmentation)
            made_s = time.process_time()
            done = (epoch - self._phase.first) * self._steps + step
            # Young averages follow quickly: the first weights, which are random, must not stay in them.
            decay = min(settings.average_decay, (1 + done) / (10 + done))
            total += self._step(pixels, batch, decay).cpu()
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
            "precision": str(self._dtype).removeprefix("torch."),
        }

    def _step(self, pixels: Tensor, batch: Batch, decay: float) -> Tensor:
        """One step of the optimiser and of the average; returns the loss over all processes."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        mixed = self._dtype == torch.bfloat16
        with torch.autocast(self._team.device.type, torch.bfloat16, enabled=mixed):
            out = self._forward((pixels - self._measured.mean) / self._measured.std)
        out = {name: value.float() for name, value in out.items()}
        sums, counts = loss_parts(out, batch, self._prior, self._settings)
        counts = self._team.summed(counts.float()).clamp(min=1)
        if self._teachers:
            own = 1 - self._settings.distillation
            sums = sums * torch.tensor((own, own, 1.0), device=sums.device)
        # Gradients are averaged over the processes: the sum over all of them is wanted.
        error = (sums / counts).sum() * self._team.size
        if self._teachers:
            with torch.autocast(self._team.device.type, torch.bfloat16, enabled=mixed):
                taught = mean_scores(self._teachers, pixels)
            error = error + self._settings.distillation * scores_loss(out, taught)
        self._optimiser.zero_grad()
        error.backward()
        self._optimiser.step()
        update_average(self._average, self._network, decay)
        return self._team.summed((sums.detach() / counts).sum())


def this_team() -> Team:
    """One process alone, or several as ``torchrun`` has started them."""
    gpu = torch.cuda.is_available()
    if "WORLD_SIZE" not in os.environ:
        return Team(0, 1, torch.device("cuda" if gpu else "cpu"))
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if gpu else "gloo")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    return Team(distributed.get_rank(), distributed.get_world_size(), device)


def has_bfloat16(settings: Settings, device: torch.device) -> bool:
    """Whether to compute in bfloat16: as asked, or where the processor does it fast."""
    if settings.precision != "auto":
        return settings.precision == "bfloat16"
    return is_fast_in_bfloat16(device)


def is_fast_in_bfloat16(device: torch.device) -> bool:
    """Whether a processor computes in bfloat16 itself, and does not only imitate it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the exponential average of the weights a little."""
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)
