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
