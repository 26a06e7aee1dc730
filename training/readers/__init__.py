"""Readers: what is on disk, as typed samples; what is missing or odd is named, never skipped.

Each takes the folder in which a corpus was unpacked, knows the layout in which it is published, and
opens no picture or sound: a broken one is found when it is prepared. FileNotFoundError or ValueError
where there is no such corpus at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from ..samples import Corpus
from .affectnet import read_affectnet
from .emotiw import read_afew, read_sfew
from .faces import read_diffusionfer, read_ferplus, read_rafdb
from .own import read_csv, read_folders, read_own, read_unlabelled
from .report import summary
from .voices import read_emodb, read_iemocap, read_ravdess

__all__ = [
    "READERS",
    "read_afew",
    "read_affectnet",
    "read_csv",
    "read_diffusionfer",
    "read_emodb",
    "read_ferplus",
    "read_folders",
    "read_iemocap",
    "read_own",
    "read_rafdb",
    "read_ravdess",
    "read_sfew",
    "read_unlabelled",
    "summary",
]

READERS: Final[Mapping[str, Callable[[Path], Corpus]]] = {
    "affectnet": read_affectnet,
    "rafdb": read_rafdb,
    "sfew": read_sfew,
    "ferplus": read_ferplus,
    "diffusionfer": read_diffusionfer,
    "afew": read_afew,
    "iemocap": read_iemocap,
    "ravdess": read_ravdess,
    "emodb": read_emodb,
    "own_faces": partial(read_own, media="face"),
    "own_voices": partial(read_own, media="voice"),
    "own_clips": partial(read_own, media="clip"),
    "unlabelled_faces": read_unlabelled,
}
"""By the corpus's name; "own" ones take a folder with a folder a class, or a csv file."""
