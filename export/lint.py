"""Holds an INT8 file to every rule of where Q/DQ may stand, and names the node that breaks one.

    python -m export.lint sdk/occam_sdk/models/*.int8.onnx

A graph that breaks them still runs, in float or slower, without a word: TensorRT fuses less, ONNX Runtime
falls back, OpenVINO adds conversions. So each rule is checked on the file itself.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from .quantise import (
    DEQUANTISE,
    LAYERS,
    QUANTISE,
    has_output_channels_first,
    made_by_heads,
    shortcuts,
)

MIN_OPSET: Final = 17
DEFAULT: Final = ("", "ai.onnx")  # two names of ONNX's own operators
FUSED: Final = ("Relu", "Clip")


@dataclass(frozen=True)
class Violation:
    """A rule that a graph breaks, and the node that does.

    Attributes:
        rule: short name of the rule, a key of ``RULES``.
        node: its name.
        what: in words.
    """

    rule: str
    node: str
    what: str


RULES: Final = {
    "opset": "opset 17 or newer",
    "names": "every node has a name, and no two the same",
    "zero-point": "zero-points are there and 0",
    "type": "quantised values are signed INT8",
    "scale": "scales are positive and finite",
    "activation-axis": "activations have one scale for the whole tensor",
    "weight-axis": "weights have a scale for each output channel, on axis 0",
    "weight-constant": "a weight is an INT8 constant behind a DequantizeLinear",
    "pairs": "a Q is read by DQ alone, a DQ reads a Q or a constant",
    "both": "a layer has its input and its weight dequantised, or neither",
    "bias": "bias is a float32 constant",
    "shortcut": "a residual addition reads its shortcut through Q/DQ",
    "fusion": "no Q/DQ between a convolution, the addition and the ReLU that are fused with it",
    "outputs": "no Q/DQ makes an output of the network",
    "heads": "a layer that makes an output is float32",
    "batch-norm": "batch norm is folded",
    "something": "at least one layer is quantised",
}


def lint(model: onnx.ModelProto) -> list[Violation]:
    """Every violation, in the order of the graph; an empty list is a clean graph."""
    return _Linter(model).violations()


def quantised_layers(model: onnx.ModelProto) -> int:
    """How many layers have their input and their weight dequantised."""
    return len(_Linter(model).quantised)


class _Linter:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._graph = model.graph
        self._constants = {tensor.name: tensor for tensor in self._graph.initializer}
        self._maker = {name: node for node in self._graph.node for name in node.output}
        self._readers: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self._graph.node:
            for name in node.input:
                self._readers[name].append(node)
        self._ends = {port.name for port in self._graph.output}
        self._of_heads = made_by_heads(self._graph)
        self.quantised = [
            node
            for node in self._graph.node
            if node.op_type in LAYERS and all(map(self._dequantised, node.input[:2]))
        ]
        self._found: list[Violation] = []

    def violations(self) -> list[Violation]:
        self._whole_graph()
        for node in self._graph.node:
            if node.op_type in (QUANTISE, DEQUANTISE):
                self._scale_and_zero(node)
                self._pair(node)
                if self._ends & set(node.output):
                    self._say("outputs", node, f"makes the output {node.output[0]!r}")
            if node.op_type in LAYERS:
                self._layer(node)
            if node.op_type == "BatchNormalization":
                self._say("batch-norm", node, "stands alone")
        self._residuals()
        return self._found

    def _say(self, rule: str, node: onnx.NodeProto, what: str) -> None:
        self._found.append(Violation(rule, node.name or f"unnamed {node.op_type}", what))

    def _dequantised(self, name: str) -> bool:
        return name in self._maker and self._maker[name].op_type == DEQUANTISE

    def _value(self, name: str) -> NDArray[Any] | None:
        return numpy_helper.to_array(self._constants[name]) if name in self._constants else None

    def _whole_graph(self) -> None:
        versions = [entry.version for entry in self._model.opset_import if entry.domain in DEFAULT]
        if not versions or min(versions) < MIN_OPSET:
            self._found.append(Violation("opset", "the model", f"is of opset {versions}"))
        seen: set[str] = set()
        for node in self._graph.node:
            if not node.name or node.name in seen:
                self._say("names", node, "has no name of its own")
            seen.add(node.name)
        if not self.quantised:
            self._found.append(Violation("something", "the model", "quantises no layer"))

    def _scale_and_zero(self, node: onnx.NodeProto) -> None:
        scale = self._value(node.input[1])
        if scale is None or not (np.isfinite(scale).all() and (scale > 0).all()):
            self._say("scale", node, "has a scale that is no positive constant")
        zero = self._value(node.input[2]) if len(node.input) > 2 else None
        if zero is None or np.any(zero):
            self._say("zero-point", node, "lacks a zero-point" if zero is None else "is not 0")
        if zero is not None and zero.dtype != np.int8:
            self._say("type", node, f"is of {zero.dtype}")
        if self._source(node.input[0]) not in self._constants:
            if scale is not None and scale.size != 1:
                self._say("activation-axis", node, f"has {scale.size} scales")
            return
        weight = self._value(node.input[0])
        if weight is None or node.op_type == QUANTISE:  # quantised at run time: see _pair
            return
        axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1)
        if weight.dtype != np.int8:
            self._say("type", node, f"reads a constant of {weight.dtype}")
        if scale is not None and (scale.shape != weight.shape[:1] or axis != 0):
            self._say(
                "weight-axis", node, f"has scales {scale.shape} on axis {axis} for {weight.shape}"
            )

    def _pair(self, node: onnx.NodeProto) -> None:
        if node.op_type == QUANTISE:
            others = [
                reader for reader in self._readers[node.output[0]] if reader.op_type != DEQUANTISE
            ]
            if others:
                self._say("pairs", node, f"is read by {others[0].op_type} {others[0].name}")
            if node.input[0] in self._constants:
                self._say("weight-constant", node, "quantises a constant at run time")
            return
        source = self._maker.get(node.input[0])
        if node.input[0] not in self._constants and (source is None or source.op_type != QUANTISE):
            self._say("pairs", node, "reads neither a QuantizeLinear nor a constant")
        elif source is not None and not self._same(source.input[1], node.input[1]):
            self._say("pairs", node, f"has another scale than {source.name}")

    def _same(self, name: str, other: str) -> bool:
        one, two = self._value(name), self._value(other)
        return name == other or (one is not None and two is not None and np.array_equal(one, two))

    def _layer(self, node: onnx.NodeProto) -> None:
        activation, weight = (self._dequantised(name) for name in node.input[:2])
        if activation != weight:
            half = "input" if activation else "weight"
            self._say("both", node, f"has only its {half} dequantised")
        if not activation and not weight:
            return
        if weight and self._maker[node.input[1]].input[0] not in self._constants:
            self._say("weight-constant", node, "has a weight that is computed")
        if weight and not has_output_channels_first(node):
            self._say("weight-axis", node, "has its output channels on axis 1 of its weight")
        if len(node.input) > 2 and node.input[2]:
            bias = self._value(node.input[2])
            if bias is None or bias.dtype != np.float32:
                kind = "computed" if bias is None else f"of {bias.dtype}"
                self._say("bias", node, f"has a bias that is {kind}")
        if self._of_heads & set(node.output):
            self._say("heads", node, f"makes {node.output[0]!r}: it is a head")

    def _residuals(self) -> None:
        residual = shortcuts(self._graph, [node.name for node in self.quantised])
        for add, side in residual:
            if not self._dequantised(add.input[side]):
                self._say("shortcut", add, f"reads {add.input[side]!r} without Q/DQ")
        additions = {add.output[0] for add, _ in residual}
        for node in self._graph.node:
            if node.op_type != "Add" or node.output[0] in additions:
                continue
            behind = [
                self._maker.get(self._source(name))
                for name in node.input
                if self._dequantised(name)
            ]
            if any(source in self.quantised for source in behind):
                self._say("fusion", node, "is cut off from its convolution by Q/DQ")
        for node in (*self.quantised, *(add for add, _ in residual)):
            if any(reader.op_type in FUSED for reader in self._behind_pairs(node.output[0])):
                self._say("fusion", node, "is cut off from its ReLU by Q/DQ")

    def _source(self, name: str) -> str:
        """The tensor before it went through Q/DQ."""
        while (node := self._maker.get(name)) and node.op_type in (QUANTISE, DEQUANTISE):
            name = node.input[0]
        return name

    def _behind_pairs(self, name: str) -> list[onnx.NodeProto]:
        """What reads a tensor through Q/DQ."""
        return [
            reader
            for q in self._readers[name] if q.op_type == QUANTISE
            for dq in self._readers[q.output[0]] if dq.op_type == DEQUANTISE
            for reader in self._readers[dq.output[0]]
        ]  # fmt: skip


def main() -> None:
    """Command line: one line a violation, exit code 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", help="INT8 ONNX files")
    broken = False
    for path in parser.parse_args().models:
        try:
            model = onnx.load(path)
        except Exception as error:  # protobuf has exceptions of its own
            parser.error(f"{path}: {error}")
        if not model.graph.node:  # an empty file reads as an empty model
            parser.error(f"{path}: holds no network")
        found = lint(model)
        for violation in found:
            print(f"{path}: {violation.node}: {violation.rule}: {violation.what}")
        if not found:
            print(f"{path}: clean, {quantised_layers(model)} layers in INT8")
        broken |= bool(found)
    sys.exit(int(broken))


if __name__ == "__main__":
    main()
