"""ONNX Runtime: runs nearly everywhere; on CUDA, and with TensorRT inside, too."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError
from . import Order, SessionInfo

try:
    import onnxruntime
except ImportError as error:
    raise BackendError(
        f'ONNX Runtime cannot be loaded ({error}): pip install "occam-sdk[onnxruntime]"'
    ) from error

PROVIDERS: Final = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda:0",
    "TensorrtExecutionProvider": "cuda:0",
}
COMPUTE: Final = (
    "Conv",
    "Gemm",
    "MatMul",
    "LSTM",
)  # also QLinearConv, FusedConv, ConvTranspose, QGemm, ...
FORMATS: Final = {
    "float": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8",
}  # fmt: skip
ERRORS_ONLY: Final = 3


def devices(backend: str) -> tuple[str, ...]:
    """The devices that the installed build of ONNX Runtime can use, the fastest first."""
    there = onnxruntime.get_available_providers()
    if backend == "onnxruntime-tensorrt":
        return ("cuda:0",) if "TensorrtExecutionProvider" in there else ()
    cuda = ("cuda:0",) if "CUDAExecutionProvider" in there else ()
    return (*cuda, "cpu")


class OnnxRuntimeSession:
    """One inference session; not to be shared between threads.

    Args:
        order: what to open.
        tensorrt: let TensorRT run what it can of the network, inside ONNX Runtime.
    """

    def __init__(self, order: Order, *, tensorrt: bool = False) -> None:
        providers = _providers(order, tensorrt)
        self._wanted = [each if isinstance(each, str) else each[0] for each in providers]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        options.intra_op_num_threads = order.threads or 0
        options.enable_profiling = True
        with tempfile.TemporaryDirectory() as folder:
            options.profile_file_prefix = str(Path(folder) / "profile")
            try:
                self._session = onnxruntime.InferenceSession(
                    order.model, options, providers=providers
                )
            except Exception as error:  # its exceptions share no class but this one
                raise BackendError(f"ONNX Runtime cannot load the model: {error}") from error
            self._ports = (
                frozenset(port.name for port in self._session.get_inputs()),
                frozenset(port.name for port in self._session.get_outputs()),
            )
            # What runs is known only of what has run: once, on zeros, before profiling ends.
            self.run(_zeros(order, self._session))
            self._events = json.loads(Path(self._session.end_profiling()).read_text())

    @property
    def info(self) -> SessionInfo:
        """What really runs: kernels, their providers and number formats come from a profile."""
        layers: Counter[str] = Counter()
        providers: Counter[str] = Counter()
        for event in self._events:
            facts = event.get("args", {})
            if event.get("cat") != "Node" or "provider" not in facts:
                continue
            providers[facts["provider"]] += 1
            if any(name in facts.get("op_name", "") for name in COMPUTE):
                layers[_number_format(facts)] += 1
        there = self._session.get_providers()
        return SessionInfo(
            backend=f"onnxruntime {onnxruntime.__version__}",
            device="+".join(name for name, _ in providers.most_common()),
            layers=dict(layers),
            notes=tuple(
                f"ONNX Runtime could not load {name}; what it cannot run there runs on the CPU"
                for name in self._wanted
                if name not in there
            ),
        )

    @property
    def ports(self) -> tuple[frozenset[str], frozenset[str]]:
        """Names of the inputs and of the outputs."""
        return self._ports

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Every output under its name."""
        names = [port.name for port in self._session.get_outputs()]
        try:
            results = self._session.run(names, dict(inputs))
        except Exception as error:  # its exceptions share no class but this one
            shapes = {name: array.shape for name, array in inputs.items()}
            raise BackendError(f"ONNX Runtime cannot run the model on {shapes}: {error}") from error
        return dict(zip(names, results, strict=True))


def _providers(order: Order, tensorrt: bool) -> list[Any]:
    kind, _, number = order.device.partition(":")
    if kind != "cuda":
        return ["CPUExecutionProvider"]
    chosen: list[Any] = [("CUDAExecutionProvider", {"device_id": number}), "CPUExecutionProvider"]
    if tensorrt:
        from .cache import default_folder

        chosen.insert(
            0,
            (
                "TensorrtExecutionProvider",
                {
                    "device_id": number,
                    "trt_engine_cache_enable": True,
                    "trt_engine_cache_path": str(default_folder() / "onnxruntime"),
                    "trt_timing_cache_enable": True,
                },
            ),
        )
    return chosen


def _zeros(order: Order, session: Any) -> dict[str, NDArray[np.float32]]:
    """An input of the smallest shape that the network takes."""
    found = {}
    for port in session.get_inputs():
        if port.name in order.network.shapes:
            shape = order.network.shapes[port.name][0]
        else:
            shape = tuple(side if isinstance(side, int) else 1 for side in port.shape)
        found[port.name] = np.zeros(shape, np.float32)
    return found


def _number_format(facts: Mapping[str, Any]) -> str:
    """Of a kernel's first input: that is what its products are computed in."""
    shapes = facts.get("input_type_shape") or [{}]
    first = next(iter(shapes[0]), "unknown")
    return FORMATS.get(first, first)
