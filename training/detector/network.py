"""The detector's network: depthwise-separable, anchor-free, one map of predictions for each of three strides.

A cell of the map of stride s that lies in the middle of a face says, in units of s pixels: how far the box's
centre is from its own, the logarithms of the box's width and height, and how far the five landmarks are from
its own centre; before these, the logit that there is a face.

Its shape is YuNet's (Wu et al. 2023), but that the widest unit comes after the pooling and not before, which
saves a sixth of the multiply-adds; and so it can begin with YuNet's weights.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from occam_sdk.video.faces import STRIDES

OUTPUTS: Final = tuple(f"stride_{stride}" for stride in STRIDES)
CHANNELS: Final = 15  # logit, centre x y, log width and height, five landmarks x y
WIDTH: Final = 64
SAID: Final = 1 + 1 + 4 + 10  # YuNet's: a class, that there is something, box, landmarks
SCORES: Final = (0.2, 0.8)
"""How YuNet's two logits become one: it takes the geometric mean of the scores, which is nearer to the lower
one, objectness."""
YUNET_SHA256: Final = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"


class Unit(nn.Sequential):
    """Pointwise, then depthwise 3x3 convolution; and ReLU, but in heads."""

    def __init__(self, into: int, out: int, *, relu: bool = True) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(into, out, 1),
            nn.Conv2d(out, out, 3, 1, 1, groups=out),
        ]
        super().__init__(*layers, *([nn.ReLU()] if relu else []))


class DetectorNetwork(nn.Module):
    """(N, 3, H, W) float32 BGR in [0, 255], sides multiples of 32, to one (N, 15, H/s, W/s) a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), Unit(16, 16))
        self.quarter = nn.Sequential(Unit(16, 16), Unit(16, 32), Unit(32, 32))
        self.eighth = nn.Sequential(Unit(32, WIDTH), Unit(WIDTH, WIDTH), Unit(WIDTH, WIDTH))
        self.sixteenth = nn.Sequential(Unit(WIDTH, WIDTH), Unit(WIDTH, WIDTH))
        self.last = nn.Sequential(Unit(WIDTH, WIDTH), Unit(WIDTH, WIDTH))
        self.across = nn.ModuleList([Unit(WIDTH, WIDTH) for _ in STRIDES])
        self.heads = nn.ModuleList([Unit(WIDTH, SAID, relu=False) for _ in STRIDES])
        self.said = nn.ModuleList([nn.Conv2d(SAID, CHANNELS, 1) for _ in STRIDES])

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Predictions of each stride, finest first."""
        quarter = self.quarter(functional.max_pool2d(self.stem(image), 2))
        eighth = self.eighth(functional.max_pool2d(quarter, 2))
        sixteenth = self.sixteenth(functional.max_pool2d(eighth, 2))
        last = self.across[2](self.last(functional.max_pool2d(sixteenth, 2)))
        middle = self.across[1](sixteenth + functional.interpolate(last, scale_factor=2.0))
        fine = self.across[0](eighth + functional.interpolate(middle, scale_factor=2.0))
        levels = (fine, middle, last)
        return tuple(
            said(head(level))
            for said, head, level in zip(self.said, self.heads, levels, strict=True)
        )


def adopt(network: DetectorNetwork, yunet: Path) -> None:
    """Begin with YuNet's weights.

    Args:
        network: gets them.
        yunet: ``face_detection_yunet_2023mar.onnx`` of OpenCV's model zoo (MIT).

    Raises:
        ValueError: it is another file.
    """
    content = yunet.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != YUNET_SHA256:
        raise ValueError(
            f"{yunet}: expected YuNet of March 2023, SHA-256 {YUNET_SHA256}, got {found}"
        )
    graph = onnx.load_from_string(content).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    layers = iter(
        [
            tuple(torch.from_numpy(constants[name].copy()) for name in node.input[1:])
            for node in graph.node
            if node.op_type == "Conv"
        ]
    )
    trunk = (network.stem, network.quarter, network.eighth, network.sixteenth, network.last)
    neck = tuple(network.across[level] for level in (2, 1, 0))  # the coarsest first
    with torch.no_grad():
        for part in (*trunk, *neck):
            for layer in part.modules():
                if isinstance(layer, nn.Conv2d):
                    weight, bias = next(layers)
                    layer.weight.copy_(weight)
                    assert layer.bias is not None
                    layer.bias.copy_(bias)
        heads = [[next(layers) for _ in (0, 1)] for _ in range(4 * len(STRIDES))]  # each two layers
        for level in range(len(STRIDES)):
            # Class, box, objectness, landmarks of each stride; here class, objectness, box, landmarks.
            parts = [heads[kind * len(STRIDES) + level] for kind in (0, 2, 1, 3)]
            for depth, layer in enumerate(network.heads[level].children()):
                assert isinstance(layer, nn.Conv2d)
                assert layer.bias is not None
                layer.weight.copy_(torch.cat([part[depth][0] for part in parts]))
                layer.bias.copy_(torch.cat([part[depth][1] for part in parts]))
            said = network.said[level]
            assert isinstance(said, nn.Conv2d)
            assert said.bias is not None
            said.weight.zero_()
            said.weight[0, :2] = torch.tensor(SCORES)[:, None, None]
            said.weight[torch.arange(1, CHANNELS), torch.arange(2, SAID)] = 1
            said.bias.fill_(-0.5)  # its distances are from the cell's corner
            said.bias[[0, 3, 4]] = 0


def cost(height: int = 256, width: int = 320) -> tuple[int, int]:
    """Parameters, and multiply-adds of a picture of this size."""
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
