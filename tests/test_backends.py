"""One protocol for all runtimes: the same answers, and the truth of what runs."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra 'test' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'test' is not installed")

import onnxruntime
import openvino

from occam_sdk import backends
from occam_sdk.backends import (
    BACKENDS,
    DEVICES,
    PRECISIONS,
    Network,
    Runtime,
    SessionInfo,
    devices,
    installed,
    open_session,
)
from occam_sdk.errors import BackendError

from .networks import (
    INT8_LAYERS,
    Floats,
    contents,
    fully_quantised,
    pictures,
    small_network,
)

BOTH = ("openvino", "onnxruntime")
FLOAT32_RTOL, FLOAT32_ATOL = 1e-4, 1e-5  # sums in another order
INT8_ATOL = 0.03  # of scores around 1: a few activations are rounded to the next step

each_runtime = pytest.mark.parametrize("backend", BOTH)


def on_cpu(backend: str, precision: str = "fp32", **more: Any) -> Runtime:
    return Runtime(backend, "cpu", precision, **more)


def scores(network: Network, runtime: Runtime, count: int = 3) -> Floats:
    return open_session(network, runtime).run(pictures(count))["scores"]


@pytest.fixture
def vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    """An x86 CPU that multiplies and adds INT8 in one step, whatever this one is."""
    monkeypatch.setattr(backends, "has_vnni", lambda: True)


# What may be asked for


@pytest.mark.parametrize(
    ("field", "value", "choices"),
    [
        ("backend", "tensorflow", ("auto", *BACKENDS)),
        ("backend", "", ("auto", *BACKENDS)),
        ("device", "tpu", (*DEVICES, "cuda:1")),
        ("device", "CPU", (*DEVICES, "cuda:1")),
        ("device", "cuda:", (*DEVICES, "cuda:1")),
        ("device", "cuda:one", (*DEVICES, "cuda:1")),
        ("device", "cuda:-1", (*DEVICES, "cuda:1")),
        ("precision", "f32", PRECISIONS),
        ("precision", "INT8", PRECISIONS),
    ],
)
def test_an_unknown_value_is_refused_with_the_choices(
    field: str, value: str, choices: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=field) as caught:
        Runtime(**{field: value})  # type: ignore[arg-type]
    assert str(caught.value) == f"{field}: expected one of {', '.join(choices)}, got {value!r}"


@pytest.mark.parametrize("threads", [0, -1])
def test_a_runtime_needs_a_thread(threads: int) -> None:
    with pytest.raises(ValueError, match=f"threads: expected one at least, or None, got {threads}"):
        Runtime(threads=threads)


@pytest.mark.parametrize("device", [*DEVICES, "cuda:0", "cuda:1", "cuda:12"])
def test_every_device_may_be_named(device: str) -> None:
    assert Runtime(device=device).device == device


def test_precision_names_the_commonest_format_first() -> None:
    assert SessionInfo("a runtime", "CPU", {"fp32": 1, "int8": 2}).precision == "int8+fp32"
    assert SessionInfo("a runtime", "CPU", {"bf16": 3}).precision == "bf16"
    assert SessionInfo("a runtime", "CPU", {}).precision == "unknown"


# The same answers


@pytest.mark.parametrize("count", [1, 3, 16])
def test_runtimes_agree_in_float32(count: int) -> None:
    one, other = (scores(small_network(), on_cpu(name), count) for name in BOTH)
    assert one.shape == (count, 4)
    assert one.dtype == np.float32
    np.testing.assert_allclose(one, other, rtol=FLOAT32_RTOL, atol=FLOAT32_ATOL)


def test_runtimes_agree_on_the_int8_file() -> None:
    one, other = (scores(small_network(), on_cpu(name, "int8"), 16) for name in BOTH)
    np.testing.assert_allclose(one, other, atol=INT8_ATOL)


@each_runtime
def test_int8_comes_near_float32_and_is_not_the_same(backend: str) -> None:
    exact, rounded = (scores(small_network(), on_cpu(backend, p), 16) for p in ("fp32", "int8"))
    np.testing.assert_allclose(rounded, exact, atol=0.1)
    assert not np.array_equal(rounded, exact)


@each_runtime
def test_the_bytes_of_a_file_will_do(backend: str) -> None:
    session = open_session(contents()[0], on_cpu(backend))
    wanted = scores(small_network(), on_cpu(backend))
    np.testing.assert_array_equal(session.run(pictures(3))["scores"], wanted)
    assert session.ports == ({"image"}, {"scores"})


# What runs is read back


@each_runtime
def test_every_layer_is_told_with_its_format(backend: str) -> None:
    info = open_session(small_network(), on_cpu(backend, strict=True)).info
    assert info.layers == {"fp32": INT8_LAYERS + 1}
    assert info.precision == "fp32"
    assert info.backend.startswith(f"{backend} 2" if backend == "openvino" else f"{backend} 1")
    assert "CPU" in info.device
    assert (info.engine, info.notes) == ("", ())


def test_openvino_runs_the_quantised_layers_in_int8_and_the_head_in_float32(vnni: None) -> None:
    info = open_session(small_network(), on_cpu("openvino", "int8", strict=True)).info
    assert info.layers == {"int8": INT8_LAYERS, "fp32": 1}
    assert info.precision == "int8+fp32"
    assert info.notes == ()


@each_runtime
def test_a_layer_with_q_dq_on_all_sides_runs_in_int8(backend: str, vnni: None) -> None:
    session = open_session(fully_quantised(), on_cpu(backend, "int8", strict=True))
    assert session.info.layers == {"int8": 1}
    assert session.info.precision == "int8"
    assert session.run({"x": np.zeros((1, 3, 8, 8), np.float32)})["y"].max() == 0


@each_runtime
def test_int8_in_name_only_is_told(backend: str, vnni: None) -> None:
    """Without Q/DQ on a layer's output ONNX Runtime computes it in float32."""
    info = open_session(small_network(), on_cpu(backend, "int8")).info
    told = any("small: int8 was asked for" in note for note in info.notes)
    assert told == (info.layers.get("int8", 0) < INT8_LAYERS)


@each_runtime
def test_a_file_with_fewer_int8_layers_than_it_should_have_is_told(
    backend: str, vnni: None
) -> None:
    network = small_network(int8_layers=INT8_LAYERS + 1)
    session = open_session(network, on_cpu(backend, "int8"))
    assert session.info.notes == (
        f"small: int8 was asked for, {session.info.backend} runs it in {session.info.precision}",
    )
    assert session.run(pictures(1))["scores"].shape == (1, 4)
    with pytest.raises(BackendError, match=r"small: int8 was asked for, .* \(refused: strict\)"):
        open_session(network, on_cpu(backend, "int8", strict=True))


def test_an_int8_file_without_q_dq_is_told(vnni: None) -> None:
    float32, _ = contents()
    network = Network("plain", float32, float32, int8_layers=1)
    info = open_session(network, on_cpu("openvino", "int8")).info
    assert info.layers == {"fp32": 3}
    assert info.notes == (f"plain: int8 was asked for, {info.backend} runs it in fp32",)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@each_runtime
def test_a_float_format_that_the_cpu_lacks_is_told_or_refused(backend: str, precision: str) -> None:
    info = open_session(small_network(), on_cpu(backend, precision)).info
    if set(info.layers) == {precision}:
        assert info.notes == ()
        pytest.skip(f"{backend} runs {precision} on this CPU")
    assert info.notes == (
        f"small: {precision} was asked for, {info.backend} runs it in {info.precision}",
    )
    with pytest.raises(BackendError, match="ask for a precision that this machine has"):
        open_session(small_network(), on_cpu(backend, precision, strict=True))


# "auto"


@pytest.mark.parametrize(
    ("backend", "prefers_int8", "has_vnni", "layers"),
    [
        ("openvino", True, True, {"int8": INT8_LAYERS, "fp32": 1}),
        ("openvino", True, None, {"int8": INT8_LAYERS, "fp32": 1}),  # no x86: it does not matter
        ("openvino", True, False, {"fp32": INT8_LAYERS + 1}),
        ("openvino", False, True, {"fp32": INT8_LAYERS + 1}),
        ("onnxruntime", True, True, {"fp32": INT8_LAYERS + 1}),
    ],
)
def test_auto_is_int8_where_network_and_runtime_gain_by_it(
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    prefers_int8: bool,
    has_vnni: bool | None,
    layers: dict[str, int],
) -> None:
    monkeypatch.setattr(backends, "has_vnni", lambda: has_vnni)
    network = small_network(prefers_int8=prefers_int8)
    info = open_session(network, on_cpu(backend, "auto", strict=True)).info
    assert info.layers == layers
    assert info.notes == ()
    precision = "int8" if "int8" in layers else "fp32"
    np.testing.assert_array_equal(
        scores(network, on_cpu(backend, "auto")), scores(network, on_cpu(backend, precision))
    )


def test_without_vnni_int8_runs_if_asked_for_and_says_what_to_compare(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backends, "has_vnni", lambda: False)
    info = open_session(small_network(), on_cpu("openvino", "int8", strict=True)).info
    assert info.layers["int8"] == INT8_LAYERS
    (note,) = info.notes
    assert note.startswith("this CPU has no VNNI")
    assert "precision='fp32'" in note


@each_runtime
def test_a_network_without_an_int8_form_runs_in_float32_and_says_so(backend: str) -> None:
    network = Network("plain", contents()[0])
    info = open_session(network, on_cpu(backend, "int8")).info
    assert info.precision == "fp32"
    assert info.notes == ("plain: the bundle has no INT8 form of it; fp32 runs instead",)
    with pytest.raises(BackendError, match=r"no INT8 form of it.*\(refused: strict\)"):
        open_session(network, on_cpu(backend, "int8", strict=True))
    assert open_session(network, on_cpu(backend, "auto", strict=True)).info.precision == "fp32"


# Devices


def absent(backend: str, device: str) -> None:
    if (device if ":" in device else f"{device}:0") in devices(backend):
        pytest.skip(f"this machine has {device}")


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "intel:npu"])
@pytest.mark.parametrize("backend", ["auto", *BOTH])
def test_an_absent_device_is_replaced_by_the_cpu_and_told(backend: str, device: str) -> None:
    for name in BOTH:
        absent(name, device)
    asked = Runtime(backend, device, "fp32")
    session = open_session(small_network(), asked)
    runs = "openvino" if backend == "auto" else backend
    assert session.info.backend.startswith(runs)
    assert session.info.notes == (
        f"device '{device}' is not available on this machine; {runs} runs on the CPU instead",
    )
    np.testing.assert_array_equal(
        session.run(pictures(3))["scores"], scores(small_network(), on_cpu(runs))
    )
    with pytest.raises(BackendError, match=f"'{device}' is not available.*refused: strict"):
        open_session(small_network(), Runtime(backend, device, "fp32", strict=True))


def test_a_runtime_without_any_device_sends_to_auto() -> None:
    if devices("onnxruntime-tensorrt"):
        pytest.skip("this build of ONNX Runtime has TensorRT")
    with pytest.raises(BackendError, match=r"onnxruntime-tensorrt .*sees none.*backend='auto'"):
        open_session(small_network(), Runtime("onnxruntime-tensorrt"))


@each_runtime
def test_a_runtime_tells_its_devices_as_they_are_asked_for(backend: str) -> None:
    seen = devices(backend)
    assert "cpu" in seen
    for device in seen:
        assert Runtime(backend, device).device == device


# Packages


def remove(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Let the packages be gone, for a process that has not yet imported them."""
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.delitem(sys.modules, f"occam_sdk.backends.{package}", raising=False)


@pytest.mark.parametrize(
    ("backend", "package", "remedy"),
    [
        ("openvino", "openvino", "pip install openvino"),
        ("onnxruntime", "onnxruntime", 'pip install "occam-sdk[onnxruntime]"'),
        ("onnxruntime-tensorrt", "onnxruntime", 'pip install "occam-sdk[onnxruntime]"'),
        ("tensorrt", "tensorrt", 'pip install "occam-sdk[tensorrt]"'),
    ],
)
def test_a_runtime_that_is_not_installed_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, backend: str, package: str, remedy: str
) -> None:
    remove(monkeypatch, package)
    assert backend not in installed()
    with pytest.raises(BackendError) as caught:
        open_session(small_network(), Runtime(backend))
    assert remedy in str(caught.value)


def test_auto_takes_the_next_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    remove(monkeypatch, "tensorrt", "openvino")
    info = open_session(small_network(), Runtime(strict=True)).info
    assert info.backend.startswith("onnxruntime ")
    assert info.notes == ()


@pytest.mark.parametrize("device", ["auto", "cpu", "intel:npu", "cuda"])
def test_auto_goes_past_a_runtime_that_does_not_load(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    absent("onnxruntime", device)
    remove(monkeypatch, "tensorrt", "openvino")
    monkeypatch.setattr(backends, "has_module", lambda name: name != "tensorrt")
    info = open_session(small_network(), Runtime(device=device)).info
    assert info.backend.startswith("onnxruntime ")
    told = any("openvino is installed but does not load" in note for note in info.notes)
    assert told == (device != "cuda")  # which it is not asked for


def test_without_any_runtime_the_error_names_the_default_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remove(monkeypatch, "tensorrt", "openvino", "onnxruntime")
    assert installed() == ()
    with pytest.raises(BackendError, match=r"^no runtime is installed: pip install openvino$"):
        open_session(small_network())


def test_where_no_runtime_loads_each_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    remove(monkeypatch, "openvino", "onnxruntime")
    monkeypatch.setattr(backends, "has_module", lambda name: name != "tensorrt")
    with pytest.raises(BackendError, match=r"pip install openvino; ONNX Runtime cannot be loaded"):
        open_session(small_network())


# Threads


def compiled_with(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """Grows by a property of each network that OpenVINO compiles from now on."""
    compile_model, found = openvino.Core.compile_model, []

    def spy(*arguments: Any) -> Any:
        compiled = compile_model(*arguments)
        found.append(compiled.get_property(name))
        return compiled

    monkeypatch.setattr(openvino.Core, "compile_model", spy)
    return found


def test_openvino_runs_on_as_many_threads_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = compiled_with(monkeypatch, "INFERENCE_NUM_THREADS")
    wanted = scores(small_network(), on_cpu("openvino"))
    one = scores(small_network(), on_cpu("openvino", threads=1))
    assert found[1] == 1
    np.testing.assert_allclose(one, wanted, rtol=FLOAT32_RTOL, atol=FLOAT32_ATOL)


@pytest.mark.parametrize("threads", [None, 1])
def test_openvino_binds_no_network_to_a_core_that_another_may_be_bound_to(
    monkeypatch: pytest.MonkeyPatch, threads: int | None
) -> None:
    found = compiled_with(monkeypatch, "ENABLE_CPU_PINNING")
    open_session(small_network(), on_cpu("openvino", threads=threads))
    assert found == [False]


@pytest.mark.parametrize(("threads", "told"), [(None, 0), (1, 1), (3, 3)])
def test_onnx_runtime_is_told_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, threads: int | None, told: int
) -> None:
    real, found = onnxruntime.InferenceSession, []

    def spy(model: bytes, options: onnxruntime.SessionOptions, **more: Any) -> Any:
        found.append(options.intra_op_num_threads)  # 0: as many as there are cores
        return real(model, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    open_session(small_network(), on_cpu("onnxruntime", threads=threads))
    assert found == [told]


# Bad models and bad inputs


@each_runtime
@pytest.mark.parametrize("content", [b"", b"no ONNX", b"\x08\x08" * 500, b"cut"], ids=repr)
def test_what_is_no_onnx_is_refused(
    backend: str, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    if content == b"cut":
        content = contents()[0][:-200]
    with pytest.raises(BackendError, match="cannot load the model"):
        open_session(content, on_cpu(backend))


@each_runtime
@pytest.mark.parametrize(
    "shape", [(1, 4, 16, 16), (1, 3, 16, 20), (3, 16, 16), (1, 1, 3, 16, 16), ()], ids=str
)
def test_an_input_of_another_shape_is_refused_and_the_next_one_runs(
    backend: str, shape: tuple[int, ...]
) -> None:
    session = open_session(small_network(), on_cpu(backend))
    before = session.run(pictures(2))["scores"]
    with pytest.raises(BackendError, match="cannot run the model") as caught:
        session.run({"image": np.zeros(shape, np.float32)})
    assert str(shape) in str(caught.value)
    np.testing.assert_array_equal(session.run(pictures(2))["scores"], before)


@each_runtime
@pytest.mark.parametrize("name", ["picture", None])
def test_an_input_that_is_not_given_is_never_the_last_one(backend: str, name: str | None) -> None:
    session = open_session(small_network(), on_cpu(backend))
    session.run(pictures(2))
    with pytest.raises(BackendError, match="image"):
        session.run({} if name is None else {name: pictures(2)["image"]})


@each_runtime
def test_pictures_in_any_memory_layout_will_do(backend: str) -> None:
    session = open_session(small_network(), on_cpu(backend))
    image = pictures(4)["image"]
    upside_down = image[::2, ::-1, :, ::-1]
    wanted = session.run({"image": np.ascontiguousarray(upside_down)})["scores"]
    np.testing.assert_array_equal(session.run({"image": upside_down})["scores"], wanted)


@each_runtime
def test_results_are_the_callers_own(backend: str) -> None:
    session = open_session(small_network(), on_cpu(backend))
    given = pictures(2)
    first = session.run(given)["scores"]
    kept = first.copy()
    second = session.run(pictures(2, seed=1))["scores"]
    np.testing.assert_array_equal(first, kept, err_msg="a later run has written into it")
    assert not np.array_equal(first, second)
    first[:] = np.nan
    np.testing.assert_array_equal(session.run(given)["scores"], kept)
    np.testing.assert_array_equal(given["image"], pictures(2)["image"], err_msg="input was changed")
