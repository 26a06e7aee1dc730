"""Runtimes behind one protocol; a runtime is imported when a session is opened, never before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SessionInfo:
    """What really runs, read back from the runtime.

    Attributes:
        backend: runtime and its version, as "openvino 2026.4.1".
        device: the runtime's own name of the device.
        precision: the number format that the convolutions or matrix products are computed in.
    """

    backend: str
    device: str
    precision: str


class Session(Protocol):
    """A network that is ready to run."""

    @property
    def info(self) -> SessionInfo:
        """What really runs."""

    @property
    def ports(self) -> tuple[frozenset[str], frozenset[str]]:
        """Names of the inputs and of the outputs."""

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Every output under its name, as arrays that the caller owns."""


def open_session(model: bytes, *, device: str = "auto") -> Session:
    """Make an ONNX model ready to run.

    Args:
        model: the bytes of an ONNX file without external data.
        device: "auto", "cpu", "intel:gpu" or "intel:npu"; "auto" is the CPU, where networks of
            this size lose nothing to a transfer.

    Raises:
        ValueError: an unknown device name.
        BackendError: the device is not there, or the runtime refuses the model.
    """
    from .openvino import OpenVINOSession

    return OpenVINOSession(model, device)
