r"""Train one row of Table 4 for shipping: heads, voice, and the weight between them [2.3, 2.4].

    python -m training.compose --clips runs/afew --network my-bundle --pretrain runs/iemocap \
        --visual "average*2 + weighted*2" --audio "forest + tuned" --weight learned --out runs/third

``python -m export.bundle --base my-bundle --composition runs/third`` makes a bundle of it. Everything is
learnt from Train; weight and temperatures are chosen on Valid; Test is judged once, at the end. An LSTM
cannot be shipped: by the paper's own figures it is not worth a second kind of head in the product.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from occam_sdk.bundle import DEFAULT_BUNDLE
from occam_sdk.labels import LABELS

from . import ensemble, temporal, voice
from .clips import Clips, load_clips
from .ensemble import AUDIO, Mix
from .metrics import accuracy, recalls, wilson
from .runs import Run, add_settings, settings_of

SHIPPED: Final = ("average", "weighted")
TEMPERATURES: Final = np.geomspace(0.05, 20, 121)
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """A row of Table 4 in one line.

    Attributes:
        visual: sum of average and weighted heads, as "average*2 + weighted*2".
        audio: sum of mlp, tuned (pre-trained), forest.
        weight: of the visual scores: "mean", "learned", or a number from 0 to 1.
        seed: of all that is random.

    Raises:
        ValueError: a mix that cannot be read or shipped, or no such weight.
    """

    visual: str = "average"
    audio: str = "mlp"
    weight: str = "learned"
    seed: int = 0

    def __post_init__(self) -> None:
        Mix.parse(self.visual, SHIPPED)
        Mix.parse(self.audio, AUDIO)
        ensemble.given_weight(self.weight)


@dataclass(frozen=True, eq=False)
class Composition:
    """What a row became.

    Attributes:
        heads: arrays of the bundle's ``heads.npz`` for k classifiers; see ``LinearHeads``.
        voice: one model for all of the voice's members.
        face_temperature, voice_temperature: that the logits of either are divided by.
        face_weight: of the visual scores in the fusion.
    """

    heads: dict[str, Any]
    voice: voice.AnyVoice
    face_temperature: float
    voice_temperature: float
    face_weight: float


def compose(
    clips: Clips, first_corpus: voice.Voices | None, settings: Settings
) -> tuple[Composition, Floats]:
    """Train the members and fit what lies between them.

    Args:
        clips: with Train and Valid parts, embedded by the network that will be shipped.
        first_corpus: what "tuned" learns first.
        settings: the row.

    Returns:
        The composition, and its fused scores (N, 7) of all clips.

    Raises:
        ValueError: nothing to learn from or to choose on, "tuned" without ``first_corpus``, or sound of
            the clips in it.
    """
    visual, audio = Mix.parse(settings.visual, SHIPPED), Mix.parse(settings.audio, AUDIO)
    members = ensemble.Settings().with_seed(settings.seed)
    split, label = clips.samples.split, clips.samples.label
    train, valid = (
        np.flatnonzero(split == "train"),
        np.flatnonzero((split == "valid") & (label >= 0)),
    )
    if not len(train) or not len(valid):
        raise ValueError(f"{clips.name}: needs labelled clips of Train and of Valid")
    ensemble.check_apart(clips, first_corpus)
    heads: list[temporal.PooledHeads] = []
    for kind, count in visual.needed().items():
        trained = temporal.train(clips, train, kind, count, members.temporal)  # type: ignore[arg-type]
        assert isinstance(trained, temporal.PooledHeads)
        heads.append(trained)
    speakers: list[voice.AnyVoice] = []
    for kind, count in audio.needed().items():
        models = ensemble.train(clips, train, kind, count, members, first_corpus).models
        speakers += [model for model in models if isinstance(model, voice.AnyVoice)]
    speaker = speakers[0] if len(speakers) == 1 else voice.MeanOfNetworks(speakers)

    def face_scores(temperature: float) -> Floats:
        parts = [
            temporal.scores_of(one, clips, np.arange(len(clips)), temperature) for one in heads
        ]
        return np.asarray(np.concatenate(parts).mean(0), np.float32)

    def voice_scores(temperature: float) -> Floats:
        return ensemble.voice_scores(speaker, clips, temperature)

    face_temperature = _likeliest(face_scores, valid, label)
    voice_temperature = _likeliest(voice_scores, valid, label)
    face, heard = face_scores(face_temperature), voice_scores(voice_temperature)
    weight = ensemble.weight_of(settings.weight, face[valid], heard[valid], label[valid])
    composition = Composition(_arrays(heads), speaker, face_temperature, voice_temperature, weight)
    return composition, ensemble.fuse(face, heard, weight)


def _likeliest(
    scores: Callable[[float], Floats], rows: NDArray[np.int64], label: NDArray[np.int64]
) -> float:
    """The temperature that makes the right classes of these clips most likely."""

    def likelihood(temperature: float) -> float:
        right = scores(temperature)[rows, label[rows]]
        return float(np.log(right[~np.isnan(right)] + 1e-9).mean())

    if np.isnan(scores(1.0)[rows]).all():
        raise ValueError("no clip of Valid has a face, or none a voice, to fit a temperature on")
    return float(max(TEMPERATURES.tolist(), key=likelihood))


def _arrays(heads: list[temporal.PooledHeads]) -> dict[str, Any]:
    """All heads as one ensemble; plain averaging is a frame weight of zero."""
    parts: dict[str, list[Any]] = {}
    for one in heads:
        count = len(one.emotion_bias)
        own = {
            "emotion_weight": one.emotion_weight,
            "emotion_bias": one.emotion_bias,
            "frame_weight": one.frame_weight if one.weighted else torch.zeros(count, 2),
            "frame_bias": one.frame_bias if one.weighted else torch.zeros(count),
        }
        for name, value in own.items():
            parts.setdefault(name, []).append(value.detach().numpy())
    arrays = {name: np.concatenate(values).astype(np.float32) for name, values in parts.items()}
    if not any(one.weighted for one in heads):
        del arrays["frame_weight"], arrays["frame_bias"]
    return arrays


def save(composition: Composition, run: Path) -> None:
    """Write ``heads.npz``, ``voice.pt`` and ``composition.json``; the last one comes last."""
    np.savez(run / "heads.npz", **composition.heads)
    voice.save_voice(run / "voice.pt", composition.voice)
    numbers = {
        "face_temperature": composition.face_temperature,
        "voice_temperature": composition.voice_temperature,
        "face_weight": composition.face_weight,
    }
    (run / "composition.json").write_text(json.dumps(numbers, indent=1) + "\n")


def load(run: Path) -> Composition:
    """What ``save`` wrote.

    Raises:
        FileNotFoundError: there is no finished composition in that folder.
    """
    if not (run / "composition.json").is_file():
        raise FileNotFoundError(f"{run}: no composition; make it with python -m training.compose")
    with np.load(run / "heads.npz", allow_pickle=False) as file:
        heads = {name: file[name] for name in file.files}
    numbers = json.loads((run / "composition.json").read_text())
    return Composition(heads, voice.load_voice(run / "voice.pt"), **numbers)


def figures(scores: Floats, label: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy with its 95 % Wilson interval and UAR; a clip without evidence counts as wrong."""
    guess = ensemble.guesses(scores, -1)
    right = accuracy(label, guess)
    return {
        "clips": len(label),
        "accuracy": right,
        "accuracy_95_wilson": wilson(right, len(label)),
        "uar": float(np.nanmean(recalls(label, guess, len(LABELS)))),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, required=True, help="prepared clips")
    parser.add_argument("--network", type=Path, default=DEFAULT_BUNDLE, help="bundle or run")
    parser.add_argument("--pretrain", type=Path, help="prepared voices for 'tuned'")
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    add_settings(parser, Settings)
    args = parser.parse_args()
    try:
        settings = settings_of(args, Settings)
        if args.pretrain is None and "tuned" in Mix.parse(settings.audio, AUDIO).needed():
            parser.error("'tuned' needs --pretrain: prepared voices that it learns first")
        clips = load_clips(args.clips, args.network)
        first = voice.load_voices([args.pretrain]) if args.pretrain is not None else None
        inputs = {"data": clips.inputs, "first_corpus": None if first is None else first.sha256}
        with Run(args.out, settings, inputs) as run:
            composition, scores = compose(clips, first, settings)
            save(composition, args.out)
            report: dict[str, Any] = json.loads((args.out / "composition.json").read_text())
            for part in ("valid", "test"):
                rows = (clips.samples.split == part) & (clips.samples.label >= 0)
                if rows.any():
                    report[part] = figures(scores[rows], clips.samples.label[rows])
            run.report(report)
    except (ImportError, OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
