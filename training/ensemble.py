"""Ensembles over models of either modality, and their late fusion [2.3, 2.4]: a row of Table 4 is a line.

    visual="average*2 + weighted*2" audio="forest + mlp" weight="learned"

Within a modality the scores of all members are averaged; the two modalities are weighed 1/2 to 1/2
("mean"), by a number, or by the weight that is right most often on Valid ("learned"; of several that
are, the one nearest to 1/2). Likelihood would be smoother, but it asks for scores that are calibrated.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from occam_sdk.labels import LABELS

from . import forest, temporal, voice
from .clips import Clips

VISUAL: Final = ("frames", *temporal.KINDS)
"""The mean of the frames' own scores, which learns nothing, and the temporal heads."""

AUDIO: Final = ("mlp", "tuned", "forest")
"""The perceptron from scratch, the one pre-trained on another corpus, the random forest."""

WEIGHTS: Final = np.linspace(0, 1, 21)
Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Mix:
    """An ensemble of one modality: kinds and how many of each, all counting the same."""

    members: tuple[tuple[str, int], ...]

    @staticmethod
    def parse(text: str, kinds: Sequence[str]) -> Mix:
        """Read "average*2 + weighted".

        Raises:
            ValueError: an unknown kind, or no sum of such terms.
        """
        members = []
        for term in text.split("+"):
            found = re.fullmatch(r"\s*(\w+)\s*(?:\*\s*([1-9]\d*)\s*)?", term)
            if found is None or found[1] not in kinds:
                raise ValueError(
                    f"{text!r}: expected a sum as 'a*2 + b' of {', '.join(kinds)}, got {term.strip()!r}"
                )
            members.append((found[1], int(found[2] or 1)))
        return Mix(tuple(members))

    def needed(self) -> dict[str, int]:
        """How many of each kind."""
        counts: dict[str, int] = {}
        for kind, count in self.members:
            counts[kind] = counts.get(kind, 0) + count
        return counts

    def scores(self, of: Mapping[str, Floats]) -> Floats:
        """(N, 7), the mean over the members, from (k, N, 7) scores of each kind."""
        parts = []
        for kind, count in self.needed().items():
            if len(of[kind]) < count:
                raise ValueError(f"{count} of {kind} are asked for, {len(of[kind])} are there")
            parts.append(of[kind][:count])
        return np.asarray(np.concatenate(parts).mean(0), np.float32)


@dataclass(frozen=True)
class Settings:
    """How the members of both modalities are trained."""

    temporal: temporal.Settings = field(default_factory=temporal.Settings)
    mlp: voice.Settings = field(default_factory=voice.Settings)
    tuned: voice.Settings = voice.FINE_TUNING
    forest: forest.Settings = field(default_factory=forest.Settings)

    def with_seed(self, seed: int) -> Settings:
        """The same with other first weights, order and bootstrap."""
        return Settings(
            replace(self.temporal, seed=seed),
            replace(self.mlp, seed=seed),
            replace(self.tuned, seed=seed),
            replace(self.forest, random_state=seed),
        )


@dataclass(frozen=True, eq=False)
class Trained:
    """Members of one kind: the models, their scores of all clips (k, N, 7), and the seconds it took."""

    models: Sequence[torch.nn.Module]
    scores: Floats
    seconds: float


def train(
    clips: Clips,
    rows: Rows,
    kind: str,
    count: int,
    settings: Settings,
    first_corpus: voice.Voices | None = None,
) -> Trained:
    """Train ``count`` members of a kind on the clips ``rows``; judge all clips.

    Args:
        clips: embedded clips with their voices' features.
        rows: clips to learn from; those without a label, or without a face or a voice, are passed by.
        kind: of ``VISUAL`` or ``AUDIO``.
        count: how many; members differ by their first weights, a forest's by its bootstrap.
        settings: with the seed.
        first_corpus: what "tuned" learns first.

    Raises:
        ValueError: an unknown kind; "tuned" without a corpus to learn first; nothing to learn from.
    """
    begun_s = time.perf_counter()
    everything = np.arange(len(clips))
    if kind == "frames":
        return Trained((), clips.frame_scores[None], 0.0)
    if kind in temporal.KINDS:
        heads = temporal.train(clips, rows, kind, count, settings.temporal)
        scores = temporal.scores_of(heads, clips, everything)
        return Trained((heads,), scores, time.perf_counter() - begun_s)
    if kind not in AUDIO:
        raise ValueError(f"kind: expected one of {', '.join((*VISUAL, *AUDIO))}, got {kind!r}")
    if kind == "tuned" and first_corpus is None:
        raise ValueError("tuned: there is no corpus to pre-train on; give one, or use 'mlp'")
    heard = voices_of(clips, rows)
    if not len(heard.label):
        raise ValueError(f"{clips.name}: no clip with a label and a voice to learn from")
    models: list[voice.AnyVoice] = []
    for number in range(count):
        own = settings.with_seed(settings.mlp.seed * 1_000 + number)
        if kind == "forest":
            models.append(forest.train(heard.features, heard.label, own.forest))
        elif kind == "mlp":
            models.append(voice.train(heard, own.mlp))
        else:
            assert first_corpus is not None
            start = voice.train(first_corpus, own.mlp)
            models.append(voice.train(heard, own.tuned, start))
    scores = np.stack([voice_scores(model, clips) for model in models])
    return Trained(models, scores, time.perf_counter() - begun_s)


def check_apart(clips: Clips, first_corpus: voice.Voices | None) -> None:
    """Raise ValueError if sound of the clips is in the corpus that is learnt first: it is judged later.

    Or if the two have other features.
    """
    if first_corpus is not None and first_corpus.features.shape[1] != clips.voices.shape[1]:
        raise ValueError(
            f"{clips.name}: has {clips.voices.shape[1]} features of a voice, the corpus to pre-train on "
            f"{first_corpus.features.shape[1]}; prepare both with the same --voice-features"
        )
    known = set() if first_corpus is None else {row.tobytes() for row in first_corpus.features}
    if shared := sum(row.tobytes() in known for row in clips.voices):
        raise ValueError(
            f"{clips.name}: {shared} of its pieces of sound are in the corpus to pre-train on as well; "
            "pre-train on another"
        )


def voices_of(clips: Clips, rows: Rows) -> voice.Voices:
    """The pieces of sound of the clips ``rows`` that have a label, each an utterance."""
    rows = rows[clips.samples.label[rows] >= 0]
    whose = clips.samples.whose_voice
    pieces = np.flatnonzero(np.isin(whose, rows))
    return voice.Voices(
        clips.voices[pieces],
        clips.samples.label[whose[pieces]],
        clips.samples.corpus[whose[pieces]],
        clips.samples.subject[whose[pieces]],
    )


def voice_scores(model: voice.AnyVoice, clips: Clips, temperature: float = 1.0) -> Floats:
    """(N, 7) mean of the scores of each clip's pieces of sound; NaN for a clip without."""
    with torch.no_grad():
        pieces = torch.softmax(model(torch.from_numpy(clips.voices)) / temperature, 1).numpy()
    whose = clips.samples.whose_voice
    total = np.zeros((len(clips), len(LABELS)))
    np.add.at(total, whose, pieces)
    count = np.where(clips.samples.voices > 0, clips.samples.voices, np.nan)
    return np.asarray(total / count[:, None], np.float32)


def fuse(visual: Floats, audio: Floats, weight: float) -> Floats:
    """(N, 7) ``weight * visual + (1 - weight) * audio``; the weight of what is missing goes over."""
    fused = np.float32(weight) * visual + np.float32(1 - weight) * audio
    fused = np.where(np.isnan(visual), audio, fused)
    return np.asarray(np.where(np.isnan(audio), visual, fused), np.float32)


def weight_of(asked: str, visual: Floats, audio: Floats, label: NDArray[np.int64]) -> float:
    """The visual modality's weight: "mean", "learned" on these clips, or a number from 0 to 1.

    Raises:
        ValueError: anything else.
    """
    known = given_weight(asked)
    if known is not None:
        return known
    both = ~np.isnan(visual).any(1) & ~np.isnan(audio).any(1) & (label >= 0)
    if not both.any():
        raise ValueError("weight: cannot be learned, no clip to choose on has a face and a voice")

    def worth(weight: float) -> tuple[int, float]:
        right = fuse(visual[both], audio[both], weight).argmax(1) == label[both]
        return int(right.sum()), -abs(weight - 0.5)

    return float(max(WEIGHTS.tolist(), key=worth))


def given_weight(asked: str) -> float | None:
    """The weight that "mean" or a number from 0 to 1 stands for; None for "learned".

    Raises:
        ValueError: anything else.
    """
    if asked in ("mean", "learned"):
        return 0.5 if asked == "mean" else None
    try:
        weight = float(asked)
    except ValueError:
        weight = -1.0
    if not 0 <= weight <= 1:
        raise ValueError(
            f"weight: expected 'mean', 'learned' or a number from 0 to 1, got {asked!r}"
        )
    return weight


def guesses(scores: Floats, otherwise: int) -> NDArray[np.int64]:
    """(N,) the class of the highest score; ``otherwise`` for a clip that shows and says nothing."""
    known = np.asarray(~np.isnan(scores).any(axis=-1))
    best = np.where(known[..., None], scores, 0).argmax(-1)
    return np.where(known, best, otherwise)
