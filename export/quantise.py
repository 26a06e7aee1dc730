"""Post-training quantisation to explicit Q/DQ: one INT8 file that three runtimes read.

Signed INT8 with zero-point 0, activations per tensor, weights per output channel, bias in float32. What is
quantised is the input and the weight of a layer, and the shortcut of a residual addition, so that
convolution, addition and ReLU stay one kernel; everything else is float32. ONNX Runtime's calibrator
measures the ranges; where Q/DQ stand is decided here, and ``export.lint`` holds the file to it.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

LAYERS: Final = ("Conv", "Gemm")
QUANTISE, DEQUANTISE = "QuantizeLinear", "DequantizeLinear"
LIMIT: Final = 127  # -128 is left out: symmetric
ZERO: Final = "int8.zero"
PERCENTILE: Final = 99.999  # of what is seen; the rest saturates
AT_ONCE: Final = 4  # inputs whose every tensor is held in memory
Feeds = Iterable[Mapping[str, NDArray[np.float32]]]


def layers(model: onnx.ModelProto) -> list[str]:
    """Names of the layers that can be quantised, in order: constant weights, output channels first.

    A layer that makes an output of the network is a head, and stays float32.
    """
    constant = {tensor.name for tensor in model.graph.initializer}
    ends = made_by_heads(model.graph)
    return [
        node.name
        for node in model.graph.node
        if node.op_type in LAYERS
        and node.input[1] in constant
        and node.output[0] not in ends
        and has_output_channels_first(node)
    ]


def made_by_heads(graph: onnx.GraphProto) -> set[str]:
    """The outputs of a network, and what is only divided to become one, as the voice's logits are."""
    ends = {port.name for port in graph.output}
    ends |= {n.input[0] for n in graph.node if n.op_type == "Div" and n.output[0] in ends}
    return ends


def has_output_channels_first(layer: onnx.NodeProto) -> bool:
    """Whether axis 0 of a layer's weight is that of its output channels."""
    transposed = next((entry.i for entry in layer.attribute if entry.name == "transB"), 0)
    return layer.op_type == "Conv" or bool(transposed)


def calibrate(model: onnx.ModelProto, feeds: Feeds) -> dict[str, float]:
    """The largest magnitude that counts of every tensor, over the inputs in ``feeds``."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        calibrator = create_calibrator(
            path,
            sorted({node.op_type for node in model.graph.node}),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"symmetric": True, "percentile": PERCENTILE},
        )
        for _, alike in itertools.groupby(feeds, _shapes):  # the calibrator stacks what it gets
            while some := list(itertools.islice(alike, AT_ONCE)):
                calibrator.collect_data(_Reader(some))
        found = calibrator.compute_data().data
    return {
        name: float(max(np.abs(np.asarray(bound)).max() for bound in tensor.range_value))
        for name, tensor in found.items()
    }


def _shapes(feed: Mapping[str, NDArray[np.float32]]) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in feed.items()}


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # untyped base class
    def __init__(self, feeds: Feeds) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Mapping[str, NDArray[np.float32]] | None:
        return next(self._feeds, None)


def quantise(
    model: onnx.ModelProto, ranges: Mapping[str, float], keep: Collection[str] = ()
) -> onnx.ModelProto:
    """The same network with Q/DQ.

    Args:
        model: float32, batch norm folded, every node named.
        ranges: of the activations, from ``calibrate``.
        keep: names of layers that stay float32.

    Raises:
        ValueError: ``keep`` names no such layer, nothing is left to quantise, or a node has no name of
            its own.
    """
    names = [node.name for node in model.graph.node]
    if "" in names or len(set(names)) < len(names):
        raise ValueError("every node needs a name, and no two the same")
    if unknown := set(keep) - set(layers(model)):
        raise ValueError(f"keep: no layers of this network: {', '.join(sorted(unknown))}")
    chosen = set(layers(model)) - set(keep)
    if not chosen:
        raise ValueError("nothing is left to quantise")
    maker = _Maker(model, ranges)
    residual = shortcuts(maker.graph, chosen)
    for node in maker.graph.node:
        if node.name in chosen:
            node.input[0] = maker.activation(node.input[0])
            node.input[1] = maker.weight(node.input[1])
    for add, side in residual:
        add.input[side] = maker.activation(add.input[side])
    return maker.finished()


def shortcuts(
    graph: onnx.GraphProto, quantised: Collection[str]
) -> list[tuple[onnx.NodeProto, int]]:
    """The residual additions after a quantised convolution, and which input is the shortcut.

    The other input is the convolution that a kernel fuses the addition into: the deeper of the two,
    where the shortcut is a convolution as well. A constant is no shortcut. Q/DQ that are there already
    change nothing.
    """
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    convolutions = {node.output[0] for node in graph.node if node.op_type in LAYERS}
    fused = {node.output[0] for node in graph.node if node.name in quantised}
    depth: dict[str, int] = {}
    for node in graph.node:
        for name in node.output:
            longest = max((depth.get(source, 0) for source in node.input), default=0)
            depth[name] = longest + (node.op_type not in (QUANTISE, DEQUANTISE))
    found = []
    for node in graph.node:
        if node.op_type == "Add" and not constants & set(node.input):
            sides = [side for side in (0, 1) if node.input[side] in convolutions]
            main = max(sides, key=lambda side: depth[node.input[side]], default=None)
            if main is not None and node.input[main] in fused:
                found.append((node, 1 - main))
    return found


class _Maker:
    """A copy of a graph that grows Q/DQ."""

    def __init__(self, model: onnx.ModelProto, ranges: Mapping[str, float]) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self.graph = self._model.graph
        self._ranges = ranges
        self._constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self._made: dict[str, str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._store(ZERO, np.array(0, np.int8))

    def activation(self, name: str) -> str:
        """A pair Q/DQ on a tensor, one for all that read it."""
        if name not in self._made:
            scale = f"{name}.scale"
            self._store(scale, np.array(max(self._ranges[name], 1e-6) / LIMIT, np.float32))
            between, end = f"{name}.int8", f"{name}.dequantised"
            self._node(QUANTISE, [name, scale, ZERO], between)
            self._node(DEQUANTISE, [between, scale, ZERO], end)
            self._made[name] = end
        return self._made[name]

    def weight(self, name: str) -> str:
        """The INT8 constant with a scale for each output channel, dequantised."""
        if name not in self._made:
            value = numpy_helper.to_array(self._constants[name])
            flat = np.abs(value.reshape(len(value), -1)).max(axis=1)
            scale = np.maximum(flat, 1e-12).astype(np.float32) / np.float32(LIMIT)
            shaped = scale.reshape(-1, *[1] * (value.ndim - 1))
            whole = np.clip(np.rint(value / shaped), -LIMIT, LIMIT).astype(np.int8)
            self._store(f"{name}.int8", whole)
            self._store(f"{name}.scale", scale)
            self._store(f"{name}.zero", np.zeros(len(value), np.int8))
            inputs = [f"{name}.int8", f"{name}.scale", f"{name}.zero"]
            self._node(DEQUANTISE, inputs, f"{name}.dequantised", axis=0)
            self._made[name] = f"{name}.dequantised"
        return self._made[name]

    def finished(self) -> onnx.ModelProto:
        """The graph in order, without what nothing reads."""
        nodes = [*self.graph.node, *self._nodes]
        read = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in read]
        known = {tensor.name for tensor in kept} | {port.name for port in self.graph.input} | {""}
        ordered: list[onnx.NodeProto] = []
        while nodes:
            ready = [node for node in nodes if known.issuperset(node.input)]
            known.update(name for node in ready for name in node.output)
            ordered += ready
            nodes = [node for node in nodes if not known.issuperset(node.output)]
        for field, content in (("node", ordered), ("initializer", kept)):
            del getattr(self.graph, field)[:]
            getattr(self.graph, field).extend(content)
        del self.graph.value_info[:]
        onnx.checker.check_model(self._model, full_check=True)
        return self._model

    def _store(self, name: str, value: NDArray[Any]) -> None:
        self.graph.initializer.append(numpy_helper.from_array(value, name))

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self._nodes.append(
            helper.make_node(kind, inputs, [output], name=f"{output}/{kind}", **attributes)
        )
