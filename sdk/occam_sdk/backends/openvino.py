"""OpenVINO: the default runtime on x86 and on Arm CPUs."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError
from . import Order, SessionInfo
from .cache import EngineCache, EngineKey

try:
    import openvino
except ImportError as error:
    raise BackendError(f"OpenVINO cannot be loaded ({error}): pip install openvino") from error

NAMES: Final = {"cpu": "CPU", "intel:gpu": "GPU", "intel:npu": "NPU", "intel:auto": "AUTO"}
COMPUTE_LAYERS: Final = {
    "Convolution", "GroupConvolution", "Deconvolution", "FullyConnected", "MatMul", "RNNSeq"
}  # fmt: skip
FORMATS: Final = {"i8": "int8", "u8": "int8", "f32": "fp32", "f16": "fp16", "bf16": "bf16"}
# The float part of a network is computed in just this: without the hint a CPU with bfloat16 answers
# differently from one without, and figures measured on one machine would not hold on the next.
HINTS: Final = {"int8": "f32", "fp32": "f32", "bf16": "bf16", "fp16": "f16"}


def devices(_backend: str) -> tuple[str, ...]:
    """The devices that OpenVINO sees, the CPU first: networks of this size lose by a transfer."""
    seen = {name.partition(".")[0] for name in openvino.Core().available_devices} | {"AUTO"}
    return tuple(name for name, its_name in NAMES.items() if its_name in seen)


class OpenVINOSession:
    """One compiled model with one infer request; not to be shared between threads."""

    def __init__(self, order: Order) -> None:
        self._core = openvino.Core()
        self._name = NAMES[order.device]
        self._config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": HINTS[order.precision],
        }
        if order.threads is not None and self._name in ("CPU", "AUTO"):
            self._config["INFERENCE_NUM_THREADS"] = str(order.threads)
        if self._name == "CPU":
            # It would bind each network to the same first cores: two threads, or two processes of one
            # thread each, would wait for one core while others are idle.
            self._config["ENABLE_CPU_PINNING"] = "NO"
        self._engine = ""
        try:
            self._compiled = self._compile(order)
        except BackendError:  # is a RuntimeError too, and says it better
            raise
        except RuntimeError as error:
            raise BackendError(f"OpenVINO cannot load the model: {str(error).strip()}") from error
        self._request = self._compiled.create_infer_request()
        self._ports = (
            frozenset(port.get_any_name() for port in self._compiled.inputs),
            frozenset(port.get_any_name() for port in self._compiled.outputs),
        )

    def _compile(self, order: Order) -> openvino.CompiledModel:
        if self._name != "CPU":  # the others' plugins keep what they compile themselves, or cannot
            return self._core.compile_model(
                self._core.read_model(order.model), self._name, self._config
            )
        key = EngineKey(
            network=order.network.name,
            model_sha256=order.sha256,
            backend="openvino",
            version=openvino.__version__,
            device=self._core.get_property("CPU", "FULL_DEVICE_NAME"),
            precision=order.precision,
            shapes=f"any, {order.threads or 'all'} threads",
        )
        cache = EngineCache()
        kept, why = cache.load(key)
        if kept is not None:
            try:
                compiled = self._core.import_model(kept, self._name, self._config)
            except RuntimeError as error:  # virtual machines give different CPUs one name
                why = f"OpenVINO cannot read the last one: {_last_line(error)}"
            else:
                self._engine = f"{cache.path(key)}: read"
                return compiled
        compiled = self._core.compile_model(
            self._core.read_model(order.model), self._name, self._config
        )
        if order.build:
            blob = compiled.export_model()
            cache.store(key, blob.getvalue() if isinstance(blob, io.BytesIO) else bytes(blob))
            self._engine = f"{cache.path(key)}: built, {why}"
        return compiled

    @property
    def info(self) -> SessionInfo:
        """What really runs: number formats come from OpenVINO's execution graph."""
        layers: Counter[str] = Counter()
        for node in self._compiled.get_runtime_model().get_ops():
            facts = node.get_rt_info()
            if "layerType" in facts and facts["layerType"].astype(str) in COMPUTE_LAYERS:
                number_format = facts["runtimePrecision"].astype(str)
                layers[FORMATS.get(number_format, number_format)] += 1
        devices = self._compiled.get_property("EXECUTION_DEVICES")
        return SessionInfo(
            backend=f"openvino {openvino.__version__.split('-')[0]}",
            device=",".join(devices) if isinstance(devices, list) else str(devices),
            layers=dict(layers),
            engine=self._engine,
        )

    @property
    def ports(self) -> tuple[frozenset[str], frozenset[str]]:
        """Names of the inputs and of the outputs."""
        return self._ports

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Every output under its name; the arrays are copies."""
        if missing := self._ports[0] - inputs.keys():  # it would take what it was given last
            raise BackendError(f"OpenVINO cannot run the model without {', '.join(missing)}")
        try:
            results = self._request.infer(dict(inputs), share_inputs=True)
        except (RuntimeError, TypeError, ValueError) as error:
            shapes = {name: array.shape for name, array in inputs.items()}
            raise BackendError(
                f"OpenVINO cannot run the model on {shapes}: {_last_line(error)}"
            ) from error
        return {port.get_any_name(): np.array(array) for port, array in results.items()}


def _last_line(error: Exception) -> str:
    """What is the matter; the lines before say where in OpenVINO's sources."""
    return str(error).strip().splitlines()[-1]
