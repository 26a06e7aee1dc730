"""The face network [2.1]: ResNet-18's topology, a 512-d embedding, linear heads on top."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from occam_sdk.bundle import EMBEDDING
from occam_sdk.labels import FERPLUS_LABELS, LABELS

BLOCKS: Final = 2  # basic blocks a stage: 2-2-2-2
LITE_WIDTHS: Final = (24, 48, 96, 192)
"""Channels of the four stages of ``resnet18-lite``: 3/8 of ResNet-18's, 1.7 M parameters."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels_in, channels, 3, stride)
        self.conv2 = _conv(channels, channels, 3, 1)
        same = stride == 1 and channels_in == channels
        self.shortcut: nn.Module = (
            nn.Identity() if same else _conv(channels_in, channels, 1, stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C, H / stride, W / stride)."""
        inner = self.conv2(torch.relu(self.conv1(x)))
        return torch.relu(inner + self.shortcut(x))


class ResNet18Lite(nn.Module):
    """(N, 1, S, S) grey faces to an embedding and three linear heads.

    Against ResNet-18: fewer channels, one input channel, no max-pooling after the stem (the input is
    64 pixels wide, not 224), and a 1x1 convolution that widens the last stage to 512.
    """

    def __init__(self, *, dropout: float = 0.0) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels_in = LITE_WIDTHS[0]
        for number, channels in enumerate(LITE_WIDTHS):
            for block in range(BLOCKS):
                stride = 2 if number > 0 and block == 0 else 1
                stages.append(BasicBlock(channels_in, channels, stride))
                channels_in = channels
        self.stem = _conv(1, LITE_WIDTHS[0], 7, 2)
        self.stages = nn.Sequential(*stages)
        self.widen = _conv(channels_in, EMBEDDING, 1, 1)
        self.dropout = nn.Dropout(dropout)
        self.emotion = nn.Linear(EMBEDDING, len(LABELS))
        self.ferplus = nn.Linear(EMBEDDING, len(FERPLUS_LABELS))
        self.valence_arousal = nn.Linear(EMBEDDING, 2)

    def embed(self, x: Tensor) -> Tensor:
        """(N, 1, S, S) to (N, 512)."""
        x = torch.relu(self.stem(x))
        return torch.relu(self.widen(self.stages(x))).mean((2, 3))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Embedding (N, 512), emotion (N, 7) and FER+ (N, 8) logits, valence-arousal (N, 2)."""
        embedding = self.embed(x)
        dropped = self.dropout(embedding)
        return {
            "embedding": embedding,
            "emotion": self.emotion(dropped),
            "valence_arousal": self.valence_arousal(dropped),
            "ferplus": self.ferplus(dropped),
        }


def _conv(channels_in: int, channels: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
    )
