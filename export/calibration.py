"""How face and voice are weighed, fitted to pairs of faces and voices that were not learnt from [2.3].

No corpus at hand has a face and a voice of the same moment. A voice is paired with a face of the same
label instead, drawn with a seed: faces of Valid, and voices judged by networks that have not heard them.
Some of those are of speakers never heard in a studio that was, some of a corpus never heard; a user's
recordings lie in between. Both groups count the same.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from occam_sdk.bundle import FusionModel

WEIGHTS: Final = np.arange(0.2, 0.96, 0.05)  # of the face; the voice has the rest
TEMPERATURES: Final = np.geomspace(0.3, 2, 80)
SEED: Final = 0
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Judged(NamedTuple):
    """(N,) labels and (N, 7) scores."""

    label: Ints
    scores: Floats


def pairs(voice_label: Ints, face_label: Ints, seed: int = SEED) -> tuple[Ints, Ints]:
    """Positions of voices and, for each, of a face of the same label; voices that have none are left out."""
    rng = np.random.default_rng(seed)
    faces = np.full(len(voice_label), -1)
    for label in np.unique(voice_label):
        own, fitting = np.flatnonzero(voice_label == label), np.flatnonzero(face_label == label)
        if len(fitting):
            faces[own] = rng.choice(fitting, len(own))
    voices = np.flatnonzero(faces >= 0)
    return voices, faces[voices]


def fit_fusion(face: Judged, voices: tuple[Judged, ...]) -> FusionModel:
    """The weight and the temperature that make the labels most likely, over all groups of voices alike.

    Raises:
        ValueError: no voice has the label of a face.
    """
    groups = []
    for voice in voices:
        own, faces = pairs(voice.label, face.label)
        if len(own):
            groups.append((face.scores[faces], voice.scores[own], voice.label[own]))
    if not groups:
        raise ValueError("no voice has the label of a face: there is nothing to fit the fusion to")

    def loss(weight: float, temperature: float) -> float:
        losses = []
        for faces, heard, label in groups:
            logits = np.log(np.maximum(weight * faces + (1 - weight) * heard, 1e-30)) / temperature
            likely = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(label)), label]
            losses.append(float(likely.mean()))
        return float(np.mean(losses))

    weight = min(WEIGHTS, key=lambda weight: min(loss(weight, t) for t in TEMPERATURES))
    temperature = min(TEMPERATURES, key=lambda t: loss(weight, t))
    face_weight = round(float(weight), 4)
    return FusionModel(face_weight, round(1 - face_weight, 4), round(float(temperature), 4))
