"""What the paper reports: Tables 1 to 4 of Vielzeuf et al. 2018, as printed.

All figures are of AFEW, RAF and SFEW, which are not free to have: nothing measured on other data is
comparable with them but in its order. Accuracies are in percent; "–" in the paper is None here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

NONE: Final = "–"
"""What the paper prints where a figure is not known."""

TABLE1: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "train": (133, 74, 81, 150, 117, 144, 74),
        "valid": (64, 40, 46, 63, 61, 63, 46),
        "test": (99, 40, 70, 144, 80, 191, 29),
    }
)
"""AFEW: how many clips of each of ``LABELS`` a split has. Those of "test" weight the accuracy [2.5]."""


@dataclass(frozen=True)
class Still:
    """A row of Table 2: a model of single faces; multiply-adds and parameters in millions.

    ``flops_m`` and ``params_m`` are as printed: two of them are bounds (">2000").
    """

    name: str
    raf: float | None
    sfew: float | None
    afew: float | None
    flops_m: str | None
    params_m: str | None

    @property
    def cells(self) -> tuple[str, ...]:
        """The figures as printed."""
        accuracies = (None if a is None else f"{a:g}" for a in (self.raf, self.sfew, self.afew))
        return tuple(cell or NONE for cell in (*accuracies, self.flops_m, self.params_m))


@dataclass(frozen=True)
class Modality:
    """A row of Table 3: a model of the face or the voice, on AFEW's validation set.

    ``cited`` is True for the two results of other papers. "(x)" in a name is an ensemble of x.
    """

    modality: Literal["Visual", "Audio"]
    name: str
    accuracy: float
    weighted_accuracy: float | None
    cited: bool = False

    @property
    def cells(self) -> tuple[str, ...]:
        """The figures as printed."""
        weighted = NONE if self.weighted_accuracy is None else f"{self.weighted_accuracy:.1f}"
        return f"{self.accuracy:.1f}", weighted


@dataclass(frozen=True)
class Submission:
    """A row of Table 4: a submission to EmotiW 2018; weighted accuracy on Val, accuracy on Test."""

    number: int
    visual: str
    audio: str
    weighted_valid: float
    test: float

    @property
    def cells(self) -> tuple[str, ...]:
        """The figures as printed."""
        return f"{self.weighted_valid:.1f}", f"{self.test:.1f}"


TABLE2: Final = (
    Still("CNN Ensemble [33]", None, 55.96, None, ">2000", ">500"),
    Still("HoloNet [19]", None, None, 46.5, "75", None),
    Still("Cov. Pooling [2]", 85.4, 58.14, 46.71, "1600", "7.5"),
    Still("Transfer VGG [31]", None, 45.2, 41.4, "1550", "138"),
    Still("Our (image)", 80, 55.8, 49.4, "180", "2"),
)

TABLE3: Final = (
    Modality("Visual", "no feat. aggregation", 49.4, 55.6),
    Modality("Visual", "av. pool. (1)", 49.7, 60.5),
    Modality("Visual", "av. pool. (4)", 50.4, 61.2),
    Modality("Visual", "av. pool. (50)", 52.2, 61.7),
    Modality("Visual", "weig. av. pool (1)", 50.2, 61.1),
    Modality("Visual", "weig. av. pool (4)", 50.3, 61.5),
    Modality("Visual", "av. pool (2) + weig. av. pool (2)", 50.1, 62.0),
    Modality("Visual", "LSTM 128 hidden units", 49.5, 58.2),
    Modality("Visual", "VGG-LSTM [31]", 48.6, None, cited=True),
    Modality("Visual", "FR-Net-B [22]", 53.5, None, cited=True),
    Modality("Audio", "MLP", 33.5, 42.1),
    Modality("Audio", "MLP (pre-trained)", 35.0, 45.2),
    Modality("Audio", "Random Forest", 38.8, 44.3),
)

TABLE4: Final = (
    Submission(1, "av. pool. (1)", "MLP (1)", 62.1, 57.2),
    Submission(2, "av. pool. (1)", "RF (1) +MLP (1)", 62.4, 58.6),
    Submission(3, "av. pool. (2) + weig. av. pool.(2)", "RF (1) +MLP (1)", 62.7, 60.6),
    Submission(4, "weig. av. pool. (2)", "MLP (2)", 63.5, 59.4),
    Submission(5, "av. pool. (2) + weig. av. pool.(2)", "MLP (2)", 63.0, 60.4),
    Submission(6, "av. pool. (50)", "MLP (2)", 63.6, 59.4),
    Submission(7, "av. pool. (4)", "MLP (1)", 72.4, 60.5),
)

CAPTIONS: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: "AFEW dataset: number of video sequences per class.",
        2: "Accuracy of different models for facial expression classification.",
        3: "Accuracy for visual and audio modalities and for state-of-the-art visual models.",
        4: "The seven submissions to the 2018 Emotion in the Wild challenge.",
    }
)
"""What a table shows, after the paper's own caption, by the table's number."""

COLUMNS: Final[Mapping[int, tuple[str, ...]]] = MappingProxyType(
    {
        1: ("An.", "Di.", "Fe.", "Ha.", "Sa.", "Ne.", "Su.", "All"),
        2: ("RAF", "SFEW", "AFEW", "FLOP", "Param"),
        3: ("Accuracy", "Weig. Acc."),
        4: ("Weigh. Val", "Test"),
    }
)
"""Heads of a table's columns of figures, by the table's number."""

NOTES: Final[Mapping[int, tuple[str, ...]]] = MappingProxyType(
    {
        1: (),
        2: (
            "Accuracy in percent; FLOP and Param in millions.",
            "The paper's std is around 0.5 % for its own model [3.1].",
        ),
        3: (
            "Weig. Acc.: weighted by the class counts of AFEW's test set [2.5].",
            "The paper's std is on average around 0.6 % for visual models, 0.5 % and 0.4 % for the "
            "weighted accuracy of av. pool. and weig. av. pool. [3.2].",
            "The paper's std is 1.5 % for the MLP from scratch, 0.8 % for the pre-trained one [3.3].",
        ),
        4: (
            "Submission 7 learnt from Train and Val: its 72.4 % on Val is of clips it was shown.",
            "The abstract gives the best submission, 3, as 60.64 %.",
            "The text has submission 4 as 3 with a second MLP for the Random Forest, and 7 as 3 with "
            "more to learn from [3.4]; by the table the first is 5, and 7 has other models.",
        ),
    }
)
"""What the text says of a table's figures, by the table's number; above all their std over about 50
runs of different initialisation."""
