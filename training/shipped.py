"""The face network of a bundle in PyTorch: a run starts from it, or is taught by it, as by a run's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from occam_sdk.bundle import MANIFEST, load_bundle

from .network import ARCHITECTURES, FaceNetwork
from .pretrained import fix_norms


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds a bundle and not a run."""
    return (folder / MANIFEST).is_file()


@torch.no_grad()
def bundle_network(folder: Path) -> FaceNetwork:
    """The network of ``expression.onnx``, in float32: it computes just what the bundle does.

    A convolution of the file has swallowed the batch norm that followed it. Here each is followed by one
    that only adds what the convolution added; before it learns, ``measure_norms``.

    Raises:
        ValueError: the file holds a network of another shape than its manifest says.
    """
    bundle = load_bundle(folder)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    architecture = str(manifest["face"].get("architecture"))
    if architecture not in ARCHITECTURES:
        raise ValueError(f"{folder}: its face network is a {architecture}, not one of ours")
    network, state = FaceNetwork(architecture, size=bundle.face.input_size), {}
    for tensor in onnx.load_from_string(bundle.read("expression.onnx")).graph.initializer:
        state[tensor.name] = torch.from_numpy(numpy_helper.to_array(tensor).copy())
    for name, norm in network.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            neutral = {"running_mean": 0.0, "running_var": 1 - norm.eps, "weight": 1.0}
            for part, value in neutral.items():
                state[f"{name}.{part}"] = torch.full_like(norm.weight, value)
            state[f"{name}.num_batches_tracked"] = torch.tensor(0)
            convolution = f"{name.removesuffix('1')}0"
            if f"{convolution}.bias" in state:
                state[f"{name}.bias"] = state[f"{convolution}.bias"]
    try:
        network.load_state_dict({name: state[name] for name in network.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{folder}: expression.onnx is no {architecture} ({error})") from error
    return network.eval()


@torch.no_grad()
def measure_norms(network: FaceNetwork, pixels: Tensor) -> None:
    """Let every batch norm know its statistics, and undo them: the network computes what it did.

    Without it the first batch would be normalised to what the network has never seen.

    Args:
        network: of ``bundle_network``.
        pixels: (N, 1, S, S) standardised faces, some hundred.
    """
    norms = {}
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            spread = torch.sqrt(cast("Tensor", norm.running_var) + norm.eps)
            factor = norm.weight / spread
            norms[norm] = factor, norm.bias - factor * cast("Tensor", norm.running_mean)
    fix_norms(network, norms, pixels)


def bundle_scale(folder: Path) -> tuple[float, float]:
    """Grey mean and spread in [0, 1] that a bundle's face network knows."""
    face = load_bundle(folder).face
    return face.mean, face.std
