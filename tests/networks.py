"""Small networks for tests, in float32 and INT8; needs onnx and onnxruntime of the extra ``test``."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.quantise import calibrate, quantise
from occam_sdk.backends import Network

SIDE = 16
INT8_LAYERS = 2  # convolutions; the head stays float32

Floats = NDArray[np.float32]


def pictures(count: int, seed: int = 0) -> dict[str, Floats]:
    """An input of ``small``: (count, 3, 16, 16) float32 under "image"."""
    rng = np.random.default_rng(seed)
    return {"image": rng.normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)}


def model_of(
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, NDArray[np.generic]],
    inputs: Mapping[str, list[int | str]],
    outputs: Mapping[str, list[int | str]],
) -> onnx.ModelProto:
    """A checked model; shapes may hold names."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def small() -> onnx.ModelProto:
    """Two convolutions of 16 channels and a head of 4 "scores"."""
    rng = np.random.default_rng(0)
    make = helper.make_node
    nodes = [
        make("Conv", ["image", "w1", "b1"], ["c1"], name="first", pads=[1] * 4),
        make("Relu", ["c1"], ["r1"], name="relu1"),
        make("Conv", ["r1", "w2", "b2"], ["c2"], name="second", pads=[1] * 4),
        make("Relu", ["c2"], ["r2"], name="relu2"),
        make("GlobalAveragePool", ["r2"], ["pooled"], name="pool"),
        make("Flatten", ["pooled"], ["flat"], name="flatten"),
        make("Gemm", ["flat", "w3", "b3"], ["scores"], name="head", transB=1),
    ]
    shapes = {
        "w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 16, 3, 3), "b2": (16,), "w3": (4, 16), "b3": (4,)
    }  # fmt: skip
    constants = {
        name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()
    }
    return model_of(nodes, constants, {"image": ["n", 3, SIDE, SIDE]}, {"scores": ["n", 4]})


@functools.cache
def contents() -> tuple[bytes, bytes]:
    """The bytes of ``small`` in float32 and in INT8."""
    model = small()
    ranges = calibrate(model, [pictures(1, seed) for seed in range(8)])
    return model.SerializeToString(), quantise(model, ranges).SerializeToString()


def small_network(*, int8_layers: int = INT8_LAYERS, prefers_int8: bool = True) -> Network:
    """``small`` as a bundle would hand it over."""
    float32, int8 = contents()
    return Network("small", float32, int8, int8_layers, prefers_int8)


def fully_quantised() -> Network:
    """One convolution with Q/DQ on all sides, the form that ONNX Runtime's INT8 kernels ask for.

    Input and output are (1, 3, 8, 8) and (1, 8, 6, 6), "x" and "y".
    """
    rng = np.random.default_rng(1)
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        make("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        make("DequantizeLinear", ["wq", "wscale", "wzero"], ["wd"], axis=0),
        make("Conv", ["xd", "wd"], ["c"], name="only"),
        make("QuantizeLinear", ["c", "scale", "zero"], ["cq"]),
        make("DequantizeLinear", ["cq", "scale", "zero"], ["y"]),
    ]
    constants = {
        "scale": np.array(0.05, np.float32),
        "zero": np.array(0, np.int8),
        "wq": rng.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8),
        "wscale": np.full(8, 0.002, np.float32),
        "wzero": np.zeros(8, np.int8),
    }
    content = model_of(nodes, constants, {"x": [1, 3, 8, 8]}, {"y": [1, 8, 6, 6]})
    return Network("one", content.SerializeToString(), content.SerializeToString(), int8_layers=1)
