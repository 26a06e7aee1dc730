"""OpenVINO: the default runtime on x86 and on Arm CPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import openvino
from numpy.typing import NDArray

from ..errors import BackendError
from . import SessionInfo

DEVICES: Final = {"auto": "CPU", "cpu": "CPU", "intel:gpu": "GPU", "intel:npu": "NPU"}
COMPUTE_LAYERS: Final = ("Convolution", "FullyConnected", "MatMul")


class OpenVINOSession:
    """One compiled model with one infer request; not to be shared between threads."""

    def __init__(self, model: bytes, device: str) -> None:
        if device not in DEVICES:
            raise ValueError(f"device: expected one of {', '.join(DEVICES)}, got {device!r}")
        core = openvino.Core()
        name = DEVICES[device]
        if name not in {available.split(".")[0] for available in core.available_devices}:
            raise BackendError(
                f"device {device!r} is not available to OpenVINO on this machine "
                f"(it sees {', '.join(core.available_devices)}); use device='cpu'"
            )
        # float32 on purpose: without the hint a CPU with bfloat16 answers differently from one
        # without, and figures measured on one machine would not hold on the next.
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        try:
            compiled = core.compile_model(core.read_model(model), name, config)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO cannot load the model: {str(error).strip()}") from error
        self._compiled = compiled
        self._request = compiled.create_infer_request()

    @property
    def info(self) -> SessionInfo:
        """What really runs: the precision comes from OpenVINO's execution graph."""
        precisions = {
            node.get_rt_info()["runtimePrecision"].astype(str)
            for node in self._compiled.get_runtime_model().get_ops()
            if node.get_rt_info()["layerType"].astype(str) in COMPUTE_LAYERS
        }
        devices = self._compiled.get_property("EXECUTION_DEVICES")
        return SessionInfo(
            backend=f"openvino {openvino.__version__.split('-')[0]}",
            device=",".join(devices) if isinstance(devices, list) else str(devices),
            precision="+".join(sorted(precisions)) or "none",
        )

    @property
    def ports(self) -> tuple[frozenset[str], frozenset[str]]:
        """Names of the inputs and of the outputs."""
        inputs = (port.get_any_name() for port in self._compiled.inputs)
        return frozenset(inputs), frozenset(port.get_any_name() for port in self._compiled.outputs)

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Every output under its name; the arrays are copies."""
        try:
            results = self._request.infer(dict(inputs))
        except RuntimeError as error:
            shapes = {name: array.shape for name, array in inputs.items()}
            raise BackendError(
                f"OpenVINO cannot run the model on {shapes}: {str(error).strip().splitlines()[-1]}"
            ) from error
        return {port.get_any_name(): np.array(array) for port, array in results.items()}
