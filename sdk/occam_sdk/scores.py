"""Logits to scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Along the last axis, in float32, without overflow.

    Example:
        >>> import numpy as np
        >>> softmax(np.zeros(4, np.float32)).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True), np.float32)
