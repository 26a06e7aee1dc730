"""What every corpus calls its classes, and which of ours each one is: the one place where it says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from occam_sdk.labels import FERPLUS_LABELS, LABELS


@dataclass(frozen=True)
class Emotion:
    """A class of a corpus.

    Attributes:
        theirs: the corpus's own name of it.
        ours: one of ``LABELS``, or "Contempt", or None where we have no such class.
    """

    theirs: str
    ours: str | None

    @property
    def label(self) -> int | None:
        """Index into ``LABELS``, or None (contempt is none of the seven).

        >>> emotion("affectnet", "1").label == LABELS.index("Happy")
        True
        """
        return LABELS.index(self.ours) if self.ours in LABELS else None

    @property
    def votes(self) -> tuple[float, ...] | None:
        """One-hot over ``FERPLUS_LABELS``, or None.

        Only for a corpus whose makers could choose contempt: elsewhere a zero there says nothing.
        """
        if self.ours is None:
            return None
        return tuple(float(name == self.ours) for name in FERPLUS_LABELS)


def emotion(corpus: str, code: str) -> Emotion | None:
    """The class that ``code`` stands for in ``corpus``, in any case; None if it stands for none."""
    return _BY_CODE[corpus].get(code.strip().casefold())


def _named(names: Mapping[str, str | None]) -> dict[str, Emotion]:
    """A corpus whose codes are its names."""
    return {name: Emotion(name, ours) for name, ours in names.items()}


_SAME_WORDS: Final[Mapping[str | None, tuple[str, ...]]] = {
    "Angry": ("angry", "anger", "ang"),
    "Disgust": ("disgust", "disgusted", "dis"),
    "Fear": ("fear", "fearful", "fea", "afraid", "scared"),
    "Happy": ("happy", "happiness", "hap", "joy", "joyful"),
    "Sad": ("sad", "sadness"),
    "Neutral": ("neutral", "neu"),
    "Surprise": ("surprise", "surprised", "sur"),
    "Contempt": ("contempt", "contemptuous"),
    None: ("calm", "bored", "boredom", "frustrated", "frustration", "fru"),
}

_FOLDERS: Final = _named({name: name for name in LABELS})

CLASSES: Final[Mapping[str, Mapping[str, Emotion]]] = {
    # Mollahosseini et al. 2017, readme of the corpus
    "affectnet": {
        "0": Emotion("neutral", "Neutral"),
        "1": Emotion("happy", "Happy"),
        "2": Emotion("sad", "Sad"),
        "3": Emotion("surprise", "Surprise"),
        "4": Emotion("fear", "Fear"),
        "5": Emotion("disgust", "Disgust"),
        "6": Emotion("anger", "Angry"),
        "7": Emotion("contempt", "Contempt"),
        "8": Emotion("none", None),
        "9": Emotion("uncertain", None),
        "10": Emotion("no face", None),
    },
    # Li et al. 2017, readme of the basic set
    "rafdb": {
        "1": Emotion("surprise", "Surprise"),
        "2": Emotion("fear", "Fear"),
        "3": Emotion("disgust", "Disgust"),
        "4": Emotion("happiness", "Happy"),
        "5": Emotion("sadness", "Sad"),
        "6": Emotion("anger", "Angry"),
        "7": Emotion("neutral", "Neutral"),
    },
    # Dhall et al. 2011 and 2012: the names of the folders
    "sfew": _FOLDERS,
    "afew": _FOLDERS,
    # Busso et al. 2008; excitement counts as happy, as in most work on the corpus
    "iemocap": {
        "ang": Emotion("anger", "Angry"),
        "dis": Emotion("disgust", "Disgust"),
        "exc": Emotion("excitement", "Happy"),
        "fea": Emotion("fear", "Fear"),
        "hap": Emotion("happiness", "Happy"),
        "neu": Emotion("neutral", "Neutral"),
        "sad": Emotion("sadness", "Sad"),
        "sur": Emotion("surprise", "Surprise"),
        "fru": Emotion("frustration", None),
        "oth": Emotion("other", None),
        "xxx": Emotion("no agreement", None),
    },
    # Goodfellow et al. 2013
    "fer2013": _named({name.lower(): name for name in LABELS}),
    # labels.csv of DiffusionFER-S; the names are its folders'
    "diffusionfer": {
        "0": Emotion("neutral", "Neutral"),
        "1": Emotion("happy", "Happy"),
        "2": Emotion("sad", "Sad"),
        "3": Emotion("surprise", "Surprise"),
        "4": Emotion("fear", "Fear"),
        "5": Emotion("disgust", "Disgust"),
        "6": Emotion("angry", "Angry"),
    },
    # Livingstone & Russo 2018, "File naming convention"
    "ravdess": {
        "01": Emotion("neutral", "Neutral"),
        "02": Emotion("calm", None),
        "03": Emotion("happy", "Happy"),
        "04": Emotion("sad", "Sad"),
        "05": Emotion("angry", "Angry"),
        "06": Emotion("fearful", "Fear"),
        "07": Emotion("disgust", "Disgust"),
        "08": Emotion("surprised", "Surprise"),
    },
    # Burkhardt et al. 2005: Wut, Langeweile, Ekel, Angst, Freude, Trauer, neutral
    "emodb": {
        "W": Emotion("anger", "Angry"),
        "L": Emotion("boredom", None),
        "E": Emotion("disgust", "Disgust"),
        "A": Emotion("fear", "Fear"),
        "F": Emotion("happiness", "Happy"),
        "T": Emotion("sadness", "Sad"),
        "N": Emotion("neutral", "Neutral"),
    },
    # a user's own folders and csv files
    "own": _named({word: ours for ours, words in _SAME_WORDS.items() for word in words}),
}
"""By corpus and code. Code as published; ``emotion`` finds it in any case."""

_BY_CODE: Final = {
    corpus: {code.casefold(): emotion for code, emotion in classes.items()}
    for corpus, classes in CLASSES.items()
}
