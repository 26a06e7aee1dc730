r"""Train the voice network: a perceptron 256-64-7 on a speaker encoder's states, or a forest [2.2].

    python -m training.voice --voices runs/ravdess runs/emodb --out runs/voice
    python -m training.voice --voices runs/ravdess runs/emodb --out runs/voice2 \
        --model mlp+forest --pretrain ravdess

All corpora are learnt together, standardised by the mean and spread of all utterances, which the
network carries with it as its first layer: the product cannot know which corpus a clip is like.
With ``--pretrain`` the perceptron learns that corpus first and is then fine-tuned on the others.

``Settings`` are those of the paper's perceptron 1582-64-7 on openSMILE features, which its tables are made
with; ``FOR_STATES`` are for a sixth of the features, which need less dropout.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from occam_sdk.labels import LABELS

from . import forest
from .cache import joined, load_cache
from .forest import ForestNetwork
from .metrics import accuracy, recalls
from .runs import Run

LIMIT: Final = 3.0  # standardised features are cut there: one outlier must not decide
SMALLEST_STD: Final = 1e-9  # a feature that never changes is left as it is
SMALLEST_SCORE: Final = 1e-30  # of which a logarithm is taken
FOLDS: Final = 6  # of a corpus with many speakers; four of RAVDESS's actors each
FEW_SPEAKERS: Final = 10  # up to so many, each is a fold of its own
Model = Literal["mlp", "forest", "mlp+forest"]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result, besides the data.

    Attributes:
        hidden: width of the hidden layer.
        epochs, batch, rate, weight_decay: of AdamW; the rate falls as a cosine.
        dropout_in, dropout: of the features, and between the layers.
        smoothing, mixup: of the labels; the largest part that another utterance is mixed in with.
        doubt: how much less is said of what lies far from all that was learnt, see ``VoiceNetwork``.
        seed: of weights, order and dropout.
    """

    hidden: int = 64
    epochs: int = 60
    batch: int = 64
    rate: float = 1e-3
    weight_decay: float = 0.1
    dropout_in: float = 0.5
    dropout: float = 0.5
    smoothing: float = 0.1
    mixup: float = 0.3
    doubt: float = 0.0
    seed: int = 0


FINE_TUNING: Final = Settings(epochs=40)
FOR_STATES: Final = Settings(epochs=30, rate=3e-3, dropout_in=0.2, dropout=0.0, doubt=0.45)


@dataclass(frozen=True, eq=False)
class Voices:
    """features (N, F) float32, label (N,) int64, corpus and speaker (N,) strings."""

    features: NDArray[np.float32]
    label: NDArray[np.int64]
    corpus: NDArray[np.str_]
    speaker: NDArray[np.str_]

    @property
    def sha256(self) -> str:
        """Of all that is in it."""
        digest = hashlib.sha256(self.features.tobytes())
        for column in (self.label, self.corpus, self.speaker):
            digest.update("\0".join(map(str, column.tolist())).encode())
        return digest.hexdigest()

    def __getitem__(self, mask: Mask) -> Voices:
        return Voices(self.features[mask], self.label[mask], self.corpus[mask], self.speaker[mask])


class VoiceNetwork(nn.Module):
    """Raw features (N, F) to logits (N, 7); standardisation is the first layer.

    A linear layer extrapolates as surely as it interpolates. If its weights are only known up to some
    variance, that of a logit grows with the square of what goes in, and the logits are to be divided by
    the root of one plus a multiple of that (MacKay 1992). Here it is ``doubt`` times the mean square of the
    standardised features, which is about 1 in the rooms and voices that were learnt from and ten times that
    in another studio. Which class is likeliest does not change.
    """

    def __init__(self, mean: Tensor, std: Tensor, settings: Settings) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.features = len(mean)
        self.architecture: str = f"mlp-{self.features}-{settings.hidden}-{len(LABELS)}"
        self.register_buffer("mean", mean)
        self.doubt: Tensor
        self.register_buffer("std", std)
        self.register_buffer("doubt", torch.tensor(settings.doubt))
        self._doubts = settings.doubt > 0
        self.layers = nn.Sequential(
            nn.Dropout(settings.dropout_in),
            nn.Linear(self.features, settings.hidden),
            nn.BatchNorm1d(settings.hidden),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.hidden, len(LABELS)),
        )

    def standardise(self, features: Tensor) -> Tensor:
        """Zero mean, unit spread, cut at ``LIMIT``."""
        return ((features - self.mean) / self.std).clamp(-LIMIT, LIMIT)

    def forward(self, features: Tensor) -> Tensor:
        """(N, F) to (N, 7)."""
        logits: Tensor = self.layers(self.standardise(features))
        if not self._doubts:
            return logits
        novelty = ((features - self.mean) / self.std).square().mean(1, keepdim=True)
        return logits / torch.sqrt(1 + self.doubt * novelty)


class MeanOfNetworks(nn.Module):
    """Raw features (N, F) to the logarithm of the members' mean scores (N, 7) [2.4]."""

    def __init__(self, members: Sequence[AnyVoice]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.features: int = members[0].features
        self.architecture: str = "mean of " + " and ".join(m.architecture for m in members)

    def forward(self, features: Tensor) -> Tensor:
        """(N, F) to (N, 7)."""
        scores = torch.stack([member(features).softmax(1) for member in self.members])
        return scores.mean(0).clamp(min=SMALLEST_SCORE).log()


AnyVoice = VoiceNetwork | ForestNetwork | MeanOfNetworks


def load_voices(folders: Sequence[Path]) -> Voices:
    """The labelled utterances of the Train part of corpora, each piece that the product would cut a row.

    A speaker whom nobody knows is a speaker of their own.

    Raises:
        FileNotFoundError: one of them was not prepared.
        ValueError: one of them has no labelled voice in its Train part, or other features.
    """
    caches = [load_cache(folder) for folder in folders]
    for cache in caches:
        if cache.voices.shape[1] != caches[0].voices.shape[1]:
            raise ValueError(
                f"{cache.folder}: has {cache.voices.shape[1]} features of a voice, {folders[0]} "
                f"{caches[0].voices.shape[1]}; prepare both with the same --voice-features"
            )
    samples = joined(caches)
    features = np.concatenate([cache.voices for cache in caches])
    whose = samples.whose_voice
    known = (samples.label[whose] >= 0) & (samples.split[whose] == "train")
    own = samples[whose[known]]
    for cache in caches:
        if cache.report["corpus"] not in own.corpus:
            raise ValueError(f"{cache.folder}: no labelled voice in its Train part to learn from")
    named = np.where(own.subject == "", np.char.add("?", whose[known].astype(str)), own.subject)
    return Voices(features[known], own.label, own.corpus, named)


def train(voices: Voices, settings: Settings, start: VoiceNetwork | None = None) -> VoiceNetwork:
    """Train on all of ``voices``; classes weigh the same however frequent they are.

    With ``start`` its layers are where training begins [2.2]. Mean and spread are those of ``voices``
    all the same: what the layers have learnt is about standardised features.
    """
    if not len(voices.label):
        raise ValueError("no voice to learn from")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # how many there are decides how sums are rounded
    try:
        return _train(voices, settings, start)
    finally:
        torch.set_num_threads(threads)


def _train(voices: Voices, settings: Settings, start: VoiceNetwork | None) -> VoiceNetwork:
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    features = torch.from_numpy(voices.features)
    std = features.double().std(0)
    std = torch.where(std > SMALLEST_STD, std, 1.0)
    network = VoiceNetwork(features.double().mean(0).float(), std.float(), settings)
    if start is not None:
        network.layers.load_state_dict(start.layers.state_dict())
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


@dataclass(frozen=True)
class Recipe:
    """How a model is made of voices; call it with them.

    Attributes:
        model: "mlp", "forest" or "mlp+forest", the mean of both.
        pretrain: the corpus that the perceptron learns first; the rest, and the forest, get the others.
            Without that corpus, or without any other, all that is there is learnt at once.
        mlp, fine_tuning: of the perceptron, at first and from pre-trained layers; both as wide.
    """

    model: Model = "mlp"
    pretrain: str | None = None
    mlp: Settings = FOR_STATES
    fine_tuning: Settings = FOR_STATES
    forest: forest.Settings = field(default_factory=forest.Settings)

    def with_seed(self, seed: int) -> Recipe:
        """The same with other first weights, order and bootstrap."""
        return replace(
            self,
            mlp=replace(self.mlp, seed=seed),
            fine_tuning=replace(self.fine_tuning, seed=seed),
            forest=replace(self.forest, random_state=seed),
        )

    def __call__(self, voices: Voices) -> AnyVoice:
        """Train on all of ``voices``."""
        first = voices.corpus == self.pretrain
        start = None
        if first.any() and not first.all():
            start = train(voices[first], self.mlp)
            voices = voices[~first]
        members: list[AnyVoice] = []
        if "mlp" in self.model:
            members.append(train(voices, self.mlp if start is None else self.fine_tuning, start))
        if "forest" in self.model:
            members.append(forest.train(voices.features, voices.label, self.forest))
        return members[0] if len(members) == 1 else MeanOfNetworks(members)


def save_voice(path: Path, model: AnyVoice, recipe: Recipe | None = None) -> None:
    """Write the model's tensors, of which kind it is, and how it was made."""
    torch.save({"model": _state(model), "recipe": asdict(recipe) if recipe else None}, path)


def load_voice(path: Path) -> AnyVoice:
    """The model that ``save_voice`` wrote, ready to judge."""
    return _model(torch.load(path, weights_only=True)["model"]).eval()


def load_recipe(path: Path) -> Recipe:
    """How the model that ``save_voice`` wrote was made."""
    saved = torch.load(path, weights_only=True)["recipe"]
    for name in ("mlp", "fine_tuning"):
        saved[name] = Settings(**saved[name])
    return Recipe(**{**saved, "forest": forest.Settings(**saved["forest"])})


def _state(model: nn.Module) -> dict[str, Any]:
    if isinstance(model, MeanOfNetworks):
        return {"kind": "mean", "members": [_state(member) for member in model.members]}
    kind = "forest" if isinstance(model, ForestNetwork) else "mlp"
    return {"kind": kind, "state": model.state_dict()}


def _model(saved: dict[str, Any]) -> AnyVoice:
    if saved["kind"] == "mean":
        return MeanOfNetworks([_model(member) for member in saved["members"]])
    state = saved["state"]
    if saved["kind"] == "forest":
        return ForestNetwork(**state)
    state = {"doubt": torch.tensor(0.0), **state}  # runs made before know none
    settings = Settings(hidden=len(state["layers.1.weight"]), doubt=float(state["doubt"]))
    network = VoiceNetwork(state["mean"], state["std"], settings)
    network.load_state_dict(state)
    return network


def speaker_folds(voices: Voices, corpus: str) -> Iterator[Mask]:
    """Held-out masks: one speaker at a time, or of many speakers six groups, as many in each."""
    speakers = sorted(set(voices.speaker[voices.corpus == corpus].tolist()))
    count = FOLDS if len(speakers) > FEW_SPEAKERS else len(speakers)
    for group in np.array_split(np.array(speakers), count):
        yield (voices.corpus == corpus) & np.isin(voices.speaker, group)


Trainer = Callable[[Voices], AnyVoice]
Predictor = Callable[[AnyVoice, NDArray[np.float32]], NDArray[np.float32]]


@torch.no_grad()
def logits_of(network: AnyVoice, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 7) logits."""
    return np.asarray(network(torch.from_numpy(features)).numpy(), np.float32)


def cross_validate(
    voices: Voices, corpus: str, trainer: Trainer, predictor: Predictor = logits_of
) -> NDArray[np.float32]:
    """(N, 7) logits of the corpus's utterances, each by a network that never heard its speaker."""
    logits = np.full((len(voices.label), len(LABELS)), np.nan, np.float32)
    for held_out in speaker_folds(voices, corpus):
        logits[held_out] = predictor(trainer(voices[~held_out]), voices.features[held_out])
    return np.asarray(logits[voices.corpus == corpus], np.float32)


def cross_corpus(
    voices: Voices, trainer: Trainer, predictor: Predictor = logits_of
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows of every corpus, and their logits by a network that has only heard the others.

    Classes that the others lack are left out. This is how the network does on a recording that is
    like none of its training, and what its confidence is fitted to.
    """
    rows, logits = [], []
    for corpus in np.unique(voices.corpus):
        heard = voices[voices.corpus != corpus]
        known = (voices.corpus == corpus) & np.isin(voices.label, heard.label)
        rows.append(np.flatnonzero(known))
        logits.append(predictor(trainer(heard), voices.features[known]))
    return np.concatenate(rows), np.concatenate(logits)


def figures(label: NDArray[np.int64], logits: NDArray[np.float32]) -> dict[str, Any]:
    """Accuracy, UAR over the classes that occur, and each class's recall."""
    guess = logits.argmax(1)
    recall = recalls(label, guess, len(LABELS))
    named = {
        name: round(float(r), 4) for name, r in zip(LABELS, recall, strict=True) if np.isfinite(r)
    }
    return {"accuracy": accuracy(label, guess), "uar": float(np.nanmean(recall)), "recall": named}


def fit_temperature(*groups: tuple[NDArray[np.int64], NDArray[np.float32]]) -> float:
    """The temperature that makes the logits' softmax most likely (Guo et al. 2017).

    Args:
        groups: labels (N,) and logits (N, 7) of each; they count the same however large they are.
    """
    candidates = np.geomspace(0.25, 16, 200)
    told = [(torch.from_numpy(label), torch.from_numpy(logits)) for label, logits in groups]
    losses = [
        np.mean([float(functional.cross_entropy(said / float(t), target)) for target, said in told])
        for t in candidates
    ]
    return float(candidates[int(np.argmin(losses))])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--voices", type=Path, nargs="+", required=True, help="from training.prepare"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    parser.add_argument(
        "--model", choices=get_args(Model), default="mlp", help="default: %(default)s"
    )
    parser.add_argument("--pretrain", metavar="CORPUS", help="learn it first, then the others")
    parser.add_argument("--seed", type=int, default=Settings.seed, help="default: %(default)s")
    args = parser.parse_args()
    try:
        voices = load_voices(args.voices)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    corpora = np.unique(voices.corpus).tolist()
    if args.pretrain not in (None, *corpora):
        parser.error(f"--pretrain: expected one of {', '.join(corpora)}, got {args.pretrain!r}")
    if args.pretrain is not None and len(corpora) < 2:
        parser.error("--pretrain: there is no other corpus to fine-tune on; add one to --voices")
    if args.pretrain is not None and args.model == "forest":
        parser.error("--pretrain: a forest cannot be fine-tuned; use --model mlp or mlp+forest")
    recipe = Recipe(args.model, args.pretrain).with_seed(args.seed)
    try:
        with Run(args.out, recipe, {"data": voices.sha256}) as run:
            report: dict[str, Any] = {"recipe": asdict(recipe)}
            for corpus in corpora:
                label = voices.label[voices.corpus == corpus]
                report[corpus] = figures(label, cross_validate(voices, corpus, recipe))
            if len(corpora) > 1:
                rows, logits = cross_corpus(voices, recipe)
                report["cross_corpus"] = figures(voices.label[rows], logits)
            save_voice(args.out / "voice.pt", recipe(voices), recipe)
            run.report(report)
    except (ImportError, OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
