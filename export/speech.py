"""The speaker encoder for the bundle: from samples to the mean state of its second layer.

The weights come out of the ``resemblyzer`` wheel (Resemble AI, Apache 2.0), trained by its authors on
LibriSpeech and VoxCeleb to tell some 8,400 voices apart (Wan et al. 2018). The package itself is neither
imported nor installed: `pip download --no-deps resemblyzer` and unzip.

    python -m export.speech resemblyzer/pretrained.pt speech.onnx

Its spectrogram (librosa's, 40 mel bands) becomes two convolutions, so that every runtime computes the
same. The third layer and the projection to an embedding, which say who it is, are left out; and an
utterance is heard in one pass as it is, where Resemblyzer cuts it into windows and takes out pauses.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from occam_sdk.types import RATE_HZ

from .manifest import put
from .networks import OPSET

SOURCE_SHA256: Final = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
WINDOW: Final = 400  # samples, 25 ms
HOP: Final = 160  # samples, 10 ms
BANDS: Final = 40
HIDDEN: Final = 256
LAYERS: Final = 2
LINEAR_HZ: Final = 1000.0  # up to there the mel scale is linear, with so many mel a hertz:
MEL_PER_HZ: Final = 3 / 200
LOG_STEP: Final = np.log(6.4) / 27  # of a mel, above
GATES: Final = (0, 3, 1, 2)  # input, output, forget, cell, of PyTorch's input, forget, cell, output

Floats = NDArray[np.float32]


def spectrum_filters() -> Floats:
    """(2 * bins, 1, WINDOW): real and imaginary parts of a Fourier transform under a Hann window."""
    time = np.arange(WINDOW)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * time / WINDOW)
    angle = 2 * np.pi * np.arange(WINDOW // 2 + 1)[:, None] * time / WINDOW
    parts = np.concatenate([np.cos(angle), -np.sin(angle)]) * window
    return np.asarray(parts[:, None], np.float32)


def mel_filters() -> Floats:
    """(BANDS, bins): triangles of equal area on Slaney's mel scale, from 0 Hz to half of the rate."""
    bins_hz = np.linspace(0, RATE_HZ / 2, WINDOW // 2 + 1)
    corners = _hz(np.linspace(0, _mel(RATE_HZ / 2), BANDS + 2))[:, None]
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle)
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(triangles * 2 / (high - low), np.float32)


def _mel(hz: float) -> float:
    """Of a frequency above ``LINEAR_HZ``."""
    return LINEAR_HZ * MEL_PER_HZ + float(np.log(hz / LINEAR_HZ) / LOG_STEP)


def _hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    bend = LINEAR_HZ * MEL_PER_HZ
    above = LINEAR_HZ * np.exp(LOG_STEP * (mel - bend))
    return np.where(mel < bend, mel / MEL_PER_HZ, above)


def speech_onnx(weights: dict[str, torch.Tensor]) -> bytes:
    """``samples`` (N, T) at 16 kHz to ``features`` (N, 256), of an LSTM's parameters by PyTorch's names."""
    mel = mel_filters()
    constants: dict[str, NDArray[np.float32] | NDArray[np.int64]] = {
        "channel": np.array([1]),
        "direction": np.array([1]),
        "spectrum": spectrum_filters(),
        "mel": np.concatenate([mel, mel], 1)[:, :, None],  # sums both parts' squares
    }
    nodes = [
        helper.make_node("Unsqueeze", ["samples", "channel"], ["sound"]),
        helper.make_node("Conv", ["sound", "spectrum"], ["parts"], strides=[HOP]),
        helper.make_node("Mul", ["parts", "parts"], ["squares"]),
        helper.make_node("Conv", ["squares", "mel"], ["bands"]),
        helper.make_node("Transpose", ["bands"], ["state0"], perm=[2, 0, 1]),
    ]
    for layer in range(LAYERS):
        names = [f"{name}{layer}" for name in ("w", "r", "b")]
        constants |= dict(zip(names, _lstm(weights, layer), strict=True))
        both = f"states{layer}"
        nodes += [
            helper.make_node("LSTM", [f"state{layer}", *names], [both], hidden_size=HIDDEN),
            helper.make_node("Squeeze", [both, "direction"], [f"state{layer + 1}"]),
        ]
    nodes.append(
        helper.make_node("ReduceMean", [f"state{LAYERS}", "time"], ["features"], keepdims=0)
    )
    constants["time"] = np.array([0])
    for number, node in enumerate(nodes):
        node.name = f"{node.op_type}_{number}"
    graph = helper.make_graph(
        nodes,
        "speech",
        [helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["batch", "time"])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", HIDDEN])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _lstm(weights: dict[str, torch.Tensor], layer: int) -> tuple[Floats, Floats, Floats]:
    """Weight, recurrent weight and biases of a layer, in ONNX's order."""

    def gates(name: str) -> Floats:
        value = weights[f"{name}_l{layer}"].numpy()
        return np.concatenate([np.split(value, 4)[gate] for gate in GATES])

    bias = np.concatenate([gates("bias_ih"), gates("bias_hh")])
    return gates("weight_ih")[None], gates("weight_hh")[None], bias[None]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="pretrained.pt of resemblyzer, as published")
    parser.add_argument("target", type=Path, help="where to write the network of the bundle")
    args = parser.parse_args()
    if (found := hashlib.sha256(args.source.read_bytes()).hexdigest()) != SOURCE_SHA256:
        raise SystemExit(
            f"{args.source}: expected the published file, SHA-256 {SOURCE_SHA256}, got {found}"
        )
    saved = torch.load(args.source, map_location="cpu", weights_only=True)["model_state"]
    put(
        speech_onnx({name.removeprefix("lstm."): value for name, value in saved.items()}),
        args.target,
    )


if __name__ == "__main__":
    main()
