"""The command ``occam``, run as a user runs it."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from occam_sdk import LABELS, __version__, demo_clip
from occam_sdk.bundle import DEFAULT_BUNDLE, load_bundle
from occam_sdk.machine import has_module

from . import clips
from .bundles import drop_field, drop_file, put_file, with_more

NETWORKS = load_bundle().networks


def occam(
    *arguments: object, env: Mapping[str, object] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "occam_sdk", *map(str, arguments)]
    more = {name: str(value) for name, value in (env or {}).items()}
    return subprocess.run(
        command,
        env={**os.environ, "COLUMNS": "160", **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


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
    assert re.search(r", CPU, .*\d+ layers in (int8|fp32)", rows["expression_network"])
    assert "instead" not in rows
    assert done.stderr == ""
    assert {"model", "bundle", "python", "numpy", "opencv", "pyav"} <= rows.keys()
    assert rows["model"] in occam("info").stdout


def test_version() -> None:
    assert occam("--version").stdout.strip() == f"occam-sdk {__version__}"


COMMANDS = (
    "predict", "demo", "batch", "live", "annotate", "plot", "report", "info", "compile", "prefetch",
    "verify", "doctor",
)  # fmt: skip


def test_help_names_every_command() -> None:
    done = occam("--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does(command: str) -> None:
    done = occam(command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout
    if command in ("predict", "batch", "info", "compile", "verify"):
        words = " ".join(re.findall(r"[\w:-]+", done.stdout))
        assert "auto openvino onnxruntime onnxruntime-tensorrt or tensorrt" in words
        assert "auto cpu cuda cuda:1 intel:gpu intel:npu or intel:auto" in words
        assert "auto int8 fp32 bf16 or fp16" in words


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
        (["--device", "tpu"], "device: expected one of auto, cpu, cuda, intel:gpu"),
        (["--backend", "tensorflow"], "backend: expected one of auto, openvino, onnxruntime"),
        (["--precision", "f32"], "precision: expected one of auto, int8, fp32, bf16, fp16"),
        (["--threads", "0"], "threads: expected one at least"),
        (["--timeline", "missing-folder/rows.csv"], "no such folder"),
        (["--timeline", "."], "is a folder"),
        (["--timeline", "/dev/null"], "no regular file"),
        (["--timeline", "/proc/rows.csv"], "cannot be written to"),
        (["--bundle", "missing-folder"], "manifest.json"),
        (["--min-face-px", "0"], "min_face_px: expected a positive number of pixels, got 0"),
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


# What runs


@pytest.fixture
def grey_clip(tmp_path: Path) -> Path:
    return clips.write_clip(tmp_path / "grey.mp4", images=[np.full((96, 96, 3), 9, np.uint8)] * 3)


def test_a_device_that_is_not_there_is_one_line_on_stderr_and_an_answer(grey_clip: Path) -> None:
    done = occam("predict", grey_clip, "--device", "cuda:7", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "no_evidence"
    (line,) = done.stderr.splitlines()
    assert line == (
        "occam: device 'cuda:7' is not available on this machine; openvino runs on the CPU instead"
    )


def test_info_says_what_runs_instead() -> None:
    done = occam("info", "--json", "--device", "cuda:7")
    assert "device 'cuda:7' is not available" in json.loads(done.stdout)["instead"]


FP16 = ("--precision", "fp16", "--backend", "onnxruntime", "--device", "cpu")


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("predict", FP16, "fp16 was asked for, onnxruntime"),
        ("info", ("--device", "cuda:7"), "device 'cuda:7' is not available"),
        ("compile", FP16, "fp16 was asked for, onnxruntime"),
    ],
)
def test_strict_refuses_what_cannot_be_had(
    grey_clip: Path, command: str, arguments: tuple[str, ...], says: str
) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'onnxruntime' is not installed")
    clip = [grey_clip] if command == "predict" else []
    done = occam(command, *clip, "--strict", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "(refused: strict)" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_runtime_that_is_not_installed_is_named_with_the_line_that_installs_it() -> None:
    if has_module("tensorrt"):
        pytest.skip("TensorRT is installed")
    done = occam("info", "--backend", "tensorrt")
    assert done.returncode == 2
    assert 'pip install "occam-sdk[tensorrt]"' in done.stderr
    assert "Traceback" not in done.stderr


# Engines


def test_compile_builds_engines_once_and_again_where_one_is_damaged(tmp_path: Path) -> None:
    env = {"OCCAM_CACHE_DIR": tmp_path / "engines"}
    first = occam("compile", env=env)
    assert first.returncode == 0, first.stderr
    lines = [line for line in first.stdout.splitlines() if line.startswith(NETWORKS)]
    paths = [Path(line.split(": ")[2]) for line in lines]
    assert [line.partition(":")[0] for line in lines] == list(NETWORKS)
    assert all(line.endswith("built, there was none") for line in lines)
    assert sorted(paths) == sorted((tmp_path / "engines").iterdir())

    second = occam("compile", env=env)
    lines = [line for line in second.stdout.splitlines() if line.startswith(NETWORKS)]
    assert [line.rpartition(": ")[2] for line in lines] == ["read"] * len(NETWORKS)

    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    third = occam("compile", env=env)
    ends = [line.partition(": ")[2] for line in third.stdout.splitlines()[1:]]
    assert [": read" in end for end in ends] == [True, False, True, True]
    assert "built, the last one cannot be read" in ends[1]
    assert "it was cut or changed" in ends[1]


def test_compile_where_nothing_can_be_written_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "engines").write_bytes(b"a file")
    done = occam("compile", env={"OCCAM_CACHE_DIR": tmp_path / "engines"})
    assert done.returncode == 2
    assert "set OCCAM_CACHE_DIR to a folder that can" in done.stderr
    assert "Traceback" not in done.stderr


def test_compile_says_where_a_runtime_keeps_no_engine(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'onnxruntime' is not installed")
    done = occam(
        "compile", "--backend", "onnxruntime", env={"OCCAM_CACHE_DIR": tmp_path / "engines"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("this runtime keeps no engine") == len(NETWORKS)
    assert not (tmp_path / "engines").exists()


def test_prefetch_leaves_a_machine_that_needs_no_network(tmp_path: Path) -> None:
    env = {"OCCAM_CACHE_DIR": tmp_path / "engines"}
    done = occam("prefetch", env=env)
    assert done.returncode == 0, done.stderr
    assert "every file is as the manifest says" in done.stdout
    assert "demo clip: Happy" in done.stdout
    assert done.stdout.splitlines()[-1] == "ready: nothing more is needed from a network"
    assert len(list((tmp_path / "engines").iterdir())) == len(NETWORKS)


# Verifying

FLOAT32_HERE = ("verify", "--backend", "openvino", "--device", "cpu", "--precision", "fp32")


def tampered(folder: Path) -> Path:
    """A bundle whose voice network says more, with the hash made right."""
    bundle = Path(shutil.copytree(DEFAULT_BUNDLE, folder / "bundle"))
    content = (bundle / "voice.onnx").read_bytes()
    pytest.importorskip("onnx", reason="the extra 'test' is not installed")
    put_file(bundle, "voice.onnx", with_more(content, "emotion", np.array([0.75], np.float32)))
    return bundle


def test_verify_prints_json_and_nothing_else_on_stdout() -> None:
    done = occam(*FLOAT32_HERE, "--json")
    assert done.returncode == 0, done.stderr
    checks = json.loads(done.stdout, parse_constant=pytest.fail)
    assert [check["network"] for check in checks] == list(NETWORKS)
    assert all(check["passed"] and check["count"] and not check["failure"] for check in checks)
    assert {check["info"]["precision"] for check in checks} == {"fp32"}


def test_verify_of_a_tampered_bundle_ends_with_1_and_says_which_network_and_by_how_much(
    tmp_path: Path,
) -> None:
    done = occam(
        "verify", "--backend", "openvino", "--device", "cuda:7", "--precision", "fp32",
        "--bundle", tampered(tmp_path),
    )  # fmt: skip
    assert done.returncode == 1
    table, says, note = done.stdout.splitlines()[:5], *done.stdout.splitlines()[5:]
    rows = [line.split() for line in table[1:]]
    assert [row[0] for row in rows] == list(NETWORKS)
    assert [row[-1] for row in rows] == ["right", "right", "failed", "right"]
    assert says.startswith(
        "voice on openvino, cuda:7, fp32: differs by 0.75 from where the bundle was made"
    )
    assert note == (
        "note: device 'cuda:7' is not available on this machine; openvino runs on the CPU instead"
    )


def test_verify_with_nothing_to_verify_is_no_success(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle"))
    drop_field(bundle, "int8")
    done = occam("verify", "--precision", "int8", "--bundle", bundle)
    assert done.returncode == 2
    assert "has no INT8 form" in done.stderr


def test_verify_without_samples_names_the_remedy(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle"))
    drop_file(bundle, "samples.npz")
    done = occam("verify", "--bundle", bundle)
    assert done.returncode == 2
    assert "python -m export.int8" in done.stderr


# The doctor


def test_the_doctor_looks_at_this_machine_and_its_exit_code_says_what_it_found() -> None:
    done = occam("doctor", "--json")
    findings = json.loads(done.stdout)
    problems = [finding for finding in findings if finding["state"] == "problem"]
    assert done.returncode == (1 if problems else 0), done.stderr
    assert {finding["state"] for finding in findings} <= {"ok", "note", "problem"}
    assert all(problem["remedy"] for problem in problems)


def test_the_doctor_finds_a_damaged_bundle(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle"))
    (bundle / "voice.onnx").write_bytes(b"damaged")
    done = occam("doctor", "--bundle", bundle)
    assert done.returncode == 1
    assert "voice.onnx" in done.stdout
    assert "To mend" in done.stdout
    assert "problem" in done.stdout.splitlines()[-1]


def test_a_cache_that_cannot_be_written_to_is_a_message(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    done = subprocess.run(
        [sys.executable, "-m", "occam_sdk", "compile"],
        env=os.environ | {"OCCAM_CACHE_DIR": str(in_the_way)},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2
    assert "set OCCAM_CACHE_DIR to a folder" in done.stderr
    assert "cannot load the model" not in done.stderr
