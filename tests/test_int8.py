"""INT8 is let through a gate, and what it harms stays float32; needs the extras ``train`` and ``export``."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra 'train' is not installed")
onnx = pytest.importorskip("onnx", reason="the extra 'export' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
from numpy.typing import NDArray  # noqa: E402

from export import int8 as module  # noqa: E402
from export.agreement import Agreement, Targets, accuracies, agreement  # noqa: E402
from export.int8 import (  # noqa: E402
    Candidate,
    DetectorGate,
    Gate,
    Sighted,
    add_int8,
    quantise_within,
    session_of,
    sighted,
    speedup,
)
from export.lint import lint, quantised_layers  # noqa: E402
from export.quantise import layers  # noqa: E402
from occam_sdk.backends import BATCH, Session, in_batches  # noqa: E402
from occam_sdk.bundle import DEFAULT_BUNDLE, load_bundle  # noqa: E402
from occam_sdk.types import Face  # noqa: E402
from occam_sdk.verify import demo_frames, load_samples  # noqa: E402

from .caches import face_cache, write_cache  # noqa: E402
from .networks import model_of  # noqa: E402
from .residual import convolution, node, pictures, residual  # noqa: E402

FEATURES = load_bundle().voice.feature_count
Floats = NDArray[np.float32]


# The gates

AS_GOOD = Agreement(
    count=100, max_delta=0.5, mean_delta=0.1, labels=1.0, labels_of_eight=1.0,
    accuracy=0.0, accuracy_of_eight=0.0, ccc=0.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        ({}, True),
        ({"accuracy": -0.003}, True),
        ({"accuracy": -0.0031}, False),
        ({"accuracy_of_eight": -0.003}, True),
        ({"accuracy_of_eight": -0.0031}, False),
        ({"accuracy": 0.2, "accuracy_of_eight": -0.1}, False),  # one does not pay for the other
        ({"ccc": -0.01}, True),
        ({"ccc": -0.011}, False),
        ({"labels": 0.9945}, True),
        ({"labels": 0.994}, False),
        ({"labels_of_eight": 0.994}, False),
        ({"max_delta": 100.0, "mean_delta": 10.0}, True),  # it is the answers that count
        ({"accuracy": None, "accuracy_of_eight": None, "ccc": None}, True),
        ({"labels_of_eight": None}, True),
        ({"accuracy": math.nan}, False),
        ({"ccc": math.nan}, False),
        ({"labels": math.nan}, False),
    ],
    ids=str,
)
def test_the_gate_lets_through_what_loses_little(
    change: Mapping[str, float | None], passes: bool
) -> None:
    assert Gate().passes(dataclasses.replace(AS_GOOD, **change)) is passes


def test_a_gate_is_as_wide_as_it_is_set() -> None:
    worse = dataclasses.replace(AS_GOOD, accuracy=-0.02, ccc=-0.05, labels=0.9, labels_of_eight=0.9)
    assert not Gate().passes(worse)
    assert Gate(accuracy=0.02, ccc=0.05, labels=0.9).passes(worse)


@pytest.mark.parametrize(
    ("found", "extra", "shift", "passes"),
    [
        (1.0, 0.0, 0.0, True),
        (0.97, 0.03, 0.03, True),
        (0.96, 0.0, 0.0, False),
        (1.0, 0.04, 0.0, False),
        (1.0, 0.0, 0.04, False),
        (1.0, 0.0, math.nan, False),
    ],
)
def test_the_gate_of_the_detector(found: float, extra: float, shift: float, passes: bool) -> None:
    assert DetectorGate().passes(Sighted(100, found, extra, shift)) is passes


# Faces held against faces


def face(left: float = 100, *, size: float = 50, moved: float = 0) -> Face:
    """A face of ``size`` pixels whose eyes are 0.4 of that apart; its landmarks moved to the right."""
    box = np.array([left, 100, left + size, 100 + size], np.float32)
    parts = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    landmarks = parts * size + box[:2] + np.array([moved, 0])
    return Face(box, landmarks.astype(np.float32), 0.9)


SMALL = face(400, size=15)  # its eyes are 6 pixels apart


@pytest.mark.parametrize(
    ("found", "reference", "expected"),
    [
        ([(face(),)], [(face(),)], Sighted(1, 1, 0, 0)),
        ([(face(moved=1),)], [(face(),)], Sighted(1, 1, 0, 0.05)),  # of 20 pixels
        ([()], [(face(),)], Sighted(1, 0, 0, 1)),
        ([(face(), face(200))], [(face(),)], Sighted(1, 1, 1, 0)),
        ([(face(), face(102))], [(face(),)], Sighted(1, 1, 1, 0)),  # found twice
        ([(face(),)], [(face(), face(102))], Sighted(2, 0.5, 0, 0)),  # one is not two
        ([(face(200),)], [(face(),)], Sighted(1, 0, 1, 1)),  # elsewhere
        ([(face(), face(200)), (face(),)], [(face(), face(200)), ()], Sighted(2, 1, 0.5, 0)),
        ([(face(200), face())], [(face(), face(200))], Sighted(2, 1, 0, 0)),  # in any order
        ([()], [(SMALL,)], Sighted(0, 0, 0, 1)),  # none that has to be found
        ([(face(), SMALL)], [(face(), SMALL)], Sighted(1, 1, 0, 0)),
        ([(face(), SMALL)], [(face(),)], Sighted(1, 1, 0, 0)),
    ],
)
def test_faces_are_found_again_or_not(
    found: list[tuple[Face, ...]], reference: list[tuple[Face, ...]], expected: Sighted
) -> None:
    got = sighted(found, reference)
    assert dataclasses.astuple(got) == pytest.approx(dataclasses.astuple(expected), abs=1e-6)


def test_pictures_without_a_face_prove_nothing() -> None:
    assert not DetectorGate().passes(sighted([(), ()], [(), ()]))


# Answers held against answers


def logits(*classes: int, of: int = 7) -> Floats:
    return np.eye(of, dtype=np.float32)[list(classes)]


def targets(
    label: list[int], votes: list[int | None] | None = None, rated: Floats | None = None
) -> Targets:
    """Of faces; votes are all for one of the eight classes, or there are none."""
    count = len(label)
    cast = np.zeros((count, 8), np.float32)
    for row, vote in enumerate(votes or []):
        if vote is not None:
            cast[row, vote] = 10
    nothing = np.full((count, 2), np.nan, np.float32)
    return Targets(np.array(label, np.int64), cast, nothing if rated is None else rated)


def test_agreement_without_targets_is_of_the_answers_alone() -> None:
    reference = {"emotion": logits(0, 1, 2, 3)}
    outputs = {"emotion": logits(0, 1, 2, 4) * 3}
    assert agreement(outputs, reference) == Agreement(
        count=4, max_delta=3.0, mean_delta=pytest.approx((3 * 2 + 4) / 28), labels=0.75
    )


def test_losses_are_of_the_faces_whose_answer_is_known() -> None:
    reference = {
        "emotion": logits(0, 1, 2, 3, 4),
        "ferplus": logits(0, 1, 2, 3, 7, of=8),
        "valence_arousal": np.zeros((5, 2), np.float32),
    }
    outputs = reference | {
        "emotion": logits(0, 1, 2, 6, 5),
        "ferplus": logits(1, 1, 2, 3, 7, of=8),
    }
    known = targets([0, 1, 5, 3, -1], [0, 1, 2, None, None])
    got = agreement(outputs, reference, known)
    assert got.labels == pytest.approx(3 / 5)
    assert got.labels_of_eight == pytest.approx(4 / 5)
    assert got.accuracy == pytest.approx(-1 / 4)  # the fourth; the fifth is of no known label
    assert got.accuracy_of_eight == pytest.approx(-1 / 3)
    assert got.ccc is None


def test_a_gain_is_no_loss() -> None:
    reference, outputs = {"emotion": logits(0, 0)}, {"emotion": logits(0, 1)}
    got = agreement(outputs, reference, targets([0, 1]))
    assert got.accuracy == 0.5
    assert got.accuracy_of_eight is None  # it has no such head


def test_of_valence_and_arousal_the_worse_counts_where_both_are_rated() -> None:
    rng = np.random.default_rng(0)
    rated = rng.uniform(-1, 1, (40, 2)).astype(np.float32)
    reference = {"emotion": logits(*[0] * 40), "valence_arousal": rated.copy()}
    outputs = reference | {"valence_arousal": rated * np.array([1, 0.5], np.float32)}
    half_known = rated.copy()
    half_known[20:30] = np.nan
    half_known[30:, 0] = np.nan  # one of the two is not enough
    outputs["valence_arousal"][20:] = 99
    got = agreement(outputs, reference, targets([-1] * 40, rated=half_known))
    truth = rated[:20, 1].astype(np.float64)
    halved = 2 * 0.5 * truth.var() / (1.25 * truth.var() + (truth.mean() / 2) ** 2)
    assert got.ccc == pytest.approx(halved - 1, abs=1e-5)
    assert (got.accuracy, got.accuracy_of_eight) == (None, None)


def test_accuracies_are_of_the_heads_and_faces_that_there_are() -> None:
    outputs = {"emotion": logits(0, 1, 2), "ferplus": logits(0, 1, 2, of=8)}
    assert accuracies(outputs, targets([0, 5, -1], [None, 1, 2])) == {"seven": 0.5, "eight": 1.0}
    assert accuracies(outputs, targets([-1, -1, -1])) == {}
    assert accuracies({"emotion": logits(0)}, targets([0], [0])) == {"seven": 1.0}


def test_any_number_of_rows_is_run_in_batches() -> None:
    class Doubling:
        sizes: tuple[int, ...] = ()

        def run(self, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
            self.sizes += (len(inputs["x"]),)
            return {"y": inputs["x"] * 2}

    session = Doubling()
    rows = np.arange(2 * BATCH + 3, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(in_batches(session, "x", rows)["y"], rows * 2)  # type: ignore[arg-type]
    assert session.sizes == (BATCH, BATCH, 3)


# From float32 to what the gate lets through


def worst_of(
    expected: Mapping[str, Floats], feed: Mapping[str, Floats]
) -> Callable[[Session], float]:
    """A judge: how far the scores are off at most, in their standard deviations."""

    def judge(session: Session) -> float:
        off = np.abs(session.run(feed)["scores"] - expected["scores"]).max()
        return float(off / expected["scores"].std())

    return judge


def candidate(
    model: onnx.ModelProto, feeds: list[dict[str, Floats]], passes: Callable[[float], bool]
) -> Candidate:
    expected = session_of("net", model, int8=False).run(feeds[0])
    return Candidate("net", model, feeds, worst_of(expected, feeds[0]), passes, feeds[0])


def lopsided() -> tuple[onnx.ModelProto, list[dict[str, Floats]]]:
    """A network whose input has one channel a thousand times as large as the others, and inputs.

    One scale for both leaves nothing of the small one in "first"; no other layer is hard.
    """
    rng = np.random.default_rng(0)
    nodes = [
        convolution("first", "image"),
        node("Relu", "first_relu", "first"),
        convolution("second", "first_relu"),
        node("Relu", "second_relu", "second"),
        convolution("third", "second_relu"),
        node("Relu", "third_relu", "third"),
        node("GlobalAveragePool", "pool", "third_relu"),
        node("Flatten", "scores", "pool"),
    ]
    values: dict[str, Floats] = {}
    for name, shape in {
        "first": (8, 3, 3, 3),
        "second": (8, 8, 3, 3),
        "third": (4, 8, 3, 3),
    }.items():
        values[f"{name}.weight"] = rng.normal(0, 0.2, shape).astype(np.float32)
        values[f"{name}.bias"] = rng.normal(0, 0.2, shape[0]).astype(np.float32)
    values["first.weight"][:, 0] /= 1000
    feeds = [pictures(4, seed) for seed in range(4)]
    for feed in feeds:
        feed["image"][:, 0] *= 1000
    model = model_of(nodes, values, {"image": ["n", 3, 8, 8]}, {"scores": ["n", 4]})
    return model, feeds


def test_a_network_that_bears_it_is_quantised_whole(capsys: pytest.CaptureFixture[str]) -> None:
    feeds = [pictures(4, seed) for seed in range(4)]
    form, kept, found = quantise_within(candidate(residual(), feeds, lambda off: off < 0.2))
    assert kept == []
    assert quantised_layers(form) == len(layers(residual()))
    assert 0 < found < 0.2
    assert lint(form) == []
    assert capsys.readouterr().out.startswith("net: all 6 layers in INT8: ")


def test_the_layer_that_is_harmed_goes_back_to_float32(capsys: pytest.CaptureFixture[str]) -> None:
    model, feeds = lopsided()
    form, kept, found = quantise_within(candidate(model, feeds, lambda off: off < 0.2))
    assert kept == ["first"]
    assert quantised_layers(form) == 2
    assert found < 0.2
    assert lint(form) == []
    first, second = capsys.readouterr().out.splitlines()
    assert float(first.removeprefix("net: all 3 layers in INT8: ")) > 0.2
    assert second == f"net: first back to float32: {found}"


def test_a_network_that_no_gate_lets_through_is_refused() -> None:
    model, feeds = lopsided()
    with pytest.raises(ValueError, match="net: no form with a layer in INT8 loses little enough"):
        quantise_within(candidate(model, feeds, lambda _: False))


def test_the_speedup_is_a_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUNDS", 1)
    feeds = [pictures(1)]
    tried = candidate(residual(), feeds, lambda _: True)
    form, _, _ = quantise_within(tried)
    assert 0 < speedup(tried, form) < math.inf


# Candidates


def test_faces_are_calibrated_on_some_of_the_training_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CALIBRATION", 10)
    faces = face_cache(tmp_path / "striped", count=84, valid=14)
    found, calibration = module.expression(DEFAULT_BUNDLE, [faces])
    assert {corpus for corpus, _ in calibration} == {"striped"}
    numbers = [int(path.removeprefix("striped/")) for _, path in calibration]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 10
    assert max(numbers) < 84 - 14  # Valid comes after
    assert sum(len(feed["image"]) for feed in found.feeds) == 10
    _, again = module.expression(DEFAULT_BUNDLE, [faces])
    assert again == calibration
    itself = found.judge(session_of("expression", found.model, int8=False))
    assert itself.count == 2 * 14  # each face also mirrored
    assert (itself.labels, itself.accuracy, itself.accuracy_of_eight) == (1, 0, 0)
    assert found.passes(itself)


def test_faces_without_a_part_to_calibrate_on_are_refused(tmp_path: Path) -> None:
    faces = face_cache(tmp_path / "striped", count=21, valid=21)
    with pytest.raises(ValueError, match="need a training and a validation part"):
        module.expression(DEFAULT_BUNDLE, [faces])


def voices(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(42, FEATURES)).astype(np.float32)
    return write_cache(folder, "voice", label=np.arange(42) % 7, features=features)


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Candidate:
    """The shipped voice network, on voices that are noise."""
    monkeypatch.setattr(module, "CALIBRATION", 20)
    found = module.voice(DEFAULT_BUNDLE, [voices(tmp_path / "voices")])
    assert found is not None
    return found


def test_voices_are_judged_by_others_than_those_of_the_calibration(heard: Candidate) -> None:
    assert [feed["features"].shape for feed in heard.feeds] == [(20, FEATURES)]
    itself = heard.judge(session_of("voice", heard.model, int8=False))
    assert (itself.count, itself.labels, itself.max_delta) == (22, 1, 0)
    assert heard.passes(itself)


def test_a_voice_network_without_a_layer_has_no_int8_form(tmp_path: Path) -> None:
    """As a forest, which is gathers and comparisons."""
    ports = {"features": ["n", 1582]}, {"emotion": ["n", 1582]}
    onnx.save(model_of([node("Relu", "emotion", "features")], {}, *ports), tmp_path / "voice.onnx")
    assert module.voice(tmp_path, []) is None


def test_the_detector_is_judged_by_what_float32_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SCENES", 2)
    with zipfile.ZipFile(tmp_path / "scenes.zip", "w") as archive:
        for number, picture in enumerate(demo_frames()):
            archive.writestr(f"{number}.jpg", cv2.imencode(".jpg", picture[:300])[1].tobytes())
        archive.writestr("readme.txt", "no picture")
    found = module.detector(DEFAULT_BUNDLE, tmp_path / "scenes.zip")
    assert [feed["image"].shape for feed in found.feeds] == [(1, 3, 320, 320)] * 2
    itself = found.judge(session_of("detector", found.model, int8=False))
    assert itself == Sighted(2, 1, 0, 0)
    assert found.passes(itself)


# Into a bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the shipped bundle, in float32 alone."""
    folder = tmp_path / "bundle"
    shutil.copytree(DEFAULT_BUNDLE, folder, ignore=shutil.ignore_patterns("*.int8.onnx"))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name in manifest.pop("int8"):
        del manifest["files"][f"{name}.int8.onnx"]
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_bundle_gets_its_int8_files_and_what_is_to_be_said_of_them(
    bundle: Path, heard: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUNDS", 1)
    assert not load_bundle(bundle).int8
    add_int8(bundle, [heard], [("corpus", "a, b.jpg"), ("other", "c.jpg")])
    found = load_bundle(bundle)
    form = onnx.load_from_string(found.read("voice.int8.onnx"))
    assert lint(form) == []
    assert list(found.int8) == ["voice"]
    assert found.int8["voice"].layers == quantised_layers(form) == 1
    said = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["int8"]["voice"]
    assert said["float32_layers"] == []
    assert said["against_float32"]["count"] == 22
    assert said["against_float32"]["labels"] >= 0.99
    assert found.metrics == {}  # they were of other networks
    with (bundle / "calibration.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [["corpus", "path"], ["corpus", "a, b.jpg"], ["other", "c.jpg"]]
    samples = load_samples(found)
    assert {"voice.fp32.emotion", "voice.int8.emotion"} <= set(samples)
    assert "expression.int8.emotion" not in samples


@pytest.mark.parametrize(("faster", "is_default"), [(1.0, False), (1.2, False), (2.0, True)])
def test_int8_is_the_default_where_the_clock_says_so(
    bundle: Path,
    heard: Candidate,
    monkeypatch: pytest.MonkeyPatch,
    faster: float,
    is_default: bool,
) -> None:
    monkeypatch.setattr(module, "speedup", lambda *_: faster)
    monkeypatch.setattr(module, "write_samples", lambda _: None)  # not what this is about
    add_int8(bundle, [heard], [])
    assert load_bundle(bundle).int8["voice"].default is is_default


def test_a_bundle_is_left_as_it_was_if_one_network_is_refused(
    bundle: Path, heard: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUNDS", 1)
    before = contents(bundle)
    hopeless = dataclasses.replace(heard, name="expression", passes=lambda _: False)
    with pytest.raises(ValueError, match="expression: no form"):
        add_int8(bundle, [heard, hopeless], [])
    assert contents(bundle) == before
