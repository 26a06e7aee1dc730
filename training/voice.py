"""Train the voice network: a perceptron 1582-64-7 on openSMILE features [2.2].

    python -m training.voice --voices runs/voices.npz --run runs/voice

Both corpora are learnt together, standardised by the mean and spread of all utterances, which the
network carries with it as its first layer: the product cannot know which corpus a clip is like.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from occam_sdk.audio.features import FEATURE_COUNT
from occam_sdk.labels import LABELS

from .metrics import accuracy, recalls

LIMIT: Final = 3.0  # standardised features are cut there: one outlier must not decide
SMALLEST_STD: Final = 1e-9  # a feature that never changes is left as it is
RAVDESS_FOLDS: Final = 6  # four actors each
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result, besides the data."""

    hidden: int = 64
    epochs: int = 60
    batch: int = 64
    rate: float = 1e-3
    weight_decay: float = 0.1
    dropout_in: float = 0.5
    dropout: float = 0.5
    smoothing: float = 0.1
    mixup: float = 0.3
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Voices:
    """features (N, 1582) float32, label (N,) int64, corpus and speaker (N,) strings."""

    features: NDArray[np.float32]
    label: NDArray[np.int64]
    corpus: NDArray[np.str_]
    speaker: NDArray[np.str_]

    def __getitem__(self, mask: Mask) -> Voices:
        return Voices(self.features[mask], self.label[mask], self.corpus[mask], self.speaker[mask])


class VoiceNetwork(nn.Module):
    """Raw features (N, 1582) to logits (N, 7); standardisation is the first layer."""

    def __init__(self, mean: Tensor, std: Tensor, settings: Settings) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.layers = nn.Sequential(
            nn.Dropout(settings.dropout_in),
            nn.Linear(FEATURE_COUNT, settings.hidden),
            nn.BatchNorm1d(settings.hidden),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.hidden, len(LABELS)),
        )

    def standardise(self, features: Tensor) -> Tensor:
        """Zero mean, unit spread, cut at ``LIMIT``."""
        return ((features - self.mean) / self.std).clamp(-LIMIT, LIMIT)

    def forward(self, features: Tensor) -> Tensor:
        """(N, 1582) to (N, 7)."""
        logits: Tensor = self.layers(self.standardise(features))
        return logits


def load_voices(path: Path) -> Voices:
    """The file made by ``training.prepare_voices``."""
    with np.load(path, allow_pickle=False) as file:
        return Voices(*(file[name] for name in ("features", "label", "corpus", "speaker")))


def train(voices: Voices, settings: Settings) -> VoiceNetwork:
    """Train on all of ``voices``; classes weigh the same however frequent they are."""
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    features = torch.from_numpy(voices.features)
    std = features.double().std(0)
    std = torch.where(std > SMALLEST_STD, std, 1.0)
    network = VoiceNetwork(features.double().mean(0).float(), std.float(), settings)
    inputs = network.standardise(features)
    label = torch.from_numpy(voices.label)
    target = functional.one_hot(label, len(LABELS)).float()
    target = target * (1 - settings.smoothing) + settings.smoothing / len(LABELS)
    weight = (1 / torch.bincount(label, minlength=len(LABELS)).clamp(min=1).float())[label]
    optimizer = torch.optim.AdamW(
        network.parameters(), settings.rate, weight_decay=settings.weight_decay
    )
    steps = max(1, len(inputs) // settings.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * steps)
    for _ in range(settings.epochs):
        order = torch.randperm(len(inputs), generator=generator)
        for step in range(steps):
            rows = order[step * settings.batch : (step + 1) * settings.batch]
            other = rows[torch.randperm(len(rows), generator=generator)]
            part = torch.rand(len(rows), 1, generator=generator) * settings.mixup
            mixed = (1 - part) * inputs[rows] + part * inputs[other]
            wanted = (1 - part) * target[rows] + part * target[other]
            losses = functional.cross_entropy(network.layers(mixed), wanted, reduction="none")
            error = (losses * weight[rows]).sum() / weight[rows].sum()
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def speaker_folds(voices: Voices, corpus: str) -> Iterator[Mask]:
    """Held-out masks: RAVDESS in six folds of four actors, EMO-DB one speaker at a time."""
    speakers = sorted(set(voices.speaker[voices.corpus == corpus].tolist()))
    count = RAVDESS_FOLDS if corpus == "ravdess" else len(speakers)
    for group in np.array_split(np.array(speakers), count):
        yield (voices.corpus == corpus) & np.isin(voices.speaker, group)


Predictor = Callable[[VoiceNetwork, NDArray[np.float32]], NDArray[np.float32]]


@torch.no_grad()
def logits_of(network: VoiceNetwork, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 7) logits."""
    return np.asarray(network(torch.from_numpy(features)).numpy(), np.float32)


def cross_validate(
    voices: Voices, corpus: str, settings: Settings, predictor: Predictor = logits_of
) -> NDArray[np.float32]:
    """(N, 7) logits of the corpus's utterances, each by a network that never heard its speaker."""
    logits = np.full((len(voices.label), len(LABELS)), np.nan, np.float32)
    for held_out in speaker_folds(voices, corpus):
        network = train(voices[~held_out], settings)
        logits[held_out] = predictor(network, voices.features[held_out])
    return np.asarray(logits[voices.corpus == corpus], np.float32)


def cross_corpus(
    voices: Voices, settings: Settings
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Labels and logits of every corpus by a network that has only heard the others.

    Classes that the others lack are left out. This is how the network does on a recording that is
    like none of its training, and what its confidence is fitted to.
    """
    labels, logits = [], []
    for corpus in np.unique(voices.corpus):
        heard = voices[voices.corpus != corpus]
        known = (voices.corpus == corpus) & np.isin(voices.label, heard.label)
        labels.append(voices.label[known])
        logits.append(logits_of(train(heard, settings), voices.features[known]))
    return np.concatenate(labels), np.concatenate(logits)


def figures(label: NDArray[np.int64], logits: NDArray[np.float32]) -> dict[str, Any]:
    """Accuracy, UAR over the classes that occur, and each class's recall."""
    guess = logits.argmax(1)
    recall = recalls(label, guess, len(LABELS))
    named = {
        name: round(float(r), 4) for name, r in zip(LABELS, recall, strict=True) if np.isfinite(r)
    }
    return {"accuracy": accuracy(label, guess), "uar": float(np.nanmean(recall)), "recall": named}


def fit_temperature(label: NDArray[np.int64], logits: NDArray[np.float32]) -> float:
    """The temperature that makes the logits' softmax most likely (Guo et al. 2017)."""
    candidates = np.geomspace(0.25, 16, 200)
    target = torch.from_numpy(label)
    scaled = torch.from_numpy(logits)
    losses = [float(functional.cross_entropy(scaled / float(t), target)) for t in candidates]
    return float(candidates[int(np.argmin(losses))])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--voices", type=Path, required=True, help="from training.prepare_voices")
    parser.add_argument("--run", type=Path, required=True, help="folder of this run")
    args = parser.parse_args()
    args.run.mkdir(parents=True, exist_ok=True)
    voices, settings = load_voices(args.voices), Settings()
    report: dict[str, Any] = {"settings": asdict(settings)}
    for corpus in ("ravdess", "emodb"):
        label = voices.label[voices.corpus == corpus]
        report[corpus] = figures(label, cross_validate(voices, corpus, settings))
    report["cross_corpus"] = figures(*cross_corpus(voices, settings))
    network = train(voices, settings)
    torch.save(network.state_dict(), args.run / "voice.pt")
    (args.run / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
