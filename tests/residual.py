"""A small residual network for tests: one shortcut as it is, one through a convolution, one head.

Every tensor has the name of the node that makes it; needs onnx and onnxruntime of the extra ``test``.
"""

from __future__ import annotations

import functools

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from export.quantise import calibrate, quantise

from .networks import model_of

SIDE = 8
WEIGHTS = {
    "stem": (8, 3, 3, 3), "a": (8, 8, 3, 3), "b": (8, 8, 3, 3),
    "c": (8, 8, 3, 3), "d": (8, 8, 3, 3), "short": (8, 8, 1, 1), "head": (4, 8),
}  # fmt: skip
CONVOLUTIONS = ("stem", "a", "b", "c", "d", "short")

Floats = NDArray[np.float32]


def pictures(count: int, seed: int = 0) -> dict[str, Floats]:
    """An input of ``residual``: (count, 3, 8, 8) float32 under "image"."""
    rng = np.random.default_rng(seed)
    return {"image": rng.normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)}


def residual(**given: Floats) -> onnx.ModelProto:
    """From "image" (n, 3, 8, 8) to 4 "scores"; ``given`` replaces weights, by the names of layers."""
    nodes = [
        convolution("stem", "image"),
        node("Relu", "stem_relu", "stem"),
        convolution("a", "stem_relu"),
        node("Relu", "a_relu", "a"),
        convolution("b", "a_relu"),
        node("Add", "first_add", "b", "stem_relu"),
        node("Relu", "first", "first_add"),
        convolution("c", "first", strides=[2, 2]),
        node("Relu", "c_relu", "c"),
        convolution("d", "c_relu"),
        node("Conv", "short", "first", "short.weight", "short.bias", strides=[2, 2]),
        node("Add", "second_add", "short", "d"),
        node("Relu", "second", "second_add"),
        node("GlobalAveragePool", "pool", "second"),
        node("Flatten", "flat", "pool"),
        helper.make_node(
            "Gemm", ["flat", "head.weight", "head.bias"], ["scores"], name="head", transB=1
        ),
    ]
    rng = np.random.default_rng(0)
    constants: dict[str, Floats] = {}
    for name, shape in WEIGHTS.items():
        drawn = rng.normal(0, 0.2, shape).astype(np.float32)
        constants[f"{name}.weight"] = given.get(name, drawn)
        constants[f"{name}.bias"] = rng.normal(0, 0.2, shape[0]).astype(np.float32)
    return model_of(nodes, constants, {"image": ["n", 3, SIDE, SIDE]}, {"scores": ["n", 4]})


def node(kind: str, name: str, *inputs: str, **attributes: object) -> onnx.NodeProto:
    """A node that makes the tensor of its name."""
    return helper.make_node(kind, inputs, [name], name=name, **attributes)


def convolution(name: str, source: str, **attributes: object) -> onnx.NodeProto:
    """One of 3 x 3 with its weight, its bias and a margin."""
    return node("Conv", name, source, f"{name}.weight", f"{name}.bias", pads=[1] * 4, **attributes)


@functools.cache
def ranges() -> dict[str, float]:
    """Of the activations of ``residual``."""
    return calibrate(residual(), [pictures(2, seed) for seed in range(4)])


def quantised(*keep: str) -> onnx.ModelProto:
    """``residual`` in INT8, but for some layers."""
    return quantise(residual(), ranges(), keep)
