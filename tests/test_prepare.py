"""Preparation to a cache, on pictures, voices and clips made here."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from occam_sdk import LABELS, demo_clip
from occam_sdk.bundle import load_bundle
from occam_sdk.video.decode import VideoFile
from training.cache import contradicting_twins, load_cache, twins_across_splits
from training.observe import TEMPLATE, Settings
from training.prepare import prepare, unpacked
from training.samples import Corpus, LeftOut, Sample

ROOT = Path(__file__).parents[1]
SIZE = Settings.size


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return list(VideoFile(demo_clip()))[-1].image


def corpus(*samples: Sample, media: str = "face", **more: object) -> Corpus:
    return Corpus("made", media, samples, **more)  # type: ignore[arg-type]


def write(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def test_faces_are_aligned_by_the_products_code_and_the_rest_is_a_plain_crop(
    tmp_path: Path, portrait: np.ndarray
) -> None:
    face = Sample(
        write(tmp_path / "face.png", portrait), "train", label=3, votes=(0, 9, 1, 0, 0, 0, 0, 0)
    )
    blank = Sample(write(tmp_path / "blank.png", np.full((48, 48, 3), 90, np.uint8)), "valid")
    prepare(corpus(face, blank), tmp_path / "out", Settings(), workers=1)
    cache = load_cache(tmp_path / "out")
    assert cache.faces.shape == (2, SIZE, SIZE)
    assert cache.faces.dtype == np.uint8
    assert cache.samples.found.tolist() == [True, False]
    assert cache.samples.label.tolist() == [LABELS.index("Happy"), -1]
    assert cache.samples.votes[0].tolist() == [0, 9, 1, 0, 0, 0, 0, 0]
    assert np.isnan(cache.samples.valence_arousal).all()
    assert (cache.faces[1] == 90).all()
    # the eyes, darker than the cheeks below them, lie where the template says
    for x, y in TEMPLATE[:2]:
        column, row = round(x * SIZE), round(y * SIZE)
        eye = cache.faces[0][row - 3 : row + 4, column - 4 : column + 5].mean()
        cheek = cache.faces[0][row + 9 : row + 15, column - 4 : column + 5].mean()
        assert eye < cheek - 10


def test_the_labelled_face_is_taken_and_not_the_largest(
    tmp_path: Path, portrait: np.ndarray
) -> None:
    height, width = portrait.shape[:2]
    small = cv2.resize(portrait, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    both = np.zeros((height, width + width // 2, 3), np.uint8)
    both[:, :width] = portrait
    both[: height // 2, width:] = small
    path = write(tmp_path / "both.png", both)
    box = (float(width), 0.0, width * 1.5, height / 2)
    prepare(
        corpus(Sample(path, "train"), Sample(path, "train", box_xyxy=box)),
        tmp_path / "out",
        Settings(),
        1,
    )
    large, chosen = load_cache(tmp_path / "out").faces.astype(float)
    assert np.abs(large - chosen).mean() < 40  # the same person,
    assert np.abs(large - chosen).mean() > 0.5  # but not the same pixels


def test_a_picture_that_is_broken_or_missing_is_named_and_counted(
    tmp_path: Path, portrait: np.ndarray
) -> None:
    good = write(tmp_path / "good.png", portrait)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    samples = [Sample(path, "train") for path in (good, broken, tmp_path / "missing.png")]
    of_reader = (LeftOut("row 7", "unknown label 'x'"),)
    prepare(corpus(*samples, left_out=of_reader, lost={"calm": 3}), tmp_path / "out", Settings(), 1)
    cache = load_cache(tmp_path / "out")
    assert cache.samples.path.tolist() == ["good.png"]
    assert cache.report["lost"] == {"calm": 3}
    rows = list(csv.DictReader((tmp_path / "out" / "left_out.csv").read_text().splitlines()))
    assert [row["what"] for row in rows] == ["row 7", str(broken), str(tmp_path / "missing.png")]
    assert rows[1]["reason"].startswith("broken")
    assert rows[2]["reason"] == "missing"


def test_a_corpus_of_which_nothing_can_be_used_is_an_error_that_says_where_to_look(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match=r"left_out\.csv"):
        prepare(corpus(Sample(tmp_path / "missing.png", "train")), tmp_path / "out", Settings(), 1)
    with pytest.raises(FileNotFoundError, match=r"training\.prepare"):
        load_cache(tmp_path / "out")


def test_a_folder_with_other_samples_or_settings_is_left_alone(
    tmp_path: Path, portrait: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = Sample(write(tmp_path / "face.png", portrait), "train", label=1)
    prepare(corpus(sample), tmp_path / "out", Settings(), 1)
    prepare(corpus(sample), tmp_path / "out", Settings(), 1)
    assert "is there already" in capsys.readouterr().out
    with pytest.raises(ValueError, match="other samples, settings"):
        prepare(corpus(sample), tmp_path / "out", Settings(size=96), 1)
    with pytest.raises(ValueError, match="other samples, settings"):
        prepare(corpus(Sample(sample.path, "train", label=2)), tmp_path / "out", Settings(), 1)


@pytest.mark.parametrize("name", ["detector.onnx", "looked"])
def test_faces_that_were_found_in_another_way_are_no_beginning(
    name: str, tmp_path: Path, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another detector, or by other code around it: half of a corpus each would be no corpus."""
    sample = Sample(write(tmp_path / "face.png", portrait), "train", label=1)
    prepare(corpus(sample), tmp_path / "out", Settings(), 1)
    if name == "looked":
        monkeypatch.setattr("training.prepare.LOOKED", 99)
    else:
        bundle = load_bundle()
        changed = {**bundle.files, name: {"sha256": "0" * 64, "size": 1}}
        other = dataclasses.replace(bundle, files=changed)
        monkeypatch.setattr("training.prepare.load_bundle", lambda: other)
    with pytest.raises(ValueError, match="found by another detector"):
        prepare(corpus(sample), tmp_path / "out", Settings(), 1)


def test_a_corpus_is_the_same_wherever_it_lies(tmp_path: Path, portrait: np.ndarray) -> None:
    hashes = []
    for place in ("here", "there/deeper"):
        samples = [
            Sample(write(tmp_path / place / name / "x.png", portrait), "train", label=1)
            for name in ("a", "b")
        ]
        prepare(corpus(*samples), tmp_path / f"out-{place[:4]}", Settings(), 1)
        hashes.append(load_cache(tmp_path / f"out-{place[:4]}").sha256)
    assert hashes[0] == hashes[1]


def test_twins_and_contradictions_are_found_by_pixels(tmp_path: Path, portrait: np.ndarray) -> None:
    path = write(tmp_path / "a.png", portrait)
    copy = Path(shutil.copy(path, tmp_path / "b.png"))
    other = write(tmp_path / "c.png", portrait[::-1].copy())
    prepare(
        corpus(
            Sample(path, "train", label=0), Sample(copy, "test", label=1), Sample(other, "train", label=2)
        ),
        tmp_path / "out", Settings(), 1,
    )  # fmt: skip
    samples = load_cache(tmp_path / "out").samples
    assert twins_across_splits(samples).tolist() == [True, True, False]
    assert contradicting_twins(samples).tolist() == [True, True, False]


def test_clips_give_the_main_face_of_every_frame_and_the_voice(tmp_path: Path) -> None:
    silent = tmp_path / "nothing.mp4"
    silent.write_bytes(b"no clip")
    samples = [Sample(demo_clip(), "train", subject="x", label=3), Sample(silent, "valid", label=1)]
    prepare(corpus(*samples, media="clip"), tmp_path / "out", Settings(), 1)
    cache = load_cache(tmp_path / "out")
    assert cache.samples.faces.tolist() == [75]
    assert cache.samples.voices.tolist() == [1]
    assert cache.faces.shape == (75, SIZE, SIZE)
    assert cache.voices.shape == (1, 256)
    assert np.isfinite(cache.voices).all()
    assert (np.diff(cache.times_s) > 0).all()
    assert cache.report["left_out"] != {}


def test_voices_become_what_was_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("opensmile", reason="the extra 'audio' is not installed")
    samples = [Sample(demo_clip(), "train", label=3)]
    paper = Settings(feature_set="IS10_paraling_compat")
    prepare(corpus(*samples, media="voice"), tmp_path / "out", paper, 1)
    assert load_cache(tmp_path / "out").voices.shape == (1, 1582)
    with pytest.raises(ValueError, match="other samples, settings"):
        prepare(corpus(*samples, media="voice"), tmp_path / "out", Settings(), 1)
    with pytest.raises(ValueError, match="GE2E, IS10_paraling_compat, got 'eGeMAPS'"):
        Settings(feature_set="eGeMAPS")


def test_an_utterance_without_speech_is_left_out_and_named(tmp_path: Path) -> None:
    import wave

    for name, seconds in (("silence", 3), ("short", 0.3)):
        with wave.open(str(tmp_path / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes(bytes(2 * int(16_000 * seconds)))
    samples = [Sample(demo_clip(), "train", label=3)]
    samples += [Sample(tmp_path / f"{name}.wav", "train") for name in ("silence", "short")]
    prepare(corpus(*samples, media="voice"), tmp_path / "out", Settings(), 1)
    cache = load_cache(tmp_path / "out")
    assert len(cache.samples) == len(cache.voices) == 1
    assert cache.report["left_out"] == {"no speech in it, or less than a second": 2}


def _tree(root: Path, portrait: np.ndarray, count: int) -> Path:
    for number in range(count):
        name = LABELS[number % len(LABELS)]
        shifted = np.roll(portrait, number, axis=1)
        write(root / name / f"{number:04d}.jpg", shifted)
    return root


def _command(root: Path, out: Path) -> list[str]:
    command = [sys.executable, "-m", "training.prepare", f"own_faces={root}"]
    return [*command, "--out", str(out), "--workers", "2"]


def test_a_preparation_that_was_killed_ends_as_an_unbroken_one(
    tmp_path: Path, portrait: np.ndarray
) -> None:
    root = _tree(tmp_path / "pictures", portrait, 160)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(out: Path) -> str:
        return subprocess.run(
            _command(root, out),
            cwd=ROOT,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    run(tmp_path / "whole")
    broken = subprocess.Popen(
        _command(root, tmp_path / "broken"), cwd=ROOT, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    parts = tmp_path / "broken" / "own_faces" / "parts"
    deadline = time.monotonic() + 120
    while not list(parts.glob("0*[0-9].npz")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(broken.pid, signal.SIGKILL)
    broken.wait()
    assert not (tmp_path / "broken" / "own_faces" / "report.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in parts.glob("0*[0-9].npz")}
    assert 1 <= len(kept) < 3
    assert f"{160 - 64 * len(kept)} in" in run(
        tmp_path / "broken"
    )  # what was there was not made again
    for name in ("faces.npy", "voices.npy"):
        one, other = (tmp_path / which / "own_faces" / name for which in ("whole", "broken"))
        assert one.read_bytes() == other.read_bytes()
    reports = [
        json.loads((tmp_path / which / "own_faces" / "report.json").read_text())
        for which in ("whole", "broken")
    ]
    assert reports[0]["sha256"] == reports[1]["sha256"]
    assert not parts.exists()


@pytest.mark.parametrize(
    ("argument", "remedy"),
    [("nothing=x", "NAME one of"), ("ferplus", "NAME=PLACE"), ("ferplus=/not/there", "not there")],
)
def test_the_command_line_names_a_mistake(tmp_path: Path, argument: str, remedy: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "training.prepare", argument, "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr


def test_an_archive_is_unpacked_once(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a/b.txt", "text")
    folder = unpacked(tmp_path / "x.zip", tmp_path / "out")
    assert (folder / "a" / "b.txt").read_text() == "text"
    (folder / "a" / "b.txt").write_text("mine")
    assert (unpacked(tmp_path / "x.zip", tmp_path / "out") / "a" / "b.txt").read_text() == "mine"
