"""Stand-ins for TensorRT and cuda-python, which compute 2 x + 1 in the host's memory.

They keep to what the real ones ask for, as far as NVIDIA's documentation says it: what was captured
is replayed as it was, the first run of a context after a change of shape may not be captured, a graph is
worth nothing once its context has another shape, and all memory is counted.
"""

# ruff: noqa: N802, N815  # names and arguments are those of the real ones

from __future__ import annotations

import ctypes
import json
import math
import types
from collections import Counter
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Work = Callable[[], None]


class CudaError(IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900


class FakeCuda(types.ModuleType):
    """``cuda.bindings.runtime`` of a machine with two devices.

    Attributes:
        live: handles and addresses that were given out and not given back.
        calls: how often each function was called.
        fail: function, the number of the call that fails, and how.
    """

    cudaError_t = CudaError
    cudaStreamNonBlocking = 1
    cudaHostAllocDefault = 0
    cudaMemcpyKind = types.SimpleNamespace(
        cudaMemcpyHostToDevice="to device", cudaMemcpyDeviceToHost="to host"
    )
    cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread")

    def __init__(self) -> None:
        super().__init__("cuda.bindings.runtime")
        self.names = ["NVIDIA Orin", "NVIDIA Orin"]
        self.live: dict[int, str] = {}
        self.memory: dict[int, NDArray[np.uint8]] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.capturing: list[Work] | None = None
        self.calls: Counter[str] = Counter()
        self.fail: tuple[str, int, CudaError] | None = None
        self._next = 1
        for name in dir(FakeCuda):
            if name.startswith("cuda") and isinstance(getattr(FakeCuda, name), types.FunctionType):
                setattr(self, name, self._counted(getattr(self, name)))

    def _counted(self, function: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls[function.__name__] += 1
            if self.fail and self.fail[:2] == (function.__name__, self.calls[function.__name__]):
                return self.fail[2], None
            results = function(*arguments)
            return (CudaError.cudaSuccess, *results)

        call.__name__ = function.__name__
        return call

    def _give(self, kind: str) -> int:
        self._next += 1
        self.live[self._next] = kind
        return self._next

    def _take(self, kind: str, handle: int) -> None:
        assert self.live.pop(handle, None) == kind, f"{handle} is no {kind}"

    def _allocate(self, kind: str, nbytes: int) -> int:
        memory = np.full(nbytes, 0xAB, np.uint8)
        address: int = memory.ctypes.data
        self.memory[address], self.live[address] = memory, kind
        return address

    def work(self, what: Work) -> None:
        """Do it, or keep it for the graph that is being captured."""
        if self.capturing is None:
            what()
        else:
            self.capturing.append(what)

    def array(self, address: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return self.memory[address].view(np.float32)[: math.prod(shape)].reshape(shape)

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return (len(self.names),)

    def cudaSetDevice(self, index: int) -> tuple[Any, ...]:
        assert 0 <= index < len(self.names)
        return ()

    def cudaGetDeviceProperties(self, index: int) -> tuple[Any, ...]:
        name = self.names[index].encode() + b"\0\0"
        return (types.SimpleNamespace(name=name, major=8, minor=7),)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        return (self._give("stream"),)

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        self._take("stream", stream)
        return ()

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        assert self.capturing is None
        return ()

    def cudaMalloc(self, nbytes: int) -> tuple[Any, ...]:
        assert self.capturing is None
        return (self._allocate("device", nbytes),)

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        self._take("device", address)
        del self.memory[address]
        return ()

    def cudaHostAlloc(self, nbytes: int, flags: int) -> tuple[Any, ...]:
        return (self._allocate("host", nbytes),)

    def cudaFreeHost(self, address: int) -> tuple[Any, ...]:
        self._take("host", address)
        del self.memory[address]
        return ()

    def cudaMemcpyAsync(
        self, to: int, source: int, nbytes: int, kind: str, stream: int
    ) -> tuple[Any, ...]:
        assert self.live[stream] == "stream"
        ends = (self.live[source], self.live[to])
        assert ends == (("host", "device") if kind == "to device" else ("device", "host"))
        assert nbytes <= min(len(self.memory[to]), len(self.memory[source]))
        self.work(lambda: void(ctypes.memmove(to, source, nbytes)))
        return ()

    def cudaStreamBeginCapture(self, stream: int, mode: str) -> tuple[Any, ...]:
        assert self.capturing is None
        self.capturing = []
        return ()

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        assert self.capturing is not None
        graph = self._give("graph")
        self.graphs[graph], self.capturing = self.capturing, None
        return (graph,)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, ...]:
        runnable = self._give("runnable graph")
        self.graphs[runnable] = self.graphs[graph]
        return (runnable,)

    def cudaGraphDestroy(self, graph: int) -> tuple[Any, ...]:
        self._take("graph", graph)
        return ()

    def cudaGraphExecDestroy(self, graph: int) -> tuple[Any, ...]:
        self._take("runnable graph", graph)
        return ()

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[Any, ...]:
        assert self.live[graph] == "runnable graph"
        for work in self.graphs[graph]:
            work()
        return ()


def void(_value: object) -> None:
    """Nothing."""


def model(
    inputs: dict[str, list[int]] | None = None, *, output: tuple[int, ...] | None = None
) -> bytes:
    """A network for the stand-in: of each input "x" it makes an output "x doubled"."""
    return json.dumps({"inputs": inputs or {"x": [-1, 3]}, "output": output}).encode()


def fake_tensorrt(version: str, cuda: FakeCuda) -> Any:
    """The module ``tensorrt``; what is done with it is in its ``seen``."""
    trt: Any = types.ModuleType("tensorrt")
    eleven = version.startswith("11")
    seen = types.SimpleNamespace(
        flags=[],
        profiles=[],
        cleared=[],
        timings=[],
        builds=0,
        contexts=0,
        inspector="",
        refused="",
    )
    trt.__version__, trt.seen = version, seen

    class Severity(IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2

    class ILogger:
        def __init__(self) -> None:
            self.made = True

    class Dims(list[int]):
        pass

    class Timings:
        def __init__(self, content: bytes) -> None:
            self.content = content

        def serialize(self) -> memoryview:
            return memoryview(self.content)

    class Config:
        profiling_verbosity = "names only"

        def set_flag(self, flag: object) -> None:
            raise AssertionError(f"{flag}: the model alone says in what it is computed")

        def clear_flag(self, flag: str) -> None:
            seen.cleared.append(flag)

        def create_timing_cache(self, content: bytes) -> Timings:
            return Timings(content)

        def set_timing_cache(self, cache: Timings, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            self.timings = cache
            seen.timings.append(cache.content)
            return not cache.content or cache.content.startswith(b"timings")

        def add_optimization_profile(self, profile: Profile) -> int:
            seen.profiles.append(profile.shapes)
            return -1 if seen.refused == "profile" else 0

    class Profile:
        def __init__(self) -> None:
            self.shapes: dict[str, list[Dims]] = {}

        def set_shape(self, port: str, smallest: Dims, usual: Dims, largest: Dims) -> None:
            if not all(a <= b <= c for a, b, c in zip(smallest, usual, largest, strict=True)):
                raise ValueError("inconsistent")
            self.shapes[port] = [smallest, usual, largest]

    class Network:
        def __init__(self) -> None:
            self.said: dict[str, Any] = {}

        @property
        def num_inputs(self) -> int:
            return len(self.said["inputs"])

        def get_input(self, index: int) -> Any:
            name, shape = list(self.said["inputs"].items())[index]
            return types.SimpleNamespace(name=name, shape=Dims(shape))

    class Parser:
        num_errors = 0

        def __init__(self, network: Network, logger: ILogger) -> None:
            self.network = network

        def parse(self, content: bytes) -> bool:
            try:
                self.network.said = json.loads(content)
            except ValueError:
                self.num_errors = 2
            return not self.num_errors

        def get_error(self, index: int) -> Any:
            return types.SimpleNamespace(desc=lambda: f"error {index} of the parser\n")

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            assert logger.made
            self.logger: Any = logger

        def create_network(self, flags: int = 0) -> Network:
            seen.flags.append(flags)
            return Network()

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> memoryview | None:
            assert config.profiling_verbosity == "detailed"
            if seen.refused == "build":
                self.logger.log(Severity.WARNING, "a warning")
                self.logger.log(Severity.ERROR, "no tactic fits")
                return None
            seen.builds += 1
            config.timings.content = b"timings of %d builds" % seen.builds
            profile = seen.profiles[-1] if seen.profiles else {}
            return memoryview(json.dumps({**network.said, "profile": profile}).encode())

    class Context:
        def __init__(self, engine: Engine) -> None:
            seen.contexts += 1
            self.engine = engine
            self.scratch = 0
            self.addresses: dict[str, int] = {}
            self.shapes: dict[str, tuple[int, ...]] = {}
            self.settled: dict[str, tuple[int, ...]] = {}

        def set_device_memory(self, address: int, nbytes: int) -> None:
            assert nbytes >= self.engine.device_memory_size_v2
            self.scratch = address

        def set_tensor_address(self, name: str, address: int) -> bool:
            self.addresses[name] = address
            return True

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self.shapes[name] = tuple(shape)
            return seen.refused != "shape"

        def get_tensor_shape(self, name: str) -> Dims:
            return Dims(self.engine.said["output"] or self.shapes[name.removesuffix(" doubled")])

        def execute_async_v3(self, stream: int) -> bool:
            shapes = dict(self.shapes)
            if seen.refused == "run" or (cuda.capturing is not None and self.settled != shapes):
                self.engine.logger.log(Severity.ERROR, "not now")
                return False
            assert cuda.live[self.scratch] == "device"
            self.settled = shapes

            def compute() -> None:
                assert self.settled == shapes, "a graph of a context that has another shape by now"
                for name, shape in shapes.items():
                    to = cuda.array(self.addresses[f"{name} doubled"], shape)
                    to[...] = 2 * cuda.array(self.addresses[name], shape) + 1

            cuda.work(compute)
            return True

    class Engine:
        device_memory_size_v2 = 256

        def __init__(self, content: bytes, logger: ILogger) -> None:
            self.logger: Any = logger
            self.said = json.loads(content)
            self.names = [n for i in self.said["inputs"] for n in (i, f"{i} doubled")]

        @property
        def num_io_tensors(self) -> int:
            return len(self.names)

        def get_tensor_name(self, index: int) -> str:
            return self.names[index]

        def get_tensor_mode(self, name: str) -> str:
            return "input" if name in self.said["inputs"] else "output"

        def get_tensor_dtype(self, name: str) -> str:
            return "half" if seen.refused == "dtype" else "float"

        def get_tensor_shape(self, name: str) -> Dims:
            return Dims(self.said["inputs"].get(name, [-1]))

        def get_tensor_profile_shape(self, name: str, index: int) -> list[Dims]:
            return [Dims(shape) for shape in self.said["profile"][name]]

        def create_execution_context(self, strategy: str) -> Context:
            assert strategy == "user managed"
            return Context(self)

        def create_engine_inspector(self) -> Any:
            return types.SimpleNamespace(get_engine_information=lambda form: seen.inspector)

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            self.logger: Any = logger

        def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
            if seen.refused == "engine":
                self.logger.log(Severity.ERROR, "serialised by another version")
                return None
            return Engine(content, self.logger)

    ILogger.Severity = Severity  # type: ignore[attr-defined]
    trt.ILogger, trt.Dims, trt.Builder, trt.OnnxParser = ILogger, Dims, Builder, Parser
    trt.Runtime = Runtime
    flags = {"TF32": "tf32"} if eleven else {"TF32": "tf32", "INT8": "int8", "FP16": "fp16"}
    trt.BuilderFlag = types.SimpleNamespace(**flags)
    trt.NetworkDefinitionCreationFlag = types.SimpleNamespace(STRONGLY_TYPED=1)
    trt.ProfilingVerbosity = types.SimpleNamespace(DETAILED="detailed")
    trt.LayerInformationFormat = types.SimpleNamespace(JSON="json")
    trt.DataType = types.SimpleNamespace(FLOAT="float")
    trt.TensorIOMode = types.SimpleNamespace(INPUT="input")
    trt.ExecutionContextAllocationStrategy = types.SimpleNamespace(USER_MANAGED="user managed")
    for name in ("ICudaEngine", "IExecutionContext", "INetworkDefinition", "IBuilderConfig"):
        setattr(trt, name, object)
    return trt
