"""A graph that breaks one rule of Q/DQ is told so, by the rule and by the node; a right one is clean."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the extra 'test' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'test' is not installed")
from numpy.typing import NDArray  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402

from export import lint as module  # noqa: E402
from export.lint import RULES, lint, quantised_layers  # noqa: E402
from export.quantise import quantise  # noqa: E402

from .networks import model_of  # noqa: E402
from .residual import CONVOLUTIONS, convolution, node, quantised, residual  # noqa: E402

MODEL = "the model"  # in the place of a node, where the whole graph is meant
Q, DQ = "QuantizeLinear", "DequantizeLinear"
# Of the tensor "a_relu", which "b" reads, and of the weight of "b".
A_Q, A_DQ = f"a_relu.int8/{Q}", f"a_relu.dequantised/{DQ}"
B_DQ = f"b.weight.dequantised/{DQ}"


# To change a graph with


def find(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    (found,) = (node for node in model.graph.node if node.name == name)
    return found


def value(model: onnx.ModelProto, name: str) -> NDArray[np.generic]:
    (found,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    return numpy_helper.to_array(found)


def put(model: onnx.ModelProto, name: str, content: object) -> str:
    """Add a constant, or replace it."""
    tensor = numpy_helper.from_array(np.asarray(content), name)
    for known in model.graph.initializer:
        if known.name == name:
            known.CopyFrom(tensor)
            return name
    model.graph.initializer.append(tensor)
    return name


def insert(model: onnx.ModelProto, made: onnx.NodeProto, before: str) -> str:
    """Add a node ahead of another; returns what it makes."""
    position = [known.name for known in model.graph.node].index(before)
    model.graph.node.insert(position, made)
    return made.output[0]


def pair(model: onnx.ModelProto, tensor: str, before: str) -> str:
    """Q/DQ of a tensor, as every other pair; returns what the DQ makes."""
    scale = put(model, "new.scale", np.float32(0.1))
    insert(model, node(Q, "new.q", tensor, scale, "int8.zero"), before)
    return insert(model, node(DQ, "new.dq", "new.q", scale, "int8.zero"), before)


def set_input(model: onnx.ModelProto, name: str, position: int, tensor: str) -> None:
    find(model, name).input[position] = tensor


# The violations: rule, graph, and the nodes that are to blame

Breaker = Callable[[onnx.ModelProto], None]
BROKEN: list[tuple[str, str, Breaker, set[str]]] = []


def breaks(rule: str, *nodes: str) -> Callable[[Breaker], Breaker]:
    """Enter what makes a clean graph break a rule."""

    def enter(change: Breaker) -> Breaker:
        BROKEN.append((rule, change.__name__, change, set(nodes)))
        return change

    return enter


@breaks("opset", MODEL)
def an_opset_that_is_too_old(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 16


@breaks("opset", MODEL)
def no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


@breaks("names", "a")
def two_nodes_of_one_name(model: onnx.ModelProto) -> None:
    find(model, "a_relu").name = "a"


@breaks("names", "unnamed GlobalAveragePool")
def a_node_without_a_name(model: onnx.ModelProto) -> None:
    find(model, "pool").name = ""


@breaks("zero-point", B_DQ)
def a_zero_point_of_a_weight_that_is_not_zero(model: onnx.ModelProto) -> None:
    put(model, "b.weight.zero", np.eye(1, 8, 3, np.int8)[0])


@breaks("zero-point", A_Q, A_DQ)
def a_zero_point_of_an_activation_that_is_not_zero(model: onnx.ModelProto) -> None:
    for name in (A_Q, A_DQ):
        set_input(model, name, 2, put(model, "one", np.int8(1)))


@breaks("zero-point", A_Q)
def a_q_without_a_zero_point(model: onnx.ModelProto) -> None:
    del find(model, A_Q).input[2]


@breaks("zero-point", B_DQ)
def a_dq_without_a_zero_point(model: onnx.ModelProto) -> None:
    del find(model, B_DQ).input[2]


@breaks("type", A_Q, A_DQ)
def an_unsigned_activation(model: onnx.ModelProto) -> None:
    for name in (A_Q, A_DQ):
        set_input(model, name, 2, put(model, "unsigned", np.uint8(0)))


@breaks("type", B_DQ)
def an_unsigned_weight(model: onnx.ModelProto) -> None:
    put(model, "b.weight.int8", np.abs(value(model, "b.weight.int8")).astype(np.uint8))
    put(model, "b.weight.zero", np.zeros(8, np.uint8))


@breaks("type", B_DQ)
def a_weight_of_16_bits(model: onnx.ModelProto) -> None:
    put(model, "b.weight.int8", value(model, "b.weight.int8").astype(np.int16))


@breaks("scale", A_Q, A_DQ)
def a_scale_of_zero(model: onnx.ModelProto) -> None:
    put(model, "a_relu.scale", np.float32(0))


@breaks("scale", A_Q, A_DQ)
def a_negative_scale(model: onnx.ModelProto) -> None:
    put(model, "a_relu.scale", np.float32(-0.1))


@breaks("scale", B_DQ)
def one_scale_that_is_no_number(model: onnx.ModelProto) -> None:
    scale = value(model, "b.weight.scale").copy()
    scale[5] = np.nan
    put(model, "b.weight.scale", scale)


@breaks("scale", A_Q, A_DQ)
def an_infinite_scale(model: onnx.ModelProto) -> None:
    put(model, "a_relu.scale", np.float32(np.inf))


@breaks("scale", A_Q, A_DQ)
def a_scale_that_is_computed(model: onnx.ModelProto) -> None:
    computed = insert(model, node("Identity", "computed", "a_relu.scale"), A_Q)
    for name in (A_Q, A_DQ):
        set_input(model, name, 1, computed)


@breaks("activation-axis", A_Q, A_DQ)
def an_activation_with_a_scale_for_each_channel(model: onnx.ModelProto) -> None:
    put(model, "a_relu.scale", np.full(8, 0.1, np.float32))
    for name in (A_Q, A_DQ):
        set_input(model, name, 2, put(model, "zeros", np.zeros(8, np.int8)))


@breaks("weight-axis", B_DQ)
def a_weight_with_scales_on_axis_1(model: onnx.ModelProto) -> None:
    find(model, B_DQ).attribute[0].i = 1


@breaks("weight-axis", B_DQ)
def a_weight_with_scales_on_the_axis_that_is_the_default(model: onnx.ModelProto) -> None:
    del find(model, B_DQ).attribute[:]


@breaks("weight-axis", B_DQ)
def a_weight_with_one_scale(model: onnx.ModelProto) -> None:
    put(model, "b.weight.scale", np.float32(0.01))
    put(model, "b.weight.zero", np.int8(0))


@breaks("weight-axis", "middle")
def a_matrix_whose_output_channels_are_on_axis_1(model: onnx.ModelProto) -> None:
    put(model, "middle.int8", np.ones((8, 8), np.int8))
    put(model, "middle.scale", np.ones(8, np.float32))
    put(model, "middle.zero", np.zeros(8, np.int8))
    weight = node(DQ, "middle.dq", "middle.int8", "middle.scale", "middle.zero", axis=0)
    insert(model, weight, "head")
    activation = pair(model, "flat", "head")
    insert(model, node("Gemm", "middle", activation, "middle.dq"), "head")
    set_input(model, "head", 0, "middle")


@breaks("weight-constant", "new.q", "b")
def a_weight_that_is_quantised_at_run_time(model: onnx.ModelProto) -> None:
    put(model, "b.weight", np.ones((8, 8, 3, 3), np.float32))
    put(model, "new.zero", np.zeros(8, np.int8))
    for kind, name, source in ((Q, "new.q", "b.weight"), (DQ, "new.dq", "new.q")):
        made = node(kind, name, source, "b.weight.scale", "new.zero", axis=0)
        insert(model, made, "b")
    set_input(model, "b", 1, "new.dq")


@breaks("pairs", A_Q)
def a_q_that_something_else_reads(model: onnx.ModelProto) -> None:
    insert(model, node("Cast", "peek", "a_relu.int8", to=onnx.TensorProto.FLOAT), "b")


@breaks("pairs", A_DQ)
def a_dq_that_reads_something_else(model: onnx.ModelProto) -> None:
    whole = node("Cast", "whole", "a_relu", to=onnx.TensorProto.INT8)
    set_input(model, A_DQ, 0, insert(model, whole, A_DQ))


@breaks("pairs", A_DQ)
def a_dq_with_another_scale_than_its_q(model: onnx.ModelProto) -> None:
    set_input(model, A_DQ, 1, put(model, "other", value(model, "a_relu.scale") * 2))


@breaks("both", "b")
def a_layer_whose_input_is_float32(model: onnx.ModelProto) -> None:
    set_input(model, "b", 0, "a_relu")


@breaks("both", "b")
def a_layer_whose_weight_is_float32(model: onnx.ModelProto) -> None:
    set_input(model, "b", 1, put(model, "b.weight", np.ones((8, 8, 3, 3), np.float32)))


@breaks("bias", "b")
def a_bias_that_is_computed(model: onnx.ModelProto) -> None:
    set_input(model, "b", 2, insert(model, node("Identity", "computed", "b.bias"), "b"))


@breaks("bias", "b")
def a_bias_of_another_type(model: onnx.ModelProto) -> None:
    put(model, "b.bias", np.zeros(8, np.float16))


@breaks("shortcut", "first_add")
def a_shortcut_without_q_and_dq(model: onnx.ModelProto) -> None:
    set_input(model, "first_add", 1, "stem_relu")


@breaks("shortcut", "second_add")
def a_convolution_as_shortcut_without_q_and_dq(model: onnx.ModelProto) -> None:
    set_input(model, "second_add", 0, "short")


@breaks("fusion", "first_add")
def a_pair_between_convolution_and_addition(model: onnx.ModelProto) -> None:
    set_input(model, "first_add", 0, pair(model, "b", "first_add"))


@breaks("fusion", "second_add")
def pairs_on_both_sides_of_an_addition(model: onnx.ModelProto) -> None:
    set_input(model, "second_add", 1, pair(model, "d", "second_add"))


@breaks("fusion", "a")
def a_pair_between_convolution_and_relu(model: onnx.ModelProto) -> None:
    set_input(model, "a_relu", 0, pair(model, "a", "a_relu"))


@breaks("fusion", "a")
def a_pair_between_convolution_and_relu_6(model: onnx.ModelProto) -> None:
    set_input(model, "a_relu", 0, pair(model, "a", "a_relu"))
    limits = [put(model, "low", np.float32(0)), put(model, "high", np.float32(6))]
    find(model, "a_relu").op_type = "Clip"
    find(model, "a_relu").input.extend(limits)


@breaks("fusion", "first_add")
def a_pair_between_addition_and_relu(model: onnx.ModelProto) -> None:
    set_input(model, "first", 0, pair(model, "first_add", "first"))


@breaks("outputs", "last")
def a_dq_that_makes_an_output(model: onnx.ModelProto) -> None:
    find(model, "head").output[0] = "head"
    model.graph.node.append(node(Q, "last.q", "head", "a_relu.scale", "int8.zero"))
    last = helper.make_node(DQ, ["last.q", "a_relu.scale", "int8.zero"], ["scores"], name="last")
    model.graph.node.append(last)


@breaks("outputs", "last")
def a_q_that_makes_an_output(model: onnx.ModelProto) -> None:
    find(model, "head").output[0] = "head"
    last = helper.make_node(Q, ["head", "a_relu.scale", "int8.zero"], ["scores"], name="last")
    model.graph.node.append(last)


@breaks("heads", "head")
def a_head_in_int8(model: onnx.ModelProto) -> None:
    put(model, "head.int8", np.ones((4, 8), np.int8))
    put(model, "head.scale", np.ones(4, np.float32))
    put(model, "head.zero", np.zeros(4, np.int8))
    insert(model, node(DQ, "head.dq", "head.int8", "head.scale", "head.zero", axis=0), "head")
    set_input(model, "head", 0, pair(model, "flat", "head"))
    set_input(model, "head", 1, "head.dq")


@breaks("batch-norm", "norm")
def a_batch_norm(model: onnx.ModelProto) -> None:
    put(model, "ones", np.ones(8, np.float32))
    norm = node("BatchNormalization", "norm", "stem", "ones", "ones", "ones", "ones")
    insert(model, norm, "stem_relu")
    set_input(model, "stem_relu", 0, "norm")


@breaks("something", MODEL)
def a_graph_in_float32(model: onnx.ModelProto) -> None:
    model.CopyFrom(residual())


@pytest.mark.parametrize(
    ("rule", "change", "nodes"),
    [
        pytest.param(rule, change, nodes, id=f"{rule}: {what}")
        for rule, what, change, nodes in BROKEN
    ],
)
def test_what_breaks_a_rule_is_told_with_the_rule_and_the_nodes(
    rule: str, change: Breaker, nodes: set[str]
) -> None:
    model = quantised()
    change(model)
    found = lint(model)
    assert {violation.rule for violation in found} == {rule}
    assert {violation.node for violation in found} == nodes
    assert all(violation.what for violation in found)


def test_every_rule_has_a_graph_that_breaks_it() -> None:
    assert {rule for rule, *_ in BROKEN} == set(RULES)


def test_a_bias_in_int32_breaks_two_rules() -> None:
    """As other quantisers write it: dequantised at run time, and no signed INT8."""
    model = quantised()
    put(model, "bias.int32", np.zeros(8, np.int32))
    put(model, "bias.zero", np.zeros(8, np.int32))
    made = node(DQ, "bias.dq", "bias.int32", "b.weight.scale", "bias.zero", axis=0)
    insert(model, made, "b")
    set_input(model, "b", 2, "bias.dq")
    assert {(violation.rule, violation.node) for violation in lint(model)} == {
        ("bias", "b"),
        ("type", "bias.dq"),
    }


def test_several_violations_are_all_told() -> None:
    model = quantised()
    a_scale_of_zero(model)
    a_shortcut_without_q_and_dq(model)
    a_node_without_a_name(model)
    assert {violation.rule for violation in lint(model)} == {"scale", "shortcut", "names"}


# What is right


def test_what_quantise_makes_is_clean() -> None:
    model = quantised()
    onnx.checker.check_model(model, full_check=True)
    assert lint(model) == []
    assert quantised_layers(model) == len(CONVOLUTIONS)


@pytest.mark.parametrize("kept", CONVOLUTIONS)
def test_a_layer_in_float32_among_others_in_int8_is_clean(kept: str) -> None:
    model = quantised(kept)
    assert lint(model) == []
    assert quantised_layers(model) == len(CONVOLUTIONS) - 1


def test_a_main_path_in_float32_beside_a_shortcut_in_int8_is_clean() -> None:
    """Nothing is fused into a main path in float32, and Q/DQ make no side the deeper one."""
    model = quantised("c", "d")
    assert lint(model) == []
    assert "short.dequantised" not in {name for node in model.graph.node for name in node.output}


def test_equal_scales_under_two_names_are_one_scale() -> None:
    model = quantised()
    set_input(model, A_DQ, 1, put(model, "copy", value(model, "a_relu.scale")))
    assert lint(model) == []


def test_the_other_name_of_the_operator_set_is_as_good() -> None:
    model = quantised()
    model.opset_import[0].domain = "ai.onnx"
    assert lint(model) == []


def test_a_constant_that_is_added_is_no_shortcut() -> None:
    """A bias of its own, as some exporters leave it."""
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["c"], name="c"),
        node("Add", "biased", "c", "bias"),
        node("Relu", "relu", "biased"),
        convolution("head", "relu"),
    ]
    constants = {
        "weight": np.ones((8, 3, 3, 3), np.float32),
        "bias": np.ones((8, 1, 1), np.float32),
        "head.weight": np.ones((2, 8, 3, 3), np.float32),
        "head.bias": np.ones(2, np.float32),
    }
    model = model_of(nodes, constants, {"image": ["n", 3, 8, 8]}, {"head": ["n", 2, 6, 6]})
    assert lint(quantise(model, {"image": 1.0})) == []


# The command


def run_main(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> int:
    monkeypatch.setattr(sys, "argv", ["lint", *map(str, paths)])
    with pytest.raises(SystemExit) as exit_:
        module.main()
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def test_the_command_says_of_a_clean_file_that_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clean.onnx"
    onnx.save(quantised("a"), path)
    assert run_main(monkeypatch, path) == 0
    assert capsys.readouterr().out == f"{path}: clean, 5 layers in INT8\n"


def test_the_command_names_file_node_and_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clean, broken = tmp_path / "clean.onnx", tmp_path / "broken.onnx"
    model = quantised()
    onnx.save(model, clean)
    a_shortcut_without_q_and_dq(model)
    onnx.save(model, broken)
    assert run_main(monkeypatch, broken, clean) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{broken}: first_add: shortcut: reads 'stem_relu' without Q/DQ",
        f"{clean}: clean, 6 layers in INT8",
    ]


@pytest.mark.parametrize("content", [b"no ONNX", b"", b"{}", None], ids=repr)
def test_the_command_refuses_what_is_no_onnx(
    content: bytes | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "none.onnx"
    if content is not None:
        path.write_bytes(content)
    assert run_main(monkeypatch, path) == 2
    assert str(path) in capsys.readouterr().err
