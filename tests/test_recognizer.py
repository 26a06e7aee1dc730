"""What a user sees: real pictures and sounds through the public door, with the shipped bundle."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import warnings
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from occam_sdk import (
    LABELS,
    BackendError,
    BackendWarning,
    BundleError,
    ClipResult,
    Face,
    Frame,
    MediaError,
    Recognizer,
    Waveform,
    demo_clip,
)
from occam_sdk.audio.decode import AudioFile
from occam_sdk.backends import Session, open_session
from occam_sdk.bundle import DEFAULT_BUNDLE, load_bundle
from occam_sdk.machine import has_vnni
from occam_sdk.pipeline import MOST_LOOKS
from occam_sdk.video.decode import VideoFile
from occam_sdk.video.faces import CLOSE_SIDE

from . import clips
from .bundles import drop_field, put_file, set_field
from .shared import CLIPS, needs_clips

SIZE = 160
Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    with Recognizer() as made:
        yield made


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return list(VideoFile(demo_clip()))


@pytest.fixture(scope="module")
def sound() -> Waveform:
    return next(iter(AudioFile(demo_clip())))


@pytest.fixture(scope="module")
def demo(recognizer: Recognizer) -> ClipResult:
    return recognizer.predict(demo_clip())


@pytest.fixture
def portrait(frames: list[Frame]) -> Image:
    return cv2.resize(frames[-1].image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def grey(count: int) -> list[Image]:
    return [np.full((SIZE, SIZE, 3), 128, np.uint8)] * count


# The clip that comes with the package


def test_a_smiling_face_is_happy(demo: ClipResult) -> None:
    assert demo.label == "Happy"
    assert demo.face is not None
    assert demo.face.label == "Happy"
    assert demo.valence is not None
    assert demo.valence > 0


def test_scores_are_a_distribution_over_the_labels(demo: ClipResult) -> None:
    assert demo.scores is not None
    assert demo.scores.shape == (len(LABELS),)
    assert demo.scores.sum() == pytest.approx(1, abs=1e-5)
    assert demo.scores.min() >= 0


def test_every_frame_is_a_row_with_the_time_of_the_stream(demo: ClipResult) -> None:
    assert [row.index for row in demo.timeline] == list(range(75))
    times_s = [row.time_s for row in demo.timeline]
    np.testing.assert_allclose(times_s, np.arange(75) / 25, atol=1e-6)
    assert all(row.face is not None for row in demo.timeline)


def test_one_face_keeps_one_id(demo: ClipResult) -> None:
    assert {row.face.face.track_id for row in demo.timeline if row.face} == {0}


def test_of_two_faces_both_are_told_of_and_the_larger_is_judged(frames: list[Frame]) -> None:
    pair = [Frame(frame.index, frame.time_s, clips.beside_half(frame.image)) for frame in frames]
    with Recognizer(max_faces=3) as made:
        result = made.predict(pair)
    assert result.face is not None
    main, other = result.tracks
    assert main.track_id != other.track_id
    assert main.scores is result.face
    assert [row.index for row in main.timeline] == [row.index for row in result.timeline]
    for track, side in ((main, 1), (other, 0)):
        seen = [row.face.face for row in track.timeline if row.face]
        assert len(seen) >= 73
        assert {face.track_id for face in seen} == {track.track_id}
        half = pair[0].image.shape[1] - frames[0].image.shape[1]
        assert all((face.box_xyxy[[0, 2]].mean() > half) == side for face in seen)
        assert track.scores is not None
        assert track.scores.label == "Happy"
    told = json.loads(result.to_json())["tracks"]
    assert [track["track_id"] for track in told] == [main.track_id, other.track_id]
    assert "timeline" not in told[0]  # it is the clip's
    assert told[1]["timeline"] == other.to_dict()["timeline"]
    told = json.loads(result.to_json(timeline=False))["tracks"]
    assert not any("timeline" in track for track in told)


def test_by_default_one_face_is_told_of(demo: ClipResult) -> None:
    (track,) = demo.tracks
    assert track.scores is demo.face
    assert len(track.to_dict()["timeline"]) == 75


@pytest.mark.parametrize("count", [0, 9])
def test_more_faces_than_are_judged_cannot_be_told_of(count: int) -> None:
    with pytest.raises(ValueError, match=f"max_faces: expected 1 to 8, got {count}"):
        Recognizer(max_faces=count)


def test_sixteen_frames_are_the_evidence_one_of_each_sixteenth(demo: ClipResult) -> None:
    assert demo.face is not None
    times_s = np.array(demo.face.evidence_s)
    assert len(times_s) == 16
    chunk = np.searchsorted(np.arange(1, 16) * 75 // 16, np.round(times_s * 25), side="right")
    np.testing.assert_array_equal(chunk, np.arange(16))


def test_the_clip_is_said_to_be_as_long_as_it_is(demo: ClipResult) -> None:
    assert demo.duration_s == pytest.approx(3.0, abs=0.1)
    assert not demo.truncated


def test_json_is_strict_and_holds_the_answer(demo: ClipResult) -> None:
    data = json.loads(demo.to_json(), parse_constant=pytest.fail)
    assert data["label"] == "Happy"
    assert set(data["scores"]) == set(LABELS)
    assert len(data["timeline"]) == 75
    assert "timeline" not in json.loads(demo.to_json(timeline=False))


def test_the_result_cannot_be_changed(demo: ClipResult) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        demo.status = "no_face"  # type: ignore[misc]


def test_the_same_clip_gets_the_same_answer(recognizer: Recognizer, demo: ClipResult) -> None:
    assert recognizer.predict(str(demo_clip())).to_json() == demo.to_json()


# Voice


def test_voice_and_face_are_weighed_as_the_bundle_says(demo: ClipResult) -> None:
    fusion = load_bundle().fusion
    assert demo.status == "ok"
    assert (demo.weights.face, demo.weights.voice) == (fusion.face, fusion.voice)
    assert demo.scores is not None
    assert demo.face is not None
    assert demo.voice is not None
    assert fusion.mean == "geometric"
    mean = demo.face.scores**fusion.face * demo.voice.scores**fusion.voice
    wanted = mean ** (1 / fusion.temperature) / (mean ** (1 / fusion.temperature)).sum()
    np.testing.assert_allclose(demo.scores, wanted, atol=1e-5)


def test_frames_with_a_waveform_get_the_answer_of_their_file(
    recognizer: Recognizer, frames: list[Frame], sound: Waveform, demo: ClipResult
) -> None:
    result = recognizer.predict(frames, sound)
    assert result.scores is not None
    np.testing.assert_allclose(result.scores, demo.scores, atol=1e-5)
    assert result.status == demo.status


@pytest.fixture
def hears_with_opensmile(tmp_path: Path) -> Path:
    """The default bundle, but with a voice network for the paper's 1582 features."""
    folder = tmp_path / "paper"
    shutil.copytree(DEFAULT_BUNDLE, folder)
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 1e-3, (1582, len(LABELS))).astype(np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["features", "weight"], ["emotion"])],
        "voice",
        [onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["n", 1582])],
        [onnx.helper.make_tensor_value_info("emotion", onnx.TensorProto.FLOAT, ["n", len(LABELS)])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    opset = onnx.helper.make_opsetid("", 18)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    put_file(folder, "voice.onnx", model.SerializeToString())
    set_field(folder, "voice.feature_set", "IS10_paraling_compat")
    set_field(folder, "int8", {})
    return folder


def test_a_bundle_may_hear_with_opensmile(
    hears_with_opensmile: Path, frames: list[Frame], sound: Waveform
) -> None:
    pytest.importorskip("opensmile", reason="the extra 'audio' is not installed")
    with Recognizer(hears_with_opensmile) as made:
        made.warmup()
        assert made.info.speech is None
        assert made.info.voice_features.startswith("IS10_paraling_compat, by opensmile ")
        result = made.predict(frames[:20], sound)
    assert result.status == "ok"


def test_without_opensmile_the_face_answers_and_the_note_has_the_remedy(
    hears_with_opensmile: Path,
    monkeypatch: pytest.MonkeyPatch,
    frames: list[Frame],
    sound: Waveform,
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "opensmile" else found(name, *rest),
    )
    with Recognizer(hears_with_opensmile) as made:
        result = made.predict(frames[:20], sound)
    assert result.status == "no_voice"
    assert any("pip install 'opensmile>=2.6'" in note for note in result.notes)
    with Recognizer() as made:
        result = made.predict(frames[:20], sound)
    assert result.status == "ok", "the default bundle hears without it"


# What is missing is said, never guessed


def test_without_a_sound_track_the_face_has_all_the_weight(
    recognizer: Recognizer, portrait: Image, tmp_path: Path
) -> None:
    clip = clips.write_clip(tmp_path / "mute.mp4", images=[portrait] * 10)
    result = recognizer.predict(clip)
    assert (result.status, result.label, result.voice) == ("no_voice", "Happy", None)
    assert (result.weights.face, result.weights.voice) == (1, 0)
    assert "no audio track" in result.notes


def test_silence_is_no_voice(recognizer: Recognizer, portrait: Image, tmp_path: Path) -> None:
    silence = np.zeros(44_100 * 2, np.float32)
    clip = clips.write_clip(tmp_path / "silent.mp4", images=[portrait] * 50, sound=silence)
    result = recognizer.predict(clip)
    assert (result.status, result.voice) == ("no_voice", None)
    assert any("no speech" in note for note in result.notes)


def test_a_frame_without_a_face_is_a_row_that_says_so(
    recognizer: Recognizer, portrait: Image, tmp_path: Path
) -> None:
    clip = clips.write_clip(
        tmp_path / "away.mp4", images=[*[portrait] * 5, *grey(5), *[portrait] * 5]
    )
    result = recognizer.predict(clip)
    assert [row.face is not None for row in result.timeline] == [True] * 5 + [False] * 5 + [
        True
    ] * 5
    assert json.loads(result.to_json())["timeline"][7]["face"] is None


def test_a_clip_without_face_and_voice_has_no_label(recognizer: Recognizer, tmp_path: Path) -> None:
    result = recognizer.predict(clips.write_clip(tmp_path / "grey.mp4", images=grey(10)))
    assert (result.status, result.label, result.scores) == ("no_evidence", None, None)
    assert (result.weights.face, result.weights.voice) == (0, 0)
    assert len(result.timeline) == 10
    assert json.loads(result.to_json())["scores"] is None


def test_a_sound_file_is_judged_by_its_voice(recognizer: Recognizer, tmp_path: Path) -> None:
    path = clips.write_clip(
        tmp_path / "voice.wav", sound=clips.speech_like(3), sound_hz=16_000, sound_codec="pcm_s16le"
    )
    result = recognizer.predict(path)
    assert (result.status, result.face, list(result.timeline)) == ("no_face", None, [])
    assert (result.weights.face, result.weights.voice) == (0, 1)
    assert result.duration_s == pytest.approx(3, abs=0.05)


def test_a_truncated_clip_is_judged_by_what_is_left_and_says_so(
    recognizer: Recognizer, frames: list[Frame], tmp_path: Path
) -> None:
    images = [cv2.resize(frame.image, (SIZE, SIZE)) for frame in frames]
    whole = clips.write_clip(
        tmp_path / "whole.mp4", images=images, muxer={"movflags": "+faststart"}
    )
    result = recognizer.predict(clips.cut(whole, 0.6))
    assert result.truncated
    assert result.label == "Happy"
    assert 2 <= len(result.timeline) < 75
    assert result.notes


# Several faces


def test_the_main_face_is_the_one_seen_longest_and_largest(
    recognizer: Recognizer, portrait: Image
) -> None:
    small = cv2.resize(portrait, (80, 80), interpolation=cv2.INTER_AREA)
    images = []
    for index in range(12):
        image = np.full((SIZE, 320, 3), 128, np.uint8)
        image[:80, :80] = small
        if index >= 4:
            image[:, SIZE:] = portrait
        images.append(image)
    result = recognizer.predict([Frame(i, i / 25, image) for i, image in enumerate(images)])
    assert [row.face is not None for row in result.timeline] == [False] * 4 + [True] * 8
    assert all(row.face.face.box_xyxy[0] > SIZE for row in result.timeline if row.face)


def test_all_faces_of_a_picture_come_back_the_largest_first(
    recognizer: Recognizer, portrait: Image
) -> None:
    image = np.full((SIZE, 320, 3), 128, np.uint8)
    image[:100, :100] = cv2.resize(portrait, (100, 100), interpolation=cv2.INTER_AREA)
    image[:, SIZE:] = portrait
    found = recognizer.predict_image(image)
    assert [face.label for face in found] == ["Happy", "Happy"]
    assert found[0].face.area > found[1].face.area
    assert found[0].face.box_xyxy[0] > SIZE


def test_a_picture_is_judged_alike_in_colour_and_in_grey(
    recognizer: Recognizer, frames: list[Frame]
) -> None:
    image = frames[40].image
    shades = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    (coloured,), (toneless,) = recognizer.predict_image(image), recognizer.predict_image(shades)
    np.testing.assert_allclose(coloured.scores, toneless.scores, atol=0.1)


def test_a_picture_without_a_face_has_none(recognizer: Recognizer) -> None:
    assert recognizer.predict_image(grey(1)[0]) == ()


def test_a_detector_of_the_users_own_takes_the_bundles_place(portrait: Image) -> None:
    class Fixed:
        def detect(self, image: Image) -> tuple[Face, ...]:
            assert image.dtype == np.uint8
            landmarks = np.array([[60, 60], [100, 60], [80, 85], [65, 105], [95, 105]], np.float32)
            return (Face(np.array([40, 30, 120, 130], np.float32), landmarks, 1.0),)

    with Recognizer(detector=Fixed()) as made:
        (found,) = made.predict_image(portrait)
        assert made.info.detector is None
    np.testing.assert_array_equal(found.face.box_xyxy, [40, 30, 120, 130])


def test_smaller_faces_are_found_on_demand(portrait: Image) -> None:
    crowd = np.full((1080, 1920, 3), 128, np.uint8)
    crowd[500:540, 900:940] = cv2.resize(portrait, (40, 40), interpolation=cv2.INTER_AREA)
    clip = [Frame(i, i / 25, crowd) for i in range(4)]
    with Recognizer() as usual, Recognizer(min_face_px=20) as close:
        assert usual.predict(clip).status == "no_evidence"
        found = close.predict(clip)
    assert found.timeline[0].face is not None
    left, top, right, bottom = found.timeline[0].face.face.box_xyxy
    assert 895 < left < right < 945
    assert 495 < top < bottom < 545


@pytest.mark.parametrize("pixels", [0, -3, float("nan"), float("inf")])
def test_a_smallest_face_of_no_size_is_refused(pixels: float) -> None:
    with pytest.raises(ValueError, match="min_face_px: expected a positive number of pixels"):
        Recognizer(min_face_px=pixels)


def test_a_detector_of_ones_own_decides_how_small_a_face_it_looks_for() -> None:
    class Blind:
        def detect(self, image: Image) -> tuple[Face, ...]:
            return ()[: len(image)]

    with pytest.raises(ValueError, match="min_face_px: a detector of your own"):
        Recognizer(detector=Blind(), min_face_px=20)


# Bad input


@pytest.mark.parametrize(
    ("image", "error", "says"),
    [
        (np.zeros((0, 0, 3), np.uint8), ValueError, "at least 1x1"),
        (np.zeros((40, 40, 3), np.uint16), TypeError, "uint8"),
        (np.zeros((40, 40), np.uint8), ValueError, r"\(H, W, 3\)"),
        (np.zeros((40, 40, 4), np.uint8), ValueError, r"\(H, W, 3\)"),
        ("face.jpg", TypeError, "str"),
        (None, TypeError, "NoneType"),
    ],
)
def test_what_is_no_picture_is_refused(
    recognizer: Recognizer, image: object, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        recognizer.predict_image(image)  # type: ignore[arg-type]


def test_a_clip_of_one_frame_is_refused_with_the_remedy(
    recognizer: Recognizer, portrait: Image, tmp_path: Path
) -> None:
    clip = clips.write_clip(tmp_path / "one.mp4", images=[portrait])
    with pytest.raises(MediaError, match=r"one\.mp4.*predict_image"):
        recognizer.predict(clip)
    with pytest.raises(MediaError, match="predict_image"):
        recognizer.predict([Frame(0, 0.0, portrait)])


def test_frames_whose_times_do_not_increase_are_refused(
    recognizer: Recognizer, portrait: Image
) -> None:
    with pytest.raises(ValueError, match="strictly increase"):
        recognizer.predict([Frame(0, 0.0, portrait), Frame(1, 0.0, portrait)])


def test_bare_arrays_are_refused_with_the_remedy(recognizer: Recognizer, portrait: Image) -> None:
    with pytest.raises(TypeError, match=r"Frame\(index, time_s, image\)"):
        recognizer.predict([portrait])  # type: ignore[list-item]


def test_a_waveform_beside_a_file_is_refused(recognizer: Recognizer, sound: Waveform) -> None:
    with pytest.raises(TypeError, match="file brings its own"):
        recognizer.predict(demo_clip(), sound)


def test_after_a_bad_clip_the_next_one_is_judged(
    recognizer: Recognizer, demo: ClipResult, tmp_path: Path
) -> None:
    with pytest.raises(MediaError, match="no such file"):
        recognizer.predict(tmp_path / "missing.mp4")
    assert recognizer.predict(demo_clip()).to_json() == demo.to_json()


def test_no_frame_at_all_is_refused(recognizer: Recognizer) -> None:
    with pytest.raises(MediaError, match="read only once"):
        recognizer.predict([])


@pytest.mark.parametrize("clip", [None, 3, b"clip.mp4"])
def test_what_is_no_clip_is_refused(recognizer: Recognizer, clip: object) -> None:
    with pytest.raises(TypeError, match="expected a file name or Frame values"):
        recognizer.predict(clip)  # type: ignore[arg-type]


def test_a_clip_may_change_its_resolution(recognizer: Recognizer, portrait: Image) -> None:
    large = cv2.resize(portrait, (480, 480))
    images = [portrait, large] * 4
    result = recognizer.predict([Frame(i, i / 25, image) for i, image in enumerate(images)])
    assert {row.face.face.track_id for row in result.timeline if row.face} == {0}
    assert all(row.face for row in result.timeline)


def test_the_main_face_is_the_same_at_any_resolution(
    recognizer: Recognizer, portrait: Image
) -> None:
    left, right = (np.full((SIZE, 320, 3), 128, np.uint8) for _ in range(2))
    left[:, :SIZE], right[:, SIZE:] = portrait, portrait
    images = [left] * 9 + [cv2.resize(right, (960, 480))] * 5
    result = recognizer.predict([Frame(i, i / 25, image) for i, image in enumerate(images)])
    assert [row.face is not None for row in result.timeline] == [True] * 9 + [False] * 5


def test_times_and_indices_of_any_kind_come_out_as_plain_numbers(
    recognizer: Recognizer, portrait: Image
) -> None:
    times_s = [np.float32(0.5), Fraction(3, 5), 1]
    frames = [Frame(i, t, portrait) for i, t in zip(np.arange(3), times_s, strict=True)]  # type: ignore[arg-type]
    data = json.loads(recognizer.predict(frames).to_json())
    assert [row["time_s"] for row in data["timeline"]] == [0.5, 0.6, 1.0]
    assert [row["index"] for row in data["timeline"]] == [0, 1, 2]


# The recognizer itself


def test_info_is_read_back_from_the_runtime(recognizer: Recognizer) -> None:
    info = recognizer.info
    assert info.model == load_bundle().name
    assert info.detector is not None
    assert info.voice_features == "GE2E, by the bundle's own network"
    sessions = (info.detector, info.expression, info.voice, info.speech)
    for name, session in zip(load_bundle().networks, sessions, strict=True):
        assert session is not None
        assert session.backend.startswith("openvino ")
        assert session.device == "CPU"
        form = load_bundle().int8.get(name)
        prefers_int8 = form is not None and form.default and has_vnni() is not False
        assert ("int8" in session.layers) == prefers_int8, name
        assert set(session.layers) <= {"int8", "fp32"}
    assert info.notes == ()
    assert info.licences["weights"].commercial_ok == "no"


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_every_runtime_gives_the_same_answer_in_float32(frames: list[Frame], backend: str) -> None:
    if backend == "onnxruntime":
        pytest.importorskip("onnxruntime", reason="the extra 'onnxruntime' is not installed")
    with (
        Recognizer(precision="fp32") as one,
        Recognizer(
            backend=backend, device="cpu", precision="fp32", threads=1, strict=True
        ) as other,
    ):
        assert other.info.expression.backend.startswith(backend)
        assert other.info.expression.precision == other.info.voice.precision == "fp32"
        wanted, got = one.predict(frames[:9]), other.predict(frames[:9])
    assert got.scores is not None
    assert wanted.scores is not None
    np.testing.assert_allclose(got.scores, wanted.scores, atol=1e-3)


def test_int8_and_float32_see_the_same_face_and_the_same_smile(frames: list[Frame]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BackendWarning)  # of a CPU without VNNI
        with Recognizer(precision="int8") as one, Recognizer(precision="fp32") as other:
            (rounded,), (exact,) = (made.predict_image(frames[40].image) for made in (one, other))
    assert rounded.label == exact.label == "Happy"
    np.testing.assert_allclose(rounded.scores, exact.scores, atol=0.1)
    eyes = np.linalg.norm(exact.face.landmarks[0] - exact.face.landmarks[1])
    off = np.linalg.norm(rounded.face.landmarks - exact.face.landmarks, axis=1) / eyes
    assert off.max() < 0.1


@pytest.mark.skipif(not clips.TASKS.is_dir(), reason="needs /proc to count threads")
def test_one_thread_is_for_decoding_too() -> None:
    told: list[int] = []
    with Recognizer(threads=1) as made:
        made.predict(demo_clip())
        before = clips.threads()
        made.predict(demo_clip(), progress=lambda _: told.append(clips.threads()))
    assert set(told) == {before}


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of auto, cpu"):
        Recognizer(device="tpu")


@pytest.fixture
def no_npu() -> None:
    import openvino

    if any(name.startswith("NPU") for name in openvino.Core().available_devices):
        pytest.skip("this machine has an NPU")


def test_an_absent_device_is_replaced_by_the_cpu_with_one_warning(
    portrait: Image, no_npu: None
) -> None:
    says = "device 'intel:npu' is not available on this machine; openvino runs on the CPU instead"
    with pytest.warns(BackendWarning) as warned:
        made = Recognizer(device="intel:npu")
    assert [str(warning.message) for warning in warned] == [says]
    assert warned[0].filename == __file__
    assert made.info.notes == (says,)
    assert made.info.expression.notes == (says,)
    assert made.info.expression.device == "CPU"
    assert made.predict_image(portrait)[0].label == "Happy"
    made.close()


def test_what_hears_stays_in_float32_where_int8_is_asked_for() -> None:
    with Recognizer(backend="openvino", device="cpu", precision="int8") as made:
        assert made.info.speech is not None
        assert made.info.speech.layers == {"fp32": 4}, "two convolutions, two recurrent layers"
        assert not any(note.startswith("speech") for note in made.info.notes)


def test_strict_refuses_an_absent_device(no_npu: None) -> None:
    with pytest.raises(BackendError, match=r"'intel:npu' is not available.*\(refused: strict\)"):
        Recognizer(device="intel:npu", strict=True)


def test_another_precision_than_asked_for_is_one_warning_for_each_network() -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'onnxruntime' is not installed")
    with pytest.warns(BackendWarning, match="fp16 was asked for, onnxruntime") as warned:
        made = Recognizer(backend="onnxruntime", device="cpu", precision="fp16")
    assert len(warned) == 1
    assert [note.partition(":")[0] for note in made.info.notes] == list(load_bundle().networks)
    made.close()
    with pytest.raises(BackendError, match="detector: fp16 was asked for"):
        Recognizer(backend="onnxruntime", device="cpu", precision="fp16", strict=True)


def test_a_bundle_of_float32_alone_is_judged_in_float32(
    frames: list[Frame], tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle"))
    drop_field(bundle, "int8")
    with Recognizer(bundle) as made:
        assert made.info.expression.precision == "fp32"
        assert made.info.notes == ()
        assert made.predict_image(frames[40].image)[0].label == "Happy"
    with pytest.warns(BackendWarning, match="detector: the bundle has no INT8 form of it"):
        Recognizer(bundle, precision="int8").close()


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json"):
        Recognizer(tmp_path)


def test_close_may_be_called_twice_and_ends_all_use(portrait: Image) -> None:
    made = Recognizer()
    made.close()
    made.close()
    with pytest.raises(RuntimeError, match="closed"):
        made.predict_image(portrait)


def test_warmup_changes_no_answer(demo: ClipResult) -> None:
    with Recognizer() as made:
        made.warmup()
        assert made.predict(demo_clip()).to_json() == demo.to_json()


class Watched:
    """A session that remembers the sizes of the pictures that it was shown."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.info, self.ports = session.info, session.ports
        self.shown: list[tuple[int, ...]] = []

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.shown += [tensor.shape[-2:] for tensor in inputs.values()]
        return self._session.run(inputs)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Watched]:
    """Every session of recognizers that are made from now on."""
    sessions: list[Watched] = []

    def watched(*given: object) -> Watched:
        sessions.append(Watched(open_session(*given)))  # type: ignore[arg-type]
        return sessions[-1]

    monkeypatch.setattr("occam_sdk.pipeline.open_session", watched)
    return sessions


def test_warmup_runs_every_network(opened: list[Watched]) -> None:
    """That for the closer looks, too, though nothing is seen."""
    with Recognizer() as made:
        made.warmup()
    assert len(opened) == 5
    assert all(session.shown for session in opened)


def test_of_a_crowd_in_a_clip_only_the_largest_are_looked_at_closer(
    opened: list[Watched], portrait: Image
) -> None:
    crowd = np.tile(cv2.resize(portrait, (240, 240)), (5, 5, 1))
    with Recognizer() as made:
        assert len(made.predict_image(crowd)) == 25
        close = (CLOSE_SIDE, CLOSE_SIDE)
        before = sum(session.shown.count(close) for session in opened)
        assert made.predict([Frame(i, i / 25, crowd) for i in range(2)]).label == "Happy"
        looked = sum(session.shown.count(close) for session in opened) - before
        assert looked == 2 * MOST_LOOKS


def test_threads_take_turns_and_get_the_same_answers(
    recognizer: Recognizer, frames: list[Frame]
) -> None:
    wanted = recognizer.predict(frames[:20]).to_json()
    answers: list[str] = []

    def ask() -> None:
        answers.append(recognizer.predict(frames[:20]).to_json())

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [wanted] * 3


def test_a_face_counts_by_the_time_it_is_seen_not_by_its_frames(
    recognizer: Recognizer, portrait: Image
) -> None:
    left, right = (np.full((SIZE, 320, 3), 128, np.uint8) for _ in range(2))
    left[:, :SIZE], right[:, SIZE:] = portrait, portrait
    times_s = [*np.arange(4.0), *(4 + np.arange(10) / 50)]
    images = [left] * 4 + [right] * 10
    pairs = zip(times_s, images, strict=True)
    result = recognizer.predict([Frame(i, t, image) for i, (t, image) in enumerate(pairs)])
    assert [row.face is not None for row in result.timeline] == [True] * 4 + [False] * 10


def test_a_face_is_followed_through_frames_that_lie_far_apart(
    recognizer: Recognizer, portrait: Image
) -> None:
    result = recognizer.predict([Frame(i, 2.0 * i, portrait) for i in range(6)])
    assert all(row.face is not None for row in result.timeline)
    assert result.duration_s == pytest.approx(10)


def test_a_picture_with_seconds_of_speech_is_judged(
    recognizer: Recognizer, portrait: Image, sound: Waveform
) -> None:
    result = recognizer.predict([Frame(0, 0.0, portrait)], sound)
    assert result.face is not None
    assert len(result.timeline) == 1


def test_the_rows_carry_the_frames_own_indices(recognizer: Recognizer, portrait: Image) -> None:
    result = recognizer.predict([Frame(100 + i, 10 + i / 25, portrait) for i in range(3)])
    assert [row.index for row in result.timeline] == [100, 101, 102]
    assert result.duration_s == pytest.approx(2 / 25)


def test_no_face_of_a_picture_is_left_out(recognizer: Recognizer, portrait: Image) -> None:
    tile = cv2.resize(portrait, (120, 120), interpolation=cv2.INTER_AREA)
    assert len(recognizer.predict_image(np.tile(tile, (3, 4, 1)))) == 12


def test_a_picture_may_be_judged_while_a_clip_is(recognizer: Recognizer, portrait: Image) -> None:
    def frames() -> Iterator[Frame]:
        for index in range(3):
            assert recognizer.predict_image(portrait)[0].label == "Happy"
            yield Frame(index, index / 25, portrait)

    assert recognizer.predict(frames()).label == "Happy"


def test_the_sound_of_a_clip_without_pictures_tells_its_progress(
    recognizer: Recognizer, tmp_path: Path
) -> None:
    sound = clips.speech_like(14)
    path = clips.write_clip(
        tmp_path / "long.wav", sound=sound, sound_hz=16_000, sound_codec="pcm_s16le"
    )
    told: list[float] = []
    recognizer.predict(path, progress=told.append)
    assert told == pytest.approx([6, 12, 14], abs=0.01)


def test_a_network_with_other_ends_is_refused(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(DEFAULT_BUNDLE, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    shutil.copy(bundle / "voice.onnx", bundle / "expression.onnx")
    manifest["files"]["expression.onnx"] = manifest["files"]["voice.onnx"]
    del manifest["int8"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"expression\.onnx: expected inputs \['image'\]"):
        Recognizer(bundle)


def test_progress_is_told_up_to_the_end(recognizer: Recognizer, frames: list[Frame]) -> None:
    told: list[float] = []
    recognizer.predict(frames[:5], progress=told.append)
    np.testing.assert_allclose(told, np.arange(5) / 25, atol=1e-6)


# Real clips of other people


@needs_clips
@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("style_happyenglish_clip1.mp4", "Happy"),
        ("style_furious_talk1_clip1.mp4", "Angry"),
        ("style_sadgirl_clip1.mp4", "Sad"),
    ],
)
def test_an_acted_style_is_recognised(recognizer: Recognizer, name: str, label: str) -> None:
    result = recognizer.predict(CLIPS / name)
    assert (result.label, result.status) == (label, "no_voice")


@needs_clips
def test_a_track_of_near_silence_is_no_voice(recognizer: Recognizer) -> None:
    assert recognizer.predict(CLIPS / "pyfeat_single_face.mp4").status == "no_voice"


@needs_clips
def test_face_and_speech_are_both_heard_and_seen(recognizer: Recognizer) -> None:
    result = recognizer.predict(CLIPS / "grid_bbaf2n.mpg")
    assert result.status == "ok"
    assert result.voice is not None
    assert all(row.face is not None for row in result.timeline)
