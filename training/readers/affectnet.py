"""AffectNet (Mollahosseini et al. 2017): faces from the web, eight classes, valence and arousal.

Two layouts are published. The first has whole pictures and tables that say where the face is; the
second has crops, and for each of them files of one number.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from ..samples import Corpus, Sample, Split
from .build import EXTENSIONS, MALFORMED, ODD_RATING, Draft, joined, number, rows, valence_arousal

COLUMNS: Final = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height",
    "facial_landmarks", "expression", "valence", "arousal",
)  # fmt: skip
TABLES: Final[Mapping[str, Split]] = {"training.csv": "train", "validation.csv": "valid"}
SETS: Final[Mapping[str, Split]] = {"train_set": "train", "val_set": "valid"}
KINDS: Final = {"expression": "exp", "valence": "val", "arousal": "aro"}
UNKNOWN: Final = -2.0  # as valence or arousal
BOX: Final = ("face_x", "face_y", "face_width", "face_height")
NO_BOX: Final = ("", "NULL", "NaN")


def read_affectnet(root: Path) -> Corpus:
    """AffectNet's manually annotated part, in whichever of its layouts is there.

    Its eight classes are those of FER+, so every face has one vote; contempt has no label.
    None, uncertain and no face are lost, even where they have valence and arousal.
    """
    draft = Draft(
        "affectnet",
        "face",
        root,
        "Manually_Annotated_file_lists/training.csv with Manually_Annotated_Images/, "
        "or train_set/ and val_set/ with images/ and annotations/",
    )
    tables = {
        name: draft.locate(f"Manually_Annotated_file_lists/{name}") or draft.locate(name)
        for name in TABLES
    }
    if any(tables.values()):
        pictures = draft.locate("Manually_Annotated_Images") or draft.locate_or_raise(
            "*/Manually_Annotated_Images"
        )
        for name, table in tables.items():
            if table is None:
                draft.leave_out(name, "missing table")
            else:
                _read_table(draft, table, pictures, TABLES[name])
        return draft.corpus()
    sets = {name: draft.locate(f"{name}/annotations") for name in SETS}
    if not any(sets.values()):
        draft.locate_or_raise("Manually_Annotated_file_lists/training.csv")
    for name, folder in sets.items():
        if folder is None:
            draft.leave_out(f"{name}/annotations", "missing folder")
        else:
            _read_set(draft, folder, SETS[name])
    return draft.corpus()


def _read_table(draft: Draft, table: Path, pictures: Path, split: Split) -> None:
    for where, row in rows(table, COLUMNS):
        written = row.get("subdirectory_filepath", "")
        if not written or not row.get("expression"):
            draft.leave_out(where, MALFORMED)
            continue
        _add(draft, joined(pictures, written), split, row)


def _read_set(draft: Draft, annotations: Path, split: Split) -> None:
    names = {path.name for path in annotations.iterdir()}
    pictures = annotations.with_name("images")
    stems = {name.removesuffix("_exp.npy") for name in names if name.endswith("_exp.npy")}
    for stem in sorted(stems, key=lambda stem: (len(stem), stem)):
        path = pictures / f"{stem}.jpg"
        try:
            row = {
                column: str(np.load(annotations / name, allow_pickle=False).item())
                for column, kind in KINDS.items()
                if (name := f"{stem}_{kind}.npy") in names
            }
        except (OSError, ValueError, EOFError):
            draft.leave_out(path, "an annotation that NumPy cannot read")
            continue
        _add(draft, path, split, row)
    if pictures.is_dir():
        for path in sorted(pictures.iterdir()):
            if path.suffix.lower() in EXTENSIONS["face"] and path.stem not in stems:
                draft.leave_out(path, "no annotation")


def _add(draft: Draft, path: Path, split: Split, row: Mapping[str, str]) -> None:
    emotion = draft.classify("affectnet", row["expression"], path)
    if emotion is None:
        return
    try:
        rated = _rating(row.get("valence", ""), row.get("arousal", ""))
    except ValueError:
        draft.leave_out(path, ODD_RATING)
        return
    try:
        box_xyxy = _corners([row.get(name, "") for name in BOX])
    except ValueError:
        draft.leave_out(path, "the box is not four numbers with an area")
        return
    draft.add(
        Sample(
            path,
            split,
            label=emotion.label,
            votes=emotion.votes,
            valence_arousal=rated,
            box_xyxy=box_xyxy,
        )
    )


def _rating(valence: str, arousal: str) -> tuple[float, float] | None:
    if not valence and not arousal:
        return None
    if UNKNOWN in (number(valence), number(arousal)):
        return None
    return valence_arousal(valence, arousal)


def _corners(box: list[str]) -> tuple[float, float, float, float] | None:
    if any(text in NO_BOX for text in box):
        return None
    x, y, width, height = (number(text) for text in box)
    if width <= 0 or height <= 0:
        raise ValueError(f"expected a box with an area, got {width} x {height}")
    return x, y, x + width, y + height
