"""Quantisation to explicit Q/DQ, against what NumPy makes of the same definition, one step at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="the extra 'test' is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'test' is not installed")
from numpy.typing import NDArray  # noqa: E402
from onnx import numpy_helper  # noqa: E402

from export.lint import lint, quantised_layers  # noqa: E402
from export.quantise import AT_ONCE, calibrate, layers, quantise, shortcuts  # noqa: E402

from .networks import model_of  # noqa: E402
from .residual import (  # noqa: E402
    CONVOLUTIONS,
    WEIGHTS,
    convolution,
    node,
    pictures,
    quantised,
    ranges,
    residual,
)

Floats = NDArray[np.float32]


def run(model: onnx.ModelProto, feed: Mapping[str, Floats]) -> dict[str, Floats]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors: it tells of every constant that it folds
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feed)), strict=True))


def constants(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def one_layer(weight: Floats, bias: Floats | None = None) -> onnx.ModelProto:
    """A convolution "c" of "image", and a ReLU that makes "out"."""
    parts = {"weight": weight} | ({} if bias is None else {"bias": bias})
    nodes = [node("Conv", "c", "image", *parts), node("Relu", "out", "c")]
    ports = {"image": ["n", weight.shape[1], "h", "w"]}, {"out": ["n", len(weight), "y", "x"]}
    return model_of(nodes, parts, *ports)


# The oracle: the network of ``residual``, slowly


def fake(value: Floats, limit: float) -> Floats:
    """What Q and DQ with a scale of limit / 127 leave of a tensor."""
    step = np.float32(limit / 127)
    return np.clip(np.rint(value / step), -128, 127).astype(np.float32) * step


def fake_weight(weight: Floats) -> Floats:
    return np.stack([fake(channel, float(np.abs(channel).max())) for channel in weight])


def convolved(value: Floats, weight: Floats, bias: Floats, stride: int = 1) -> Floats:
    margin = weight.shape[-1] // 2
    padded = np.pad(value, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(2, 3))
    seen = windows[:, :, ::stride, ::stride]
    out = np.einsum("nihwyx,oiyx->nohw", seen, weight, optimize=True)
    return (out + bias[:, None, None]).astype(np.float32)


def oracle(image: Floats, limits: Mapping[str, float] | None) -> dict[str, Floats]:
    """Every tensor of the network: in INT8 with these limits, or in float32."""
    values = constants(residual())

    def conv(name: str, value: Floats, stride: int = 1) -> Floats:
        weight = np.asarray(values[f"{name}.weight"], np.float32)
        weight = weight if limits is None else fake_weight(weight)
        return convolved(value, weight, np.asarray(values[f"{name}.bias"], np.float32), stride)

    def q(name: str) -> Floats:
        return out[name] if limits is None else fake(out[name], limits[name])

    def relu(name: str) -> Floats:
        return np.maximum(out[name], 0)

    out = {"image": image}
    out["stem"] = conv("stem", q("image"))
    out["stem_relu"] = relu("stem")
    out["a"] = conv("a", q("stem_relu"))
    out["a_relu"] = relu("a")
    out["b"] = conv("b", q("a_relu"))
    out["first_add"] = out["b"] + q("stem_relu")
    out["first"] = relu("first_add")
    out["c"] = conv("c", q("first"), stride=2)
    out["c_relu"] = relu("c")
    out["d"] = conv("d", q("c_relu"))
    out["short"] = conv("short", q("first"), stride=2)
    out["second_add"] = q("short") + out["d"]
    out["second"] = relu("second_add")
    flat = out["second"].mean((2, 3))
    out["scores"] = flat @ values["head.weight"].T + values["head.bias"]
    return out


def test_the_oracle_is_the_network() -> None:
    feed = pictures(3, seed=7)
    expected = run(residual(), feed)["scores"]
    np.testing.assert_allclose(oracle(feed["image"], None)["scores"], expected, atol=1e-4)


def test_the_quantised_network_says_what_the_oracle_says() -> None:
    """A sum of products that lies on a half step may be rounded to either side: not more."""
    feed = pictures(16, seed=8)
    said = run(quantised(), feed)["scores"]
    expected = oracle(feed["image"], ranges())["scores"]
    step = ranges()["short"] / 127
    np.testing.assert_allclose(said, expected, atol=step / 4)
    assert np.median(np.abs(said - expected)) < 1e-4


def test_the_quantised_network_says_nearly_what_the_network_says() -> None:
    feed = pictures(16, seed=9)
    said, expected = (run(model, feed)["scores"] for model in (quantised(), residual()))
    assert np.abs(said - expected).max() < 0.1 * expected.std()
    assert np.abs(said - expected).max() > 0


# Weights


def test_a_weight_is_off_by_half_a_step_of_its_channel_at_most() -> None:
    rng = np.random.default_rng(0)
    spread = np.logspace(-6, 4, 12, dtype=np.float32)  # each channel in a range of its own
    weight = rng.normal(size=(12, 3, 3, 3)).astype(np.float32) * spread[:, None, None, None]
    found = constants(quantise(one_layer(weight), {"image": 1.0}))
    whole, scale = found["weight.int8"], found["weight.scale"]
    assert (whole.dtype, scale.dtype) == (np.int8, np.float32)
    np.testing.assert_allclose(scale, np.abs(weight).max((1, 2, 3)) / 127, rtol=1e-6)
    step = scale[:, None, None, None]
    assert (np.abs(whole * step - weight) <= 0.5001 * step).all()


def test_weights_are_symmetric_and_use_every_step() -> None:
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(16, 3, 3, 3)).astype(np.float32)
    ints = constants(quantise(one_layer(weight), {"image": 1.0}))["weight.int8"]
    mirrored = constants(quantise(one_layer(-weight), {"image": 1.0}))["weight.int8"]
    np.testing.assert_array_equal(ints, -mirrored)
    assert (np.abs(ints.astype(int)).max((1, 2, 3)) == 127).all()  # and never -128


def test_a_channel_of_zeros_stays_zero() -> None:
    weight = np.ones((3, 1, 1, 1), np.float32)
    weight[1] = 0
    bias = np.array([0, 5, 0], np.float32)
    model = quantise(one_layer(weight, bias), {"image": 1.0})
    assert constants(model)["weight.scale"][1] > 0
    said = run(model, {"image": np.ones((1, 1, 1, 1), np.float32)})["out"]
    np.testing.assert_allclose(said.ravel(), [1, 5, 1], rtol=1e-6)


def test_biases_are_left_as_they_are() -> None:
    before, after = constants(residual()), constants(quantised())
    for name in WEIGHTS:
        np.testing.assert_array_equal(after[f"{name}.bias"], before[f"{name}.bias"])


# Where Q/DQ stand


def test_there_is_one_pair_for_a_tensor_however_often_it_is_read() -> None:
    """ "stem_relu" is read by a convolution and as a shortcut, "first" by two convolutions."""
    graph = quantised().graph
    read = [node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert sorted(read) == ["a_relu", "c_relu", "first", "image", "short", "stem_relu"]
    assert kinds(quantised())["DequantizeLinear"] == len(read) + len(CONVOLUTIONS)


def test_a_weight_that_two_layers_share_is_stored_once() -> None:
    nodes = [
        node("Conv", "one", "image", "weight"),
        node("Conv", "two", "one", "weight"),
        node("Relu", "out", "two"),
    ]
    weight = np.ones((2, 2, 1, 1), np.float32)
    ports = {"image": ["n", 2, 4, 4]}, {"out": ["n", 2, 4, 4]}
    model = quantise(model_of(nodes, {"weight": weight}, *ports), {"image": 1.0, "one": 2.0})
    assert quantised_layers(model) == 2
    assert kinds(model)["DequantizeLinear"] == 3
    assert lint(model) == []
    half = quantise(model_of(nodes, {"weight": weight}, *ports), {"image": 1.0}, keep=["two"])
    np.testing.assert_array_equal(constants(half)["weight"], weight)


@pytest.mark.parametrize("kept", [(name,) for name in CONVOLUTIONS] + [CONVOLUTIONS[1:]], ids=str)
def test_a_layer_that_is_kept_is_what_it_was(kept: tuple[str, ...]) -> None:
    before, after = residual(), quantised(*kept)
    nodes = {node.name: node for node in after.graph.node}
    for name in kept:
        (was,) = (node for node in before.graph.node if node.name == name)
        assert nodes[name] == was
        weight = f"{name}.weight"
        np.testing.assert_array_equal(constants(after)[weight], constants(before)[weight])
    assert quantised_layers(after) == len(CONVOLUTIONS) - len(kept)


def test_keeping_a_layer_brings_its_output_nearer() -> None:
    feed = pictures(16, seed=3)
    exact = run(residual(), feed)["scores"]
    all_of_them, but_most = (
        np.abs(run(model, feed)["scores"] - exact).mean()
        for model in (quantised(), quantised(*CONVOLUTIONS[1:]))
    )
    assert but_most < all_of_them


def test_heads_are_no_layers_to_quantise() -> None:
    assert layers(residual()) == list(CONVOLUTIONS)
    nodes = {node.name: node for node in quantised().graph.node}
    assert list(nodes["head"].input) == ["flat", "head.weight", "head.bias"]


def test_layers_have_constant_weights_with_output_channels_first() -> None:
    nodes = [
        node("Conv", "computed", "image", "kernel"),
        node("GlobalAveragePool", "pool", "computed"),
        node("Flatten", "flat", "pool"),
        node("Gemm", "untransposed", "flat", "matrix"),
        node("Gemm", "transposed", "untransposed", "matrix", transB=1),
        node("Relu", "out", "transposed"),
    ]
    inputs: dict[str, list[int | str]] = {"image": ["n", 2, 4, 4], "kernel": [2, 2, 1, 1]}
    weight = {"matrix": np.ones((2, 2), np.float32)}
    assert layers(model_of(nodes, weight, inputs, {"out": ["n", 2]})) == ["transposed"]


def test_a_layer_that_is_only_divided_to_make_an_output_is_a_head() -> None:
    weight = np.ones((2, 2), np.float32)
    nodes = [
        onnx.helper.make_node("Gemm", ["image", "weight"], ["inner"], name="one", transB=1),
        onnx.helper.make_node("Gemm", ["inner", "weight"], ["logits"], name="two", transB=1),
        onnx.helper.make_node("Div", ["logits", "image"], ["out"], name="less sure"),
    ]
    ports = {"image": ["n", 2]}, {"out": ["n", 2]}
    assert layers(model_of(nodes, {"weight": weight}, *ports)) == ["one"]


def test_ports_names_and_any_batch_size_are_kept() -> None:
    before, after = residual(), quantised()
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    assert [entry.version for entry in after.opset_import] == [17]
    many = pictures(7, seed=2)["image"]
    together = run(after, {"image": many})["scores"]
    alone = [run(after, {"image": image[None]})["scores"][0] for image in many]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_no_float32_weight_is_left_behind() -> None:
    assert not {f"{name}.weight" for name in CONVOLUTIONS} & set(constants(quantised()))
    assert quantised().ByteSize() < 0.65 * residual().ByteSize()


def test_the_model_that_is_given_is_not_changed() -> None:
    model = residual()
    before = model.SerializeToString(deterministic=True)
    quantise(model, ranges())
    assert model.SerializeToString(deterministic=True) == before


def test_the_same_input_gives_the_same_bytes() -> None:
    feeds = [pictures(2, seed) for seed in range(6)]
    once, again = (
        quantise(residual(), calibrate(residual(), feeds), ["c"]).SerializeToString()
        for _ in range(2)
    )
    assert once == again


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (["a", "nobody", "else"], "no layers of this network: else, nobody"),
        (["head"], "no layers of this network: head"),
        (CONVOLUTIONS, "nothing is left"),
    ],
    ids=str,
)
def test_what_cannot_be_kept_is_refused(keep: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantised(*keep)


def test_a_quantised_network_is_not_quantised_again() -> None:
    with pytest.raises(ValueError, match="nothing is left"):
        quantise(quantised(), ranges())


@pytest.mark.parametrize("name", ["", "a"])
def test_nodes_that_no_name_tells_apart_are_refused(name: str) -> None:
    model = residual()
    model.graph.node[1].name = name
    with pytest.raises(ValueError, match="every node needs a name, and no two the same"):
        quantise(model, ranges())


# Shortcuts


def found(graph: onnx.GraphProto, *kept: str) -> dict[str, int]:
    names = {node.name for node in graph.node if node.op_type == "Conv"} - set(kept)
    return {add.name: side for add, side in shortcuts(graph, names)}


def joined(left: str, right: str) -> onnx.GraphProto:
    """An addition "sum" of two of: "image", "conv", "relu" of it, "deep", a convolution of that."""
    nodes = [
        convolution("conv", "image"),
        node("Relu", "relu", "conv"),
        convolution("deep", "relu"),
        node("Relu", "deep_relu", "deep"),
        node("Add", "sum", left, right),
        node("Relu", "out", "sum"),
    ]
    square, row = np.ones((3, 3, 3, 3), np.float32), np.ones(3, np.float32)
    values = {"conv.weight": square, "conv.bias": row, "deep.weight": square, "deep.bias": row}
    values["constant"] = np.ones((3, 1, 1), np.float32)
    ports = {"image": ["n", 3, 8, 8]}, {"out": ["n", 3, 8, 8]}
    return model_of(nodes, values, *ports).graph


@pytest.mark.parametrize(
    ("left", "right", "side"),
    [
        ("deep", "image", 1),
        ("image", "deep", 0),
        ("deep", "relu", 1),
        ("deep", "conv", 1),  # of two convolutions, the deeper one is fused with the addition
        ("conv", "deep", 0),
        ("relu", "deep_relu", None),  # as where a feature pyramid adds its levels
        ("deep", "constant", None),  # a bias
        ("constant", "deep", None),
    ],
)
def test_the_shortcut_is_the_side_that_is_not_fused(
    left: str, right: str, side: int | None
) -> None:
    assert found(joined(left, right)) == ({} if side is None else {"sum": side})


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ((), {"first_add": 1, "second_add": 0}),
        (("b",), {"second_add": 0}),
        (("d",), {"first_add": 1}),
        (("short",), {"first_add": 1, "second_add": 0}),  # the addition still is in INT8
        (("b", "d"), {}),
    ],
    ids=str,
)
def test_an_addition_to_a_layer_in_float32_has_no_shortcut(
    kept: tuple[str, ...], expected: dict[str, int]
) -> None:
    assert found(residual().graph, *kept) == expected
    assert found(quantised(*kept).graph, *kept) == expected  # Q/DQ that are there change nothing


# Ranges


def test_ranges_are_the_largest_magnitudes() -> None:
    """But for the width of a bin: on little data no percentile leaves anything out."""
    feeds = [pictures(3, seed) for seed in range(10)]
    seen = [oracle(feed["image"], None) for feed in feeds]
    limits = calibrate(residual(), feeds)
    for name in seen[0]:
        largest = max(float(np.abs(values[name]).max()) for values in seen)
        assert limits[name] == pytest.approx(largest, rel=2e-3), name


def test_of_very_many_values_a_single_one_does_not_count() -> None:
    model = one_layer(np.ones((1, 1, 1, 1), np.float32))
    image = np.random.default_rng(0).uniform(-1, 1, (1, 1, 500, 500)).astype(np.float32)
    image[0, 0, 250, 250] = 100
    assert calibrate(model, [{"image": image}])["image"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("loud", [0, 5, 2 * AT_ONCE], ids="loudest at {}".format)
def test_ranges_cover_every_input(loud: int) -> None:
    """A histogram that has to grow may lose the very largest value, but not the others like it."""
    feeds = [pictures(2, seed) for seed in range(2 * AT_ONCE + 1)]
    feeds[loud]["image"] *= 10
    largest = float(np.abs(feeds[loud]["image"]).max())
    assert calibrate(residual(), iter(feeds))["image"] == pytest.approx(largest, rel=0.1)


def test_inputs_may_be_of_different_sizes() -> None:
    feeds = [pictures(count, seed) for seed, count in enumerate((4, 4, 1, 3, 3, 4))]
    limits = calibrate(residual(), feeds)
    largest = max(np.abs(feed["image"]).max() for feed in feeds)
    assert limits["image"] == pytest.approx(largest, rel=2e-3)


def test_a_channel_that_is_never_active_still_has_a_scale() -> None:
    model = one_layer(np.ones((1, 1, 1, 1), np.float32))
    zeros = {"image": np.zeros((1, 1, 4, 4), np.float32)}
    limits = calibrate(model, [zeros])
    assert limits["image"] == 0
    form = quantise(model, limits)
    assert lint(form) == []
    np.testing.assert_array_equal(run(form, zeros)["out"], 0)


def test_calibration_without_inputs_is_refused() -> None:
    with pytest.raises(ValueError, match="No collector"):
        calibrate(residual(), [])


def test_calibration_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    calibrate(residual(), [pictures(1)])
    assert capfd.readouterr().out == ""


# Whatever the graph


class Drawing:
    """A graph that grows by layers of 4 channels on 6 x 6."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.values: dict[str, Floats] = {}
        self.rng = np.random.default_rng(0)

    def add(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(node(kind, name, *inputs, **attributes))
        return name

    def value(self, *shape: int) -> str:
        name = f"value{len(self.values)}"
        self.values[name] = self.rng.normal(0, 0.4, shape).astype(np.float32)
        return name

    def conv(self, source: str, size: int, group: int, *, bias: bool) -> str:
        inputs = [source, self.value(4, 4 // group, size, size)] + [self.value(4)] * bias
        return self.add("Conv", *inputs, group=group, pads=[size // 2] * 4)


GROWTHS: Mapping[str, Callable[[Drawing, str, str], str]] = {
    "1x1": lambda graph, last, _: graph.conv(last, 1, 1, bias=True),
    "3x3": lambda graph, last, _: graph.conv(last, 3, 1, bias=False),
    "grouped": lambda graph, last, _: graph.conv(last, 3, 2, bias=True),
    "depthwise": lambda graph, last, _: graph.conv(last, 3, 4, bias=False),
    "relu": lambda graph, last, _: graph.add("Relu", last),
    "sigmoid": lambda graph, last, _: graph.add("Sigmoid", last),
    "pool": lambda graph, last, _: graph.add(
        "MaxPool", last, kernel_shape=[3, 3], pads=[1] * 4
    ),
    "add": lambda graph, last, other: graph.add("Add", last, other),
    "added": lambda graph, last, other: graph.add("Add", other, last),
    "bias": lambda graph, last, _: graph.add("Add", last, graph.value(4, 1, 1)),
    "through": lambda graph, last, other: graph.add(
        "Add", graph.conv(other, 1, 1, bias=True), last
    ),
}  # fmt: skip


@st.composite
def graphs(draw: st.DrawFn) -> tuple[onnx.ModelProto, list[str]]:
    """A network, and the layers of it that stay float32."""
    graph, made = Drawing(), ["image"]
    made.append(graph.conv("image", 3, 1, bias=True))
    for kind in draw(st.lists(st.sampled_from(sorted(GROWTHS)), min_size=1, max_size=10)):
        made.append(GROWTHS[kind](graph, made[-1], draw(st.sampled_from(made))))
    head = graph.conv(made[-1], 1, 1, bias=True)
    ports = {"image": ["n", 4, 6, 6]}, {head: ["n", 4, 6, 6]}
    model = model_of(graph.nodes, graph.values, *ports)
    keep = (
        draw(st.lists(st.sampled_from(layers(model)[1:]), unique=True)) if layers(model)[1:] else []
    )
    return model, keep


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_whatever_is_quantised_is_right(drawn: tuple[onnx.ModelProto, list[str]]) -> None:
    model, keep = drawn
    limits = {name: 4.0 for node in model.graph.node for name in (*node.input, *node.output)}
    form = quantise(model, limits, keep)
    onnx.checker.check_model(form, full_check=True)
    assert lint(form) == []
    assert quantised_layers(form) == len(layers(model)) - len(keep)


@settings(max_examples=15, deadline=None)
@given(graphs())
def test_whatever_is_quantised_says_nearly_the_same(
    drawn: tuple[onnx.ModelProto, list[str]],
) -> None:
    model, keep = drawn
    rng = np.random.default_rng(0)
    feed = {"image": rng.normal(size=(2, 4, 6, 6)).astype(np.float32)}
    form = quantise(model, calibrate(model, [feed]), keep)
    ((name, said),) = run(form, feed).items()
    expected = run(model, feed)[name]
    assert np.abs(said - expected).mean() <= 0.1 * expected.std() + 1e-3


def test_a_generator_of_inputs_is_read_once() -> None:
    taken = []

    def feeds() -> Iterator[dict[str, Floats]]:
        for seed in range(AT_ONCE + 1):
            taken.append(seed)
            yield pictures(1, seed)

    calibrate(residual(), feeds())
    assert taken == list(range(AT_ONCE + 1))
