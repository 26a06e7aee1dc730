"""How many of FER2013's Test faces each package gets right, its own detection included."""

from __future__ import annotations

import csv
import io
import itertools
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from .compare_peers import OURS, Image, Judge

TABLE: Final = "fer2013_original_labels.csv"
COLUMNS: Final = {"split", "image", "fer2013_label", "rms"}
FOLDER: Final = "FER2013Test"
MAX_RMS: Final = 3.0  # as training.readers: a label that was matched by pixels less surely is none

ENLARGED: Final = 4  # times each side
BORDERS: Final = {"as they are": 0, "with a border": 12}
"""Pixels of the 48 x 48 picture's own edge that are put around it, by the form's name."""

Labelled = tuple[Image, str]


def read_faces(path: Path, limit: int) -> list[Labelled]:
    """Evenly spaced Test pictures of an archive in the FER+ layout, with FER2013's own labels.

    Raises:
        ValueError, zipfile.BadZipFile: it is no such archive.
    """
    with zipfile.ZipFile(path) as archive:
        names = {Path(name).parts[-2:]: name for name in archive.namelist()}
        table = next((name for parts, name in names.items() if parts[-1:] == (TABLE,)), None)
        if table is None:
            raise ValueError(f"{path}: has no {TABLE}; name the FER+ archive")
        rows = csv.DictReader(io.StringIO(archive.read(table).decode("utf-8-sig")))
        if not set(rows.fieldnames or ()) >= COLUMNS:
            raise ValueError(f"{path}: {TABLE}: expected the columns {', '.join(sorted(COLUMNS))}")
        labels = {
            names[FOLDER, row["image"]]: OURS[row["fer2013_label"]]
            for row in rows
            if (FOLDER, row["image"]) in names
            and row["split"] == FOLDER
            and row["fer2013_label"] in OURS
            and float(row["rms"]) < MAX_RMS
        }
        if not labels:
            raise ValueError(f"{path}: has no labelled picture in {FOLDER}/")
        sorted_names = sorted(labels)
        chosen = [sorted_names[place] for place in evenly(len(sorted_names), limit)]
        return [(_decoded(archive.read(name), name), labels[name]) for name in chosen]


def evenly(count: int, most: int | None) -> list[int]:
    """At most so many of ``count`` positions, evenly spaced.

    Example:
        >>> evenly(10, 4)
        [0, 3, 6, 9]
    """
    places = np.linspace(0, count - 1, min(most or count, count))
    return [round(place) for place in places.tolist()]


def _decoded(encoded: bytes, name: str) -> Image:
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{name}: is no picture; copy or download the archive again")
    return np.asarray(image, np.uint8)


def enlarged(image: Image, border: int) -> Image:
    """The picture with its edge drawn out by so many pixels, then four times as large."""
    wide = cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(wide, None, fx=ENLARGED, fy=ENLARGED), np.uint8)


def accuracies(
    judges: Mapping[str, Judge], faces: Sequence[Labelled]
) -> dict[str, dict[str, dict[str, float | None]]]:
    """By form and judge, the share that is right: of all, of those it finds, of those that all find."""
    truth = [label for _, label in faces]
    found = {}
    for form, border in BORDERS.items():
        images = [enlarged(image, border) for image, _ in faces]
        said = {name: [judge(image) for image in images] for name, judge in judges.items()}
        found[form] = shares(said, truth)
    return found


def shares(
    said: Mapping[str, Sequence[str | None]], truth: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """By judge, what is right of what it said of each picture; None is a face that it did not find."""
    by_all = [None not in row for row in zip(*said.values(), strict=True)]
    found: dict[str, dict[str, float | None]] = {}
    for name, labels in said.items():
        right = [one == other for one, other in zip(labels, truth, strict=True)]
        seen = [label is not None for label in labels]
        found[name] = {
            "accuracy": _share(right),
            "with_face": _share(seen),
            "accuracy_where_found": _share(list(itertools.compress(right, seen))),
            "accuracy_where_all_found": _share(list(itertools.compress(right, by_all))),
            "found_by_all": _share(by_all),
        }
    return found


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None
