"""Class names and their order: the one place where they are written.

The order is that of Table 1 of Vielzeuf et al. 2018. Every array with a class axis, in files and in
memory, uses it. A label names the expression as people perceive it, not what somebody feels.
"""

from typing import Final

LABELS: Final = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Neutral", "Surprise")
"""The seven classes, in the order of every score array."""

FERPLUS_LABELS: Final = (
    "Neutral", "Happy", "Surprise", "Sad", "Angry", "Disgust", "Fear", "Contempt",
)  # fmt: skip
"""The eight classes of FER+, in the order of its votes; an auxiliary head is trained on them."""

COLOURS: Final = (
    "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#0072b2", "#999999", "#56b4e9",
)  # fmt: skip
"""A colour for each of ``LABELS``, told apart by colour-blind people too (Okabe and Ito 2008)."""

INKS: Final = (
    "#000000", "#000000", "#000000", "#000000", "#ffffff", "#000000", "#000000",
)  # fmt: skip
"""What can be read on each of ``COLOURS``."""
