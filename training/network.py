"""The face network [2.1]: a residual trunk, a 512-d embedding, linear heads on top."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from occam_sdk.bundle import EMBEDDING
from occam_sdk.labels import FERPLUS_LABELS, LABELS

HEADS: Final = ("emotion", "ferplus", "valence_arousal")
"""What is fitted first when a network is transferred; all else is the trunk."""


@dataclass(frozen=True)
class Architecture:
    """What the networks differ in.

    Attributes:
        widths: channels of the four stages.
        blocks: basic blocks of each stage.
        size: side of the grey input in pixels, unless a network is made for another.
        stem: kernel and stride of the first convolution; a max-pooling follows.
        centred: whether the stages' halvings are 4x4 convolutions beside 2x2 shortcuts, which both look
            at the middle of four pixels; otherwise 3x3 beside 1x1.
    """

    widths: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    size: int
    stem: tuple[int, int]
    centred: bool = False


ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    # He et al. 2016, as the paper trains it; grey, since most of the labelled faces are.
    "resnet18": Architecture((64, 128, 256, 512), (2, 2, 2, 2), size=224, stem=(7, 2)),
    # dlib's face recognition network at half its size of picture, from whose weights it begins
    # (``training.pretrained``). The labelled faces have 48 pixels: a larger input would learn from
    # interpolated ones and then be shown sharp ones.
    "resnet-wide": Architecture(
        (32, 64, 128, 256), (3, 4, 3, 3), size=64, stem=(5, 1), centred=True
    ),
    # What 2 M parameters have room for of it (``training.cut``).
    "resnet-lite": Architecture(
        (32, 64, 128, 176), (2, 3, 3, 1), size=64, stem=(5, 1), centred=True
    ),
}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016); ``centred`` as of ``Architecture``."""

    def __init__(self, channels_in: int, channels: int, stride: int, centred: bool = False) -> None:
        super().__init__()
        self.conv1 = _conv(channels_in, channels, 4 if centred else 3, stride, 1)
        self.conv2 = _conv(channels, channels, 3, 1, 1)
        same = stride == 1 and channels_in == channels
        self.shortcut: nn.Module = (
            nn.Identity() if same else _conv(channels_in, channels, 2 if centred else 1, stride, 0)
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
        size: side S of the faces that it is for; None: that of the architecture.
        dropout: of the embedding, while training.
    """

    def __init__(
        self,
        architecture: str = "resnet-lite",
        *,
        size: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.architecture = ARCHITECTURES[architecture]
        self.size = size or self.architecture.size
        shape = self.architecture
        stages: list[nn.Module] = []
        channels_in = shape.widths[0]
        for number, (channels, count) in enumerate(zip(shape.widths, shape.blocks, strict=True)):
            for block in range(count):
                halves = number > 0 and block == 0
                stages.append(
                    BasicBlock(channels_in, channels, 1 + halves, halves and shape.centred)
                )
                channels_in = channels
        kernel, stride = shape.stem
        self.stem = _conv(1, shape.widths[0], kernel, stride, kernel // 2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.stages = nn.Sequential(*stages)
        self.widen: nn.Module = (
            nn.Identity() if channels_in == EMBEDDING else _conv(channels_in, EMBEDDING, 1, 1, 0)
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


def kept_blocks(here: int, there: int) -> list[int]:
    """Which blocks of a stage of ``there`` stay in one of ``here``: the first ones, and its last.

    Example:
        >>> kept_blocks(3, 4), kept_blocks(1, 3)
        ([0, 1, 3], [0])
    """
    return [*range(here - 1), there - 1] if here > 1 else [0]


@torch.no_grad()
def watch(
    network: FaceNetwork,
    kind: type[nn.Module],
    seen: Callable[[nn.Module, tuple[Tensor]], None],
    pixels: Tensor,
) -> None:
    """Judge (N, 1, S, S) faces; ``seen`` gets every module of a kind, and what it is about to take in."""
    hooks = [
        module.register_forward_pre_hook(seen)
        for module in network.modules()
        if isinstance(module, kind)
    ]
    network.eval()(pixels)
    for hook in hooks:
        hook.remove()


def cost(architecture: str, size: int | None = None) -> tuple[int, int]:
    """Parameters with all heads, and multiply-adds a face as PyTorch's own counter counts them.

    Example:
        >>> cost("resnet-lite")
        (1997329, 169488896)
    """
    from torch.utils.flop_counter import FlopCounterMode

    network = FaceNetwork(architecture, size=size).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, network.size, network.size))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return parameters, int(counter.get_total_flops()) // 2


def _conv(channels_in: int, channels: int, kernel: int, stride: int, padding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(channels),
    )
