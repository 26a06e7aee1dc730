"""From the frames of a clip to one answer: selection, pooling, linear heads [2.1, Fig. 2; 2.4]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..bundle import FaceModel
from ..scores import softmax
from ..types import FrameScores, ModalityScores


def aggregate(frames: FrameScores, model: FaceModel) -> ModalityScores | None:
    """What one face shows over a clip, or None if it has no frame with finite scores.

    The scores are the mean of those of the ensemble's classifiers, each on the frames as it weighs
    them. Valence and arousal are of the unweighted frames.

    Args:
        frames: T scored frames of one face, in order of time; or those of them that the selection
            picks, for it picks them all once more.
        model: number of chunks, heads and temperature.
    """
    chosen = _core.select_frames(frames.scores, model.chunks)
    if len(chosen) == 0:
        return None
    heads, embeddings = model.heads, frames.embeddings[chosen]
    mean = _core.mean_pool(embeddings)
    if heads.frame_weight is None or heads.frame_bias is None:
        pooled = mean[np.newaxis]
    else:
        pooled = _weighted_pools(
            embeddings, frames.valence_arousal[chosen], heads.frame_weight, heads.frame_bias
        )
    logits = (heads.emotion_weight @ pooled[:, :, np.newaxis])[:, :, 0] + heads.emotion_bias
    scores = softmax(logits / np.float32(model.temperature))
    valence, arousal = np.clip(
        heads.valence_arousal_weight @ mean + heads.valence_arousal_bias, -1, 1
    ).tolist()
    return ModalityScores(
        scores=scores.mean(axis=0, dtype=np.float64).astype(np.float32),
        valence=valence,
        arousal=arousal,
        evidence_s=tuple(frames.times_s[chosen].tolist()),
    )


def _weighted_pools(
    embeddings: NDArray[np.float32],
    valence_arousal: NDArray[np.float32],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
) -> NDArray[np.float32]:
    """(k, D): the frames pooled for each of the k classifiers, once for all of the same weights."""
    regressors = list(zip(map(tuple, weight.tolist()), bias.tolist(), strict=True))
    pooled = {
        regressor: _core.sigmoid_weighted_pool(embeddings, valence_arousal, *regressor)
        for regressor in set(regressors)
    }
    return np.stack([pooled[regressor] for regressor in regressors])
