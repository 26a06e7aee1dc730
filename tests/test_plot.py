"""``occam plot``: one picture of a result."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
from occam_sdk import BackendError, ClipResult, Recognizer, demo_clip
from occam_sdk.labels import COLOURS, LABELS
from occam_sdk.plot import plot
from occam_sdk.stills import stills
from occam_sdk.stretches import courses

from . import clips
from .results import nothing, of_several, result_of
from .test_cli import occam

SIZE = (1260, 2100, 3)


def share_of(image: np.ndarray, label: str) -> float:
    """Of the pixels, those of a class's colour."""
    red, green, blue = bytes.fromhex(COLOURS[LABELS.index(label)][1:])
    return float((np.abs(image.astype(int) - (blue, green, red)).max(axis=2) < 3).mean())


def test_the_demo_is_plotted(tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    done = occam("plot", demo_clip(), target)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["Happy, status ok", f"{target}: written"]
    image = cv2.imread(str(target))
    assert image is not None
    assert image.shape == SIZE
    assert share_of(image, "Happy") > 0.01 > share_of(image, "Fear")
    assert list(tmp_path.iterdir()) == [target]


def test_the_selected_frames_are_those_that_were_judged_by() -> None:
    with Recognizer() as recognizer:
        result = recognizer.predict(demo_clip())
    assert result.face is not None
    (shown,) = stills(demo_clip(), courses(result), 64)
    assert tuple(still.time_s for still in shown) == result.face.evidence_s
    assert all(still.image.shape == (64, 64, 3) and still.image.std() > 20 for still in shown)


def test_each_of_several_faces_has_a_band(tmp_path: Path) -> None:
    images = [np.full((240, 320, 3), 90, np.uint8)] * 3
    clip = clips.write_clip(tmp_path / "clip.avi", images=images, codec="mjpeg", pix_fmt="yuvj420p")
    labels = {4: ["Sad"] * 3, 1: ["Happy"] * 3, 0: [None] * 3}
    plot(clip, of_several([0, 0.04, 0.08], labels), tmp_path / "out.png")
    image = cv2.imread(str(tmp_path / "out.png"))
    assert image is not None
    assert image.shape == SIZE
    assert share_of(image, "Sad") > 0.015
    assert share_of(image, "Happy") > 0.015 > share_of(image, "Fear")


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("no face.avi", nothing()),
        ("日本語 $x_1$ <b>.avi", result_of([0, 0.04, 0.08], ["Sad", None, "Happy"])),
        ("one.avi", result_of([0], ["Sad"], duration_s=0.0)),
        ("long.avi", result_of([0, 0.04, 4000], ["Fear", "Fear", "Sad"])),
        ("sound.avi", result_of([], [], face=None, duration_s=3.0)),
    ],
    ids=["no face", "any name", "one frame", "long", "sound alone"],
)
def test_whatever_the_result_there_is_a_picture(
    name: str, result: ClipResult, tmp_path: Path
) -> None:
    images = [np.full((240, 320, 3), 90, np.uint8)] * 3
    clip = clips.write_clip(tmp_path / name, images=images, codec="mjpeg", pix_fmt="yuvj420p")
    plot(clip, result, tmp_path / "out.png")
    image = cv2.imread(str(tmp_path / "out.png"))
    assert image is not None
    assert image.shape == SIZE


def test_without_matplotlib_the_error_is_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BackendError, match=r'pip install "occam-sdk\[plot\]"'):
        plot(demo_clip(), nothing(), tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    done = occam("plot", demo_clip(), tmp_path / "out.jpg")
    assert done.returncode == 2
    assert "expected a name that ends with .png" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
