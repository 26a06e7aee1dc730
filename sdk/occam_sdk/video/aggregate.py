"""From the frames of a clip to one answer: selection, pooling, linear heads [2.1, Fig. 2]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..bundle import FaceModel, LinearHeads
from ..scores import softmax
from ..types import FrameScores, ModalityScores


def aggregate(frames: FrameScores, model: FaceModel) -> ModalityScores | None:
    """What one face shows over a clip, or None if it has no frame with finite scores.

    Args:
        frames: T scored frames of one face, in order of time.
        model: number of chunks, heads and temperature.
    """
    chosen = _core.select_frames(frames.scores, model.chunks)
    if len(chosen) == 0:
        return None
    heads = model.heads
    pooled = _pool(frames.embeddings[chosen], frames.valence_arousal[chosen], heads)
    logits = heads.emotion_weight @ pooled + heads.emotion_bias
    valence, arousal = np.clip(
        heads.valence_arousal_weight @ pooled + heads.valence_arousal_bias, -1, 1
    ).tolist()
    return ModalityScores(
        scores=softmax(logits / np.float32(model.temperature)),
        valence=valence,
        arousal=arousal,
        evidence_s=tuple(frames.times_s[chosen].tolist()),
    )


def _pool(
    embeddings: NDArray[np.float32], valence_arousal: NDArray[np.float32], heads: LinearHeads
) -> NDArray[np.float32]:
    if heads.frame_weight is None or heads.frame_bias is None:
        return _core.mean_pool(embeddings)
    return _core.sigmoid_weighted_pool(
        embeddings, valence_arousal, heads.frame_weight.tolist(), float(heads.frame_bias)
    )
