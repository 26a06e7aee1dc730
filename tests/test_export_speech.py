"""The encoder for the bundle computes what PyTorch's LSTM computes of the same spectrogram."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
onnx = pytest.importorskip("onnx", reason="the extra 'export' is not installed")

from export import speech as module  # noqa: E402
from export.speech import BANDS, HIDDEN, LAYERS, mel_filters, spectrum_filters, speech_onnx  # noqa: E402
from occam_sdk.backends import Network, Runtime, open_session  # noqa: E402
from occam_sdk.types import RATE_HZ  # noqa: E402


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("count", [1, 2])
def test_it_says_what_pytorch_says(backend: str, count: int) -> None:
    torch.manual_seed(1)
    lstm = torch.nn.LSTM(BANDS, HIDDEN, LAYERS)
    shapes = {"samples": ((1, RATE_HZ),) * 3}
    network = Network("speech", speech_onnx(dict(lstm.state_dict())), shapes=shapes)
    session = open_session(network, Runtime(backend, "cpu", "fp32"))
    samples = 0.1 * np.random.default_rng(0).standard_normal((count, RATE_HZ), np.float32)
    found = session.run({"samples": samples})["features"]

    with torch.no_grad():
        sound = torch.from_numpy(samples)[:, None]
        parts = torch.nn.functional.conv1d(
            sound, torch.from_numpy(spectrum_filters()), stride=module.HOP
        )
        real, imaginary = parts.chunk(2, dim=1)
        bands = torch.from_numpy(mel_filters()) @ (real.square() + imaginary.square())
        expected = lstm(bands.permute(2, 0, 1))[0].mean(0)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_another_file_than_the_published_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "other.pt", tmp_path / "speech.onnx"
    source.write_bytes(b"other")
    monkeypatch.setattr(sys, "argv", ["speech", str(source), str(target)])
    with pytest.raises(SystemExit, match=r"other.pt: expected the published file, SHA-256 39373b"):
        module.main()
    assert not target.exists()
