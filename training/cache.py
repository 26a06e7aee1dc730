"""A prepared corpus: a folder that ``training.prepare`` makes and every later stage reads.

``faces.npy`` holds the aligned faces of all samples one after another, ``voices.npy`` the voices'
features of all their pieces of sound, ``samples.npz`` a column for everything else, and ``report.json``
what was made of what. Nothing in it is a pickle.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from .samples import Media

REPORT: Final = "report.json"
SYNTHETIC: Final = frozenset({"diffusionfer"})
"""Corpora of pictures that no camera took: they are counted apart."""


@dataclass(frozen=True, eq=False)
class Samples:
    """A column for each thing that is known of N samples; see ``training.samples.Sample``.

    Attributes:
        corpus, path, split, subject: (N,) str; path is below the corpus's folder, subject is "" where
            nobody knows.
        label: (N,) int64 over ``LABELS``, -1 where there is none.
        votes: (N, 8) float32 over ``FERPLUS_LABELS``, zeros where there are none.
        valence_arousal: (N, 2) float32, NaN where there is none.
        digest: (N,) str, SHA-256 of what was seen or heard: equal for exact copies.
        found: (N,) bool, whether the detector found a face.
        faces, voices: (N,) int64, how many rows of ``faces.npy`` and ``voices.npy`` are its own.
    """

    corpus: NDArray[np.str_]
    path: NDArray[np.str_]
    split: NDArray[np.str_]
    subject: NDArray[np.str_]
    label: NDArray[np.int64]
    votes: NDArray[np.float32]
    valence_arousal: NDArray[np.float32]
    digest: NDArray[np.str_]
    found: NDArray[np.bool_]
    faces: NDArray[np.int64]
    voices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)

    @property
    def whose_voice(self) -> NDArray[np.int64]:
        """(V,) of each piece of sound, the row of its sample."""
        return np.repeat(np.arange(len(self)), self.voices)

    def __getitem__(self, rows: NDArray[Any]) -> Samples:
        return Samples(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class Cache:
    """A prepared corpus.

    Attributes:
        folder: where it lies.
        samples: N samples.
        faces: (F, S, S) uint8 grey, mapped from the file, not read; F is the sum of samples.faces.
        times_s: (F,) float64, when each face was seen; zeros for pictures.
        voices: (V, F) float32; V is the sum of samples.voices.
        report: size of the faces, what was left out and why, the data's hash.
    """

    folder: Path
    samples: Samples
    faces: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    voices: NDArray[np.float32]
    report: dict[str, Any]

    def must_hold(self, media: Media) -> None:
        """Raise ValueError if it is a corpus of something else."""
        if self.report["media"] != media:
            raise ValueError(f"{self.folder}: holds {self.report['media']}s, not {media}s")

    @property
    def sha256(self) -> str:
        """Of all that is in it."""
        return str(self.report["sha256"])


def load_cache(folder: Path) -> Cache:
    """Open a prepared corpus.

    Raises:
        FileNotFoundError: it was never prepared, or not to the end.
    """
    if not (folder / REPORT).is_file():
        raise FileNotFoundError(
            f"{folder}: no prepared corpus ({REPORT} is not there); "
            "make it, or finish it, with python -m training.prepare"
        )
    with np.load(folder / "samples.npz", allow_pickle=False) as file:
        columns = {name: file[name] for name in file.files}
    times_s = columns.pop("times_s")
    return Cache(
        folder,
        Samples(**columns),
        # Copy on write: PyTorch refuses arrays that cannot be written.
        np.load(folder / "faces.npy", mmap_mode="c", allow_pickle=False),
        times_s,
        np.load(folder / "voices.npy", allow_pickle=False),
        json.loads((folder / REPORT).read_text(encoding="utf-8")),
    )


def joined(caches: Sequence[Cache]) -> Samples:
    """The samples of several corpora, one after another."""
    return Samples(
        *(
            np.concatenate([getattr(cache.samples, field.name) for cache in caches])
            for field in fields(Samples)
        )
    )


def twins_across_splits(samples: Samples) -> NDArray[np.bool_]:
    """(N,) whether the very same pixels, or the same sound, are in another split as well."""
    splits: dict[str, set[str]] = {}
    for digest, split in zip(samples.digest.tolist(), samples.split.tolist(), strict=True):
        splits.setdefault(digest, set()).add(split)
    return np.array([len(splits[digest]) > 1 for digest in samples.digest.tolist()], np.bool_)


def contradicting_twins(samples: Samples) -> NDArray[np.bool_]:
    """(N,) whether exact copies of it carry another label: none of them can be trusted."""
    labels: dict[str, set[int]] = {}
    for digest, label in zip(samples.digest.tolist(), samples.label.tolist(), strict=True):
        labels.setdefault(digest, set()).add(label)
    return np.array(
        [len(labels[digest] - {-1}) > 1 for digest in samples.digest.tolist()], np.bool_
    )


class Pictures:
    """The faces of several caches as one array of rows, without reading them all into memory."""

    def __init__(self, caches: Sequence[Cache]) -> None:
        sizes = {cache.faces.shape[1:] for cache in caches if len(cache.faces)}
        if len(sizes) > 1:
            raise ValueError(
                f"faces of several sizes, {sorted(sizes)}, in "
                f"{', '.join(str(cache.folder) for cache in caches)}; prepare them with one --size"
            )
        self._parts = [cache.faces for cache in caches]
        self._ends = np.cumsum([len(part) for part in self._parts])
        height, width = next(iter(sizes), (0, 0))
        self.shape: tuple[int, int, int] = (int(self._ends[-1]), int(height), int(width))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(len(rows), S, S) uint8."""
        which = np.searchsorted(self._ends, rows, side="right")
        picked = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for number, part in enumerate(self._parts):
            mine = np.flatnonzero(which == number)
            if len(mine):
                picked[mine] = part[rows[mine] - self._ends[number] + len(part)]
        return picked


def sha256_of(*paths: Path) -> str:
    """Of the files' bytes, one after another."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def locked(folder: Path) -> IO[bytes]:
    """Hold a folder until the file that is returned is closed, or the process ends in any way.

    Raises:
        ValueError: another process holds it.
    """
    file = (folder / "lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ValueError(
            f"{folder}: another process works on it; wait for it, or name another folder"
        ) from error
    return file
