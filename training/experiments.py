"""What Tables 3 and 4 need: every kind of member, for every seed, trained three ways [2.5].

A seed's members learn from Train ("train"), from Train and Valid ("both"), and by cross-validation over
both with nobody in two folds ("folds"); each time all clips are judged that were not learnt from. A seed
is written when it is done, so that a run which was killed goes on with the next.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from occam_sdk.labels import LABELS

from . import ensemble, voice
from .clips import Clips
from .metrics import folds_by_subject
from .runs import Run

Floats = NDArray[np.float32]
WAYS: Final = ("train", "both", "folds")


@dataclass(frozen=True)
class Settings:
    """What is run.

    Attributes:
        seeds: how often everything is trained; the paper has about 50.
        ensemble: heads of the largest ensemble of average and weighted pooling; 50 in the paper.
        folds: of the cross-validation over Train and Valid; 0 for none.
    """

    seeds: int = 10
    ensemble: int = 50
    folds: int = 5

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.ensemble < 1 or self.folds < 0 or self.folds == 1:
            raise ValueError(
                "expected 1 seed and a 1-head ensemble at least, and 2 folds or more, or 0 for none: "
                f"got {self.seeds}, {self.ensemble} and {self.folds}"
            )


@dataclass(frozen=True, eq=False)
class Results:
    """Scores of every seed.

    Attributes:
        scores: (S, k, N, 7) of all N clips under (way, kind); NaN where a clip shows or says nothing,
            and in "folds" outside of Train and Valid.
        seconds: what a seed took under (way, kind), mean over the seeds.
        kinds: those there are.
    """

    scores: Mapping[tuple[str, str], Floats]
    seconds: Mapping[tuple[str, str], float]
    kinds: Sequence[str]


def run(clips: Clips, first_corpus: voice.Voices | None, settings: Settings, out: Path) -> Results:
    """Train and judge what is not in the folder ``out`` yet.

    Args:
        clips: embedded, with a Train and a Valid part.
        first_corpus: utterances that the pre-trained perceptron learns first; None leaves it out.
        settings: how much.
        out: gets a file for each seed.

    Raises:
        ValueError: no labelled clip of Train or of Valid, none with a face or a voice, sound that is in
            ``first_corpus`` too, too few subjects for the folds, or ``out`` holds what was made of other
            data or in another way.
    """
    if not {"train", "valid"} <= set(clips.samples.split[clips.samples.label >= 0].tolist()):
        raise ValueError(
            f"{clips.name}: needs labelled clips of Train and of Valid to learn and to choose"
        )
    if not clips.chosen.any() and not clips.samples.voices.any():
        raise ValueError(f"{clips.name}: no clip shows a face or has a voice")
    ensemble.check_apart(clips, first_corpus)
    if settings.folds:
        _folds(clips, _labelled(clips), settings.folds, seed=0)  # or there are too few subjects
    members = ensemble.Settings()
    counts = _counts(clips, first_corpus, settings)
    inputs = {
        "data": clips.inputs,
        "first_corpus": None if first_corpus is None else first_corpus.sha256,
        "counts": counts,
        "folds": settings.folds,
    }
    files = [out / f"seed-{seed:03d}.npz" for seed in range(settings.seeds)]
    with Run(out, members, inputs):
        for seed, path in enumerate(files):
            if path.is_file():
                continue
            begun_s = time.perf_counter()
            partial = path.with_suffix(".partial.npz")
            of_seed = _seed(clips, first_corpus, counts, settings, members.with_seed(seed))
            np.savez(partial, **of_seed)
            partial.replace(path)
            print(f"seed {seed}: {time.perf_counter() - begun_s:.0f} s", flush=True)
    return _loaded(files)


def _counts(
    clips: Clips, first_corpus: voice.Voices | None, settings: Settings
) -> dict[str, dict[str, int]]:
    """How many members of each kind the tables need, for each way of training."""
    most = settings.ensemble
    counts = {
        "train": {
            "frames": 1, "average": most, "weighted": most, "lstm": 1, "mlp": 2, "tuned": 2, "forest": 1,
        },
        "both": {"average": min(4, most), "weighted": min(2, most), "tuned": 2, "forest": 1},
        "folds": {
            "frames": 1, "average": min(4, most), "weighted": min(4, most), "lstm": 1,
            "mlp": 1, "tuned": 1, "forest": 1,
        },
    }  # fmt: skip
    if first_corpus is None:
        counts["both"]["mlp"] = 2
    if not settings.folds:
        del counts["folds"]
    absent: set[str] = set()
    if not clips.chosen.any():
        absent |= set(ensemble.VISUAL)
    if not clips.samples.voices.any():
        absent |= set(ensemble.AUDIO)
    if first_corpus is None:
        absent |= {"tuned"}
    return {
        way: {kind: count for kind, count in of_way.items() if kind not in absent}
        for way, of_way in counts.items()
    }


def _seed(
    clips: Clips,
    first_corpus: voice.Voices | None,
    counts: Mapping[str, Mapping[str, int]],
    settings: Settings,
    members: ensemble.Settings,
) -> dict[str, Any]:
    train, both = np.flatnonzero(clips.samples.split == "train"), _labelled(clips)
    columns: dict[str, Any] = {}
    for way, rows in (("train", train), ("both", both)):
        for kind, count in counts[way].items():
            trained = ensemble.train(clips, rows, kind, count, members, first_corpus)
            columns[f"{way}/{kind}/scores"] = trained.scores
            columns[f"{way}/{kind}/seconds"] = np.array(trained.seconds)
    for kind, count in counts.get("folds", {}).items():
        judged = np.full((count, len(clips), len(LABELS)), np.nan, np.float32)
        seconds = 0.0
        for held in _folds(clips, both, settings.folds, members.temporal.seed):
            trained = ensemble.train(clips, both[~held], kind, count, members, first_corpus)
            judged[:, both[held]] = trained.scores[:, both[held]]
            seconds += trained.seconds
        columns[f"folds/{kind}/scores"] = judged
        columns[f"folds/{kind}/seconds"] = np.array(seconds)
    return columns


def _labelled(clips: Clips) -> NDArray[np.int64]:
    """Rows of Train and Valid that have a label."""
    part = (clips.samples.split == "train") | (clips.samples.split == "valid")
    return np.flatnonzero(part & (clips.samples.label >= 0))


def _folds(
    clips: Clips, rows: NDArray[np.int64], count: int, seed: int
) -> Iterator[NDArray[np.bool_]]:
    subject, label = clips.samples.subject[rows].tolist(), clips.samples.label[rows]
    return folds_by_subject(subject, label, count, seed)


def _loaded(files: Sequence[Path]) -> Results:
    seeds = []
    for path in files:
        with np.load(path, allow_pickle=False) as file:
            seeds.append({name: file[name] for name in file.files})
    names = [name.rsplit("/", 1)[0] for name in seeds[0] if name.endswith("/scores")]
    keys = [(name.split("/")[0], name.split("/")[1]) for name in names]
    scores, seconds = {}, {}
    for key, name in zip(keys, names, strict=True):
        scores[key] = np.stack([one[f"{name}/scores"] for one in seeds])
        seconds[key] = float(np.mean([one[f"{name}/seconds"] for one in seeds]))
    return Results(scores, seconds, sorted({kind for _, kind in keys}))
