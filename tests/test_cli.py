"""The command ``occam``, run as a user runs it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from occam_sdk import LABELS, __version__, demo_clip
from occam_sdk.bundle import DEFAULT_BUNDLE

from . import clips


def occam(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "occam_sdk", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_demo_answers_on_the_packaged_clip() -> None:
    done = occam("demo")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["Happy", "demo.mp4"]
    assert "status: ok" in done.stdout or "status: no_voice" in done.stdout
    assert all(label in done.stdout for label in LABELS)


def test_predict_prints_json_and_nothing_else_on_stdout(tmp_path: Path) -> None:
    timeline = tmp_path / "rows.csv"
    done = occam("predict", demo_clip(), "--json", "--timeline", timeline)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["label"] == "Happy"
    with timeline.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 75
    assert [float(row["time_s"]) for row in rows[:3]] == pytest.approx([0, 0.04, 0.08])
    assert rows[0]["label"] == "Happy"
    assert sum(float(rows[0][label]) for label in LABELS) == pytest.approx(1, abs=1e-3)
    assert list(tmp_path.iterdir()) == [timeline]


def test_a_frame_without_a_face_is_a_row_with_empty_cells(tmp_path: Path) -> None:
    images = [np.full((96, 96, 3), 128, np.uint8)] * 4
    clip = clips.write_clip(tmp_path / "grey.mp4", images=images)
    timeline = tmp_path / "rows.csv"
    done = occam("predict", clip, "--timeline", timeline)
    assert done.returncode == 0, done.stderr
    assert "no_evidence" in done.stdout
    with timeline.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert all(row["label"] == "" and row["left"] == "" for row in rows)


def test_info_says_what_runs() -> None:
    done = occam("info", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert rows["occam_sdk"] == __version__
    assert rows["expression_network"].startswith("openvino ")
    assert rows["expression_network"].endswith("CPU, f32")
    assert {"model", "bundle", "python", "numpy", "opencv", "pyav"} <= rows.keys()
    assert rows["model"] in occam("info").stdout


def test_version() -> None:
    assert occam("--version").stdout.strip() == f"occam-sdk {__version__}"


@pytest.mark.parametrize("command", [[], ["predict"], ["demo"], ["info"]])
def test_help_says_what_a_command_does(command: list[str]) -> None:
    done = occam(*command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def _text_named_mp4(folder: Path) -> Path:
    (folder / "text.mp4").write_text("this is no film\n" * 100)
    return folder / "text.mp4"


def _empty(folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def _picture(folder: Path) -> Path:
    return clips.write_clip(
        folder / "still.jpg", images=[clips.numbered(3)], codec="mjpeg", pix_fmt="yuvj420p"
    )


def _one_frame(folder: Path) -> Path:
    return clips.write_clip(folder / "one.mp4", images=[clips.numbered(3)])


BAD_CLIPS = {
    "a missing file": (lambda folder: folder / "missing.mp4", "no such file"),
    "a folder": (lambda folder: folder, "not a file"),
    "a text named .mp4": (_text_named_mp4, "not a clip"),
    "an empty file": (_empty, "empty"),
    "a picture": (_picture, "predict_image"),
    "a clip of one frame": (_one_frame, "predict_image"),
}


@pytest.mark.parametrize("kind", BAD_CLIPS)
def test_a_bad_clip_is_one_line_with_name_and_remedy_and_exit_code_2(
    kind: str, tmp_path: Path
) -> None:
    make, says = BAD_CLIPS[kind]
    clip, timeline = make(tmp_path), tmp_path / "rows.csv"
    done = occam("predict", clip, "--timeline", timeline)
    assert done.returncode == 2
    assert says in done.stderr
    assert str(clip) in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not timeline.exists()


def test_the_clip_itself_is_not_written_over(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    shutil.copy(demo_clip(), clip)
    done = occam("predict", clip, "--timeline", clip)
    assert done.returncode == 2
    assert "is the clip itself" in done.stderr
    assert clip.read_bytes() == demo_clip().read_bytes()


def test_a_name_that_looks_like_markup_is_shown_as_it_is(tmp_path: Path) -> None:
    clip = clips.write_clip(tmp_path / "[red]x.mp4", images=[np.full((96, 96, 3), 9, np.uint8)] * 3)
    assert "[red]x.mp4" in occam("predict", clip).stdout


def test_a_name_that_the_terminal_cannot_show_is_no_obstacle(tmp_path: Path) -> None:
    clip = clips.write_clip(tmp_path / "ünï.mp4", images=[np.full((96, 96, 3), 9, np.uint8)] * 3)
    done = subprocess.run(
        [sys.executable, "-m", "occam_sdk", "predict", str(clip)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
        timeout=300,
    )
    assert b"no_evidence" in done.stdout


def test_a_terminal_without_utf8_gets_plain_characters() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "occam_sdk", "demo"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
        timeout=300,
    )
    assert b"###" in done.stdout


def test_a_changed_byte_in_the_bundle_is_refused(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(DEFAULT_BUNDLE, bundle)
    content = bytearray((bundle / "expression.onnx").read_bytes())
    content[1000] ^= 1
    (bundle / "expression.onnx").write_bytes(content)
    done = occam("predict", demo_clip(), "--bundle", bundle)
    assert done.returncode == 2
    assert "expression.onnx" in done.stderr
    assert "fresh copy" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--device", "tpu"], "expected one of auto"),
        (["--timeline", "missing-folder/rows.csv"], "no such folder"),
        (["--timeline", "."], "is a folder"),
        (["--timeline", "/dev/null"], "no regular file"),
        (["--timeline", "/proc/rows.csv"], "cannot be written to"),
        (["--bundle", "missing-folder"], "manifest.json"),
        (["--frames", "3"], "No such option"),
    ],
)
def test_a_bad_option_is_refused_before_any_work(arguments: list[str], says: str) -> None:
    done = occam("predict", demo_clip(), *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_library_prints_nothing_and_loads_nothing_when_imported() -> None:
    code = (
        "import sys, occam_sdk; "
        "print([m for m in ('torch', 'openvino', 'opensmile', 'cv2', 'av', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
