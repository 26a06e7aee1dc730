"""The progress bar of a long clip: on a terminal, and nowhere else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from . import clips

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")

PICTURES = [clips.numbered(index, (96, 96)) for index in range(100)]
TIME_LEFT = re.compile(r"0:00:\d\d of 0:00:(?:19|20), left \d:\d\d:\d\d")
COLOUR = re.compile(r"\x1b\[\d*m")


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 s."""
    path = tmp_path_factory.mktemp("clips") / "long.mp4"
    return clips.write_clip(path, images=PICTURES, times_s=clips.regular(100, 5))


@pytest.fixture(scope="module")
def clip_of_unknown_length(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As it comes from a recorder that was never stopped: nobody has written its length."""
    path = tmp_path_factory.mktemp("clips") / "live.mkv"
    return clips.write_clip(
        path, images=PICTURES, times_s=clips.regular(100, 5), muxer={"live": "1"}
    )


def on_a_terminal(*arguments: object, stdout_too: bool = False) -> tuple[str, str]:
    """What comes out of stdout, and of the terminal that is stderr."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "occam_sdk", "predict", *map(str, arguments), "--threads", "2"],
        stdout=theirs if stdout_too else subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # so a terminal on Linux ends
        pass
    finally:
        os.close(ours)
    printed = running.communicate(timeout=120)[0] or b""
    assert running.returncode == 0, shown
    return printed.decode(), COLOUR.sub("", shown.decode())


@pytest.mark.parametrize("arguments", [(), ("--segment", "5")])
def test_a_terminal_shows_how_much_time_is_left_and_stdout_none_of_it(
    long_clip: Path, arguments: tuple[str, ...]
) -> None:
    printed, shown = on_a_terminal(long_clip, "--json", *arguments)
    assert TIME_LEFT.search(shown)
    assert "long.mp4" in shown
    assert "\x1b" not in printed
    told = printed.splitlines() if arguments else [printed]
    assert [json.loads(text)["status"] for text in told] == ["no_evidence"] * len(told)
    assert len(told) == (4 if arguments else 1)
    assert '"status"' not in shown


def test_rows_on_the_same_terminal_stand_above_the_bar(long_clip: Path) -> None:
    _, shown = on_a_terminal(long_clip, "--segment", "5", stdout_too=True)
    rows = re.findall(r"0:00:(\d\d)\.0  -[ ]+no_evidence", shown)
    assert rows == ["05", "10", "15", "20"]


def test_of_a_clip_of_unknown_length_the_place_is_shown(clip_of_unknown_length: Path) -> None:
    printed, shown = on_a_terminal(clip_of_unknown_length, "--json")
    assert json.loads(printed)["status"] == "no_evidence"
    assert re.search(r"0:00:1\d", shown)
    assert "left" not in shown


def test_where_stderr_is_no_terminal_there_is_no_bar(long_clip: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "occam_sdk", "predict", str(long_clip), "--segment", "5"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 5


def test_a_short_clip_has_no_bar(tmp_path: Path) -> None:
    images = [np.full((96, 96, 3), 9, np.uint8)] * 5
    _, shown = on_a_terminal(clips.write_clip(tmp_path / "short.mp4", images=images), "--json")
    assert shown == ""
