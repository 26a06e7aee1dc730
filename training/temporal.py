"""Temporal heads: from the n chosen frames of a clip to its scores [2.1, Table 3].

Three kinds: the mean of the embeddings, their mean weighted by a sigmoid of valence and arousal that is
learnt jointly, an LSTM of 128 units; each ends in a linear softmax classifier. k heads of different
initialisations are trained in one go [2.4]: the frames' embeddings are fixed and common to all, so that
50 heads are one product with a 512 x (50 * 7) matrix. The k-th head does not depend on how many there
are: an ensemble of 4 is the first 4 of 50.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from occam_sdk.bundle import EMBEDDING
from occam_sdk.labels import LABELS

from .clips import Clips

Kind = Literal["average", "weighted", "lstm"]
KINDS: Final[tuple[Kind, ...]] = ("average", "weighted", "lstm")


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result, besides the clips.

    Attributes:
        epochs, batch, rate, weight_decay: of AdamW, with one cosine cycle.
        dropout: of the pooled embedding, or of what enters the LSTM.
        hidden: units of the LSTM.
        lstm_epochs: its epochs; it has learnt the clips by heart sooner.
        seed: of the order and dropout; with the head's number also of its first weights.
    """

    epochs: int = 40
    batch: int = 32
    rate: float = 3e-3
    weight_decay: float = 0.05
    dropout: float = 0.5
    hidden: int = 128
    lstm_epochs: int = 15
    seed: int = 0


class PooledHeads(nn.Module):
    """k linear classifiers of the mean embedding, or of one that each weighs by itself."""

    def __init__(self, count: int, settings: Settings, *, weighted: bool) -> None:
        super().__init__()
        bound = 1 / math.sqrt(EMBEDDING)
        first = [_first_weights(settings.seed, number) for number in range(count)]
        self.emotion_weight = nn.Parameter(
            torch.stack([_uniform((len(LABELS), EMBEDDING), bound, g) for g in first])
        )
        self.emotion_bias = nn.Parameter(
            torch.stack([_uniform((len(LABELS),), bound, g) for g in first])
        )
        if weighted:
            self.frame_weight = nn.Parameter(torch.stack([_uniform((2,), 1, g) for g in first]))
            self.frame_bias = nn.Parameter(torch.zeros(count))
        self.weighted = weighted
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, embeddings: Tensor, valence_arousal: Tensor, chosen: Tensor) -> Tensor:
        """(N, n, 512), (N, n, 2), (N, n) bool, at least one frame each, to (k, N, 7) logits."""
        if not self.weighted:
            share = chosen / chosen.sum(1, keepdim=True)
            pooled = self.dropout(torch.bmm(share[:, None], embeddings)[:, 0])
            return self._classified(pooled).transpose(0, 1)
        gain = valence_arousal @ self.frame_weight.T + self.frame_bias  # (N, n, k)
        # The sigmoids over their sum, also where each of them is too small for a float.
        weight = functional.logsigmoid(gain).masked_fill(~chosen[..., None], -torch.inf)
        share = torch.softmax(weight, 1)
        # The classifiers are linear: weighing their answers to each frame is the same as weighing the
        # frames, and k * 7 numbers a frame are fewer than k embeddings.
        dropped = embeddings * self.dropout(torch.ones_like(embeddings[:, :1]))
        logits: Tensor = (self._classified(dropped.flatten(0, 1)).unflatten(0, chosen.shape)
                          * share[..., None]).sum(1)  # fmt: skip
        return logits.transpose(0, 1)

    def _classified(self, embeddings: Tensor) -> Tensor:
        """(M, 512) to (M, k, 7)."""
        logits: Tensor = embeddings @ self.emotion_weight.flatten(0, 1).T
        return (logits + self.emotion_bias.flatten()).view(-1, *self.emotion_bias.shape)


class LSTMHeads(nn.Module):
    """k LSTMs over the frames in their order; the last state goes into a linear classifier."""

    def __init__(self, count: int, settings: Settings) -> None:
        super().__init__()
        hidden = settings.hidden
        bound = 1 / math.sqrt(hidden)
        first = [_first_weights(settings.seed, number) for number in range(count)]
        shapes = (
            (EMBEDDING, 4 * hidden), (hidden, 4 * hidden), (4 * hidden,),
            (hidden, len(LABELS)), (len(LABELS),),
        )  # fmt: skip
        (
            self.input_weight,
            self.state_weight,
            self.gate_bias,
            self.emotion_weight,
            self.emotion_bias,
        ) = (
            nn.Parameter(torch.stack([_uniform(shape, bound, generator) for generator in first]))
            for shape in shapes
        )
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, embeddings: Tensor, valence_arousal: Tensor, chosen: Tensor) -> Tensor:  # noqa: ARG002
        """(N, n, 512), (N, n, 2), (N, n) bool, the chosen frames first, to (k, N, 7) logits."""
        count, hidden = self.state_weight.shape[:2]
        entered = torch.einsum("ntf,kfg->tkng", self.dropout(embeddings), self.input_weight)
        state = embeddings.new_zeros(count, len(embeddings), hidden)
        cell = torch.zeros_like(state)
        for step, gates in enumerate(entered):
            gates = gates + torch.bmm(state, self.state_weight) + self.gate_bias[:, None]
            keep, write, read, new = gates.chunk(4, -1)
            next_cell = torch.sigmoid(keep) * cell + torch.sigmoid(write) * torch.tanh(new)
            next_state = torch.sigmoid(read) * torch.tanh(next_cell)
            there = chosen[:, step, None]  # a short clip keeps its last state
            cell = torch.where(there, next_cell, cell)
            state = torch.where(there, next_state, state)
        return torch.baddbmm(self.emotion_bias[:, None], state, self.emotion_weight)


def train(
    clips: Clips, rows: NDArray[np.int64], kind: Kind, count: int, settings: Settings
) -> PooledHeads | LSTMHeads:
    """Train ``count`` heads of one kind on the clips ``rows`` that have a label and a face.

    Raises:
        ValueError: no such clip, or an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    usable = rows[(clips.samples.label[rows] >= 0) & clips.chosen[rows].any(1)]
    if not len(usable):
        raise ValueError(f"{clips.name}: no clip with a label and a face to learn from")
    inputs = _inputs(clips, usable)
    label = torch.from_numpy(clips.samples.label[usable])
    heads = (
        LSTMHeads(count, settings)
        if kind == "lstm"
        else PooledHeads(count, settings, weighted=kind == "weighted")
    )
    optimizer = torch.optim.AdamW(
        heads.parameters(), settings.rate, weight_decay=settings.weight_decay
    )
    steps = math.ceil(len(usable) / settings.batch)
    epochs = settings.lstm_epochs if kind == "lstm" else settings.epochs
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)  # dropout
        heads.train()
        for _ in range(epochs):
            order = torch.randperm(len(usable), generator=generator)
            for batch in order.split(settings.batch):
                logits = heads(*(value[batch] for value in inputs))
                target = label[batch].expand(count, -1)
                # The sum over the heads: each gets the gradient that it would get alone.
                error = functional.cross_entropy(
                    logits.flatten(0, 1), target.flatten(), reduction="sum"
                ) / len(batch)
                optimizer.zero_grad()
                error.backward()
                optimizer.step()
                schedule.step()
    return heads.eval()


@torch.no_grad()
def scores_of(
    heads: PooledHeads | LSTMHeads,
    clips: Clips,
    rows: NDArray[np.int64],
    temperature: float = 1.0,
) -> NDArray[np.float32]:
    """(k, len(rows), 7) scores of each head; NaN for a clip without a face."""
    seen = clips.chosen[rows].any(1)
    logits = heads(*_inputs(clips, rows[seen]))
    scores = np.full((len(logits), len(rows), len(LABELS)), np.nan, np.float32)
    scores[:, seen] = torch.softmax(logits / temperature, -1).numpy()
    return scores


def _inputs(clips: Clips, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.from_numpy(clips.embeddings[rows]),
        torch.from_numpy(clips.valence_arousal[rows]),
        torch.from_numpy(clips.chosen[rows]),
    )


def _first_weights(seed: int, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(1_000_003 * seed + number)


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    return (2 * torch.rand(shape, generator=generator) - 1) * bound
