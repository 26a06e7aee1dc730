"""The published detector becomes one of the bundle without changing what it says."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra 'train' is not installed")
onnx = pytest.importorskip("onnx", reason="the extra 'export' is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
from numpy.typing import NDArray  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from export import centerface as module  # noqa: E402
from export.centerface import NAMES, free_sizes, modernised  # noqa: E402

Floats = NDArray[np.float32]
IMAGE = np.random.default_rng(9).normal(size=(2, 3, 5, 7)).astype(np.float32)


def published(
    group: int = 1, epsilon: float | None = None, *, bias: bool = False
) -> onnx.ModelProto:
    """A decoder as old exporters wrote it: opset 9, nodes without names, weights among the inputs.

    From "image" to 6 channels of twice the size, "out"; batch norm behind a transposed convolution.
    """
    rng = np.random.default_rng(0)
    make = helper.make_node
    norm = {} if epsilon is None else {"epsilon": epsilon}
    up = ["c", "w2", "b2"] if bias else ["c", "w2"]
    nodes = [
        make("Conv", ["image", "w1", "b1"], ["c"], pads=[1] * 4),
        make("ConvTranspose", up, ["up"], strides=[2, 2], group=group),
        make("BatchNormalization", ["up", "gamma", "beta", "mean", "variance"], ["n"], **norm),
        make("Relu", ["n"], ["out"]),
    ]
    values = {
        "w1": rng.normal(0, 0.3, (4, 3, 3, 3)), "b1": rng.normal(size=4),
        "w2": rng.normal(0, 0.3, (4, 8 // group, 2, 2)), "b2": rng.normal(size=8),
        "gamma": rng.normal(1, 0.5, 8), "beta": rng.normal(size=8), "mean": rng.normal(size=8),
        "variance": rng.uniform(1e-3, 2, 8), "unused": np.ones(3),
    }  # fmt: skip
    if not bias:
        del values["b2"]
    shapes: dict[str, tuple[int | str, ...]] = {"image": ("n", 3, "h", "w")}
    shapes |= {name: value.shape for name, value in values.items()}
    graph = helper.make_graph(
        nodes,
        "old",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 8, "y", "x"])],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)


def run(model: onnx.ModelProto, feed: Mapping[str, Floats]) -> Floats:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, dict(feed))[0])


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("epsilon", [None, 0.1])
def test_batch_norm_is_folded_into_the_transposed_convolution_before_it(
    group: int, epsilon: float | None
) -> None:
    expected = run(published(group, epsilon), {"image": IMAGE})
    model = modernised(published(group, epsilon))
    assert [node.op_type for node in model.graph.node] == ["Conv", "ConvTranspose", "Relu"]
    np.testing.assert_allclose(run(model, {"image": IMAGE}), expected, rtol=1e-4, atol=1e-5)


def test_the_graph_is_one_of_today() -> None:
    model = modernised(published())
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert [port.name for port in model.graph.input] == ["image"]
    assert {tensor.name for tensor in model.graph.initializer} == {"w1", "b1", "w2", "w2.bias"}
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert all(names)


def test_batch_norm_anywhere_else_is_refused() -> None:
    with pytest.raises(ValueError, match="ConvTranspose: no batch norm is expected after it"):
        modernised(published(bias=True))
    model = published()
    model.graph.node[2].input[0] = "c"
    with pytest.raises(ValueError, match="Conv: no batch norm is expected after it"):
        modernised(model)


def test_the_ends_get_their_names_and_free_sizes() -> None:
    first, *outputs = NAMES
    nodes = [helper.make_node("Identity", [first], [name]) for name in outputs]
    port = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "ends",
        [port(first, TensorProto.FLOAT, [1, 3, 32, 32])],
        [port(name, TensorProto.FLOAT, [1, 3, 32, 32]) for name in outputs],
    )
    model = free_sizes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    sizes = {
        port.name: [dim.dim_param or dim.dim_value for dim in port.type.tensor_type.shape.dim]
        for port in (*model.graph.input, *model.graph.output)
    }
    assert sizes.pop("image") == ["batch", 3, "height", "width"]
    assert sizes == {
        name: ["batch", 3, "height_quarter", "width_quarter"]
        for name in ("heatmap", "log_size", "offset", "landmarks")
    }
    onnx.checker.check_model(model)


def test_another_file_than_the_published_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "other.onnx", tmp_path / "detector.onnx"
    onnx.save(published(), source)
    monkeypatch.setattr(sys, "argv", ["centerface", str(source), str(target)])
    with pytest.raises(SystemExit, match=r"other\.onnx: expected the published file, SHA-256"):
        module.main()
    assert not target.exists()
