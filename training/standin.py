"""An AFEW-like stand-in: labelled clips put together from FER+ faces and RAVDESS voices.

    python -m training.standin --faces runs/ferplus --voices runs/ravdess --out runs/standin

AFEW is licensed and cannot be here, so the temporal heads and the fusion have nothing to run on. This
makes something of AFEW's shape (Table 1's number of clips of each class) out of real faces and real
voices. It is not AFEW, no figure on it says anything about AFEW, and every figure carries its name.

A clip is a few shots of one persona. A persona is a RAVDESS actor with some of the faces of FER+'s
*Valid* part, which the face network has not learnt from (it was chosen on them, though, and its
temperature is fitted to them); nobody's voice and no picture is in two splits. Some shots show the clip's
class, the others are neutral or off-label, as in a film. Each frame of a shot is the same picture, moved and
relit a little. The voice is an utterance of the clip's class.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from occam_sdk.labels import FERPLUS_LABELS, LABELS

from .cache import (
    REPORT,
    Cache,
    contradicting_twins,
    load_cache,
    locked,
    sha256_of,
    twins_across_splits,
    write_whole,
)
from .paper import TABLE1
from .runs import add_settings, settings_of

NAME: Final = "standin"
RATE_HZ: Final = 25.0
NEUTRAL: Final = LABELS.index("Neutral")


@dataclass(frozen=True)
class Settings:
    """Everything that decides the clips, besides faces and voices.

    Attributes:
        frames_least, frames_most: length of a clip.
        shot_least, shot_most: frames that show the same picture.
        on_label_least, on_label_most: the part of a clip's shots that shows its class.
        neutral: the part of the other shots that is neutral; the rest shows any class.
        valid_subjects, test_subjects: how many of the actors; the others are for training.
        seed: of everything.
    """

    frames_least: int = 20
    frames_most: int = 80
    shot_least: int = 4
    shot_most: int = 12
    on_label_least: float = 0.2
    on_label_most: float = 0.6
    neutral: float = 0.6
    valid_subjects: int = 6
    test_subjects: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("frames", "shot"):
            least, most = getattr(self, f"{name}_least"), getattr(self, f"{name}_most")
            if not 1 <= least <= most:
                raise ValueError(
                    f"{name}: expected 1 <= least <= most, got {least} and {most} frames"
                )


@dataclass(frozen=True, eq=False)
class Persona:
    """An actor's rows in the voices' cache, and the faces' rows that were dealt to them, by class."""

    name: str
    voices: tuple[NDArray[np.int64], ...]
    faces: tuple[NDArray[np.int64], ...]


def make(faces: Cache, voices: Cache, out: Path, settings: Settings) -> None:
    """Write the stand-in as a prepared corpus of clips into the folder ``out``.

    Raises:
        ValueError: too few faces or voices of a class, a cache of something else, or ``out`` holds
            other clips or is in use.
    """
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        _make(faces, voices, out, settings)


def _make(faces: Cache, voices: Cache, out: Path, settings: Settings) -> None:
    faces.must_hold("face")
    voices.must_hold("voice")
    plan = {
        "corpus": NAME, "media": "clip", "size": int(faces.report["size"]), **asdict(settings),
        "made_of": {cache.folder.name: cache.sha256 for cache in (faces, voices)},
    }  # fmt: skip
    if (out / REPORT).is_file():
        known = json.loads((out / REPORT).read_text())
        if any(known.get(key) != value for key, value in plan.items()):
            raise ValueError(f"{out}: holds other clips; name another folder or remove it")
        print(f"{out}: is there already")
        return
    rng = np.random.default_rng(settings.seed)
    cast = _cast(_personas(faces, voices, rng), settings, rng)
    clips = [
        (split, label, cast[split][number % len(cast[split])])
        for split, counts in TABLE1.items()
        for label, count in enumerate(counts)
        for number in range(count)
    ]
    # The i-th utterance of an actor and class, so that each is heard as rarely as may be.
    heard: Counter[tuple[str, int]] = Counter()
    lengths = rng.integers(settings.frames_least, settings.frames_most, len(clips), endpoint=True)
    pixels = np.lib.format.open_memmap(
        out / "faces.partial.npy", "w+", np.uint8, (int(lengths.sum()), *faces.faces.shape[1:])
    )
    spoken, first = [], 0
    voice_first = np.cumsum(voices.samples.voices) - voices.samples.voices
    for (_, label, persona), length in zip(clips, lengths.tolist(), strict=True):
        shots = _shots(label, persona, length, settings, rng)
        pixels[first : first + length] = _filmed(faces.faces, shots, rng)
        first += length
        choice = persona.voices[label]
        spoken.append(choice[heard[persona.name, label] % len(choice)])
        heard[persona.name, label] += 1
    pixels.flush()
    (out / "faces.partial.npy").replace(out / "faces.npy")
    np.save(out / "voices.npy", voices.voices[voice_first[np.array(spoken)]])
    count = len(clips)
    np.savez(
        out / "samples.npz",
        corpus=np.array([NAME] * count),
        path=np.array([f"{NAME}-{number:04d}" for number in range(count)]),
        split=np.array([split for split, _, _ in clips]),
        subject=np.array([persona.name for _, _, persona in clips]),
        label=np.array([label for _, label, _ in clips], np.int64),
        votes=np.zeros((count, len(FERPLUS_LABELS)), np.float32),
        valence_arousal=np.full((count, 2), np.nan, np.float32),
        digest=np.array([f"{NAME}-{number:04d}" for number in range(count)]),
        found=np.ones(count, np.bool_),
        faces=lengths.astype(np.int64),
        voices=np.ones(count, np.int64),
        times_s=np.concatenate([np.arange(length) / RATE_HZ for length in lengths.tolist()]),
    )
    report = {
        **plan, "used": count, "faces": first, "voices": count,
        "utterances": len(set(spoken)), "left_out": {}, "lost": {},
        "sha256": sha256_of(out / "faces.npy", out / "voices.npy", out / "samples.npz"),
    }  # fmt: skip
    write_whole(out / REPORT, json.dumps(report, indent=1) + "\n")
    print(f"{out}: {count} clips, {first} faces, {len(set(spoken))} different utterances")


def _personas(faces: Cache, voices: Cache, rng: np.random.Generator) -> list[Persona]:
    """Every actor, with faces dealt out in turn: each face to one of them, and of each class."""
    samples = faces.samples
    usable = (samples.split == "valid") & ~twins_across_splits(samples)
    # Of exact copies within Valid one is kept: dealt to two actors, it would be in two splits.
    only = np.zeros(len(samples), np.bool_)
    only[np.unique(samples.digest, return_index=True)[1]] = True
    usable &= only & ~contradicting_twins(samples)
    actors = sorted(set(voices.samples.subject.tolist()))
    dealt: dict[str, list[NDArray[np.int64]]] = {actor: [] for actor in actors}
    for label, name in enumerate(LABELS):
        rows = rng.permutation(np.flatnonzero(usable & (samples.label == label)))
        if len(rows) < len(actors):
            raise ValueError(
                f"{faces.folder}: {len(rows)} faces of {name} in its Valid part, "
                f"{len(actors)} are needed, one for each voice"
            )
        for number, actor in enumerate(actors):
            dealt[actor].append(rows[number :: len(actors)])
    spoken = (voices.samples.voices == 1) & (voices.samples.label >= 0)
    personas = []
    for actor in actors:
        own = [
            rng.permutation(
                np.flatnonzero(
                    spoken & (voices.samples.subject == actor) & (voices.samples.label == c)
                )
            )
            for c in range(len(LABELS))
        ]
        if missing := [LABELS[c] for c, rows in enumerate(own) if not len(rows)]:
            raise ValueError(f"{voices.folder}: {actor} never speaks {', '.join(missing)}")
        personas.append(Persona(actor, tuple(own), tuple(dealt[actor])))
    return personas


def _cast(
    personas: Sequence[Persona], settings: Settings, rng: np.random.Generator
) -> dict[str, list[Persona]]:
    """Who is in which split."""
    order = [personas[index] for index in rng.permutation(len(personas))]
    test = settings.test_subjects
    others = test + settings.valid_subjects
    if others >= len(order) or min(test, settings.valid_subjects) < 1:
        raise ValueError(
            f"{settings.valid_subjects} and {test} subjects to judge of {len(order)}: "
            "some must be left to learn from, and one at least for each split"
        )
    return {"test": order[:test], "valid": order[test:others], "train": order[others:]}


def _shots(
    label: int, persona: Persona, length: int, settings: Settings, rng: np.random.Generator
) -> NDArray[np.int64]:
    """(length,) the row of the face that each frame shows."""
    lengths: list[int] = []
    while sum(lengths) < length:
        lengths.append(int(rng.integers(settings.shot_least, settings.shot_most, endpoint=True)))
    share = rng.uniform(settings.on_label_least, settings.on_label_most)
    on_label = np.zeros(len(lengths), np.bool_)
    on_label[: max(1, round(share * len(lengths)))] = True
    rows = []
    for shown in rng.permutation(on_label).tolist():
        neutral = rng.random() < settings.neutral
        kind = label if shown else NEUTRAL if neutral else int(rng.integers(len(LABELS)))
        rows.append(rng.choice(persona.faces[kind]))
    return np.repeat(np.array(rows, np.int64), lengths)[:length]


def _filmed(
    faces: NDArray[np.uint8], rows: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """(T, S, S): each picture moved, turned and relit a little, as an aligned face is along a shot."""
    size = faces.shape[1]
    frames = np.empty((len(rows), size, size), np.uint8)
    for number, row in enumerate(rows.tolist()):
        centre = (size / 2, size / 2)
        angle, zoom = float(rng.normal(0, 3)), float(np.exp(rng.normal(0, 0.03)))
        turn = np.array(cv2.getRotationMatrix2D(centre, angle, zoom), np.float64)
        turn[:, 2] += rng.normal(0, 0.02 * size, 2)
        moved = cv2.warpAffine(faces[row], turn, (size, size), borderMode=cv2.BORDER_REPLICATE)
        light = moved * rng.normal(1, 0.05) + rng.normal(0, 5)
        frames[number] = np.clip(np.rint(light), 0, 255)
    return frames


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=Path, required=True, help="runs/ferplus")
    parser.add_argument("--voices", type=Path, required=True, help="runs/ravdess")
    parser.add_argument("--out", type=Path, required=True, help="folder of the stand-in")
    add_settings(parser, Settings)
    args = parser.parse_args()
    try:
        make(load_cache(args.faces), load_cache(args.voices), args.out, settings_of(args, Settings))
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
