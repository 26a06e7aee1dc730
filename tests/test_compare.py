"""Other packages beside ours: stand-ins for them, ratios, labels and what is said of those left out."""

from __future__ import annotations

import json
import os
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import compare
from benchmarks.compare import OURS, STILLS, as_text, on_clip, on_faces
from benchmarks.compare_peers import NAMES, PEERS, Entry, Seen, opened
from occam_sdk import Face, demo_clip
from occam_sdk.bundle import load_bundle
from occam_sdk.labels import LABELS


class NoFaces:
    def detect(self, _image: NDArray[np.uint8]) -> tuple[Face, ...]:
        return ()


class OneFace:
    def detect(self, _image: NDArray[np.uint8]) -> tuple[Face, ...]:
        return (Face(np.array([1, 2, 5, 8], np.float32), np.zeros((5, 2), np.float32), 0.9),)


class Cheerful:
    """Sees a small sad face and a large happy one everywhere."""

    def faces(self, _image: NDArray[np.uint8]) -> list[Seen]:
        return [
            Seen(np.array([0, 0, 5, 5], np.float32), {"sad": 1.0}),
            Seen(np.array([9, 9, 99, 99], np.float32), {"happy": 0.9, "sad": 0.1}),
        ]

    def face(self, _crop: NDArray[np.uint8]) -> Seen:
        return Seen(np.zeros(4, np.float32), {"Happiness": 0.4, "Contempt": 0.3})


CHEERFUL = Entry("cheerful", "json", (), lambda _: Cheerful(), "sees two faces everywhere")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts an empty stand-in for a package in its place."""

    def put(name: str, **content: object) -> types.ModuleType:
        made = types.ModuleType(name)
        made.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    return put


def test_a_clip_is_judged_by_all_and_ours_is_one() -> None:
    peers, left_out = opened([CHEERFUL], NoFaces())
    assert left_out == {}
    rows = on_clip(demo_clip(), peers, frames=6, rounds=2)
    assert [row["name"] for row in rows] == [OURS, STILLS, "cheerful"]
    assert rows[0]["times_ours"] == rows[1]["times_our_stills"] == 1
    for row in rows:
        assert row["frames"] == row["frames_with_face"] == 6
        assert row["times_ours"] == row["s_per_frame"] / rows[0]["s_per_frame"]
        assert row["same_label"] == 1  # the demo smiles, and so does the larger of the two faces
    assert rows[2]["faces"] == 12
    assert rows[2]["note"] == "sees two faces everywhere"


def test_faces_are_judged_by_all_on_their_own_pictures(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from .caches import write_cache

    side, rng = load_bundle().face.input_size, np.random.default_rng(0)
    votes = np.zeros((7, 8), np.float32)
    votes[:, 1] = 10  # Happy
    votes[0] = np.eye(8)[7]  # Contempt, which is none of the seven
    folder = write_cache(
        tmp_path / "ferplus",
        "face",
        pixels=rng.integers(0, 256, (7, side, side), np.uint8),
        label=np.arange(7),
        votes=votes,
        split=np.array(["test"] * 7),
        path=np.array([f"ferplus/FER2013Test/fer{i}.png" for i in range(7)]),
    )
    archive = tmp_path / "ferplus.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for place in range(7):
            picture = cv2.imencode(".png", np.zeros((48, 48), np.uint8))[1].tobytes()
            file.writestr(f"ferplus/FER2013Test/fer{place}.png", picture)
    peers, _ = opened([CHEERFUL], NoFaces())
    ours, cheerful = on_faces(peers, [folder], archive, limit=100)
    assert ours["name"] == OURS
    assert ours["faces"] == cheerful["faces"] == 7
    assert cheerful["fer2013"] == pytest.approx(1 / 7)
    assert cheerful["ferplus_of_seven"] == 1
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("other.png", b"")
    with pytest.raises(ValueError, match="lacks pictures"):
        on_faces(peers, [folder], archive, limit=100)


def test_what_cannot_take_part_is_named_and_why(tmp_path: Path) -> None:
    def refuse(_detector: object) -> Cheerful:
        raise OSError("needs the network")

    entries = [
        Entry("absent", "no_such_module", (), refuse),
        Entry("light", "json", (tmp_path / "weights.onnx",), refuse),
        Entry("broken", "json", (), refuse),
    ]
    peers, left_out = opened(entries, NoFaces())
    assert peers == {}
    assert left_out == {
        "absent": "not installed: pip install absent",
        "light": "its weights are not there, and nothing is downloaded",
        "broken": "does not start: OSError: needs the network",
    }


def test_a_label_is_ours_or_none() -> None:
    box = np.zeros(4, np.float32)
    assert Seen(box, {"Anger": 0.6, "fear": 0.4}).label == "Angry"
    assert Seen(box, {"Contempt": 0.6, "fear": 0.4}).label is None
    assert set(NAMES.values()) == set(LABELS)


def entry(name: str) -> Entry:
    return next(found for found in PEERS if found.name == name)


def test_fer_is_asked_as_it_wants_to_be(module: Any) -> None:
    asked: list[Any] = []

    class FER:
        def detect_emotions(self, image: Any, face_rectangles: Any = None) -> list[Any]:
            asked.append((image.shape, face_rectangles))
            box = (10, 20, 30, 40) if face_rectangles is None else face_rectangles[0]
            return [{"box": np.array(box), "emotions": {"happy": 0.7, "sad": 0.3}}]

    module("fer")
    module("fer.fer", FER=FER)
    peer = entry("fer").open(NoFaces())
    (seen,) = peer.faces(np.zeros((90, 80, 3), np.uint8))
    assert seen.box_xyxy.tolist() == [10, 20, 40, 60]
    assert peer.face(np.zeros((48, 48, 3), np.uint8)).label == "Happy"
    assert asked == [((90, 80, 3), None), ((48, 48, 3), [[10, 10, 28, 28]])]


def test_emotiefflib_is_given_our_faces_in_rgb(module: Any) -> None:
    class Recognizer:
        idx_to_emotion_class = types.MappingProxyType({0: "Anger", 1: "Sadness"})

        def __init__(self, engine: str, model_name: str) -> None:
            assert (engine, model_name) == ("onnx", "enet_b0_8_best_vgaf")

        def predict_emotions(self, crop: Any, logits: bool) -> tuple[list[str], Any]:
            assert crop.shape == (6, 4, 3)
            assert crop[0, 0].tolist() == [3, 2, 1]
            assert not logits
            return ["Sadness"], np.array([[0.2, 0.8]])

    module("emotiefflib")
    module("emotiefflib.facial_analysis", EmotiEffLibRecognizer=Recognizer)
    image = np.full((20, 20, 3), (1, 2, 3), np.uint8)
    (seen,) = entry("emotiefflib").open(OneFace()).faces(image)
    assert seen.label == "Sad"
    assert seen.box_xyxy.tolist() == [1, 2, 5, 8]


def test_deepface_does_not_count_the_whole_picture_as_a_face(module: Any) -> None:
    class DeepFace:
        @staticmethod
        def analyze(_image: Any, detector_backend: str, **options: Any) -> list[Any]:
            assert options["actions"] == ["emotion"]
            region = {"x": 1, "y": 2, "w": 3, "h": 4}
            found = {"region": region, "emotion": {"fear": 90.0, "happy": 10.0}}
            confidences = (0.9, 0) if detector_backend == "opencv" else (0,)
            return [{**found, "face_confidence": sure} for sure in confidences]

    module("deepface", DeepFace=DeepFace)
    peer = entry("deepface").open(NoFaces())
    (seen,) = peer.faces(np.zeros((20, 20, 3), np.uint8))
    assert seen.box_xyxy.tolist() == [1, 2, 4, 6]
    assert peer.face(np.zeros((20, 20, 3), np.uint8)).label == "Fear"


def test_rmn_is_kept_from_the_network(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    scores = [{"angry": 0.1}, {"surprise": 0.9}]

    class RMN:
        def detect_emotion_for_single_frame(self, _image: Any) -> list[Any]:
            return [{"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4, "proba_list": scores}]

        def detect_emotion_for_single_face_image(self, _crop: Any) -> tuple[str, float, list[Any]]:
            return "surprise", 0.9, scores

    module("rmn", RMN=RMN)
    peer = entry("rmn").open(NoFaces())
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    (seen,) = peer.faces(np.zeros((20, 20, 3), np.uint8))
    assert (seen.box_xyxy.tolist(), seen.label) == ([1, 2, 3, 4], "Surprise")
    assert peer.face(np.zeros((20, 20, 3), np.uint8)).label == "Surprise"


def test_the_command_line_writes_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = Entry("absent", "no_such_module", (), lambda _: Cheerful())
    monkeypatch.setattr(compare, "PEERS", (CHEERFUL, absent))
    path = tmp_path / "compare.json"
    compare.main(["--frames", "4", "--rounds", "1", "--json", str(path)])
    printed = capsys.readouterr().out
    report = json.loads(path.read_text())
    assert printed == as_text(report)
    assert report["format"] == "occam-sdk compare"
    assert report["clip"] == "demo.mp4"
    assert "cheerful: sees two faces everywhere" in printed
    assert "left out: absent: not installed: pip install absent" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rounds", "0"], "one at least"),
        (["--faces", "somewhere"], "go together"),
        (["--video", "nowhere.mp4"], "nowhere.mp4"),
        (["--video", str(demo_clip()), "--frames", "1"], "two are needed"),
    ],
)
def test_mistakes_are_told_in_a_line(
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(compare, "PEERS", ())
    with pytest.raises(SystemExit) as stopped:
        compare.main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
