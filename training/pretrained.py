"""First weights from a network that knows faces: dlib's, which is in the public domain (CC0).

``dlib_face_recognition_resnet_model_v1.dat`` is a residual network of 29 convolutions that Davis King
trained to tell three million faces of 7,485 people apart. It comes in the package
``face_recognition_models``; dlib itself is not needed, the weights are read from the file as it is. What
the network has learnt of identity is of no use here, what it has learnt of eyes, mouths, light and pose
is: the paper, too, starts from a network that has seen many more faces than there are emotions labelled.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .network import Architecture, BasicBlock, FaceNetwork, kept_blocks, watch

DLIB_SHA256: Final = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
BLOCKS: Final = (3, 4, 3, 3)  # of dlib's stages; a last block, which halves once more, is not used
RGB_MEAN: Final = (122.782, 117.001, 104.298)  # which dlib takes off, before it divides by
SCALE: Final = 256.0
STEMS: Final = ((5, 1), (7, 2))  # of a network at half dlib's size of picture, and dlib's own
Norms = dict[nn.BatchNorm2d, tuple[Tensor, Tensor]]
"""What a batch norm shall do to its first channels: a factor, and what is added."""


class Layer(NamedTuple):
    """One of dlib's convolutions, and what it has instead of a batch norm.

    Attributes:
        filters: (C_out, C_in, K, K).
        bias, factor, added: (C_out,): the convolution's sum and ``bias``, times ``factor``, and ``added``.
    """

    filters: Tensor
    bias: Tensor
    factor: Tensor
    added: Tensor


def read_dlib(path: Path) -> list[Layer]:
    """The convolutions of dlib's face recognition network, from the image to the embedding.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another one than that whose SHA-256 is ``DLIB_SHA256``.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: missing; it is in the package face_recognition_models 0.3.0, see training/README.md"
        )
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != DLIB_SHA256:
        raise ValueError(f"{path}: not dlib_face_recognition_resnet_model_v1.dat as published")
    convolutions = [_tensor(data, at.end()) for at in re.finditer(b"con_4", data)]
    affine = [_tensor(data, at.end()) for at in re.finditer(b"affine_", data)]
    layers: list[Layer] = []
    channels_in, kernel = 3, 7
    for values, after in zip(convolutions, affine, strict=True):
        factor, added = after.chunk(2)
        filters = values[: -len(factor)].view(len(factor), channels_in, kernel, kernel)
        layers.append(Layer(filters, values[-len(factor) :], factor, added))
        channels_in, kernel = len(factor), 3
    return layers


def _tensor(data: bytes, at: int) -> Tensor:
    """A tensor as dlib writes it: version 2, four sizes, each an integer of so many bytes, then floats."""
    sizes = []
    for _ in range(5):
        length = data[at]
        sizes.append(int.from_bytes(data[at + 1 : at + 1 + length], "little"))
        at += 1 + length
    return torch.from_numpy(np.frombuffer(data, "<f4", math.prod(sizes[1:]), at).copy())


def check_shape(architecture: Architecture) -> None:
    """Raise ValueError if a network of this architecture cannot begin as dlib's."""
    if architecture.stem not in STEMS:
        raise ValueError(
            f"a network that begins with {architecture.stem} cannot start from dlib's; "
            f"--architecture must begin with one of {STEMS}"
        )


@torch.no_grad()
def adopt(
    network: FaceNetwork, layers: list[Layer], faces: Tensor, mean: float, std: float
) -> None:
    """Give the network dlib's weights, as far as the two have the same shape.

    Where a stage has fewer blocks than dlib's, its last but one are left out. Where it has more channels,
    dlib's are the first; the others keep their random weights, and the first do not listen to them yet.
    Batch norm begins as what dlib has instead, a factor and an addition for each channel: its statistics
    are measured on ``faces``.

    Args:
        network: with first weights of its own.
        layers: from ``read_dlib``.
        faces: (N, S, S) uint8 faces, some hundred; they fix the batch norms.
        mean: of grey in [0, 1], which training takes off.
        std: by which training then divides.

    Raises:
        ValueError: the architecture has another stem.
    """
    check_shape(network.architecture)
    norms: Norms = {}
    stem = layers[0]
    # Grey is the same in all three colours; the numbers that dlib takes in are ours times a factor, and less.
    filters = stem.filters.sum(1, keepdim=True) * 255 * std / SCALE
    if network.architecture.stem == (5, 1):
        filters = _at_half_size(filters)
    less = (255 * mean - torch.tensor(RGB_MEAN)) / SCALE
    bias = stem.bias + (stem.filters.sum((2, 3)) * less).sum(1)
    _take(network.stem, stem._replace(filters=filters, bias=bias), norms)
    for block, first, second in _pairs(network, layers[1:]):
        if isinstance(block.shortcut, nn.Sequential):
            if network.architecture.centred:
                # dlib halves by 3x3 without padding: 4x4 with a row and a column of zeros before.
                first = first._replace(filters=functional.pad(first.filters, (1, 0, 1, 0)))
            side = 2 if network.architecture.centred else 1  # of four pixels, or one of them
            _take(block.shortcut, _mean_of_square(first.filters, side), norms)
        _take(block.conv1, first, norms)
        _take(block.conv2, second, norms)
    fix_norms(network, norms, (faces[:, None].float() / 255 - mean) / std)


def _take(part: nn.Module, layer: Layer, norms: Norms) -> None:
    """Give a convolution its first filters, and note what its batch norm is to do."""
    convolution, norm = cast("nn.Sequential", part)
    channels, channels_in = layer.filters.shape[:2]
    first = cast("nn.Conv2d", convolution).weight[:channels]
    first[:, :channels_in].copy_(layer.filters)
    first[:, channels_in:].zero_()
    norms[cast("nn.BatchNorm2d", norm)] = layer.factor, layer.added + layer.factor * layer.bias


def _mean_of_square(filters: Tensor, side: int) -> Layer:
    """The shortcut where dlib halves: a mean, in dlib of 2x2, and zeros for channels that are new."""
    channels, channels_in = filters.shape[:2]
    mean = torch.eye(channels, channels_in)[..., None, None].expand(-1, -1, side, side) / side**2
    return Layer(mean, torch.zeros(channels), torch.ones(channels), torch.zeros(channels))


def _pairs(network: FaceNetwork, layers: list[Layer]) -> Iterator[tuple[BasicBlock, Layer, Layer]]:
    """The network's blocks that have room for dlib's, each with dlib's two convolutions."""
    first = 0
    blocks = (cast("BasicBlock", block) for block in network.stages)
    for here, there in zip(network.architecture.blocks, BLOCKS, strict=True):
        for number in kept_blocks(here, there):
            block, at = next(blocks), first + 2 * number
            if cast("nn.Conv2d", block.conv2[0]).out_channels >= len(layers[at].filters):
                yield block, layers[at], layers[at + 1]
        first += 2 * there


def _at_half_size(filters: Tensor) -> Tensor:
    """The 5x5 filters that see in a picture what (C, 1, 7, 7) ones, step 2, see in it at twice the size.

    Both are linear: the filters' answer to a single lit pixel, made twice as large by linear
    interpolation, is their weight for it.
    """
    lit = torch.zeros(25, 1, 11, 11)
    for number in range(25):
        lit[number, 0, 3 + number // 5, 3 + number % 5] = 1
    twice = functional.interpolate(lit, scale_factor=2, mode="bilinear", align_corners=False)
    answer = functional.conv2d(twice, filters, stride=2, padding=3)[:, :, 5, 5]
    return answer.T.reshape(len(filters), 1, 5, 5)


def fix_norms(network: FaceNetwork, norms: Norms, pixels: Tensor) -> None:
    """Each batch norm's statistics from the first layer to the last, and the factors that undo them."""

    def fix(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))
        norm.running_var.copy_(inputs[0].var((0, 2, 3)))
        if norm in norms:
            factor, added = norms[norm]
            spread = torch.sqrt(norm.running_var + norm.eps)
            first = slice(len(factor))
            norm.weight[first] = factor * spread[first]
            norm.bias[first] = added + factor * norm.running_mean[first]

    watch(network, nn.BatchNorm2d, fix, pixels)
