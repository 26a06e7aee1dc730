"""A small network that begins as a trained larger one, of which blocks and channels are left out.

So the lite network starts with what the wide one has learnt of expressions, instead of with what dlib's
knows of faces, and can still be taught by it (``training.distil``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from .network import HEADS, Architecture, BasicBlock, FaceNetwork, kept_blocks, watch
from .pretrained import fix_norms


def can_cut(larger: Architecture, smaller: Architecture) -> bool:
    """Whether a network of one architecture is one of the other with blocks and channels left out."""
    one, other = (
        (shape.size, shape.stem, shape.centred, shape.widths[0]) for shape in (larger, smaller)
    )
    sizes = zip(smaller.widths + smaller.blocks, larger.widths + larger.blocks, strict=True)
    return one == other and all(here <= there for here, there in sizes)


@torch.no_grad()
def cut(larger: FaceNetwork, network: FaceNetwork, pixels: Tensor) -> None:
    """Give ``network`` the weights of a larger one, as far as it has room.

    Of a stage with fewer blocks, its last but one are left out. Of fewer channels, those stay whose mean
    square, times that of the filters that take them in, is the largest.

    Args:
        larger: trained; of an architecture that ``can_cut`` agrees to.
        network: all its weights are replaced.
        pixels: (N, 1, S, S) standardised faces, some hundred, on which channels and batch norms are
            measured.
    """
    squares = _mean_squares(larger, pixels)
    _take(network.stem, larger.stem)
    all_blocks, here = list(_stages(larger)), _stages(network)
    readers = [stage[0].conv1 for stage in all_blocks[1:]] + [larger.widen]
    before = torch.arange(network.architecture.widths[0])
    for blocks, there, reader in zip(here, all_blocks, readers, strict=True):
        stay = _strongest(reader, squares, _width(blocks[0]))
        chosen = kept_blocks(len(blocks), len(there))
        for block, other in zip(blocks, (there[number] for number in chosen), strict=True):
            inner = _strongest(other.conv2, squares, _width(block))
            _take(block.conv1, other.conv1, inner, before)
            _take(block.conv2, other.conv2, stay, inner)
            if isinstance(block.shortcut, nn.Sequential):
                _take(block.shortcut, other.shortcut, stay, before)
            before = stay
    _take(network.widen, larger.widen, None, before)
    for name in HEADS:
        getattr(network, name).load_state_dict(getattr(larger, name).state_dict())
    fix_norms(network, {}, pixels)


def _stages(network: FaceNetwork) -> Iterator[list[BasicBlock]]:
    blocks = [cast("BasicBlock", block) for block in network.stages]
    for count in network.architecture.blocks:
        yield blocks[:count]
        blocks = blocks[count:]


def _width(block: BasicBlock) -> int:
    return cast("nn.Conv2d", block.conv2[0]).out_channels


def _mean_squares(network: FaceNetwork, pixels: Tensor) -> dict[nn.Module, Tensor]:
    """Of each channel that a convolution takes in, over the faces."""
    squares: dict[nn.Module, Tensor] = {}

    def measure(convolution: nn.Module, inputs: tuple[Tensor]) -> None:
        squares[convolution] = inputs[0].square().mean((0, 2, 3))

    watch(network, nn.Conv2d, measure, pixels)
    return squares


def _strongest(reader: nn.Module, squares: dict[nn.Module, Tensor], count: int) -> Tensor:
    """Which ``count`` channels matter most to a convolution, in their order."""
    convolution = cast("nn.Conv2d", cast("nn.Sequential", reader)[0])
    worth = squares[convolution] * convolution.weight.square().sum((0, 2, 3))
    return worth.topk(count).indices.sort().values


def _take(
    part: nn.Module, other: nn.Module, stay: Tensor | None = None, before: Tensor | None = None
) -> None:
    """The convolution and batch norm of another, those channels of what goes out and of what comes in."""
    for name, value in other.state_dict().items():
        some = value if stay is None or not value.ndim else value[stay]
        some = some if before is None or some.ndim < 4 else some[:, before]
        part.state_dict()[name].copy_(some)
