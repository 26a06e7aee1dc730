"""Cross-layer equalisation: the same network, with channels that use one scale equally well.

An activation has one INT8 scale for all of its channels, and a channel that never gets large keeps few of
the 255 steps. ReLU, addition and max-pooling let a positive factor through, so each channel may be divided
by a factor where it is made and multiplied by it where it is read, in the weights, and nothing changes in
float (Nagel et al. 2019). How much of the spread goes over into the weights, which have a scale for each
output channel, is the ``SHARE`` of SmoothQuant (Xiao et al. 2023).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

SHARE: Final = 0.7
LET_THROUGH: Final = ("Relu", "Add", "MaxPool", "Identity")
ERRORS_ONLY: Final = 3
Floats = NDArray[np.float32]


@dataclass(eq=False)
class _Channels:
    """Tensors that must share their channels' factors, and the convolutions around them."""

    made_by: list[onnx.NodeProto] = field(default_factory=list)
    read_by: list[onnx.NodeProto] = field(default_factory=list)
    fixed: bool = False


def equalise(
    model: onnx.ModelProto, feeds: Iterable[Mapping[str, Floats]], share: float = SHARE
) -> onnx.ModelProto:
    """The same function in float32, with weights and biases that suit INT8 better.

    Args:
        model: batch norm folded; convolutions are plain or depthwise, others are left alone.
        feeds: inputs to see the channels' ranges on.
        share: of a channel's spread that its weights take over, from 0 to 1.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    weights = {name: numpy_helper.to_array(tensor).copy() for name, tensor in constants.items()}
    groups = [
        channels
        for channels in _groups(graph, weights)
        if not channels.fixed and channels.made_by and channels.read_by
    ]
    ranges = _ranges(model, {node.input[0] for group in groups for node in group.read_by}, feeds)
    for channels in groups:
        seen = np.max([ranges[node.input[0]] for node in channels.read_by], axis=0)
        heard = np.max([_reach(weights[node.input[1]]) for node in channels.read_by], axis=0)
        used = (seen > 0) & (heard > 0)
        factor = np.ones(len(seen), np.float32)
        factor[used] = seen[used] ** share / heard[used] ** (1 - share)
        factor[used] /= np.exp(np.log(factor[used]).mean()) if used.any() else 1
        for node in channels.made_by:
            weights[node.input[1]] /= _along(factor, weights[node.input[1]], 0)
            if len(node.input) > 2:
                weights[node.input[2]] /= factor
        for node in channels.read_by:
            weight = weights[node.input[1]]
            weight *= _along(factor, weight, 0 if _is_depthwise(node, weight) else 1)
    for name, value in weights.items():
        constants[name].CopyFrom(numpy_helper.from_array(value, name))
    return changed


def _groups(graph: onnx.GraphProto, weights: Mapping[str, NDArray[Any]]) -> list[_Channels]:
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.setdefault(name, name) != name:
            name = root[name]
        return name

    for node in graph.node:
        if node.op_type in LET_THROUGH and not set(node.input) & weights.keys():
            for name in node.input:
                root[find(name)] = find(node.output[0])
    groups: defaultdict[str, _Channels] = defaultdict(_Channels)
    shared = {name for name in weights if sum(name in node.input for node in graph.node) > 1}
    for port in (*graph.input, *graph.output):
        groups[find(port.name)].fixed = True
    for node in graph.node:
        movable = node.op_type == "Conv" and node.input[1] in weights
        movable &= not shared & set(node.input)
        if movable and (_is_depthwise(node, weights[node.input[1]]) or _count(node) == 1):
            groups[find(node.input[0])].read_by.append(node)
            groups[find(node.output[0])].made_by.append(node)
        elif node.op_type not in LET_THROUGH or set(node.input) & weights.keys():
            for name in (*node.input, *node.output):
                groups[find(name)].fixed = True
    return list(groups.values())


def _count(node: onnx.NodeProto) -> int:
    return next((entry.i for entry in node.attribute if entry.name == "group"), 1)


def _is_depthwise(node: onnx.NodeProto, weight: NDArray[Any]) -> bool:
    return bool(weight.shape[1] == 1 and _count(node) == weight.shape[0] > 1)


def _reach(weight: NDArray[Any]) -> NDArray[np.float32]:
    """How much of its row's scale each input channel takes, at most: (channels,) in [0, 1]."""
    size = np.abs(weight.reshape(*weight.shape[:2], -1)).max(axis=2)
    if weight.shape[1] == 1:  # depthwise: a row for each channel
        return np.asarray(size[:, 0] > 0, np.float32)
    return np.asarray((size / np.maximum(size.max(axis=1, keepdims=True), 1e-12)).max(axis=0))


def _along(factor: Floats, weight: NDArray[Any], axis: int) -> Floats:
    return factor.reshape([-1 if side == axis else 1 for side in range(weight.ndim)])


def _ranges(
    model: onnx.ModelProto, tensors: set[str], feeds: Iterable[Mapping[str, Floats]]
) -> dict[str, Floats]:
    """Of each tensor, the largest magnitude of each channel over all inputs."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    if not tensors:
        return {}
    names = sorted(tensors)
    del watched.graph.output[:]
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: dict[str, Floats] = {}
    for feed in feeds:
        for name, value in zip(names, session.run(names, dict(feed)), strict=True):
            largest = np.abs(value).max(axis=(0, 2, 3))
            found[name] = np.maximum(found.get(name, largest), largest)
    return found
