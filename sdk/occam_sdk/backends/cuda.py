"""The few calls of CUDA that TensorRT needs around it, each with its error code checked."""

from __future__ import annotations

import ctypes
import logging
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError

try:
    try:
        from cuda.bindings import runtime as cudart
    except ImportError:  # cuda-python before 12.8
        from cuda import cudart
except ImportError as error:
    raise BackendError(
        f"cuda-python cannot be loaded ({error}): pip install cuda-python; "
        'for a driver of CUDA 12, such as that of JetPack 6, pip install "cuda-python<13"'
    ) from error

LOGGER: Final = logging.getLogger("occam_sdk")
FLOAT32_BYTES: Final = 4

Shape = tuple[int, ...]


def call(function: Callable[..., tuple[Any, ...]], *arguments: object) -> Any:
    """What a function of CUDA returns after its error code.

    Raises:
        BackendError: the code is one of an error.
    """
    code, *results = function(*arguments)
    _raise_for(code, function.__name__)
    return results[0] if results else None


def _raise_for(code: Any, name: str) -> None:
    if code != cudart.cudaError_t.cudaSuccess:
        raise BackendError(f"{name} failed: {code.name}")


def free(function: Callable[..., tuple[Any, ...]], handle: object) -> None:
    """Give back; an error is logged, since the rest has to be given back as well."""
    try:
        call(function, handle)
    except BackendError as error:
        LOGGER.warning("%s", str(error))


def device_count() -> int:
    """How many there are; none where there is no driver, or one that is too old."""
    try:
        count: int = call(cudart.cudaGetDeviceCount)
    except (BackendError, RuntimeError) as error:  # RuntimeError: cuda-python finds no library
        LOGGER.debug("no CUDA device: %s", str(error))
        return 0
    return count


def use_device(index: int) -> None:
    """Let what this thread does from now on be done there."""
    call(cudart.cudaSetDevice, index)


def device_name(index: int) -> tuple[str, str]:
    """The device's own name, and its compute capability as "8.7"."""
    properties = call(cudart.cudaGetDeviceProperties, index)
    name: str = properties.name.partition(b"\0")[0].decode()
    return name, f"{properties.major}.{properties.minor}"


@dataclass(frozen=True, eq=False)
class Buffer:
    """Memory for one float32 array, on the device and pinned on the host.

    Attributes:
        device: address there.
        address: address here.
        host: the memory here, flat.
    """

    device: int
    address: int
    host: NDArray[np.float32]

    def view(self, shape: Shape) -> NDArray[np.float32]:
        """The host's memory in this shape.

        Raises:
            ValueError: the shape is larger than the memory.
        """
        return self.host[: math.prod(shape)].reshape(shape)


class Stream:
    """A stream of its own, so that nothing waits for what others do on the device.

    Args:
        held: gives back the stream and all memory that is asked for.
    """

    def __init__(self, held: ExitStack) -> None:
        self._held = held
        self._stream = call(cudart.cudaStreamCreateWithFlags, cudart.cudaStreamNonBlocking)
        held.callback(free, cudart.cudaStreamDestroy, self._stream)

    def __int__(self) -> int:
        return int(self._stream)

    def memory(self, nbytes: int) -> int:
        """Address of memory on the device."""
        address: int = call(cudart.cudaMalloc, nbytes)
        self._held.callback(free, cudart.cudaFree, address)
        return address

    def buffer(self, shape: Shape) -> Buffer:
        """Memory for arrays up to this shape."""
        count = math.prod(shape)
        address = call(cudart.cudaHostAlloc, count * FLOAT32_BYTES, cudart.cudaHostAllocDefault)
        self._held.callback(free, cudart.cudaFreeHost, address)
        device = self.memory(count * FLOAT32_BYTES)
        host = np.ctypeslib.as_array((ctypes.c_float * count).from_address(address))
        return Buffer(device, address, host)

    def to_device(self, buffer: Buffer, shape: Shape) -> None:
        """Copy an array of this shape; it is there when what comes next on the stream runs."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        nbytes = buffer.view(shape).nbytes
        call(cudart.cudaMemcpyAsync, buffer.device, buffer.address, nbytes, kind, self._stream)

    def to_host(self, buffer: Buffer, shape: Shape) -> None:
        """Copy an array of this shape; it is here after ``wait``."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        nbytes = buffer.view(shape).nbytes
        call(cudart.cudaMemcpyAsync, buffer.address, buffer.device, nbytes, kind, self._stream)

    def wait(self) -> None:
        """Until everything on the stream is done."""
        call(cudart.cudaStreamSynchronize, self._stream)

    def capture(self, work: Callable[[], None]) -> object:
        """What ``work`` puts on the stream, as a CUDA graph; give it back with ``free_graph``.

        Raises:
            BackendError: it cannot be captured.
        """
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal  # others may allocate
        call(cudart.cudaStreamBeginCapture, self._stream, mode)
        with ExitStack() as held:
            try:
                work()
            finally:  # else the stream would go on capturing
                code, graph = cudart.cudaStreamEndCapture(self._stream)
                if graph is not None:
                    held.callback(free, cudart.cudaGraphDestroy, graph)
            _raise_for(code, "cudaStreamEndCapture")
            captured: object = call(cudart.cudaGraphInstantiate, graph, 0)
        return captured

    def launch(self, graph: object) -> None:
        """Run what was captured."""
        call(cudart.cudaGraphLaunch, graph, self._stream)


def free_graph(graph: object) -> None:
    """Give back what ``Stream.capture`` made."""
    free(cudart.cudaGraphExecDestroy, graph)
