"""SFEW and AFEW (Dhall et al. 2011, 2012): frames and clips of films, as the EmotiW challenges had them.

Both are divided into folders that begin with Train, Val and Test, with a folder a class in each. Test
is flat and has no labels, unless somebody sorted it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from ..labelspaces import emotion
from ..samples import Corpus, Sample, Split
from .build import EXTENSIONS, Draft, files_below, folders_in

PREFIXES: Final[Mapping[str, Split]] = {"Train": "train", "Val": "valid", "Test": "test"}
_LAYOUT: Final = "folders that begin with Train, Val, Test, with Angry/, Disgust/ ... in each"


def read_sfew(root: Path) -> Corpus:
    """SFEW 2.0: frames of films, whole rather than cropped where both are there.

    A frame's subject is its film: "AboutABoy_000234280_00000019.png" is of "AboutABoy".
    """
    return _read(Draft("sfew", "face", root, _LAYOUT))


def read_afew(root: Path) -> Corpus:
    """AFEW 7.0 as in EmotiW 2018: clips of films; nothing says which film."""
    return _read(Draft("afew", "clip", root, _LAYOUT))


def _read(draft: Draft) -> Corpus:
    for split, folder in _partitions(draft):
        for path in files_below(folder, EXTENSIONS[draft.media]):
            where = path.relative_to(folder).parts
            label = None
            if len(where) > 1:
                its = draft.classify(draft.name, where[0], path)
                if its is None:
                    continue
                label = its.label
            elif split != "test":
                draft.leave_out(path, "not in a folder of a class")
                continue
            draft.add(Sample(path, split, subject=_film(path.stem), label=label))
    return draft.corpus()


def _partitions(draft: Draft) -> Iterator[tuple[Split, Path]]:
    bases = (draft.root, *folders_in(draft.root))
    base = next((base for base in bases if any(_copies(base, p) for p in PREFIXES)), None)
    if base is None:
        draft.locate_or_raise("Train*")
        return
    for prefix, split in PREFIXES.items():
        folder = _chosen(draft, base, prefix)
        if folder is None:
            draft.leave_out(prefix, "missing folder")
        else:
            yield split, folder


def _chosen(draft: Draft, base: Path, prefix: str) -> Path | None:
    """The folder with the files: through ones of the same name in one another, as archives nest them."""
    chosen = None
    while copies := _copies(base, prefix):
        chosen = base = copies[0]
        for other in copies[1:]:
            draft.leave_out(other, f"another copy: {chosen.name} is read")
        if any(
            path.suffix.lower() in EXTENSIONS[draft.media] or emotion(draft.name, path.name)
            for path in chosen.iterdir()
        ):
            break
    return chosen


def _copies(base: Path, prefix: str) -> list[Path]:
    """Folders that begin like this, whole frames before aligned faces."""
    found = [f for f in folders_in(base) if f.name.casefold().startswith(prefix.casefold())]
    return sorted(found, key=lambda folder: ("align" in folder.name.casefold(), folder.name))


def _film(stem: str) -> str | None:
    film = re.sub(r"(_\d+)+$", "", stem)
    return film if film != stem else None
