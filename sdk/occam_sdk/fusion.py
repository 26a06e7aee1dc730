"""Late fusion: the weighted mean of the modalities' scores, made as sure as it is right [2.3]."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .bundle import FusionModel
from .scores import softmax
from .types import FusionWeights, ModalityScores, Status

SMALLEST: Final = np.float32(1e-30)  # of which a logarithm is taken


class Fused(NamedTuple):
    """Fused (7,) scores or None, the weights really used, and what there was evidence for."""

    scores: NDArray[np.float32] | None
    weights: FusionWeights
    status: Status


def fuse(face: ModalityScores | None, voice: ModalityScores | None, model: FusionModel) -> Fused:
    """Weigh what is there; the weight of what is missing goes to the other.

    The fusion's temperature is for both together; one alone has had its own.
    """
    if face is None and voice is None:
        return Fused(None, FusionWeights(face=0.0, voice=0.0), "no_evidence")
    if voice is None:
        assert face is not None
        return Fused(face.scores, FusionWeights(face=1.0, voice=0.0), "no_voice")
    if face is None:
        return Fused(voice.scores, FusionWeights(face=0.0, voice=1.0), "no_face")
    scores = np.float32(model.face) * face.scores + np.float32(model.voice) * voice.scores
    if model.temperature != 1:
        scores = softmax(np.log(scores.clip(SMALLEST)) / np.float32(model.temperature))
    return Fused(scores, FusionWeights(face=model.face, voice=model.voice), "ok")
