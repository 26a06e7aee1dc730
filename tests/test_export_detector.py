"""The detector of a run becomes one of a bundle without changing what it says."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
onnx = pytest.importorskip("onnx", reason="the extra 'export' is not installed")

from export import detector as module  # noqa: E402
from export.equalise import equalise  # noqa: E402
from export.lint import lint  # noqa: E402
from export.networks import detector_onnx  # noqa: E402
from export.quantise import calibrate, quantise  # noqa: E402
from occam_sdk.backends import Network, Runtime, Session, open_session  # noqa: E402
from training.detector.network import OUTPUTS, DetectorNetwork  # noqa: E402


def opened(content: bytes, backend: str = "openvino") -> Session:
    return open_session(Network("detector", content), Runtime(backend, "cpu", "fp32"))


@pytest.fixture(scope="module")
def network() -> DetectorNetwork:
    torch.manual_seed(0)
    return DetectorNetwork().eval()


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("size", [(1, 32, 32), (1, 192, 320), (2, 96, 64)])
def test_it_says_the_same_at_any_size(
    network: DetectorNetwork, backend: str, size: tuple[int, int, int]
) -> None:
    batch, height, width = size
    image = np.random.default_rng(0).uniform(0, 255, (batch, 3, height, width)).astype(np.float32)
    found = opened(detector_onnx(network), backend).run({"image": image})
    with torch.no_grad():
        expected = network(torch.from_numpy(image))
    for name, wanted in zip(OUTPUTS, expected, strict=True):
        np.testing.assert_allclose(found[name], wanted.numpy(), atol=2e-4)


def test_its_int8_form_keeps_every_rule_and_is_small(network: DetectorNetwork) -> None:
    model = onnx.load_from_string(detector_onnx(network))
    rng = np.random.default_rng(0)
    feeds = [{"image": rng.uniform(0, 255, (1, 3, 64, 64)).astype(np.float32)} for _ in range(4)]
    equal = equalise(model, feeds)
    form = quantise(equal, calibrate(equal, feeds))
    assert lint(form) == []
    assert len(form.SerializeToString()) <= 250_000
    before, after = (opened(m.SerializeToString()).run(feeds[0]) for m in (model, equal))
    for name in OUTPUTS:
        np.testing.assert_allclose(before[name], after[name], atol=1e-3)


def test_no_run_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["detector", "--run", str(tmp_path), "--out", str(tmp_path / "d.onnx")]
    )
    with pytest.raises(SystemExit) as error:
        module.main()
    assert error.value.code == 2
    assert "no run of training.detector" in capsys.readouterr().err
    assert not (tmp_path / "d.onnx").exists()
