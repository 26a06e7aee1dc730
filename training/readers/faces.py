"""Corpora of faces with an index file: RAF-DB, FER+ and DiffusionFER."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from occam_sdk.labels import FERPLUS_LABELS

from .. import labelspaces
from ..samples import Corpus, Sample, Split
from .build import (
    EXTENSIONS,
    MALFORMED,
    Draft,
    files_below,
    joined,
    number,
    rows,
    valence_arousal,
)

FERPLUS_FOLDERS: Final = {
    "Training": "FER2013Train",
    "PublicTest": "FER2013Valid",
    "PrivateTest": "FER2013Test",
}
FERPLUS_SPLITS: Final[Mapping[str, Split]] = {
    "FER2013Train": "train",
    "FER2013Valid": "valid",
    "FER2013Test": "test",
}
FERPLUS_ANSWERS: Final = len(FERPLUS_LABELS) + 2  # unknown, and not a face
MAX_RMS: Final = 3.0  # a face whose original label was matched by pixels less surely has none here
DIFFUSION_TEST_EVERY: Final = 5


def read_rafdb(root: Path) -> Corpus:
    """RAF-DB's basic set (Li et al. 2017): faces from the web, as its makers aligned them."""
    draft = Draft(
        "rafdb", "face", root, "basic/ with EmoLabel/list_patition_label.txt and Image/aligned/"
    )
    index = draft.locate_or_raise("EmoLabel/list_patition_label.txt")
    pictures = index.parents[1] / "Image" / "aligned"
    splits: Mapping[str, Split] = {"train": "train", "test": "test"}
    lines = index.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    for place, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        split = splits.get(words[0].partition("_")[0])
        if len(words) != 2 or split is None:
            draft.leave_out(f"{index.name}, line {place}", MALFORMED)
            continue
        path = pictures / f"{Path(words[0]).stem}_aligned.jpg"
        emotion = draft.classify("rafdb", words[1], path)
        if emotion is not None:
            draft.add(Sample(path, split, label=emotion.label))
    return draft.corpus()


_Key = tuple[str, str]  # folder and name of a picture


@dataclass
class _Votes:
    """FER+'s votes by picture, in the table's order."""

    counts: dict[_Key, tuple[int, ...]] = field(default_factory=dict)
    contradicted: set[_Key] = field(default_factory=set)


def read_ferplus(root: Path) -> Corpus:
    """FER+ votes (Barsoum et al. 2016) and FER2013's own labels, joined by the pictures' names.

    A face of which one of the two is not known is kept, and counted in ``lost``.

    Args:
        root: the folder with ``fer2013new.csv``, ``fer2013_original_labels.csv`` (columns split,
            image, fer2013_label, rms) and the pictures in ``FER2013Train`` and so on.
    """
    draft = Draft(
        "ferplus",
        "face",
        root,
        "fer2013new.csv, fer2013_original_labels.csv and the pictures in FER2013Train/, "
        "FER2013Valid/, FER2013Test/",
    )
    table = draft.locate_or_raise("fer2013new.csv")
    labels = _original_labels(draft, draft.locate_or_raise("fer2013_original_labels.csv"))
    votes = _crowd(draft, table)
    for key, counts in votes.counts.items():
        emotions, others = counts[: len(FERPLUS_LABELS)], counts[len(FERPLUS_LABELS) :]
        decided = max(emotions) >= max(others)
        sample = Sample(
            table.parent / key[0] / key[1],
            FERPLUS_SPLITS[key[0]],
            label=labels.get(key),
            votes=emotions if decided and key not in votes.contradicted else None,
        )
        if not draft.add(sample):
            continue
        if key in votes.contradicted:
            draft.lose("votes that contradict each other")
        elif not decided:
            draft.lose("crowd undecided (unknown or not a face)")
        if sample.label is None:
            draft.lose("original label not matched surely")
    return draft.corpus()


def _original_labels(draft: Draft, table: Path) -> dict[_Key, int | None]:
    labels: dict[_Key, int | None] = {}
    for where, row in rows(table):
        try:
            sure = number(row["rms"]) < MAX_RMS
            key, name = (row["split"], row["image"]), row["fer2013_label"]
        except (KeyError, ValueError):
            draft.leave_out(where, MALFORMED)
            continue
        emotion = draft.classify("fer2013", name, where) if sure else None
        if emotion is not None:
            labels[key] = emotion.label
    return labels


def _crowd(draft: Draft, table: Path) -> _Votes:
    found = _Votes()
    for where, row in rows(table):
        cells = list(row.values())
        try:
            key = FERPLUS_FOLDERS[row["usage"]], row["image name"]
            counts = tuple(int(cell) for cell in cells[2:])
        except (KeyError, ValueError):
            draft.leave_out(where, MALFORMED)
            continue
        if len(counts) != FERPLUS_ANSWERS:
            draft.leave_out(where, MALFORMED)
        elif not key[1]:
            draft.lose("not a face (FER+ took the picture out)")
        elif found.counts.setdefault(key, counts) != counts:  # four names stand there twice
            found.contradicted.add(key)
    return found


def read_diffusionfer(root: Path) -> Corpus:
    """DiffusionFER-S: synthetic faces with valence and arousal; every fifth picture is for testing.

    A label that disagrees with the picture's folder (about 190 do) is lost, the face stays for its
    valence and arousal.
    """
    draft = Draft("diffusionfer", "face", root, "labels.csv and the pictures in angry/, ...")
    table = draft.locate_or_raise("labels.csv")
    ordered = sorted(rows(table), key=lambda item: item[1].get("path", ""))
    for place, (where, row) in enumerate(ordered):
        try:
            written, emotion = row["path"], labelspaces.emotion("diffusionfer", row["expression"])
            rated = valence_arousal(row["valence"], row["arousal"])
        except (KeyError, ValueError):
            draft.leave_out(where, MALFORMED)
            continue
        if emotion is None:
            draft.leave_out(written, f"unknown class {row['expression']!r}")
            continue
        agrees = written.split("/")[0] == emotion.theirs
        sample = Sample(
            joined(table.parent, written),
            "test" if place % DIFFUSION_TEST_EVERY == 0 else "train",
            label=emotion.label if agrees else None,
            valence_arousal=rated,
        )
        if draft.add(sample) and not agrees:
            draft.lose("label that disagrees with its folder")
    listed = {joined(table.parent, row.get("path", "")) for _, row in ordered}
    for path in files_below(table.parent, EXTENSIONS["face"]):
        if path not in listed:
            draft.leave_out(path, f"not in {table.name}")
    return draft.corpus()
