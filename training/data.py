"""Readers: what is on disk, as typed samples. A file that is missing or odd is named, never skipped.

Every path below is relative to the data folder, laid out as its zip files unpack.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from occam_sdk.labels import FERPLUS_LABELS, LABELS

Split = str  # "train", "valid" or "test"

FERPLUS_FOLDERS: Final = {"FER2013Train": "train", "FER2013Valid": "valid", "FER2013Test": "test"}
FERPLUS_USAGE: Final = {
    "Training": "FER2013Train",
    "PublicTest": "FER2013Valid",
    "PrivateTest": "FER2013Test",
}
FER2013_TO_LABEL: Final = {
    "angry": "Angry", "disgust": "Disgust", "fear": "Fear", "happy": "Happy",
    "sad": "Sad", "neutral": "Neutral", "surprise": "Surprise",
}  # fmt: skip
MAX_RMS: Final = 3.0  # a face whose original label was matched by pixels less surely has none here
DIFFUSION_TO_LABEL: Final = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Angry")
RAVDESS_TO_LABEL: Final = {
    "01": "Neutral", "03": "Happy", "04": "Sad", "05": "Angry",
    "06": "Fear", "07": "Disgust", "08": "Surprise",
}  # fmt: skip
EMODB_TO_LABEL: Final = {
    "W": "Angry", "E": "Disgust", "A": "Fear", "F": "Happy", "T": "Sad", "N": "Neutral",
}  # fmt: skip


@dataclass(frozen=True)
class FaceSample:
    """A picture of one face and what is known of it.

    Attributes:
        path: the picture.
        split: "train", "valid" or "test".
        label: index into ``LABELS``, or None.
        votes: counts over ``FERPLUS_LABELS``, or None where the crowd saw none of the eight.
        valence_arousal: in [-1, 1], or None.
    """

    path: Path
    split: Split
    label: int | None = None
    votes: tuple[int, ...] | None = None
    valence_arousal: tuple[float, float] | None = None


@dataclass(frozen=True)
class VoiceSample:
    """An utterance: its file, the class as an index into ``LABELS``, the corpus and who speaks."""

    path: Path
    label: int
    corpus: str
    speaker: str


def read_ferplus(root: Path) -> Iterator[FaceSample]:
    """FER+ votes and FER2013's own labels of the same 35,710 faces, joined by the pictures' names.

    Args:
        root: the folder with ``fer2013new.csv``, ``fer2013_original_labels.csv`` and the pictures.
    """
    labels: dict[tuple[str, str], int] = {}
    for row in _rows(root / "fer2013_original_labels.csv"):
        if float(row["rms"]) < MAX_RMS:
            name = FER2013_TO_LABEL[row["fer2013_label"]]
            labels[row["split"], row["image"]] = LABELS.index(name)
    counts: dict[tuple[str, str], tuple[int, ...]] = {}
    contradicted: set[tuple[str, str]] = set()
    for row in _rows(root / "fer2013new.csv"):
        if not row["Image name"]:  # not a face: FER+ took the picture out
            continue
        key = FERPLUS_USAGE[row["Usage"]], row["Image name"]
        votes = tuple(int(value) for value in list(row.values())[2:])
        if counts.setdefault(key, votes) != votes:  # four names stand there twice
            contradicted.add(key)
    for key, votes in counts.items():
        emotions, others = votes[: len(FERPLUS_LABELS)], votes[len(FERPLUS_LABELS) :]
        yield FaceSample(
            path=_existing(root / key[0] / key[1]),
            split=FERPLUS_FOLDERS[key[0]],
            label=labels.get(key),
            votes=emotions if max(emotions) >= max(others) and key not in contradicted else None,
        )


def read_diffusionfer(root: Path) -> Iterator[FaceSample]:
    """DiffusionFER-S: synthetic faces with valence and arousal; every fifth picture is for testing.

    A label that disagrees with the picture's folder (about 190 do) is left out, the valence and
    arousal stay.
    """
    for number, row in enumerate(sorted(_rows(root / "labels.csv"), key=lambda row: row["path"])):
        name = DIFFUSION_TO_LABEL[int(row["expression"])]
        agrees = row["path"].split("/")[0] == name.lower()
        yield FaceSample(
            path=_existing(root / row["path"]),
            split="test" if number % 5 == 0 else "train",
            label=LABELS.index(name) if agrees else None,
            valence_arousal=(float(row["valence"]), float(row["arousal"])),
        )


def read_ravdess(root: Path) -> Iterator[VoiceSample]:
    """RAVDESS speech, 24 actors, without calm (no such class): 1,248 of 1,440 utterances."""
    for path in _listing(root, "*.flac"):
        emotion, actor = path.stem.split("-")[2], path.stem.split("-")[6]
        if emotion in RAVDESS_TO_LABEL:
            yield VoiceSample(path, LABELS.index(RAVDESS_TO_LABEL[emotion]), "ravdess", actor)


def read_emodb(root: Path) -> Iterator[VoiceSample]:
    """EMO-DB, 10 speakers, without boredom (no such class): 454 of 535 utterances; no surprise."""
    for path in _listing(root, "*.flac"):
        letter = path.stem[5]
        if letter in EMODB_TO_LABEL:
            yield VoiceSample(path, LABELS.index(EMODB_TO_LABEL[letter]), "emodb", path.stem[:2])


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with _existing(path).open(newline="") as file:
        yield from csv.DictReader(file)


def _listing(root: Path, pattern: str) -> list[Path]:
    paths = sorted(root.rglob(pattern))
    if not paths:
        raise FileNotFoundError(f"{root}: no {pattern} below it; unpack the corpus there")
    return paths


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing; unpack the data set there")
    return path
