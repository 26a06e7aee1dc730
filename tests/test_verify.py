"""Every runtime of this machine is held against what the networks said where the bundle was made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the extra 'test' is not installed")
from onnx import numpy_helper  # noqa: E402

from occam_sdk import verify as module  # noqa: E402
from occam_sdk.backends import Runtime, installed  # noqa: E402
from occam_sdk.bundle import DEFAULT_BUNDLE, load_bundle  # noqa: E402
from occam_sdk.errors import BackendError, BundleError  # noqa: E402
from occam_sdk.labels import LABELS  # noqa: E402
from occam_sdk.verify import SAMPLES, TOLERANCE, Check, every_runtime, load_samples, verify  # noqa: E402
from occam_sdk.video.faces import MAPS  # noqa: E402

from .bundles import drop_field, drop_file, npz, put_file, with_more  # noqa: E402

NETWORKS = load_bundle().networks
OPENVINO = Runtime("openvino", "cpu", "fp32")
OPENVINO_INT8 = Runtime("openvino", "cpu", "int8")


@pytest.fixture(autouse=True, scope="module")
def no_clock() -> Iterator[None]:
    """Answers are what is looked at here: they need no thirty calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CALLS", 1)
        patch.setattr(module, "WARM_UP", 0)
        yield


@pytest.fixture(scope="module")
def checks() -> list[Check]:
    return list(verify(load_bundle()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundle, to be tampered with."""
    return Path(shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle"))


def by_network(folder: Path, *runtimes: Runtime) -> dict[str, Check]:
    return {check.network: check for check in verify(load_bundle(folder), runtimes)}


def tamper(folder: Path, file: str, change: float) -> None:
    """Add to the first of the logits; the manifest's hash is made right."""
    value = np.zeros(len(LABELS), np.float32)
    value[0] = change
    put_file(folder, file, with_more((folder / file).read_bytes(), "emotion", value))


# The bundle that ships


def test_every_runtime_of_this_machine_answers_as_where_the_bundle_was_made(
    checks: list[Check],
) -> None:
    assert {check.failure for check in checks} == {""}
    for check in checks:
        assert check.info is not None
        assert check.max_delta is not None
        assert 0 <= check.max_delta < 0.3
        assert check.agreement is not None
        assert check.agreement > 0.9
        assert check.latency_ms is not None
        assert check.latency_ms > 0


def test_every_network_is_checked_on_every_runtime_in_every_form(checks: list[Check]) -> None:
    asked = [(check.network, check.backend, check.device, check.precision) for check in checks]
    int8 = load_bundle().int8
    assert asked == [
        (name, runtime.backend, runtime.device, runtime.precision)
        for runtime in every_runtime()
        for name in NETWORKS
        if runtime.precision == "fp32" or name in int8
    ]
    assert ("expression", "openvino", "cpu", "fp32") in asked


def test_a_runtime_that_computes_int8_in_float_is_right_with_a_note(checks: list[Check]) -> None:
    for check in checks:
        assert check.info is not None
        assert check.note == "; ".join(check.info.notes)
        if check.precision == "int8" and check.info.layers.get("int8", 0) == 0:
            assert "int8 was asked for" in check.note


def test_the_samples_are_enough_to_tell_by() -> None:
    bundle = load_bundle()
    samples = load_samples(bundle)
    assert samples["faces"].dtype == np.uint8
    assert len(samples["faces"]) >= 16
    assert len(samples["features"]) >= 1
    classes = samples["expression.fp32.emotion"].argmax(1)
    assert len(set(classes.tolist())) >= 2, "all alike: a network that says one thing would pass"


def test_a_check_is_plain_json(checks: list[Check]) -> None:
    for check in checks:
        data = json.loads(json.dumps(check.to_dict(), allow_nan=False))
        assert data["passed"] is True
        assert data["network"] == check.network
        assert check.info is not None
        assert data["info"]["precision"] == check.info.precision
        assert data["info"]["layers"] == check.info.layers


def test_the_runtimes_are_those_that_are_installed() -> None:
    runtimes = every_runtime()
    assert {runtime.backend for runtime in runtimes} <= set(installed())
    assert {runtime.precision for runtime in runtimes} == {"fp32", "int8"}
    assert not any(runtime.device in ("auto", "intel:auto") for runtime in runtimes)


# What is found


@pytest.mark.parametrize(
    ("file", "runtime"),
    [
        ("expression.onnx", OPENVINO),
        ("voice.onnx", OPENVINO),
        ("expression.int8.onnx", OPENVINO_INT8),
        ("voice.int8.onnx", OPENVINO_INT8),
    ],
)
def test_one_changed_weight_is_found_and_told_by_how_much(
    folder: Path, file: str, runtime: Runtime
) -> None:
    tamper(folder, file, 1.5)
    tampered = file.partition(".")[0]
    checks = by_network(folder, runtime)
    for name, check in checks.items():
        assert bool(check.failure) == (name == tampered), check
        assert check.to_dict()["passed"] == (name != tampered)
    check = checks[tampered]
    assert check.max_delta == pytest.approx(1.5, abs=TOLERANCE[runtime.precision])
    says, _, allowed = check.failure.partition(" from where the bundle was made, allowed are ")
    assert float(says.removeprefix("differs by ")) == pytest.approx(check.max_delta, rel=1e-2)
    assert float(allowed) == TOLERANCE[runtime.precision]


def test_a_change_within_the_tolerance_is_no_failure(folder: Path) -> None:
    tamper(folder, "voice.onnx", TOLERANCE["fp32"] / 2)
    check = by_network(folder, OPENVINO)["voice"]
    assert check.failure == ""
    assert check.max_delta == pytest.approx(TOLERANCE["fp32"] / 2, rel=0.1)


def test_a_network_that_answers_no_number_fails_and_its_check_is_json(folder: Path) -> None:
    tamper(folder, "expression.onnx", float("nan"))
    checks = by_network(folder, OPENVINO)
    assert checks["expression"].failure.startswith("differs by nan")
    data = json.loads(json.dumps(checks["expression"].to_dict(), allow_nan=False))
    assert (data["passed"], data["max_delta"]) == (False, None)
    assert not checks["voice"].failure


def test_a_detector_that_finds_nobody_fails(folder: Path) -> None:
    model = onnx.load_from_string((folder / "detector.onnx").read_bytes())
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    producer = {output: node for node in model.graph.node for output in node.output}
    for name in MAPS:
        node = producer[name]
        while node.op_type != "Conv":
            node = producer[node.input[0]]
        bias = tensors[node.input[2]]
        value = numpy_helper.to_array(bias) - np.float32(50)
        bias.CopyFrom(numpy_helper.from_array(value, bias.name))
    put_file(folder, "detector.onnx", model.SerializeToString())
    check = by_network(folder, OPENVINO)["detector"]
    assert check.failure
    assert check.agreement == 0
    json.dumps(check.to_dict(), allow_nan=False)


def test_a_runtime_that_is_not_there_fails_with_the_remedy() -> None:
    if "tensorrt" in installed():
        pytest.skip("TensorRT is installed")
    for check in verify(load_bundle(), [Runtime("tensorrt", precision="fp32")]):
        assert check.info is None
        assert "pip install" in check.failure
        assert json.loads(json.dumps(check.to_dict()))["passed"] is False


def test_a_runtime_that_is_installed_and_does_not_load_is_left_to_the_doctor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(backend: str) -> tuple[str, ...]:
        if backend == "openvino":
            raise BackendError("OpenVINO cannot be loaded")
        return ("cpu",)

    monkeypatch.setattr(module, "devices", broken)
    assert "openvino" not in {runtime.backend for runtime in every_runtime()}


# What is asked for


def test_auto_stands_for_both_forms() -> None:
    found = verify(load_bundle(), [Runtime("openvino", "cpu")])
    assert [check.precision for check in found] == ["fp32"] * len(NETWORKS) + ["int8"] * len(
        load_bundle().int8
    )


def test_another_device_or_format_that_runs_instead_is_right_with_a_note() -> None:
    for check in verify(load_bundle(), [Runtime("openvino", "intel:npu", "fp16")]):
        assert check.failure == ""
        assert check.info is not None
        assert check.note or set(check.info.layers) == {"fp16"}


def test_without_what_was_asked_for_strict_fails() -> None:
    from occam_sdk.backends import devices

    if "intel:npu" in devices("openvino"):
        pytest.skip("this machine has an NPU")
    for check in verify(load_bundle(), [Runtime("openvino", "intel:npu", "fp32", strict=True)]):
        assert "refused: strict" in check.failure


# What a bundle lacks


def test_a_bundle_without_samples_names_what_adds_them(folder: Path) -> None:
    drop_file(folder, SAMPLES)
    with pytest.raises(BundleError, match=r"has no samples\.npz.*python -m export\.int8"):
        list(verify(load_bundle(folder)))


def test_a_bundle_of_float32_alone_is_checked_in_float32_alone(folder: Path) -> None:
    drop_field(folder, "int8")
    found = list(verify(load_bundle(folder), [OPENVINO, OPENVINO_INT8]))
    assert [(check.network, check.precision) for check in found] == [
        (name, "fp32") for name in NETWORKS
    ]


@pytest.mark.parametrize(
    "content", [b"", b"no archive", b"PK\x03\x04 no archive", npz({})[:-4]], ids=repr
)
def test_samples_that_are_no_archive_are_refused(folder: Path, content: bytes) -> None:
    put_file(folder, SAMPLES, content)
    with pytest.raises(BundleError, match=r"samples\.npz: not an \.npz without pickles"):
        list(verify(load_bundle(folder), [OPENVINO]))


def test_samples_that_change_after_loading_are_not_read(folder: Path) -> None:
    bundle = load_bundle(folder)
    content = bytearray((folder / SAMPLES).read_bytes())
    content[100] ^= 1
    (folder / SAMPLES).write_bytes(content)
    with pytest.raises(BundleError, match=r"samples\.npz: its SHA-256 is not the manifest's"):
        list(verify(bundle, [OPENVINO]))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("faces", None),
        ("faces", (0, 64, 64)),
        ("faces", (72, 32, 32)),
        ("faces", ()),
        ("features", (4, 100)),
        ("voice.fp32.emotion", None),
        ("expression.int8.emotion", None),
        ("expression.fp32.emotion", (3, 7)),
        ("detector.fp32.landmarks", (4, 5, 3)),
        ("detector.fp32.landmarks", ()),
    ],
)
def test_samples_that_lack_something_are_refused_by_its_name(
    folder: Path, name: str, shape: tuple[int, ...] | None
) -> None:
    samples = load_samples(load_bundle(folder))
    del samples[name]
    if shape is not None:
        samples[name] = np.zeros(shape, np.float32)
    put_file(folder, SAMPLES, npz(samples))
    with pytest.raises(BundleError, match=r"samples\.npz: .*expected \(.*, got .*complete copy"):
        list(verify(load_bundle(folder), [OPENVINO]))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_features_that_are_all_zero_are_past_every_tolerance(precision: str) -> None:
    features = load_samples(load_bundle())["speech.fp32.features"]
    assert np.abs(features).max() > 10 * module.TOLERANCE_FEATURES[precision]
