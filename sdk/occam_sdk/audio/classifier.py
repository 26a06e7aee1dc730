"""The voice network: features in, scores out [2.2]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..backends import Session, in_batches
from ..bundle import VoiceModel
from ..scores import softmax
from ..types import ModalityScores


class VoiceClassifier:
    """Scores the features of one or more pieces of sound.

    Args:
        session: the network, from ``open_session``; input ``features`` (N, F), output ``emotion``
            (N, 7) logits. Standardisation is part of the network.
        model: the temperature, from the bundle.
    """

    def __init__(self, session: Session, model: VoiceModel) -> None:
        self._session = session
        self._model = model

    def score(self, features: NDArray[np.float32], starts_s: tuple[float, ...]) -> ModalityScores:
        """The mean of the pieces' scores.

        Args:
            features: (N, F) float32, N >= 1, as ``extract`` of the bundle's feature set gives them.
            starts_s: when each piece starts, in seconds.
        """
        logits = in_batches(self._session, "features", features)["emotion"]
        logits = logits / self._model.temperature
        scores = softmax(logits).mean(axis=0, dtype=np.float64).astype(np.float32)
        return ModalityScores(scores=scores, evidence_s=starts_s)
