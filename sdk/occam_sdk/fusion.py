"""Late fusion: the weighted mean of the modalities' scores, made as sure as it is right [2.3].

The paper's mean is arithmetic. If face and voice err independently and no class is rarer than another, what
both say together is the product of what each says (Hinton 2002): that is the geometric mean, where both
weigh the same, with a temperature of a half.
"""

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
    scores = weighted_mean(face.scores, voice.scores, model)
    return Fused(scores, FusionWeights(face=model.face, voice=model.voice), "ok")


def weighted_mean(
    face: NDArray[np.float32], voice: NDArray[np.float32], model: FusionModel
) -> NDArray[np.float32]:
    """(..., 7) fused scores of face and voice, each (..., 7)."""
    own, other = np.float32(model.face), np.float32(model.voice)
    if model.mean == "geometric":
        logits = own * np.log(face.clip(SMALLEST)) + other * np.log(voice.clip(SMALLEST))
    else:
        scores = own * face + other * voice
        if model.temperature == 1:
            return np.asarray(scores, np.float32)
        logits = np.log(scores.clip(SMALLEST))
    return softmax(logits / np.float32(model.temperature))
