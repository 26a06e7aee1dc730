"""What the readers share: a corpus under construction, and careful ways to read what users have."""

from __future__ import annotations

import codecs
import csv
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .. import labelspaces
from ..labelspaces import Emotion
from ..samples import Corpus, LeftOut, Media, Sample
from .report import reasons

EXTENSIONS: Final[dict[Media, tuple[str, ...]]] = {
    "face": (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"),
    "voice": (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aiff", ".wma"),
    "clip": (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v", ".wmv", ".flv"),
}
MISSING: Final = "missing"
MALFORMED: Final = "malformed row"
ODD_RATING: Final = "valence and arousal are not two numbers in -1..1"


@dataclass
class Draft:
    """A corpus under construction.

    Attributes:
        name: as in ``READERS``.
        media: what its samples are.
        root: the folder that the user named; what is left out is named relative to it.
        expected: the published layout in a few words, for error messages.
    """

    name: str
    media: Media
    root: Path
    expected: str
    _samples: list[Sample] = field(default_factory=list)
    _left_out: list[LeftOut] = field(default_factory=list)
    _lost: Counter[str] = field(default_factory=Counter)
    _names: dict[Path, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise FileNotFoundError(f"{self.root}: no such folder; {self._remedy}")

    @property
    def _remedy(self) -> str:
        return f"unpack the corpus there, expected is {self.expected}"

    def locate(self, name: str) -> Path | None:
        """What is called ``name`` (may hold slashes) in the root or in a folder of it, or None."""
        found = (
            path for pattern in (name, f"*/{name}") for path in sorted(self.root.glob(pattern))
        )
        return next(found, None)

    def locate_or_raise(self, name: str) -> Path:
        """The same for what there is no corpus without."""
        found = self.locate(name)
        if found is None:
            raise FileNotFoundError(f"{self.root}: no {name} in it; {self._remedy}")
        return found

    def classify(self, classes: str, code: str, what: Path | str) -> Emotion | None:
        """The class of ``what``; None, and taken down, if it is unknown or no class of ours."""
        found = labelspaces.emotion(classes, code)
        if found is None:
            self.leave_out(what, f"unknown class {code!r}")
            return None
        if found.ours is None or (found.label is None and self.media != "face"):
            self.lose(found.theirs)
            return None
        return found

    def add(self, sample: Sample) -> bool:
        """Keep a sample, if its file is there; says whether it is."""
        there = self._is_there(sample.path)
        if there:
            self._samples.append(sample)
        else:
            self.leave_out(sample.path, MISSING)
        return there

    def lose(self, what: str) -> None:
        """Count one of a class that has none here."""
        self._lost[what] += 1

    def leave_out(self, what: Path | str, reason: str) -> None:
        """Take down what cannot be used."""
        if isinstance(what, Path):
            inside = what.is_relative_to(self.root)
            what = (what.relative_to(self.root) if inside else what).as_posix()
        printable = what.encode("utf-8", "backslashreplace").decode()
        self._left_out.append(LeftOut(printable, reason))

    def _is_there(self, path: Path) -> bool:
        """Whether the file exists: one listing a folder, not one question a file."""
        folder = path.parent
        if folder not in self._names:
            try:
                with os.scandir(folder) as entries:
                    self._names[folder] = frozenset(entry.name for entry in entries)
            except (OSError, ValueError):  # no such folder; a path that cannot be one
                self._names[folder] = frozenset()
        return path.name in self._names[folder]

    def corpus(self) -> Corpus:
        """What was found; ValueError if that is nothing at all."""
        if not self._samples:
            why = "; ".join([*reasons(self._left_out), *(f"lost: {name}" for name in self._lost)])
            raise ValueError(
                f"{self.root}: no {self.media} in it ({why or 'empty'}); {self._remedy}"
            )
        return Corpus(
            self.name, self.media, tuple(self._samples), tuple(self._left_out), dict(self._lost)
        )


def folders_in(folder: Path) -> list[Path]:
    """Its folders by name, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _hidden(path.name))


def files_below(folder: Path, extensions: Sequence[str] | None = None) -> list[Path]:
    """All files at any depth, sorted; without hidden ones (macOS leaves ``._a.wav`` beside a.wav)."""
    found = []
    for here, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not _hidden(name)]
        found += [
            Path(here, name)
            for name in names
            if not _hidden(name) and (extensions is None or _extension(name) in extensions)
        ]
    return sorted(found)


def rows(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """A table's rows: where each stands ("labels.csv, line 7"), and its cells by column.

    Reads what Excel writes: a byte order mark, UTF-16, Windows-1252, semicolons or tabs, any line
    ending. Column names are in lower case; a cell that a row lacks is "". Empty rows are no rows.

    Args:
        path: the table.
        columns: what the columns are if the first row does not name them.
    """
    with path.open(encoding=_encoding(path), errors="replace", newline="") as file:
        head = file.readline()
        file.seek(0)
        delimiter = next((mark for mark in ",;\t" if mark in head), ",")
        reader = csv.reader(file, delimiter=delimiter)
        names: list[str] = []
        try:
            for line in reader:
                cells = [cell.strip() for cell in line]
                if not any(cells):
                    continue
                if not names:
                    names = [cell.casefold() for cell in cells]
                    if not columns or names[0] == columns[0].casefold():
                        continue
                    names = [name.casefold() for name in columns]
                cells += [""] * (len(names) - len(cells))
                yield f"{path.name}, line {reader.line_num}", dict(zip(names, cells, strict=False))
        except csv.Error as error:
            raise ValueError(f"{path}: no csv from line {reader.line_num}: {error}") from error


def number(text: str) -> float:
    """A finite number, with a point or a decimal comma; else ValueError."""
    value = float(text.replace(",", "."))
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {text!r}")
    return value


def valence_arousal(valence: str, arousal: str) -> tuple[float, float]:
    """Both in [-1, 1]; else ValueError."""
    pair = number(valence), number(arousal)
    if not all(-1 <= value <= 1 for value in pair):
        raise ValueError(f"expected valence and arousal in -1..1, got {pair}")
    return pair


def joined(folder: Path, written: str) -> Path:
    """A path as somebody wrote it, with slashes or backslashes, absolute or below ``folder``."""
    return folder / written.replace("\\", "/")


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _extension(name: str) -> str:
    return Path(name).suffix.lower()


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
    try:
        with path.open(encoding="utf-8-sig") as file:
            for _ in file:
                pass
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"
