"""A user's own data: a folder a class, a csv file, or pictures without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ..labelspaces import Emotion
from ..samples import Corpus, Media, Sample, Split
from .build import EXTENSIONS, ODD_RATING, Draft, files_below, joined, rows, valence_arousal

SPLITS: Final[Mapping[str, Split]] = {
    "train": "train", "training": "train",
    "valid": "valid", "val": "valid", "validation": "valid", "dev": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What people call them, in any case."""


def read_own(root: Path, media: Media) -> Corpus:
    """Own data: ``root`` is a folder (``read_folders``) or a csv file (``read_csv``)."""
    return read_folders(root, media) if root.is_dir() else read_csv(root, media)


def read_folders(root: Path, media: Media) -> Corpus:
    """``root/<class>/...`` or ``root/<train|valid|test>/<class>/...``; class names in any case.

    Classes are called as in ``labelspaces.CLASSES["own"]``. Faces have a vote each if contempt is
    among the classes. Whoever knows who is seen or heard writes a csv file instead.
    """
    draft = Draft(
        f"own_{media}s",
        media,
        root,
        "a folder a class (angry/, happy/, ...), in train/, valid/ and test/ or not, or a csv file",
    )
    found: list[tuple[Sample, Emotion]] = []
    for path in files_below(root):
        folders = path.relative_to(root).parts[:-1]
        split = SPLITS.get(folders[0].casefold()) if folders else None
        classes = folders if split is None else folders[1:]
        if path.suffix.lower() not in EXTENSIONS[media]:
            draft.leave_out(
                path, f"not a {media} by its extension ({', '.join(EXTENSIONS[media])})"
            )
        elif not classes:
            draft.leave_out(path, "not in a folder of a class")
        elif its := draft.classify("own", classes[0], path):
            found.append((Sample(path, split or "train", label=its.label), its))
    return _with_votes(draft, found)


def read_unlabelled(root: Path) -> Corpus:
    """Pictures of faces that nobody has labelled, anywhere below ``root``: for teachers to label."""
    draft = Draft("unlabelled_faces", "face", root, "pictures of faces, in any folders")
    for path in files_below(root):
        if path.suffix.lower() in EXTENSIONS["face"]:
            draft.add(Sample(path, "train"))
        else:
            draft.leave_out(path, f"not a face by its extension ({', '.join(EXTENSIONS['face'])})")
    return draft.corpus()


def read_csv(path: Path, media: Media) -> Corpus:
    """A csv file with the columns path, label, and, if known, split, subject, valence, arousal.

    Paths are relative to the file's folder, or absolute. A row needs a label, or valence and arousal
    in -1..1, or both. Without a split, it is "train".
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: missing; name a folder with a folder a class, or a csv file"
        )
    draft = Draft(f"own_{media}s", media, path.parent, "the files that the csv names")
    found: list[tuple[Sample, Emotion | None]] = []
    seen: set[Path] = set()
    columns: set[str] = set()
    for where, row in rows(path):
        if not columns:
            columns = set(row)
            _check_columns(path, columns)
        written = row["path"]
        if not written:
            draft.leave_out(where, "no path")
            continue
        file = joined(path.parent, written)
        if file in seen:
            draft.leave_out(written, "named twice; the first counts")
            continue
        seen.add(file)
        found += _row(draft, file, row)
    return _with_votes(draft, found)


def _check_columns(path: Path, columns: set[str]) -> None:
    if "path" not in columns or not ("label" in columns or {"valence", "arousal"} <= columns):
        raise ValueError(
            f"{path}: expected a first line that names the columns path and label (and split, "
            f"subject, valence, arousal if known), got {', '.join(sorted(columns))}"
        )


def _row(draft: Draft, file: Path, row: dict[str, str]) -> list[tuple[Sample, Emotion | None]]:
    """The row's sample, if it has one."""
    split = SPLITS.get(row.get("split", "").casefold() or "train")
    if split is None:
        draft.leave_out(file, f"unknown split {row['split']!r}: expected train, valid or test")
        return []
    rated = None
    if row.get("valence") or row.get("arousal"):
        try:
            rated = valence_arousal(row.get("valence", ""), row.get("arousal", ""))
        except ValueError:
            draft.leave_out(file, ODD_RATING)
            return []
    its = None
    if row.get("label"):
        its = draft.classify("own", row["label"], file)
        if its is None:
            return []
    elif rated is None:
        draft.leave_out(file, "neither a label nor valence and arousal")
        return []
    label = its.label if its else None
    sample = Sample(file, split, row.get("subject") or None, label, valence_arousal=rated)
    return [(sample, its)]


def _with_votes(draft: Draft, found: Sequence[tuple[Sample, Emotion | None]]) -> Corpus:
    """Whoever sorted out contempt looked at every other face with it in mind: all get their vote."""
    eight = any(its is not None and its.ours == "Contempt" for _, its in found)
    for sample, its in found:
        draft.add(replace(sample, votes=its.votes) if its and eight else sample)
    return draft.corpus()
