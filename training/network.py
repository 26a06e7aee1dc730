"""The face network [2.1]: ResNet-18's topology, a 512-d embedding, linear heads on top."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from occam_sdk.bundle import EMBEDDING
from occam_sdk.labels import FERPLUS_LABELS, LABELS

BLOCKS: Final = 2  # basic blocks a stage: 2-2-2-2
HEADS: Final = ("emotion", "ferplus", "valence_arousal")
"""What is fitted first when a network is transferred; all else is the trunk."""


@dataclass(frozen=True)
class Architecture:
    """What the networks differ in.

    Attributes:
        widths: channels of the four stages.
        size: side of the grey input, pixels.
        pool: whether the stem ends in a max-pooling, as ResNet-18's does.
    """

    widths: tuple[int, int, int, int]
    size: int
    pool: bool


ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    # He et al. 2016, as the paper trains it; grey, since most of the labelled faces are.
    "resnet18": Architecture((64, 128, 256, 512), size=224, pool=True),
    # 3/8 of the channels and no max-pooling: the labelled faces have 48 pixels, a larger input would
    # learn from interpolated ones and then be shown sharp ones.
    "resnet18-lite": Architecture((24, 48, 96, 192), size=64, pool=False),
}


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


class FaceNetwork(nn.Module):
    """(N, 1, S, S) grey faces to a 512-d embedding and three linear heads.

    Where the last stage is narrower than the embedding, a 1x1 convolution widens it.

    Args:
        architecture: a name of ``ARCHITECTURES``.
        dropout: of the embedding, while training.
    """

    def __init__(self, architecture: str = "resnet18-lite", *, dropout: float = 0.0) -> None:
        super().__init__()
        self.architecture = ARCHITECTURES[architecture]
        widths = self.architecture.widths
        stages: list[nn.Module] = []
        channels_in = widths[0]
        for number, channels in enumerate(widths):
            for block in range(BLOCKS):
                stride = 2 if number > 0 and block == 0 else 1
                stages.append(BasicBlock(channels_in, channels, stride))
                channels_in = channels
        self.stem = _conv(1, widths[0], 7, 2)
        self.pool = nn.MaxPool2d(3, 2, 1) if self.architecture.pool else nn.Identity()
        self.stages = nn.Sequential(*stages)
        self.widen: nn.Module = (
            nn.Identity() if channels_in == EMBEDDING else _conv(channels_in, EMBEDDING, 1, 1)
        )
        self.dropout = nn.Dropout(dropout)
        self.emotion = nn.Linear(EMBEDDING, len(LABELS))
        self.ferplus = nn.Linear(EMBEDDING, len(FERPLUS_LABELS))
        self.valence_arousal = nn.Linear(EMBEDDING, 2)

    def embed(self, x: Tensor) -> Tensor:
        """(N, 1, S, S) to (N, 512)."""
        x = self.pool(torch.relu(self.stem(x)))
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


def cost(architecture: str) -> tuple[int, int]:
    """Parameters with all heads, and multiply-adds a face as PyTorch's own counter counts them.

    Example:
        >>> cost("resnet18-lite")
        (1681849, 80642560)
    """
    from torch.utils.flop_counter import FlopCounterMode

    network = FaceNetwork(architecture).eval()
    size = network.architecture.size
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, size, size))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return parameters, int(counter.get_total_flops()) // 2


def _conv(channels_in: int, channels: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
    )
