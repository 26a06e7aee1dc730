"""What every reader yields: typed samples, and a list of all that did not become one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Split = Literal["train", "valid", "test"]
Media = Literal["face", "voice", "clip"]


@dataclass(frozen=True)
class Sample:
    """One picture of a face, one utterance, or one clip, and what is known of it.

    Attributes:
        path: the file.
        split: as its makers divided the corpus; "train" where they did not.
        subject: who is seen or heard, so that nobody is both learnt from and judged; a film's name
            where only that is known; None where nothing is.
        label: index into ``LABELS``, or None.
        votes: counts over ``FERPLUS_LABELS`` (8 classes: the seven and contempt), or None.
        valence_arousal: in [-1, 1], positive = pleasant, excited; or None.
        box_xyxy: where in the picture the labelled face is, in pixels, or None.
    """

    path: Path
    split: Split
    subject: str | None = None
    label: int | None = None
    votes: tuple[float, ...] | None = None
    valence_arousal: tuple[float, float] | None = None
    box_xyxy: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class LeftOut:
    """A file or a row that cannot be used, by name, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class Corpus:
    """A data set as it was found.

    Attributes:
        name: as in ``training.readers.READERS``.
        media: what its samples are.
        samples: in the same order every time.
        left_out: what is missing, broken, or has a label nobody knows: every one by name.
        lost: how many samples of a known class have none in ``LABELS``: {"calm": 192}.
    """

    name: str
    media: Media
    samples: tuple[Sample, ...]
    left_out: tuple[LeftOut, ...] = ()
    lost: Mapping[str, int] = field(default_factory=dict)
