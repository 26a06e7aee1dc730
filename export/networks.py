"""Checkpoints to ONNX: opset 18, any batch size, batch norm folded into the convolutions."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from occam_sdk.video.faces import GRID
from training.detector.network import OUTPUTS, DetectorNetwork
from training.network import FaceNetwork
from training.voice import AnyVoice

OPSET: Final = 18
Module = TypeVar("Module", bound=nn.Module)
FACE_OUTPUTS: Final = ("embedding", "emotion", "valence_arousal", "ferplus")


def expression_onnx(network: FaceNetwork) -> bytes:
    """``image`` (N, 1, S, S) to ``FACE_OUTPUTS``."""
    example = torch.zeros(2, 1, network.size, network.size)
    return _export(folded(network), example, "image", FACE_OUTPUTS)


def voice_onnx(network: AnyVoice) -> bytes:
    """``features`` (N, F) to ``emotion`` (N, 7) logits.

    A forest becomes gathers and comparisons: not every runtime knows ONNX's operator for trees.
    """
    return _export(network, torch.zeros(2, network.features), "features", ("emotion",))


def detector_onnx(network: DetectorNetwork) -> bytes:
    """``image`` (N, 3, H, W) BGR in [0, 255], sides multiples of 32, to ``OUTPUTS``."""
    sizes = {
        2: GRID * torch.export.Dim("rows", min=1),
        3: GRID * torch.export.Dim("columns", min=1),
    }
    example = torch.zeros(2, 3, 4 * GRID, 6 * GRID)
    return _export(network, example, "image", OUTPUTS, sizes)


def folded(network: Module) -> Module:
    """A copy in which every convolution has swallowed the batch norm that follows it."""
    network = copy.deepcopy(network).eval()
    for parent in network.modules():
        if isinstance(parent, nn.Sequential) and len(parent) == 2:
            first, second = parent
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                parent[0] = fuse_conv_bn_eval(first, second)
                parent[1] = nn.Identity()
    return network


def _export(
    network: nn.Module,
    example: torch.Tensor,
    name: str,
    outputs: tuple[str, ...],
    sizes: Mapping[int, Any] | None = None,
) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            network.eval().to(memory_format=torch.contiguous_format),
            (example,),
            path,
            opset_version=OPSET,
            input_names=[name],
            output_names=list(outputs),
            dynamic_shapes=({0: torch.export.Dim("batch"), **(sizes or {})},),
            external_data=False,
            verbose=False,
        )
        model = onnx.load(path)
    # The exporter writes the source line of every node, with its path on the exporting machine.
    for part in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
        *model.graph.initializer,
    ):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
