"""Labelled faces of one or more prepared corpora, as a trainer takes them: rows, targets, batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from occam_sdk.labels import LABELS

from .cache import (
    SYNTHETIC,
    Cache,
    Pictures,
    Samples,
    contradicting_twins,
    joined,
    load_cache,
    twins_across_splits,
)

STATISTICS_FACES: Final = 5_000  # grey mean and spread need no more of them
HELD_OUT: Final = 10  # every tenth training face of a corpus that has no validation part


@dataclass(frozen=True)
class Batch:
    """faces (N, S, S) uint8, label (N,) or -1, votes (N, 8) or zeros, valence-arousal (N, 2) or NaN."""

    faces: Tensor
    label: Tensor
    votes: Tensor
    valence_arousal: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Statistics:
    """Of the training faces: grey mean and spread in [0, 1], and how frequent each class is."""

    mean: float
    std: float
    prior: tuple[float, ...]


class LabelledFaces:
    """Faces of some caches, twins told apart.

    A face of which an exact copy is in another split is a twin and is not learnt from; exact copies
    with different labels have none.

    Args:
        folders: prepared corpora of faces of one size.

    Attributes:
        samples: a row for each face.
        twin, synthetic: (N,) bool.
        inputs: name and hash of each corpus, for a run's record.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        caches = [load_cache(folder) for folder in folders]
        for cache in caches:
            cache.must_hold("face")
        names = [cache.folder.name for cache in caches]
        if len(set(names)) < len(names):
            raise ValueError(f"two folders of one name among {', '.join(names)}; rename one")
        self._pictures = Pictures(caches)
        self.samples: Samples = joined(caches)
        self.twin = twins_across_splits(self.samples)
        self.synthetic = np.isin(self.samples.corpus, sorted(SYNTHETIC))
        label = np.where(contradicting_twins(self.samples), -1, self.samples.label)
        self._label = torch.from_numpy(label)
        self._votes = torch.from_numpy(self.samples.votes)
        self._valence_arousal = torch.from_numpy(self.samples.valence_arousal)
        self.inputs = {cache.folder.name: _fingerprint(cache) for cache in caches}
        self._known = (label >= 0) | (self.samples.votes.sum(1) > 0)
        self._known |= ~np.isnan(self.samples.valence_arousal).any(1)
        self._valid = self._choose_valid()

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def size(self) -> int:
        """Side of the faces in pixels."""
        return self._pictures.shape[1]

    @property
    def label(self) -> NDArray[np.int64]:
        """(N,) over ``LABELS``, -1 where there is none or copies contradict each other."""
        return self._label.numpy()

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """These rows, read from disk."""
        which = torch.from_numpy(rows)
        return Batch(
            torch.from_numpy(self._pictures[rows]),
            self._label[which],
            self._votes[which],
            self._valence_arousal[which],
        )

    def train_rows(self, synthetic_times: int = 1, *, taught: bool = False) -> NDArray[np.int64]:
        """Rows to learn from, synthetic ones so many times: no twins, and something is known.

        With ``taught``, faces of which nothing is known are among them, too, for teachers to label;
        pictures without labels in which no face was found are not.
        """
        train = (self.samples.split == "train") & ~self.twin & ~self._valid
        train &= self._known | (taught & self.samples.found)
        train &= ~np.isin(self.samples.digest, self.samples.digest[self._valid])
        synthetic = np.flatnonzero(train & self.synthetic)
        return np.concatenate([np.flatnonzero(train), *[synthetic] * (synthetic_times - 1)])

    def valid_rows(self) -> NDArray[np.int64]:
        """Photographs to choose on: Valid, and a tenth of each corpus that has no Valid."""
        return np.flatnonzero(self._valid)

    def test_rows(self, *, synthetic: bool = False) -> NDArray[np.int64]:
        """Photographs of Test, twins and all; or its synthetic pictures."""
        return np.flatnonzero((self.samples.split == "test") & (self.synthetic == synthetic))

    def statistics(self) -> Statistics:
        """Of the training faces alone."""
        rows = self.train_rows()
        some = rows[:: max(1, -(-len(rows) // STATISTICS_FACES))]
        grey = torch.from_numpy(self._pictures[some]).float() / 255
        label = self._label[torch.from_numpy(rows)]
        counts = torch.bincount(label[label >= 0], minlength=len(LABELS)).float() + 1e-3
        prior = (counts / counts.sum()).tolist()
        return Statistics(float(grey.mean()), float(grey.std()), tuple(prior))

    def _choose_valid(self) -> NDArray[np.bool_]:
        samples = self.samples
        valid = np.asarray((samples.split == "valid") & ~self.synthetic)
        divided = np.isin(samples.corpus, np.unique(samples.corpus[valid]))
        # By who it is, or else by the pixels, so that people and copies stay together.
        lot = [
            int(hashlib.sha256((who or digest).encode()).hexdigest()[:8], 16) % HELD_OUT == 0
            for who, digest in zip(samples.subject.tolist(), samples.digest.tolist(), strict=True)
        ]
        drawn = (samples.split == "train") & ~divided & ~self.synthetic & np.array(lot, np.bool_)
        drawn &= self._known
        return np.asarray(valid | drawn)


def _fingerprint(cache: Cache) -> dict[str, Any]:
    return {"sha256": cache.sha256, "size": cache.report["size"]}
