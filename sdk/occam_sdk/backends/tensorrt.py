"""TensorRT: Jetson and the desktop GPUs of NVIDIA.

Made for TensorRT 10.3 (JetPack 6.1) and later. What 11 does differently:

- A network is always strongly typed; 10 has to be told. 11 ignores the flag, which it deprecates.
- Builder flags and calibrators for precision are gone: the model says it, by its Q and DQ.
- ``device_memory_size`` is gone; ``device_memory_size_v2`` is in both.
- The engine inspector writes "I/O Tensors" for "Bindings", and splits "Format/Datatype" in two.
"""

from __future__ import annotations

import logging
import weakref
from collections import OrderedDict, deque
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError
from . import Order, SessionInfo
from .cache import EngineCache, EngineKey
from .inspector import layers_of

try:
    import tensorrt as trt
    from tensorrt import __version__ as VERSION  # noqa: N812  # its type stubs alone have none
except ImportError as error:
    raise BackendError(
        f'TensorRT cannot be loaded ({error}): pip install "occam-sdk[tensorrt]"; on a Jetson, '
        "sudo apt install python3-libnvinfer, and a virtual environment made with "
        "python3 -m venv --system-site-packages"
    ) from error

from . import cuda
from .cuda import Buffer, Shape, Stream

RELEASE: Final = tuple(int(part) for part in VERSION.split(".")[:2])
if RELEASE < (10, 3):
    raise BackendError(f"TensorRT {VERSION} is too old: 10.3 is needed, which JetPack 6.1 brings")

GRAPHS: Final = 4  # the most CUDA graphs that a session keeps
LOGGER: Final = logging.getLogger("occam_sdk")


class _Log(trt.ILogger):
    """Keeps what TensorRT complains of: its calls only answer None or False."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._errors: deque[str] = deque(maxlen=8)

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
            self._errors.append(msg.strip())
        LOGGER.debug("TensorRT: %s", msg)

    def reason(self) -> str:
        """What it has complained of since this was last asked for."""
        errors = "; ".join(self._errors) or "it gives no reason"
        self._errors.clear()
        return errors


LOG: Final = _Log()  # the only one: TensorRT takes one logger for a process


def devices(_backend: str) -> tuple[str, ...]:
    """The CUDA devices; none where there is no driver, or one that is too old."""
    return tuple(f"cuda:{index}" for index in range(cuda.device_count()))


@dataclass(frozen=True, eq=False)
class _Plan:
    """A context that is set to these shapes of all inputs and outputs, and perhaps its CUDA graph."""

    context: trt.IExecutionContext
    shapes: dict[str, Shape]
    graph: object = None


class TensorRTSession:
    """One engine with one stream; not to be shared between threads."""

    def __init__(self, order: Order) -> None:
        self._device = int(order.device.partition(":")[2])
        cuda.use_device(self._device)
        name, capability = cuda.device_name(self._device)
        self._runtime = trt.Runtime(LOG)
        self._engine, origin = _engine(order, self._runtime, f"{name} ({capability})")
        self._info = _info(self._engine, name, origin)
        self._limits, self._outputs = _ports(self._engine)
        self._buffers: dict[str, Buffer] = {}
        self._graphs: OrderedDict[tuple[Shape, ...], _Plan] = OrderedDict()
        self._may_capture = True
        self._last: _Plan | None = None
        with ExitStack() as held:
            self._stream = Stream(held)
            self._scratch_bytes = self._engine.device_memory_size_v2
            self._scratch = self._stream.memory(self._scratch_bytes) if self._scratch_bytes else 0
            largest = {name: limits[1] for name, limits in self._limits.items()}
            for name, shape in self._plan(self._new_context(), largest).shapes.items():
                self._buffers[name] = self._stream.buffer(shape)
            self._context = self._new_context()
            held.callback(_drop, self._graphs, 0)
            self._give_back = weakref.finalize(self, held.pop_all().close)

    def _new_context(self) -> trt.IExecutionContext:
        """A context in the memory that all share: they never run at the same time."""
        context = self._engine.create_execution_context(
            trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        if context is None:
            raise BackendError(f"TensorRT cannot make the engine ready to run: {LOG.reason()}")
        if self._scratch_bytes:
            context.set_device_memory(self._scratch, self._scratch_bytes)
        for name, buffer in self._buffers.items():
            context.set_tensor_address(name, buffer.device)
        return context

    def _plan(self, context: trt.IExecutionContext, inputs: Mapping[str, Shape]) -> _Plan:
        for name, shape in inputs.items():
            if not context.set_input_shape(name, shape):
                raise BackendError(f"TensorRT refuses {name} of shape {shape}: {LOG.reason()}")
        outputs = {name: _shape(context.get_tensor_shape(name)) for name in self._outputs}
        for name, shape in outputs.items():
            if -1 in shape:
                raise BackendError(f"{name}: its shape {shape} depends on more than the inputs'")
        return _Plan(context, {**inputs, **outputs})

    @property
    def info(self) -> SessionInfo:
        """What really runs: number formats come from TensorRT's engine inspector."""
        return self._info

    @property
    def ports(self) -> tuple[frozenset[str], frozenset[str]]:
        """Names of the inputs and of the outputs."""
        return frozenset(self._limits), frozenset(self._outputs)

    def close(self) -> None:
        """Give the device's memory back; dropping the session does it too."""
        self._give_back()

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Every output under its name; the arrays are copies.

        Raises:
            BackendError: a shape that the engine was not built for, or an error of CUDA.
        """
        if not self._give_back.alive:
            raise BackendError("the session is closed")
        shapes = self._checked(inputs)
        cuda.use_device(self._device)  # each thread has its own, and this may be another one
        for name, array in inputs.items():
            self._buffers[name].view(shapes[name])[...] = array
        plan = self._ready(shapes)
        if plan.graph is None:
            self._enqueue(plan)
        else:
            self._stream.launch(plan.graph)
        self._stream.wait()
        return {name: self._buffers[name].view(plan.shapes[name]).copy() for name in self._outputs}

    def _checked(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, Shape]:
        """Shapes of the inputs, in the engine's order."""
        if inputs.keys() != self._limits.keys():
            raise BackendError(f"expected inputs {sorted(self._limits)}, got {sorted(inputs)}")
        shapes = {name: inputs[name].shape for name in self._limits}
        for name, (smallest, largest) in self._limits.items():
            shape = shapes[name]
            sides = zip(smallest, shape, largest, strict=False)
            if len(shape) != len(smallest) or not all(low <= n <= high for low, n, high in sides):
                raise BackendError(
                    f"{name}: the engine was built for shapes from {smallest} to {largest}, got {shape}"
                )
        return shapes

    def _ready(self, shapes: dict[str, Shape]) -> _Plan:
        """What runs these shapes: a graph, once they have come twice without others in between."""
        key = tuple(shapes.values())
        if key in self._graphs:
            self._graphs.move_to_end(key)
            return self._graphs[key]
        if self._last is None or not shapes.items() <= self._last.shapes.items():
            self._last = self._plan(self._context, shapes)
        elif self._may_capture:
            try:
                plan = self._captured(shapes)
            except BackendError as error:
                self._may_capture = False
                # As text: a handler that keeps the error would keep the session by its traceback.
                LOGGER.warning("TensorRT runs without CUDA graphs: %s", str(error))
                return self._last
            _drop(self._graphs, GRAPHS - 1)
            self._graphs[key] = plan
            return plan
        return self._last

    def _captured(self, shapes: dict[str, Shape]) -> _Plan:
        """A plan with its graph.

        Its context is its own, as TensorRT's documentation asks for: a context that is set to another
        shape changes memory that the graph reads.
        """
        plan = self._plan(self._new_context(), shapes)
        self._enqueue(plan)  # the first run after a change of shape may not be captured
        self._stream.wait()
        return _Plan(plan.context, plan.shapes, self._stream.capture(lambda: self._enqueue(plan)))

    def _enqueue(self, plan: _Plan) -> None:
        """Copy there, run, copy back: all on the stream."""
        for name in self._limits:
            self._stream.to_device(self._buffers[name], plan.shapes[name])
        if not plan.context.execute_async_v3(int(self._stream)):
            raise BackendError(f"TensorRT cannot run the model: {LOG.reason()}")
        for name in self._outputs:
            self._stream.to_host(self._buffers[name], plan.shapes[name])


def _drop(graphs: OrderedDict[tuple[Shape, ...], _Plan], keep: int) -> None:
    """Give back the graphs that were used least recently."""
    while len(graphs) > keep:
        _, plan = graphs.popitem(last=False)
        cuda.free_graph(plan.graph)


def _shape(dims: trt.Dims) -> Shape:
    return tuple(dims[index] for index in range(len(dims)))


def _ports(engine: trt.ICudaEngine) -> tuple[dict[str, tuple[Shape, Shape]], list[str]]:
    """Smallest and largest shape of each input, and names of the outputs."""
    limits, outputs = {}, []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        if engine.get_tensor_dtype(name) != trt.DataType.FLOAT:
            raise BackendError(f"{name}: expected float32, got {engine.get_tensor_dtype(name)}")
        shape = _shape(engine.get_tensor_shape(name))
        if engine.get_tensor_mode(name) != trt.TensorIOMode.INPUT:
            outputs.append(name)
        elif -1 in shape:
            smallest, _, largest = engine.get_tensor_profile_shape(name, 0)
            limits[name] = _shape(smallest), _shape(largest)
        else:
            limits[name] = shape, shape
    return limits, outputs


def _info(engine: trt.ICudaEngine, device: str, origin: str) -> SessionInfo:
    said = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    try:
        return SessionInfo(f"tensorrt {VERSION}", device, layers_of(said), origin)
    except ValueError as error:
        note = f"TensorRT's engine inspector is not understood ({error}): the precision is unknown"
        return SessionInfo(f"tensorrt {VERSION}", device, {}, origin, (note,))


def _engine(order: Order, runtime: trt.Runtime, device: str) -> tuple[trt.ICudaEngine, str]:
    """The engine that the cache has, or a new one; and where it comes from."""
    shapes = order.network.shapes
    key = EngineKey(
        network=order.network.name,
        model_sha256=order.sha256,
        backend="tensorrt",
        version=VERSION,
        device=device,
        precision=order.precision,
        shapes="; ".join(f"{name} {_text(shapes[name])}" for name in sorted(shapes)) or "fixed",
    )
    cache = EngineCache()
    kept, why = cache.load(key)
    LOG.reason()  # forgets what others complained of
    if kept is not None:
        engine = runtime.deserialize_cuda_engine(kept)
        if engine is not None:
            return engine, f"{cache.path(key)}: read"
        why = f"TensorRT cannot read the last one: {LOG.reason()}"
    LOGGER.warning(
        "building the TensorRT engine %r for %s, which may take minutes: %s",
        key.network,
        device,
        why,
    )
    built = _build(order, cache, device)
    engine = runtime.deserialize_cuda_engine(built)
    if engine is None:
        raise BackendError(f"TensorRT cannot read the engine it has just built: {LOG.reason()}")
    if order.build:
        cache.store(key, built)
    return engine, f"{cache.path(key)}: built, {why}"


def _text(limits: tuple[Shape, ...]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in limits)


def _build(order: Order, cache: EngineCache, device: str) -> bytes:
    name = order.network.name
    builder = trt.Builder(LOG)
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if RELEASE < (11,) else 0
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, LOG)
    if not parser.parse(order.model):
        errors = [parser.get_error(index).desc().strip() for index in range(parser.num_errors)]
        said = "; ".join(errors) or LOG.reason()
        raise BackendError(f"TensorRT {VERSION} cannot load {name}: {said}")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else layers have names only
    # float32 is float32: TF32, on by default, has a mantissa of 10 bits, and not every GPU has it.
    config.clear_flag(trt.BuilderFlag.TF32)
    _add_profile(builder, network, config, order)
    key = EngineKey(f"timing-{VERSION}-{device}", "any", "tensorrt", VERSION, device, "any", "any")
    timings = _timings(config, cache.load(key)[0])
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise BackendError(f"TensorRT {VERSION} cannot build {name}: {LOG.reason()}")
    if order.build:
        cache.store(key, bytes(timings.serialize()))
    return bytes(built)


def _add_profile(
    builder: trt.Builder, network: trt.INetworkDefinition, config: trt.IBuilderConfig, order: Order
) -> None:
    """The shapes that the engine is built for: one profile, of the inputs whose shape is not fixed."""
    name, shapes = order.network.name, order.network.shapes
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    dynamic = {tensor.name: _shape(tensor.shape) for tensor in inputs if -1 in _shape(tensor.shape)}
    profile = builder.create_optimization_profile()
    for port, shape in dynamic.items():
        if port not in shapes:
            raise BackendError(
                f"{name}: {port} has the shape {shape}; TensorRT needs the smallest, usual and largest "
                "one, in Network.shapes"
            )
        smallest, usual, largest = (trt.Dims(list(limit)) for limit in shapes[port])
        try:
            profile.set_shape(port, smallest, usual, largest)
        except (RuntimeError, ValueError) as error:
            raise BackendError(f"{name}: TensorRT refuses the shapes of {port}: {error}") from error
    if dynamic and config.add_optimization_profile(profile) < 0:
        raise BackendError(f"{name}: TensorRT refuses the shapes {dict(shapes)}: {LOG.reason()}")


def _timings(config: trt.IBuilderConfig, kept: bytes | None) -> trt.ITimingCache:
    """How fast kernels were the last time, which TensorRT adds to; an empty one if it refuses them."""
    for content in (kept or b"", b""):
        timings = config.create_timing_cache(content)
        if timings is not None and config.set_timing_cache(timings, ignore_mismatch=False):
            return timings
    raise BackendError(f"TensorRT refuses even an empty timing cache: {LOG.reason()}")
