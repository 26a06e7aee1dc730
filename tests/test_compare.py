"""The comparison with other packages, which are stand-ins here; no time is judged."""

from __future__ import annotations

import json
import socket
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks import compare, compare_faces, compare_peers
from occam_sdk import LABELS, Frame, MediaError, demo_clip

PICTURE = np.full((48, 48, 3), 90, np.uint8)
HEADER = "split,image,fer2013_label,rms,second_rms\n"


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    for attribute, value in attributes.items():
        setattr(module, attribute, value)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def absent(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def faces_of_fer(*found: tuple[str, int]) -> type:
    """A class as ``fer.fer.FER`` that always finds these faces: label and side of the box."""

    class FER:
        def detect_emotions(self, image: np.ndarray) -> list[dict[str, Any]]:
            assert image.dtype == np.uint8
            names = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
            return [
                {"box": [0, 0, side, side], "emotions": {n: 0.9 * (n == name) for n in names}}
                for name, side in found
            ]

    return FER


@pytest.fixture
def only_fer(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "fer")
    stand_in(monkeypatch, "fer.fer", FER=faces_of_fer(("surprise", 30)))
    absent(monkeypatch, "hsemotion_onnx", "hsemotion_onnx.facial_emotions", "deepface")


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DEEPFACE_HOME", raising=False)
    return tmp_path


def archive(path: Path, rows: str, pictures: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("ferplus/fer2013_original_labels.csv", rows)
        for name, content in pictures.items():
            zipped.writestr(f"ferplus/FER2013Test/{name}", content)
    return path


def png(grey: int = 90) -> bytes:
    return cv2.imencode(".png", np.full((48, 48), grey, np.uint8))[1].tobytes()


def test_ratios_come_from_timed_rounds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Frame(i, float(i), PICTURE) for i in range(2)]
    said = {"ours": ["Happy", "Sad"], "theirs": ["Happy", None]}
    taken = iter([9.0, 9.0, 1.0, 2.0, 2.0, 8.0, 1.0, 3.0])  # by turns; the first round is warm-up
    order: list[str] = []
    now_s = 0.0
    monkeypatch.setattr(compare, "time", types.SimpleNamespace(perf_counter=lambda: now_s))

    def way(name: str) -> compare.Way:
        def judged(_: object) -> compare.Said:
            nonlocal now_s
            now_s += next(taken)
            order.append(name)
            return said[name]

        return judged

    rows = compare.measure({name: way(name) for name in said}, frames, rounds=3)
    assert order == ["ours", "theirs"] * 4
    theirs = rows["theirs"]
    assert theirs["seconds_per_frame"] == [1.0, 4.0, 1.5]
    assert theirs["times_ours"] == pytest.approx(3.0)  # medians 1.5 and 0.5
    assert (theirs["times_ours_least"], theirs["times_ours_most"]) == (2.0, 4.0)
    assert (theirs["with_face"], theirs["agree"]) == (0.5, 1.0)
    assert rows["ours"]["times_ours"] == rows["ours"]["agree"] == 1.0


def test_nobody_agrees_where_nobody_saw_a_face() -> None:
    assert compare.beside([None, "Sad"], ["Sad", None]) == {"with_face": 0.5, "agree": None}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("angry", "Angry"), ("disgust", "Disgust"), ("fear", "Fear"), ("happy", "Happy"),
        ("sad", "Sad"), ("surprise", "Surprise"), ("neutral", "Neutral"),
    ],
)  # fmt: skip
def test_fer_speaks_of_its_largest_face_in_our_labels(
    monkeypatch: pytest.MonkeyPatch, theirs: str, ours: str
) -> None:
    stand_in(monkeypatch, "fer")
    stand_in(monkeypatch, "fer.fer", FER=faces_of_fer(("fear", 20), (theirs, 40), ("sad", 30)))
    peer = compare_peers.Fer()
    assert peer.why_not() == ""
    assert peer.judge(PICTURE) == ours
    assert set(compare_peers.OURS.values()) == set(LABELS)


def test_fer_without_a_face_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "fer")
    stand_in(monkeypatch, "fer.fer", FER=faces_of_fer())
    peer = compare_peers.Fer()
    assert peer.why_not() == ""
    assert peer.judge(PICTURE) is None


def test_a_peer_says_why_not(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    absent(monkeypatch, "fer", "fer.fer")
    assert compare_peers.Fer().why_not() == "not installed"

    def broken() -> None:
        raise AttributeError("no CascadeClassifier")

    stand_in(monkeypatch, "fer")
    stand_in(monkeypatch, "fer.fer", FER=broken)
    why = compare_peers.Fer().why_not()
    assert why == "does not start: AttributeError: no CascadeClassifier"

    stand_in(monkeypatch, "deepface")
    stand_in(monkeypatch, "deepface.DeepFace")
    assert compare_peers.DeepFace().why_not() == "would download its weights"
    stand_in(monkeypatch, "hsemotion_onnx")
    stand_in(monkeypatch, "hsemotion_onnx.facial_emotions")
    assert compare_peers.HSEmotionOnnx().why_not() == "would download its weights"
    assert list(home.iterdir()) == []


def test_a_package_that_lacks_another_is_not_called_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "fer").mkdir()
    (tmp_path / "fer" / "__init__.py").touch()
    (tmp_path / "fer" / "fer.py").write_text("import package_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("fer", "fer.fer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    try:
        why = compare_peers.Fer().why_not()
    finally:
        sys.modules.pop("fer", None)
    assert why == "does not import: No module named 'package_that_nobody_has'"


def test_deepface_with_weights_is_asked(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    weights = home / ".deepface" / "weights"
    weights.mkdir(parents=True)
    (weights / "facial_expression_model_weights.h5").touch()

    def analyze(image: np.ndarray, actions: list[str], silent: bool) -> list[dict[str, Any]]:
        if not image.any():
            raise ValueError("Face could not be detected")
        small, large = ({"w": side, "h": side} for side in (5, 9))
        return [
            {"region": small, "dominant_emotion": "sad"},
            {"region": large, "dominant_emotion": "happy"},
        ]

    def build_model(*_: str, **__: str) -> None:
        socket.create_connection(("weights.example", 443))

    module = stand_in(monkeypatch, "deepface.DeepFace", analyze=analyze, build_model=build_model)
    stand_in(monkeypatch, "deepface", DeepFace=module)
    peer = compare_peers.DeepFace()
    with compare_peers.no_network():
        assert peer.why_not() == "would download its weights"
    module.build_model = lambda *_, **__: None  # type: ignore[attr-defined]
    assert peer.why_not() == ""
    assert peer.judge(PICTURE) == "Happy"
    assert peer.judge(np.zeros_like(PICTURE)) is None


def test_hsemotion_gets_our_face_in_rgb(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    (home / ".hsemotion").mkdir()
    (home / ".hsemotion" / f"{compare_peers.HSEmotionOnnx.model}.onnx").touch()
    names = ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise")

    class HSEmotionRecognizer:
        def __init__(self, model_name: str) -> None:
            self.model_name, self.seen = model_name, list[np.ndarray]()
            self.idx_to_class = dict(enumerate(names))

        def predict_emotions(self, face: np.ndarray, logits: bool) -> tuple[str, np.ndarray]:
            assert logits
            self.seen.append(face)
            return "Contempt", np.array([0, 9, 0, 0, 0, 0, 5, 1], np.float32)

    stand_in(monkeypatch, "hsemotion_onnx")
    stand_in(monkeypatch, "hsemotion_onnx.facial_emotions", HSEmotionRecognizer=HSEmotionRecognizer)
    peer = compare_peers.HSEmotionOnnx()
    assert peer.why_not() == ""
    frame = next(iter(compare.read_frames(demo_clip(), 2)))
    assert peer.judge(frame.image) == "Sad"
    face = peer._recognizer.seen[0]
    assert face.shape[2] == 3
    assert 0 < face.size < frame.image.size
    assert peer.judge(np.zeros((120, 160, 3), np.uint8)) is None


def test_the_network_is_refused_and_given_back() -> None:
    before = socket.getaddrinfo
    with (
        compare_peers.no_network(),
        pytest.raises(ConnectionError),
        socket.create_connection(("127.0.0.1", 9)),
    ):
        pass
    assert socket.getaddrinfo is before


def test_faces_of_the_test_part_with_sure_labels(tmp_path: Path) -> None:
    rows = HEADER + (
        "FER2013Test,a.png,angry,0.5,30\nFER2013Test,b.png,happy,9.5,30\n"
        "FER2013Train,c.png,sad,0.5,30\nFER2013Test,d.png,sad,0.5,30\nFER2013Test,e.png,sad,0.5,30\n"
    )
    path = archive(
        tmp_path / "f.zip", rows, {"a.png": png(), "b.png": png(), "c.png": png(), "d.png": png(7)}
    )
    faces = compare_faces.read_faces(path, 10)
    assert [label for _, label in faces] == ["Angry", "Sad"]
    assert faces[1][0].shape == (48, 48, 3)
    assert faces[1][0].max() == 7
    assert len(compare_faces.read_faces(path, 1)) == 1


def test_a_face_that_is_not_found_is_wrong() -> None:
    said = {"ours": ["Sad", "Sad", "Happy", None], "theirs": ["Sad", None, "Sad", "Fear"]}
    rows = compare_faces.shares(said, ["Sad", "Sad", "Happy", "Fear"])
    assert rows["ours"]["accuracy"] == 0.75
    assert rows["theirs"]["accuracy"] == 0.5
    assert rows["theirs"]["with_face"] == 0.75
    assert rows["theirs"]["accuracy_where_found"] == pytest.approx(2 / 3)
    assert rows["ours"]["accuracy_where_all_found"] == 1.0
    assert rows["theirs"]["accuracy_where_all_found"] == 0.5
    assert rows["theirs"]["found_by_all"] == 0.5


def test_pictures_are_enlarged_for_all_alike() -> None:
    shapes: list[tuple[int, ...]] = []
    compare_faces.accuracies({"x": lambda image: shapes.append(image.shape)}, [(PICTURE, "Sad")])
    assert shapes == [(192, 192, 3), (288, 288, 3)]


@pytest.mark.parametrize(("count", "most", "places"), [(10, 4, [0, 3, 6, 9]), (3, 9, [0, 1, 2])])
def test_evenly(count: int, most: int, places: list[int]) -> None:
    assert compare_faces.evenly(count, most) == places


@pytest.mark.usefixtures("only_fer", "home")
def test_the_command_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces = archive(
        tmp_path / "f.zip", HEADER + "FER2013Test,a.png,surprise,0.5,30\n", {"a.png": png()}
    )
    out = tmp_path / "out.json"
    arguments = [str(demo_clip()), "--frames", "3", "--rounds", "1", "--limit", "1"]
    compare.main([*arguments, "--faces", str(faces), "--json", str(out)])
    report = json.loads(out.read_text())
    assert set(report["on_clip"]) == {compare.ALONE, compare.AS_CLIP, "fer"}
    assert report["on_clip"]["fer"]["with_face"] == 1.0
    assert report["on_clip"][compare.ALONE]["times_ours"] == 1.0
    assert report["on_faces"]["as they are"]["fer"]["accuracy"] == 1.0
    assert report["refused"]["deepface"].startswith("not installed; to have it: pip install deepf")
    printed = capsys.readouterr().out
    assert "not compared:" in printed
    assert "hsemotion-onnx, our detector: not installed" in printed
    assert "seconds" not in printed


@pytest.fixture
def wrong(tmp_path: Path) -> dict[str, list[str]]:
    (tmp_path / "no.zip").write_text("no archive")
    archive(tmp_path / "columns.zip", "a,b\n1,2\n", {})
    archive(tmp_path / "empty.zip", HEADER, {})
    archive(
        tmp_path / "bad.zip", HEADER + "FER2013Test,a.png,sad,0.5,30\n", {"a.png": b"no picture"}
    )
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as zipped:
        zipped.writestr("a.txt", "")
    clip = str(demo_clip())
    few = [clip, "--frames", "2", "--rounds", "1"]
    return {
        "no such": [str(tmp_path / "none.mp4")],
        "--rounds: 1 at least": [clip, "--rounds", "0"],
        "--frames: 2 at least": [clip, "--frames", "1"],
        "--limit: 1 at least": [clip, "--limit", "0"],
        "No such file": [*few, "--faces", str(tmp_path / "none.zip")],
        "not a zip file": [*few, "--faces", str(tmp_path / "no.zip")],
        "expected the columns": [*few, "--faces", str(tmp_path / "columns.zip")],
        "no labelled picture": [*few, "--faces", str(tmp_path / "empty.zip")],
        "is no picture": [*few, "--faces", str(tmp_path / "bad.zip")],
        "name the FER+ archive": [*few, "--faces", str(tmp_path / "other.zip")],
    }


def test_mistakes_end_with_a_line(
    wrong: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    for says, arguments in wrong.items():
        with pytest.raises(SystemExit) as ended:
            compare.main(arguments)
        assert ended.value.code == 2
        assert says.lower() in capsys.readouterr().err.lower()


def test_a_clip_needs_two_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "VideoFile", lambda _: [Frame(0, 0.0, PICTURE)])
    with pytest.raises(MediaError, match="has 1 frames"):
        compare.read_frames(Path("still.png"), None)
