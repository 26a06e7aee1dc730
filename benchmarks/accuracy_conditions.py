"""Where it fails: Test pictures made dark, small, blurred, covered or turned, and faces turned away.

Every picture is altered as a bad camera would and goes through the product's own door; a face that is not
found counts as wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import cv2
import numpy as np

from occam_sdk import Recognizer
from occam_sdk.bundle import Bundle

from .accuracy_faces import Answers, Image, Pictures, as_shipped
from .accuracy_figures import Floats, Ints, Row, judged, summary

COVER: Final = 128  # grey value of what covers a face
TURNED: Final = {
    "near_frontal": (0.0, 0.1),
    "turned": (0.1, 0.25),
    "strongly_turned": (0.25, np.inf),
}
"""Nose tip beside the middle of the eyes, in eye distances: a yaw of about 11 degrees is 0.1, of 27
degrees 0.25, for a nose that stands out by half the eyes' distance."""


@dataclass(frozen=True)
class Condition:
    """What is done to a (H, W, 3) uint8 picture, and what to call it."""

    title: str
    alter: Callable[[Image], Image]


def darkened(image: Image, gain: float) -> Image:
    """Less light."""
    return np.asarray(np.rint(image * gain), np.uint8)


def shrunk(image: Image, side: int) -> Image:
    """The longer side has so many pixels; a smaller picture is left as it is."""
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def blurred(image: Image, share: float) -> Image:
    """Gaussian blur; the standard deviation is this share of the longer side."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), share * max(image.shape[:2])), np.uint8)


def covered(image: Image) -> Image:
    """The lower half is hidden."""
    hidden = image.copy()
    hidden[image.shape[0] // 2 :] = COVER
    return hidden


def turned(image: Image, degrees: float) -> Image:
    """Turned in the picture's plane about its middle; the border is repeated."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return np.asarray(
        cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


CONDITIONS: Final = {
    "dark": Condition("a quarter of the light", partial(darkened, gain=0.25)),
    "very_dark": Condition("a sixteenth of the light", partial(darkened, gain=1 / 16)),
    "small_24": Condition("24 pixels wide", partial(shrunk, side=24)),
    "small_16": Condition("16 pixels wide", partial(shrunk, side=16)),
    "blurred": Condition("blurred, sigma 1/32 of the side", partial(blurred, share=1 / 32)),
    "covered": Condition("lower half covered", covered),
    "rolled_20": Condition("turned by 20° in the plane", partial(turned, degrees=20)),
}


def conditions(
    recognizer: Recognizer, bundle: Bundle, pictures: Pictures, label: Ints, stored: Answers
) -> dict[str, Row]:
    """Faces found, accuracy and UAR under each condition, no face counted wrong.

    Args:
        recognizer: of the bundle, as a user would open it.
        bundle: what is measured.
        pictures: N Test pictures.
        label: (N,) over ``LABELS``, -1 where there is none.
        stored: what the product says of the pictures as they are.
    """
    report = {"as_stored": _row(label, stored)}
    for name, condition in CONDITIONS.items():
        answers = as_shipped(recognizer, bundle, map(condition.alter, pictures.images))
        report[name] = _row(label, answers)
    return report


def _row(label: Ints, answers: Answers) -> Row:
    known = label >= 0
    label, guess, found = label[known], answers.guess[known], answers.found[known]
    right = (label == guess)[found]
    return {
        **summary(label, guess),
        "faces_found": round(float(found.mean()), 4),
        "accuracy_where_found": round(float(right.mean()), 4) if len(right) else None,
    }


def away_from_frontal(landmarks: Floats) -> Floats:
    """(N,) how far the nose tip is beside the middle of the eyes, in distances of the eyes.

    Along the line through the eyes, so that a head held aslant is not taken for one turned away. 0 from
    the front; a face seen from the side has its nose beyond both eyes.

    Args:
        landmarks: (N, 5, 2) eye, eye, nose tip, mouth corners.
    """
    left, right, nose = landmarks[:, 0], landmarks[:, 1], landmarks[:, 2]
    line = right - left
    along = ((nose - (left + right) / 2) * line).sum(1)
    return np.asarray(np.abs(along) / np.maximum((line**2).sum(1), 1e-6), np.float32)


def by_turning(label: Ints, answers: Answers, names: tuple[str, ...]) -> dict[str, Row]:
    """Accuracy, UAR and recalls of the found faces by how far they look away, and how many were not found."""
    away = away_from_frontal(answers.landmarks)
    known = label >= 0
    report: dict[str, Row] = {"not_found": {"count": int((known & ~answers.found).sum())}}
    for name, (low, high) in TURNED.items():
        own = known & answers.found & (away >= low) & (away < high)
        report[name] = judged(label[own], answers.guess[own], names)
    return report
