"""Figures of any ensemble on a part of the clips, for every seed that was run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from occam_sdk.labels import LABELS

from . import experiments, paper
from .clips import Clips
from .ensemble import AUDIO, VISUAL, Mix, fuse, guesses, weight_of
from .metrics import recalls, spread, weighted_accuracy
from .report import Judged

DATA: Final = {
    "afew": "AFEW",
    "standin": "an AFEW-like stand-in (FER+ faces, RAVDESS voices): not AFEW",
}
KINDS: Final = (*VISUAL, *AUDIO)


@dataclass(frozen=True)
class Submission:
    """A row of Table 4: the models of either modality, and the weight of the visual one."""

    visual: str
    audio: str
    weight: str = "learned"
    way: str = "train"


TABLE4: Final = {
    "1": Submission("average", "tuned"),
    "2": Submission("average", "forest + tuned", weight="mean"),
    "3": Submission("average*2 + weighted*2", "forest + tuned"),
    "4": Submission("weighted*2", "tuned*2"),
    "5": Submission("average*2 + weighted*2", "tuned*2"),
    "6": Submission("average*50", "tuned*2"),
    "7": Submission("average*4", "tuned", way="both"),
}
"""Rows of Table 4. The paper names the weights of its first two submissions only."""


class Board:
    """Figures of any ensemble on a part of the clips, for every seed."""

    def __init__(self, clips: Clips, results: experiments.Results) -> None:
        self.clips, self.results = clips, results
        label, split = clips.samples.label, clips.samples.split
        self.rows = {
            "valid": np.flatnonzero((split == "valid") & (label >= 0)),
            "test": np.flatnonzero((split == "test") & (label >= 0)),
            "folds": np.flatnonzero(((split == "train") | (split == "valid")) & (label >= 0)),
        }
        known = label[(split == "train") & (label >= 0)]
        self._otherwise = int(np.bincount(known, minlength=len(LABELS)).argmax())

    def has(self, text: str, way: str = "train") -> bool:
        """Whether all members that an ensemble needs were trained in this way."""
        scores = self.results.scores
        return all(
            (way, kind) in scores and count <= scores[way, kind].shape[1]
            for kind, count in Mix.parse(text, KINDS).needed().items()
        )

    def scores(self, text: str, way: str = "train") -> NDArray[np.float32]:
        """(S, N, 7) of an ensemble of one modality."""
        mix = Mix.parse(text, KINDS)
        kinds = mix.needed()
        seeds = len(next(iter(self.results.scores.values())))
        return np.stack(
            [mix.scores({k: self.results.scores[way, k][s] for k in kinds}) for s in range(seeds)]
        )

    def can_fuse(self, row: Submission) -> bool:
        """Whether all members of a submission were trained."""
        row = self.with_what_there_is(row)
        return all(
            self.has(mix, way) for mix in (row.visual, row.audio) for way in ("train", row.way)
        )

    def with_what_there_is(self, row: Submission) -> Submission:
        """The same with the perceptron from scratch where no corpus was there to pre-train it on."""
        if ("train", "tuned") in self.results.scores:
            return row
        return replace(row, audio=row.audio.replace("tuned", "mlp"))

    def fused(self, row: Submission) -> tuple[NDArray[np.float32], list[float]]:
        """(S, N, 7) of a submission, and its visual weight for each seed, learned on Valid.

        One that has learnt from Valid takes the weight of the same models without: there is nothing
        left to choose on.
        """
        row = self.with_what_there_is(row)
        valid, label = self.rows["valid"], self.clips.samples.label
        weights = [
            weight_of(row.weight, face[valid], voice[valid], label[valid])
            for face, voice in zip(self.scores(row.visual), self.scores(row.audio), strict=True)
        ]
        both = zip(
            self.scores(row.visual, row.way), self.scores(row.audio, row.way), weights, strict=True
        )
        return np.stack([fuse(face, voice, weight) for face, voice, weight in both]), weights

    def guesses(self, scores: NDArray[np.float32], part: str) -> NDArray[np.int64]:
        """(S, M) classes of the clips of a part."""
        return guesses(scores[:, self.rows[part]], self._otherwise)

    def figure(self, scores: NDArray[np.float32], part: str, figure: Callable[..., float]) -> str:
        """Mean and std over seeds of a figure of labels and guesses, or "–" without such clips."""
        if not len(self.rows[part]):
            return "–"
        label = self.clips.samples.label[self.rows[part]]
        return str(spread([figure(label, guess) for guess in self.guesses(scores, part)]))

    def judged(self, name: str, scores: NDArray[np.float32], part: str) -> Judged:
        """For a confusion matrix."""
        label = self.clips.samples.label[self.rows[part]]
        return Judged(name, f"{part} of {data_of(self.clips)}", label, self.guesses(scores, part))


def weighted(label: NDArray[np.int64], guess: NDArray[np.int64]) -> float:
    """Accuracy as it would be with the class counts of AFEW's test set [2.5]."""
    return weighted_accuracy(recalls(label, guess, len(LABELS)), paper.TABLE1["test"])


def data_of(clips: Clips) -> str:
    """What clips are called wherever a figure of theirs is shown."""
    return DATA.get(clips.name, clips.name)


def known_subjects(clips: Clips, rows: NDArray[np.int64]) -> int:
    """How many people are known by name among these clips."""
    return len(set(clips.samples.subject[rows].tolist()) - {""})
