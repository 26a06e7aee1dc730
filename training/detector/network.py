"""The detector's network: depthwise-separable, anchor-free, one map of predictions for each of three strides.

A cell of the map of stride s that lies in the middle of a face says, in units of s pixels: how far the box's
centre is from its own, the logarithms of the box's width and height, and how far the five landmarks are from
its own centre; before these, the logit that there is a face.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from occam_sdk.video.faces import STRIDES

OUTPUTS: Final = tuple(f"stride_{stride}" for stride in STRIDES)
CHANNELS: Final = 15  # logit, centre x y, log width and height, five landmarks x y
RARE: Final = 0.01  # what every cell says at first: few of them are faces


class Separable(nn.Sequential):
    """Depthwise 3x3 and pointwise convolution, each with batch norm and ReLU."""

    def __init__(self, into: int, out: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(into, into, 3, stride, 1, groups=into, bias=False),
            nn.BatchNorm2d(into),
            nn.ReLU(),
            nn.Conv2d(into, out, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
        )


def pointwise(into: int, out: int) -> nn.Sequential:
    """1x1 convolution with batch norm and ReLU."""
    return nn.Sequential(nn.Conv2d(into, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())


class DetectorNetwork(nn.Module):
    """(N, 3, H, W) float32 BGR in [0, 255], sides multiples of 32, to one (N, 15, H/s, W/s) a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.quarter = Separable(16, 32, 2)
        self.eighth = nn.Sequential(Separable(32, 64, 2), Separable(64, 64), Separable(64, 64))
        self.sixteenth = nn.Sequential(Separable(64, 96, 2), Separable(96, 96), Separable(96, 96))
        self.last = nn.Sequential(Separable(96, 128, 2), Separable(128, 128), Separable(128, 128))
        self.across = nn.ModuleList([pointwise(64, 64), pointwise(96, 64), pointwise(128, 64)])
        self.after = nn.ModuleList([Separable(64, 64) for _ in STRIDES])
        self.heads = nn.ModuleList([nn.Conv2d(64, CHANNELS, 1) for _ in STRIDES])
        for head in self.heads:
            assert isinstance(head, nn.Conv2d)
            assert head.bias is not None
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
            with torch.no_grad():
                head.bias[0] = torch.logit(torch.tensor(RARE))
                head.bias[3:5] = 1.0

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Predictions of each stride, finest first."""
        eighth = self.eighth(self.quarter(self.stem((image - 127.5) / 64)))
        sixteenth = self.sixteenth(eighth)
        levels = [
            across(x)
            for across, x in zip(
                self.across, (eighth, sixteenth, self.last(sixteenth)), strict=True
            )
        ]
        for fine in (1, 0):
            levels[fine] = levels[fine] + functional.interpolate(levels[fine + 1], scale_factor=2.0)
        return tuple(
            head(after(level))
            for head, after, level in zip(self.heads, self.after, levels, strict=True)
        )


def cost(height: int = 256, width: int = 320) -> tuple[int, int]:
    """Parameters (batch norm folded), and multiply-adds of a picture of this size."""
    network, total = DetectorNetwork().eval(), [0, 0]

    def count(layer: nn.Module, _: tuple[Tensor, ...], out: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        total[0] += layer.weight.numel() + layer.out_channels
        total[1] += layer.weight.numel() * out.shape[2] * out.shape[3]

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, height, width))
    return total[0], total[1]
