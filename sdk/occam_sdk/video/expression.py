"""The expression network: aligned faces in, scores, valence-arousal and embeddings out [2.1]."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..backends import Session
from ..bundle import FaceModel
from ..scores import softmax
from ..types import FrameScores


class ExpressionNetwork:
    """Scores batches of aligned faces.

    Args:
        session: the network, from ``open_session``; input ``image``, outputs ``emotion`` (logits),
            ``valence_arousal`` and ``embedding``.
        model: input size, mean, spread and temperature, from the bundle.
    """

    def __init__(self, session: Session, model: FaceModel) -> None:
        self._session = session
        self._model = model

    def score(self, crops: NDArray[np.uint8], times_s: NDArray[np.float64]) -> FrameScores:
        """Score N aligned faces.

        Args:
            crops: (N, S, S, 3) uint8 BGR, from ``align_face``.
            times_s: (N,) float64, the time of each.
        """
        out = self._session.run({"image": network_input(crops, self._model.mean, self._model.std)})
        return FrameScores(
            times_s=times_s,
            scores=softmax(out["emotion"] / self._model.temperature),
            valence_arousal=np.clip(out["valence_arousal"], -1, 1),
            embeddings=out["embedding"],
        )


def network_input(crops: NDArray[np.uint8], mean: float, std: float) -> NDArray[np.float32]:
    """(N, S, S, 3) BGR uint8 to (N, 1, S, S) float32, as ``grey_input``."""
    return grey_input(to_grey(crops), mean, std)


def grey_input(faces: NDArray[np.uint8], mean: float, std: float) -> NDArray[np.float32]:
    """(N, S, S) uint8 grey, as prepared faces are, to (N, 1, S, S) ``(grey / 255 - mean) / std``."""
    grey = faces.astype(np.float32) / 255
    return np.asarray((grey - np.float32(mean)) / np.float32(std), np.float32)[:, None]


def to_grey(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, H, W, 3) BGR uint8 to (N, H, W) uint8 luma.

    The network sees no colour: nearly all labelled faces that it learns from are grey, and what it
    has never seen in colour it cannot trust there.
    """
    count, height, width, channels = crops.shape
    flat = crops.reshape(count * height, width, channels)
    return np.asarray(cv2.cvtColor(flat, cv2.COLOR_BGR2GRAY), np.uint8).reshape(
        count, height, width
    )
