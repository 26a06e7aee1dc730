"""What makes scores as sure as they are right: of the face, and of face and voice together [2.3].

It is fitted to faces of Valid, and to voices judged by networks that have not heard them. No corpus at hand
has a face and a voice of the same moment: a voice is paired with a face of the same label instead, drawn
with a seed. Some of those voices are of speakers never heard in a studio that was, some of a corpus never
heard; a user's recordings lie in between. Both groups count the same.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from occam_sdk.bundle import FusionModel
from occam_sdk.fusion import weighted_mean

WEIGHTS: Final = np.arange(0.2, 0.96, 0.05)  # of the face; the voice has the rest
TEMPERATURES: Final = np.geomspace(0.3, 2, 80)
SEED: Final = 0
HEAVIEST: Final = 10.0  # a class that was never learnt would outweigh all others
SMALLEST: Final = 1e-30  # of which a logarithm is taken
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


def fit_face(label: Ints, logits: Floats, weight: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """A factor and a shift for each class's logit that make the labels most likely.

    This is vector scaling (Guo et al. 2017): one temperature for all classes is too little where the
    network is too modest about smiles and too sure of the rest. Being linear, it goes into the head. A face
    more says that nothing is to be changed, so that few faces change little; a class without any face stays,
    and no class weighs more than ``HEAVIEST`` times as much as another.

    Args:
        label: (N,) over ``LABELS``.
        logits: (N, 7).
        weight: (7,) of each class's faces.

    Returns:
        (7,) factors, above 0, and (7,) shifts.
    """
    target, said = torch.from_numpy(label), torch.from_numpy(logits).double()
    weighed = torch.from_numpy(np.minimum(weight, HEAVIEST * weight.min()))[target]
    known = torch.bincount(target, minlength=logits.shape[1]) > 0
    change = torch.zeros(2, logits.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([change], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        scale, shift = change * known
        losses = functional.cross_entropy(said * scale.exp() + shift, target, reduction="none")
        error = (losses * weighed).sum() / weighed.sum() + change.square().sum() / len(target)
        error.backward()
        return error

    optimizer.step(loss)
    scale, shift = (change * known).detach().float().numpy()
    return np.exp(scale), shift


def fit_fusion(face: Judged, voices: tuple[Judged, ...]) -> FusionModel:
    """The weight and the temperature that make the labels most likely, over all groups of voices alike.

    The mean is geometric: on such pairs, of voices of speakers never heard as of a corpus never heard, it
    is right two to three points more often than the paper's, and as sure as it is right
    (``training/EXPERIMENTS.md``).

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

    def loss(model: FusionModel) -> float:
        losses = []
        for faces, heard, label in groups:
            right = weighted_mean(faces, heard, model)[np.arange(len(label)), label]
            losses.append(-float(np.log(right.clip(SMALLEST)).mean(dtype=np.float64)))
        return float(np.mean(losses))

    models = [
        FusionModel(float(weight), round(1 - float(weight), 4), float(temperature), "geometric")
        for weight in WEIGHTS.round(4)
        for temperature in TEMPERATURES.round(4)
    ]
    return min(models, key=loss)
