"""The TensorRT backend: on stand-ins everywhere, on TensorRT itself where there is a GPU."""

from __future__ import annotations

import ast
import gc
import json
import logging
import re
import sys
import types
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from occam_sdk.backends import Network, Order, Runtime, Shapes, open_session
from occam_sdk.backends.cache import EngineCache, EngineKey
from occam_sdk.backends.inspector import layers_of
from occam_sdk.bundle import load_bundle
from occam_sdk.errors import BackendError

from .tensorrts import CudaError, FakeCuda, fake_tensorrt, model

OURS = ("occam_sdk.backends.tensorrt", "occam_sdk.backends.cuda")
THEIRS = ("tensorrt", "cuda", "cuda.bindings", "cuda.bindings.runtime")
SHAPES: Shapes = {"x": ((1, 3), (4, 3), (16, 3))}
TYPINGS = Path(__file__).parents[1] / "typings" / "tensorrt.pyi"

# The form of 10, from docs.nvidia.com/deeplearning/tensorrt/10.16.1/inference-library/engine-tools.html
# and, for its second compiler, from github.com/NVIDIA/TensorRT/issues/4397.
INSPECTOR_10 = json.dumps({
    "Layers": [
        {
            "Name": "QuantizeLinear_2", "LayerType": "Reformat", "ParameterType": "Reformat",
            "Inputs": [{"Name": "x", "Dimensions": [1, 3, 224, 224],
                        "Format/Datatype": "Row major linear FP32"}],
            "Outputs": [{"Name": "q", "Dimensions": [1, 3, 224, 224],
                         "Format/Datatype": "Four wide channel vectorized row major Int8 format"}],
        },
        {
            "Name": "conv1.weight + QuantizeLinear_7 + Conv_9", "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "q", "Dimensions": [1, 3, 224, 224],
                        "Format/Datatype": "Four wide channel vectorized row major Int8 format"}],
            "Outputs": [{"Name": "c", "Dimensions": [1, 64, 112, 112],
                         "Format/Datatype": "Row major linear FP32"}],
            "ParameterType": "Convolution", "Weights": {"Type": "Int8", "Count": 9408},
            "TacticName": "ampere_fp32_icudnn_int8x4_128x64_relu_medium_nn_v1",
        },
        {
            "Name": "Conv_22 || Conv_95", "LayerType": "CaskConvolution",
            "Inputs": [{"Format/Datatype": "Int8"}, {"Format/Datatype": "Float"}],
            "Outputs": [{"Format/Datatype": "Float"}], "ParameterType": "Convolution",
        },
        {"Name": "Conv_30", "LayerType": "CaskConvActPool", "Inputs": [{"Format/Datatype": "Half"}]},
        {"Name": "up", "LayerType": "CaskDeconvolutionV2", "Inputs": [{"Format/Datatype": "Float"}]},
        {"Name": "MatMul_myl0_77", "LayerType": "gemm", "Inputs": [{"Format/Datatype": "BFloat16"}]},
        {"Name": "__myl_Fc_myl0_69", "LayerType": "fusion", "Inputs": [{"Format/Datatype": "Half"}],
         "TacticName": "sm80_xmma_gemm_f16f16_f16f16_f16_nn_n_tilesize32x32x64_by_fusion_tactic"},
        {"Name": "__myl_Add_myl0_78", "LayerType": "kgen", "Inputs": [{"Format/Datatype": "Half"}]},
        {"Name": "MaxPool_12", "LayerType": "TiledPooling", "Inputs": [{"Format/Datatype": "Float"}]},
    ],
    "Bindings": ["x", "y"],
})  # fmt: skip

# The form of 11, from docs.nvidia.com/deeplearning/tensorrt/11.3.0/api/migration/
# tensorrt-10x-to-11x-IEngineInspector.html; layers spell "Datatype" what I/O tensors spell "DataType".
INSPECTOR_11 = json.dumps({
    "Layers": [
        {
            "Name": "Conv_9", "LayerType": "CaskConvolution", "ParameterType": "Convolution",
            "Inputs": [{"Name": "q", "Dimensions": [1, 3, 224, 224], "Datatype": "Int8",
                        "Format": "Four wide channel vectorized row major Int8 format"}],
            "Outputs": [{"Name": "c", "Datatype": "Float", "Format": "Row major linear FP32 format"}],
        },
        {"Name": "Gemm_1", "LayerType": "MatrixMultiply",
         "Inputs": [{"DataType": "Float", "Format": "Row major linear FP32 format (kLINEAR)"}]},
    ],
    "I/O Tensors": [
        {"Name": "x", "IOMode": "Input", "DataType": "Float", "Dimensions": [1, 3, 224, 224],
         "Location": "Device", "IsShapeInferenceIO": False,
         "ProfileInfo": [{"MinShape": [1, 3, 224, 224], "OptShape": [1, 3, 224, 224],
                          "MaxShape": [1, 3, 224, 224],
                          "Format": "Row major linear FP32 format (kLINEAR)"}]},
    ],
})  # fmt: skip


class Machine:
    """A machine with stand-ins; ``load`` puts a version of TensorRT on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.monkeypatch = monkeypatch
        self.cuda = FakeCuda()
        self.trt: Any = None
        monkeypatch.setenv("OCCAM_CACHE_DIR", str(folder))
        self.cache = EngineCache(folder)

    def load(self, version: str = "10.13.0.35") -> Any:
        """Our module, imported anew."""
        forget()
        self.trt = fake_tensorrt(version, self.cuda)
        self.trt.seen.inspector = INSPECTOR_11 if version.startswith("11") else INSPECTOR_10
        modules = (self.trt, types.ModuleType("cuda"), types.ModuleType("cuda.bindings"), self.cuda)
        for name, module in zip(THEIRS, modules, strict=True):
            self.monkeypatch.setitem(sys.modules, name, module)
        sys.modules["cuda.bindings"].runtime = self.cuda  # type: ignore[attr-defined]
        return import_module(OURS[0])

    def engines(self) -> list[Path]:
        return list(self.cache.folder.glob("face*.engine"))


def forget() -> None:
    """Let the next import of our modules be the first."""
    for name in OURS:
        sys.modules.pop(name, None)
        vars(import_module("occam_sdk.backends")).pop(name.rpartition(".")[2], None)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Machine]:
    made = Machine(monkeypatch, tmp_path / "engines")
    yield made
    forget()
    gc.collect()
    assert made.cuda.live == {}, "not given back"


def order(
    content: bytes | None = None, *, shapes: Shapes = SHAPES, device: str = "cuda:0"
) -> Order:
    network = Network("face", content or model(), shapes=shapes)
    return Order(network, network.float32, device, "int8", None, build=True)


def rows(count: int, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    return {"x": np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)}


def check(session: Any, inputs: dict[str, NDArray[np.float32]]) -> None:
    results = session.run(inputs)
    assert list(results) == ["x doubled"]
    np.testing.assert_allclose(results["x doubled"], 2 * inputs["x"] + 1, rtol=1e-6)


# What is there


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [
        ("tensorrt", r'pip install "occam-sdk\[tensorrt\]"; on a Jetson.*python3-libnvinfer'),
        ("cuda", 'pip install cuda-python; .* JetPack 6, pip install "cuda-python<13"'),
    ],
)
def test_what_is_missing_is_named_with_the_line_that_installs_it(
    machine: Machine, missing: str, remedy: str
) -> None:
    machine.load()
    forget()
    for name in THEIRS:
        if name.startswith(missing):
            machine.monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendError, match=remedy):
        import_module(OURS[0])


def test_type_stubs_alone_are_no_tensorrt(machine: Machine) -> None:
    machine.load()
    forget()
    machine.monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))
    with pytest.raises(BackendError, match="TensorRT cannot be loaded"):
        import_module(OURS[0])


def test_the_tensorrt_of_an_old_jetpack_is_refused(machine: Machine) -> None:
    with pytest.raises(BackendError, match=r"8\.6\.2 is too old: 10\.3 is needed"):
        machine.load("8.6.2")


def test_the_older_name_of_cuda_python_will_do(machine: Machine) -> None:
    machine.load()
    forget()
    older: Any = types.ModuleType("cuda")
    older.cudart = machine.cuda
    machine.monkeypatch.setitem(sys.modules, "cuda", older)
    machine.monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert import_module(OURS[0]).devices("tensorrt") == ("cuda:0", "cuda:1")


def test_without_a_driver_there_are_no_devices(machine: Machine) -> None:
    module = machine.load()
    assert module.devices("tensorrt") == ("cuda:0", "cuda:1")
    machine.cuda.fail = ("cudaGetDeviceCount", 2, CudaError.cudaErrorInsufficientDriver)
    assert module.devices("tensorrt") == ()

    def no_library() -> None:
        raise RuntimeError("libcuda.so.1 not found")

    machine.cuda.cudaGetDeviceCount = no_library  # type: ignore[assignment]
    assert module.devices("tensorrt") == ()


# Building


def test_an_engine_is_built_once_and_read_from_then_on(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    module = machine.load()
    session = module.TensorRTSession(order())
    path = machine.engines()[0]
    assert session.info.engine == f"{path}: built, there was none"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "building the TensorRT engine 'face' for NVIDIA Orin (8.7)" in caplog.text
    assert caplog.text.strip().endswith("there was none")
    caplog.clear()
    again = module.TensorRTSession(order())
    assert again.info.engine == f"{path}: read"
    assert machine.trt.seen.builds == 1
    assert caplog.text == ""
    check(again, rows(2))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("version", "version was 10.13.0.35, is 10.14.1.48"),
        ("device", r"device was NVIDIA Orin \(8.7\), is NVIDIA Thor \(8.7\)"),
        ("shapes", "shapes was x 1x3, 4x3, 16x3, is x 1x3, 4x3, 8x3"),
        ("damage", "the last one cannot be read: .* it was cut or changed.*"),
        ("foreign", "TensorRT cannot read the last one: serialised by another version"),
    ],
)
def test_an_engine_that_does_not_fit_is_built_again_with_the_reason(
    machine: Machine, caplog: pytest.LogCaptureFixture, change: str, why: str
) -> None:
    module = machine.load()
    module.TensorRTSession(order())
    shapes = SHAPES
    if change == "version":
        module = machine.load("10.14.1.48")
    elif change == "device":
        machine.cuda.names[0] = "NVIDIA Thor"
    elif change == "shapes":
        shapes = {"x": ((1, 3), (4, 3), (8, 3))}
    elif change == "damage":
        path = machine.engines()[0]
        path.write_bytes(path.read_bytes()[:-1])
    else:
        real = machine.trt.Runtime.deserialize_cuda_engine

        def once(runtime: Any, content: bytes) -> Any:
            runtime.logger.log(1, "serialised by another version")
            machine.trt.Runtime.deserialize_cuda_engine = real

        machine.trt.Runtime.deserialize_cuda_engine = once
    caplog.clear()
    session = module.TensorRTSession(order(shapes=shapes))
    assert session.info.engine.startswith(f"{machine.engines()[0]}: built, ")
    built = session.info.engine.partition(": built, ")[2]
    assert re.fullmatch(why, built), built
    assert caplog.text.count("building the TensorRT engine") == 1
    assert module.TensorRTSession(order(shapes=shapes)).info.engine.endswith(": read")
    check(session, rows(8))


@pytest.mark.parametrize(("version", "flags"), [("10.3.0.26", 1 << 1), ("11.4.1.5", 0)])
def test_a_network_is_strongly_typed_in_either_version(
    machine: Machine, version: str, flags: int
) -> None:
    session = machine.load(version).TensorRTSession(order())
    seen = machine.trt.seen
    assert seen.flags == [flags]
    assert seen.cleared == ["tf32"]
    assert seen.profiles == [{"x": [[1, 3], [4, 3], [16, 3]]}]
    assert session.info.backend == f"tensorrt {version}"
    check(session, rows(5))


def test_an_engine_for_fixed_shapes_has_no_profile(machine: Machine) -> None:
    module = machine.load()
    session = module.TensorRTSession(order(model({"x": [2, 3]}), shapes={}))
    assert machine.trt.seen.profiles == []
    check(session, rows(2))
    with pytest.raises(
        BackendError, match=r"built for shapes from \(2, 3\) to \(2, 3\), got \(1, 3\)"
    ):
        session.run(rows(1))


def test_a_shape_that_is_open_and_not_told_is_an_error(machine: Machine) -> None:
    with pytest.raises(BackendError, match=r"face: x has the shape \(-1, 3\); TensorRT needs"):
        machine.load().TensorRTSession(order(shapes={}))


@pytest.mark.parametrize(
    ("refused", "shapes", "message"),
    [
        ("", {"x": ((4, 3), (1, 3), (16, 3))}, "refuses the shapes of x: inconsistent"),
        ("profile", SHAPES, "face: TensorRT refuses the shapes"),
        ("build", SHAPES, r"10\.13\.0\.35 cannot build face: no tactic fits$"),
        (
            "engine",
            SHAPES,
            "cannot read the engine it has just built: serialised by another version",
        ),
        ("dtype", SHAPES, "x: expected float32, got half"),
        ("shape", SHAPES, r"refuses x of shape \(16, 3\)"),
    ],
)
def test_what_tensorrt_refuses_is_said_with_its_reason(
    machine: Machine, refused: str, shapes: Shapes, message: str
) -> None:
    module = machine.load()
    machine.trt.seen.refused = refused
    with pytest.raises(BackendError, match=message):
        module.TensorRTSession(order(shapes=shapes))


def test_all_errors_of_the_parser_are_told(machine: Machine) -> None:
    with pytest.raises(
        BackendError, match=r"cannot load face: error 0 of the parser; error 1 of the parser$"
    ):
        machine.load().TensorRTSession(order(b"no network"))


def test_an_output_whose_shape_is_open_is_refused(machine: Machine) -> None:
    with pytest.raises(BackendError, match=r"x doubled: its shape .* depends on more"):
        machine.load().TensorRTSession(order(model(output=(-1, 3))))


def test_timings_are_kept_for_a_device_and_a_version(machine: Machine) -> None:
    module = machine.load()
    seen = machine.trt.seen
    module.TensorRTSession(order())
    module.TensorRTSession(order(model({"x": [2, 3]})))
    assert seen.timings == [b"", b"timings of 1 builds"]
    machine.cuda.names[0] = "NVIDIA Thor"
    module.TensorRTSession(order())
    assert seen.timings[2:] == [b""]
    kept = sorted(path.name for path in machine.cache.folder.glob("timing-*"))
    assert [name.partition("-any")[0] for name in kept] == [
        "timing-10.13.0.35-NVIDIA_Orin__8.7_", "timing-10.13.0.35-NVIDIA_Thor__8.7_",
    ]  # fmt: skip


def test_timings_that_tensorrt_refuses_are_not_used(machine: Machine) -> None:
    module = machine.load()
    module.TensorRTSession(order())
    path = next(machine.cache.folder.glob("timing-*"))
    header = json.loads(path.read_bytes().partition(b"\n")[0])
    del header["sha256"]
    machine.cache.store(EngineKey(**header), b"of another GPU")
    module.TensorRTSession(order(model({"x": [2, 3]})))
    assert machine.trt.seen.timings == [b"", b"of another GPU", b""]
    assert b"timings of 2 builds" in path.read_bytes()


# Running


def test_the_second_run_in_a_row_makes_a_graph_and_inputs_still_count(machine: Machine) -> None:
    session = machine.load().TensorRTSession(order())
    calls = machine.cuda.calls
    check(session, rows(4, seed=1))
    assert calls["cudaStreamBeginCapture"] == 0
    check(session, rows(4, seed=2))
    assert (calls["cudaStreamBeginCapture"], calls["cudaGraphLaunch"]) == (1, 1)
    copies = calls["cudaMemcpyAsync"]
    for seed in range(3, 6):
        check(session, rows(4, seed=seed))
    assert (calls["cudaStreamBeginCapture"], calls["cudaGraphLaunch"]) == (1, 4)
    assert calls["cudaMemcpyAsync"] == copies, "the copies are in the graph"


def test_each_graph_has_its_context_and_the_least_used_one_goes(machine: Machine) -> None:
    module = machine.load()
    session = module.TensorRTSession(order())
    calls = machine.cuda.calls
    for count in (1, 2, 3, 4):
        check(session, rows(count))
        check(session, rows(count, seed=count))
    check(session, rows(1))  # used last but one from here on
    assert calls["cudaStreamBeginCapture"] == module.GRAPHS == 4
    check(session, rows(5))
    check(session, rows(5))
    assert calls["cudaGraphExecDestroy"] == 1
    for count in (1, 3, 4, 5):
        check(session, rows(count, seed=7))
    assert calls["cudaStreamBeginCapture"] == 5
    check(session, rows(2))
    check(session, rows(2))
    assert calls["cudaStreamBeginCapture"] == 6


def test_shapes_that_take_turns_make_no_graphs(machine: Machine) -> None:
    session = machine.load().TensorRTSession(order())
    for count in (1, 2) * 5:
        check(session, rows(count, seed=count))
    assert machine.cuda.calls["cudaStreamBeginCapture"] == 0


def test_what_cannot_be_captured_runs_all_the_same(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    session = machine.load().TensorRTSession(order())
    machine.cuda.fail = ("cudaGraphInstantiate", 1, CudaError.cudaErrorStreamCaptureUnsupported)
    caplog.clear()
    for seed in range(4):
        check(session, rows(4, seed))
    assert [record.getMessage() for record in caplog.records] == [
        "TensorRT runs without CUDA graphs: "
        "cudaGraphInstantiate failed: cudaErrorStreamCaptureUnsupported"
    ]
    assert "graph" not in set(machine.cuda.live.values())


def test_results_are_the_callers_own(machine: Machine) -> None:
    session = machine.load().TensorRTSession(order())
    first = session.run(rows(4))["x doubled"]
    before = first.copy()
    session.run(rows(4, seed=1))
    np.testing.assert_array_equal(first, before)
    assert first.flags.owndata
    assert first.flags.writeable


@pytest.mark.parametrize("shape", [(17, 3), (0, 3), (4, 4), (3,), (1, 4, 3)])
def test_a_shape_outside_the_profile_is_named(machine: Machine, shape: tuple[int, ...]) -> None:
    session = machine.load().TensorRTSession(order())
    with pytest.raises(BackendError, match=r"x: .* from \(1, 3\) to \(16, 3\), got \("):
        session.run({"x": np.zeros(shape, np.float32)})
    check(session, rows(16))


def test_inputs_go_by_name(machine: Machine) -> None:
    shapes = {"b": ((1, 2), (1, 2), (4, 2)), "a": ((1, 3), (2, 3), (4, 3))}
    session = machine.load().TensorRTSession(
        order(model({"a": [-1, 3], "b": [-1, 2]}), shapes=shapes)
    )
    assert session.ports == ({"a", "b"}, {"a doubled", "b doubled"})
    for _ in range(3):
        inputs = {"b": np.ones((3, 2), np.float32), "a": np.zeros((2, 3), np.float32)}
        results = session.run(inputs)
        np.testing.assert_array_equal(results["a doubled"], np.ones((2, 3)))
        np.testing.assert_array_equal(results["b doubled"], np.full((3, 2), 3))
    with pytest.raises(BackendError, match=r"expected inputs \['a', 'b'\], got \['a'\]"):
        session.run({"a": np.zeros((2, 3), np.float32)})


def test_the_second_device_is_used_when_asked_for(machine: Machine) -> None:
    machine.cuda.names[1] = "NVIDIA Thor"
    session = machine.load().TensorRTSession(order(device="cuda:1"))
    assert session.info.device == "NVIDIA Thor"


@pytest.mark.parametrize(
    ("function", "number"),
    [
        ("cudaSetDevice", 1),
        ("cudaGetDeviceProperties", 1),
        ("cudaStreamCreateWithFlags", 1),
        ("cudaMalloc", 1),
        ("cudaMalloc", 2),
        ("cudaMalloc", 3),
        ("cudaHostAlloc", 2),
    ],
)
def test_an_error_of_cuda_is_named_and_leaves_nothing_behind(
    machine: Machine, function: str, number: int
) -> None:
    module = machine.load()
    machine.cuda.fail = (function, number, CudaError.cudaErrorMemoryAllocation)
    with pytest.raises(BackendError, match=f"^{function} failed: cudaErrorMemoryAllocation$"):
        module.TensorRTSession(order())
    gc.collect()
    assert machine.cuda.live == {}


@pytest.mark.parametrize(
    "function", ["cudaMemcpyAsync", "cudaStreamSynchronize", "cudaGraphLaunch"]
)
def test_an_error_while_running_is_named(machine: Machine, function: str) -> None:
    session = machine.load().TensorRTSession(order())
    check(session, rows(4))
    check(session, rows(4))
    check(session, rows(2))
    machine.cuda.fail = (
        function, machine.cuda.calls[function] + 1, CudaError.cudaErrorIllegalAddress
    )  # fmt: skip
    with pytest.raises(BackendError, match=f"{function} failed: cudaErrorIllegalAddress"):
        session.run(rows(4 if function == "cudaGraphLaunch" else 3))
    machine.trt.seen.refused = "run"
    with pytest.raises(BackendError, match="TensorRT cannot run the model: not now"):
        session.run(rows(2))


def test_closing_gives_everything_back_and_may_be_repeated(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    session = machine.load().TensorRTSession(order())
    for _ in range(3):
        check(session, rows(4))
    assert alive(machine) == {"stream": 1, "device": 3, "host": 2, "runnable graph": 1}
    machine.cuda.fail = ("cudaFreeHost", 1, CudaError.cudaErrorIllegalAddress)
    session.close()
    session.close()
    assert alive(machine) == {"host": 1}, "an error does not keep the rest from being freed"
    assert "cudaFreeHost failed: cudaErrorIllegalAddress" in caplog.text
    machine.cuda.live.clear()
    with pytest.raises(BackendError, match="the session is closed"):
        session.run(rows(4))


def alive(machine: Machine) -> dict[str, int]:
    kinds = list(machine.cuda.live.values())
    return {kind: kinds.count(kind) for kind in kinds}


def test_dropping_the_session_gives_everything_back(machine: Machine) -> None:
    session = machine.load().TensorRTSession(order())
    check(session, rows(4))
    del session
    gc.collect()
    assert machine.cuda.live == {}


# What runs


def test_layers_are_counted_by_the_format_of_their_input() -> None:
    assert layers_of(INSPECTOR_10) == {"int8": 3, "fp16": 2, "fp32": 1, "bf16": 1}
    assert layers_of(INSPECTOR_11) == {"int8": 1, "fp32": 1}


def test_layers_of_which_only_names_are_known_are_not_counted() -> None:
    assert layers_of('{"Layers": ["Conv_1", "Conv_2"], "Bindings": []}') == {}
    assert layers_of('{"Layers": [{"LayerType": "gemm", "Inputs": []}]}') == {"unknown": 1}


def test_a_name_may_hold_any_character() -> None:
    layer = '{"LayerType": "gemm", "Name": "a\x1eb", "Inputs": [{"Datatype": "FP32"}]}'
    assert layers_of(f'{{"Layers": [{layer}]}}') == {"fp32": 1}


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}"])
def test_what_is_no_inspectors_answer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting value|expected an object with Layers"):
        layers_of(text)


def test_a_session_says_what_runs(machine: Machine) -> None:
    info = machine.load().TensorRTSession(order()).info
    assert info.backend == "tensorrt 10.13.0.35"
    assert info.device == "NVIDIA Orin"
    assert info.layers == {"int8": 3, "fp16": 2, "fp32": 1, "bf16": 1}
    assert info.notes == ()


def test_an_inspector_that_is_not_understood_is_no_failure(machine: Machine) -> None:
    module = machine.load()
    machine.trt.seen.inspector = "a new form"
    session = module.TensorRTSession(order())
    assert session.info.precision == "unknown"
    assert "not understood" in session.info.notes[0]
    check(session, rows(1))


def test_it_opens_like_every_other_runtime(machine: Machine) -> None:
    machine.load()
    network = Network("face", model(), int8=model(), int8_layers=3, shapes=SHAPES)
    runtime = Runtime(backend="tensorrt", device="cuda:0", precision="int8", strict=True)
    check(open_session(network, runtime), rows(3))


# TensorRT itself


def gpu(test: Any) -> Any:
    """A test that needs TensorRT and a device."""
    return pytest.mark.gpu(pytest.mark.usefixtures("engines")(test))


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder for engines, where there is TensorRT and a device."""
    spec = find_spec("tensorrt")
    if spec is None or spec.origin is None:  # type stubs alone have no file
        pytest.skip("TensorRT is not installed")
    try:
        seen = import_module(OURS[0]).devices("tensorrt")
    except BackendError as error:
        forget()
        pytest.skip(str(error))
    if not seen:
        pytest.skip("there is no CUDA device")
    monkeypatch.setenv("OCCAM_CACHE_DIR", str(tmp_path))


def noise(network: Network, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Inputs of the usual shapes."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.uniform(-1, 1, limits[1]).astype(np.float32)
        for name, limits in network.shapes.items()
    }


@gpu
@pytest.mark.parametrize("name", load_bundle().networks)
def test_float32_agrees_with_the_default_runtime(name: str) -> None:
    network = load_bundle().network(name)
    session = open_session(network, Runtime(backend="tensorrt", precision="fp32", strict=True))
    reference = open_session(network, Runtime(backend="openvino", device="cpu", precision="fp32"))
    expected = reference.run(noise(network))
    for _ in range(3):  # plain, captured, replayed
        results = session.run(noise(network))
        assert results.keys() == expected.keys()
        for port, array in expected.items():
            np.testing.assert_allclose(results[port], array, rtol=1e-3, atol=1e-4, err_msg=port)


@gpu
@pytest.mark.parametrize("name", load_bundle().networks)
def test_int8_comes_near_and_is_int8(name: str) -> None:
    network = load_bundle().network(name)
    if network.int8 is None:
        pytest.skip(f"the bundle has no INT8 form of {name}")
    session = open_session(network, Runtime(backend="tensorrt", precision="int8", strict=True))
    assert session.info.layers["int8"] >= network.int8_layers
    reference = open_session(network, Runtime(backend="openvino", device="cpu", precision="fp32"))
    expected = reference.run(noise(network))
    for port, array in session.run(noise(network)).items():
        ours, theirs = array.ravel(), expected[port].ravel()
        cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
        assert cosine > 0.98, port


@gpu
def test_a_real_engine_is_read_again_and_answers_the_same() -> None:
    network = load_bundle().network("voice")
    runtime = Runtime(backend="tensorrt")
    first, second = open_session(network, runtime), open_session(network, runtime)
    assert first.info.engine.endswith("built, there was none")
    assert second.info.engine.endswith(": read")
    for port, array in first.run(noise(network)).items():
        np.testing.assert_array_equal(second.run(noise(network))[port], array, err_msg=port)


@gpu
def test_a_real_graph_answers_as_the_plain_run_does() -> None:
    network = load_bundle().network("expression")
    runtime = Runtime(backend="tensorrt")
    graphs, plain = open_session(network, runtime), open_session(network, runtime)
    small = {name: array[:1] for name, array in noise(network).items()}
    for seed in range(4):
        inputs = noise(network, seed)
        results = graphs.run(inputs)
        plain.run(small)  # another shape in between: it never captures
        for port, array in plain.run(inputs).items():
            np.testing.assert_array_equal(results[port], array, err_msg=f"{port} of {seed}")


@gpu
def test_every_name_of_our_types_is_in_the_package() -> None:
    real = import_module("tensorrt")
    for node in ast.parse(TYPINGS.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            for part in ast.walk(node):
                name = None
                if isinstance(part, ast.FunctionDef) and part.name != "__buffer__":
                    name = part.name
                elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                    name = part.target.id
                owner = getattr(real, node.name)
                severity = node.name == "ILogger" and name in ("ERROR", "INTERNAL_ERROR")
                assert name is None or hasattr(owner.Severity if severity else owner, name), name
