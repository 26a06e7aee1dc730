"""Learning from finished networks: their scores as soft targets (Hinton et al. 2015).

The teachers see the very faces that the learner sees, cut out and relit in the same way (Beyer et al.
2022): they say how much a face still shows, which its label does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .network import FaceNetwork


class Teacher(NamedTuple):
    """A finished network, and the grey mean and spread that it knows."""

    network: FaceNetwork
    mean: float
    std: float


@torch.no_grad()
def mean_scores(teachers: Sequence[Teacher], pixels: Tensor) -> dict[str, Tensor]:
    """The teachers' mean scores over seven and eight classes for (N, 1, S, S) faces in [0, 1].

    A teacher that knows faces of another size is shown them in that.
    """
    outs = [
        teacher.network((_resized(pixels, teacher.network.size) - teacher.mean) / teacher.std)
        for teacher in teachers
    ]
    return {
        head: torch.stack([out[head].float().softmax(1) for out in outs]).mean(0)
        for head in ("emotion", "ferplus")
    }


def _resized(pixels: Tensor, size: int) -> Tensor:
    if pixels.shape[-1] == size:
        return pixels
    return functional.interpolate(pixels, size=size, mode="bilinear", antialias=True)


def scores_loss(out: dict[str, Tensor], taught: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of both heads to the scores they are taught, mean over the faces.

    The teachers' seven classes were adjusted in training by the same part of the prior: their scores are
    what the learner's own, not adjusted, should be.
    """
    loss = [functional.cross_entropy(out[head], scores) for head, scores in taught.items()]
    return torch.stack(loss).sum()
