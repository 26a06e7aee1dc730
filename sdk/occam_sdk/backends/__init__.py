"""Runtimes behind one protocol; a runtime is imported when a session is opened, never before."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError
from ..machine import has_module, has_vnni

BATCH: Final = 16  # the most rows that a session is given at once
BACKENDS: Final = ("openvino", "onnxruntime", "onnxruntime-tensorrt", "tensorrt")
PRECISIONS: Final = ("auto", "int8", "fp32", "bf16", "fp16")
DEVICES: Final = ("auto", "cpu", "cuda", "intel:gpu", "intel:npu", "intel:auto")

Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Smallest, usual and largest shape of each input: what a TensorRT engine is built for."""


@dataclass(frozen=True)
class Runtime:
    """Where and how networks shall run.

    Attributes:
        backend: "auto" or one of ``BACKENDS``. "auto" is TensorRT where its package and a CUDA device
            are there, else OpenVINO, else ONNX Runtime.
        device: "auto", "cpu", "cuda", "cuda:1", "intel:gpu", "intel:npu", or "intel:auto", by which
            OpenVINO chooses.
        precision: "int8", "fp32", "bf16", "fp16", or "auto": INT8 for networks that gain by it, on
            runtimes that gain by it.
        threads: of the CPU; None leaves it to the runtime.
        strict: refuse what cannot be had instead of running something else.

    Raises:
        ValueError: no such backend, device or precision, or no thread at all.
    """

    backend: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        kind, _, number = self.device.partition(":")
        if self.backend not in ("auto", *BACKENDS):
            raise ValueError(_expected("backend", ("auto", *BACKENDS), self.backend))
        if self.device not in DEVICES and not (kind == "cuda" and number.isdecimal()):
            raise ValueError(_expected("device", (*DEVICES, "cuda:1"), self.device))
        if self.precision not in PRECISIONS:
            raise ValueError(_expected("precision", PRECISIONS, self.precision))
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads: expected one at least, or None, got {self.threads}")


@dataclass(frozen=True, eq=False)
class Network:
    """A network in the precisions that its bundle has.

    Attributes:
        name: one of ``Bundle.networks``, for messages and file names.
        float32: the bytes of an ONNX file without external data.
        int8: the same network with explicit Q/DQ, or None.
        int8_layers: how many convolutions and matrix products that file quantises.
        prefers_int8: whether "auto" means INT8 where the runtime gains by it.
        shapes: of the inputs.
        never_int8: whether it stays in float32 where INT8 is asked for: of a recurrent network what is
            rounded comes back at every step.
    """

    name: str
    float32: bytes
    int8: bytes | None = None
    int8_layers: int = 0
    prefers_int8: bool = False
    shapes: Shapes = field(default_factory=dict)
    never_int8: bool = False


@dataclass(frozen=True)
class SessionInfo:
    """What really runs, read back from the runtime.

    Attributes:
        backend: runtime and its version, as "openvino 2026.4.1".
        device: the runtime's own name of the device.
        layers: how many convolutions, matrix products and recurrent layers are computed in each number
            format.
        engine: file of a compiled engine and why it was built, if the runtime makes one.
        notes: what was asked for and is not what runs, and why; what to know of the numbers.
    """

    backend: str
    device: str
    layers: Mapping[str, int]
    engine: str = ""
    notes: tuple[str, ...] = ()

    @property
    def precision(self) -> str:
        """The formats that convolutions and matrix products are computed in, the commonest first.

        Example:
            >>> SessionInfo("openvino 2026.4", "CPU", {"fp32": 4, "int8": 20}).precision
            'int8+fp32'
        """
        return "+".join(name for name, _ in Counter(self.layers).most_common()) or "unknown"


class Session(Protocol):
    """A network that is ready to run; not to be shared between threads."""

    @property
    def info(self) -> SessionInfo:
        """What really runs."""

    @property
    def ports(self) -> tuple[frozenset[str], frozenset[str]]:
        """Names of the inputs and of the outputs."""

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Every output under its name, as arrays that the caller owns."""


@dataclass(frozen=True, eq=False)
class Order:
    """What a runtime is told to open, after everything "auto" is decided.

    Attributes:
        network: its name and shapes.
        model: bytes of the ONNX file that was chosen.
        device: "cpu", "cuda:0", "intel:gpu", "intel:npu" or "intel:auto".
        precision: "int8", "fp32", "bf16" or "fp16".
        threads: of the CPU, or None.
        build: keep the compiled engine for the next time.
    """

    network: Network
    model: bytes
    device: str
    precision: str
    threads: int | None
    build: bool

    @cached_property
    def sha256(self) -> str:
        """Of the model."""
        return hashlib.sha256(self.model).hexdigest()


def open_session(
    model: bytes | Network, runtime: Runtime | None = None, *, build: bool = False
) -> Session:
    """Make a network ready to run.

    What was asked for and cannot be had is in the ``notes`` of the session's ``info``.

    Args:
        model: a network, or the bytes of an ONNX file in float32 without external data.
        runtime: where and how.
        build: keep what the runtime compiles for the next time, if it has a form to keep it in.
            TensorRT always does.

    Raises:
        BackendError: the runtime is not installed, refuses the model or cannot be had on any device;
            or, where ``runtime.strict``, device or precision are not what was asked for.
    """
    asked = runtime or Runtime()
    network = model if isinstance(model, Network) else Network("model", model)
    notes: list[str] = []
    backend, device = _place(asked, notes)
    precision = asked.precision
    if precision == "auto":
        precision = "int8" if network.int8 and _gains_by_int8(network, backend, device) else "fp32"
    if precision == "int8" and network.never_int8:
        precision = "fp32"
    if precision == "int8" and network.int8 is None:
        notes.append(f"{network.name}: the bundle has no INT8 form of it; fp32 runs instead")
        precision = "fp32"
    if asked.strict and notes:
        raise BackendError(f"{'; '.join(notes)} (refused: strict)")
    content = network.int8 if precision == "int8" and network.int8 else network.float32
    session = _opener(backend)(
        Order(network, content, device, precision, asked.threads, build or backend == "tensorrt")
    )
    info = session.info
    missed = list(info.notes)
    if not _as_asked(precision, info.layers, network.int8_layers):
        missed.append(
            f"{network.name}: {precision} was asked for, {info.backend} runs it in {info.precision}"
        )
    if asked.strict and missed and (info.notes or asked.precision != "auto"):
        raise BackendError(
            f"{'; '.join(missed)} (refused: strict); ask for a precision that this machine has"
        )
    notes += missed
    if precision == "int8" and device == "cpu" and has_vnni() is False:
        notes.append(
            "this CPU has no VNNI: INT8 is slower than it could be, and sums of products may "
            "saturate; compare with precision='fp32'"
        )
    return _Noted(session, replace(info, notes=tuple(notes)))


class _Noted:
    """A session whose info also says what was asked for and is not what runs."""

    def __init__(self, session: Session, info: SessionInfo) -> None:
        self.info = info
        self.run = session.run
        self.ports = session.ports


def in_batches(
    session: Session, name: str, rows: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """A network's outputs for any number of rows, one at least, of its input ``name``."""
    parts = [session.run({name: rows[i : i + BATCH]}) for i in range(0, len(rows), BATCH)]
    return {output: np.concatenate([part[output] for part in parts]) for output in parts[0]}


def _expected(name: str, values: tuple[str, ...], got: str) -> str:
    return f"{name}: expected one of {', '.join(values)}, got {got!r}"


def _module(backend: str) -> Any:
    return import_module(f".{backend.partition('-')[0]}", __name__)


def _opener(backend: str) -> Callable[[Order], Session]:
    """What opens a session of this runtime.

    Raises:
        BackendError: it is not installed; with the line that installs it.
    """
    opener: Callable[[Order], Session] = {
        "openvino": lambda order: _module(backend).OpenVINOSession(order),
        "onnxruntime": lambda order: _module(backend).OnnxRuntimeSession(order),
        "onnxruntime-tensorrt": lambda order: _module(backend).OnnxRuntimeSession(
            order, tensorrt=True
        ),
        "tensorrt": lambda order: _module(backend).TensorRTSession(order),
    }[backend]
    return opener


def devices(backend: str) -> tuple[str, ...]:
    """The devices that a runtime sees on this machine, as ``Runtime.device`` names them, the best first.

    Raises:
        BackendError: the runtime is not installed; with the line that installs it.
    """
    found: tuple[str, ...] = _module(backend).devices(backend)
    return found


def installed() -> tuple[str, ...]:
    """The backends whose packages are there, without importing them."""
    return tuple(name for name in BACKENDS if has_module(name.partition("-")[0]))


def _place(asked: Runtime, notes: list[str]) -> tuple[str, str]:
    """Backend and device that come nearest to what was asked for."""
    kind = asked.device.partition(":")[0]
    wanted = "cuda:0" if asked.device == "cuda" else asked.device
    candidates: tuple[str, ...] = (asked.backend,)
    if asked.backend == "auto":
        by_kind = {
            "intel": ("openvino",),
            "cuda": ("tensorrt", "onnxruntime"),
            "cpu": ("openvino", "onnxruntime"),
        }
        present = installed()
        candidates = tuple(
            name
            for name in by_kind.get(kind, ("tensorrt", "openvino", "onnxruntime"))
            if name in present
        )
    for backend in candidates:
        try:
            seen = devices(backend)
        except BackendError as error:
            if asked.backend != "auto":
                raise
            notes.append(f"{backend} is installed but does not load: {error}")
            continue
        if wanted in seen:
            return backend, wanted
        if wanted == "auto" and seen:
            return backend, seen[0]
    fallback = _fallback() if asked.backend == "auto" else asked.backend
    if "cpu" not in devices(fallback):
        raise BackendError(
            f"device {asked.device!r} is not available to {fallback} on this machine "
            f"(it sees {', '.join(devices(fallback)) or 'none'}); use backend='auto'"
        )
    notes.append(
        f"device {asked.device!r} is not available on this machine; {fallback} runs on the CPU instead"
    )
    return fallback, "cpu"


def _fallback() -> str:
    """The runtime that runs on every CPU.

    Raises:
        BackendError: there is none; with the line that installs it.
    """
    refused = []
    for name in ("openvino", "onnxruntime"):
        if name in installed():
            try:
                devices(name)
            except BackendError as error:
                refused.append(str(error))
            else:
                return name
    raise BackendError("; ".join(refused) or "no runtime is installed: pip install openvino")


def _gains_by_int8(network: Network, backend: str, device: str) -> bool:
    """Whether INT8 is the faster form of a network here: measured by benchmarks.latency, not assumed.

    ONNX Runtime on a CPU computes nearly all of our INT8 files in float32, and takes twice as long as
    for the float32 ones.
    """
    if backend == "onnxruntime" or (device == "cpu" and has_vnni() is False):
        return False
    return network.prefers_int8


def _as_asked(precision: str, layers: Mapping[str, int], int8_layers: int) -> bool:
    if precision == "int8":
        return layers.get("int8", 0) >= max(1, int8_layers)
    return set(layers) <= {precision}
