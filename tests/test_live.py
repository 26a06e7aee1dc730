"""``occam live``: what a stream says, in the terminal or as JSON lines."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
from rich.console import Console

from occam_sdk import Recognizer, StreamUpdate, demo_clip
from occam_sdk._live_command import _device, dashboard

from .results import nothing


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "occam_sdk", "live", *arguments],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def drawn(update: StreamUpdate, encoding: str = "utf-8") -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(dashboard(update, "camera 0", encoding))
    return console.export_text()


def test_every_update_is_a_line_of_json() -> None:
    done = run(str(demo_clip()), "--json", "--hop-s", "1", "--threads", "1")
    assert (done.returncode, done.stderr) == (0, "")
    updates = [json.loads(line) for line in done.stdout.splitlines()]
    assert [update["label"] for update in updates] == ["Happy"] * 3
    assert updates[-1]["status"] == "ok"
    assert all(update["dropped"] == 0 for update in updates)


def test_without_json_the_last_update_stays_on_the_screen() -> None:
    done = run(str(demo_clip()), "--threads", "1")
    assert done.returncode == 0
    assert "Happy" in done.stdout
    assert "0 dropped" in done.stdout


def test_a_source_that_is_not_there_is_one_line() -> None:
    for source, message in (("nowhere.mp4", "no such file"), ("73", "camera 73: cannot be opened")):
        done = run(source)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_a_hop_longer_than_the_window_is_refused() -> None:
    done = run(str(demo_clip()), "--hop-s", "5")
    assert done.returncode == 2
    assert "hop_s: expected at most the window's 3.0 s" in done.stderr


def test_the_screen_says_who_is_missing_and_for_how_long() -> None:
    with Recognizer(threads=1) as recognizer:
        (*_, seen) = recognizer.stream(demo_clip())
        with recognizer.stream() as empty:
            empty.push_audio(np.zeros(16_000, np.float32), 0.0)
            empty.end()
            (silent,) = empty
    assert "Happy   camera 0" in drawn(seen)
    assert "█" in drawn(seen)
    assert "#" in drawn(seen, "ascii")
    gone = StreamUpdate(4.0, silent.result, gap_s=2.5)
    assert "nobody   camera 0" in drawn(gone)
    assert "away for 2.5 s" in drawn(gone)
    assert "no pictures" in drawn(gone)


def test_the_screen_says_that_sound_was_lost() -> None:
    assert "sound was lost 2 times" in drawn(StreamUpdate(4.0, nothing(), overflows=2))


def test_a_microphone_beside_a_film_is_refused_in_one_line() -> None:
    done = run(str(demo_clip()), "--microphone", "default")
    assert done.returncode == 2
    assert "brings its own sound; leave out the microphone" in done.stderr
    assert done.stderr.count("\n") == 1


def test_microphones_are_named_as_they_are_listed() -> None:
    assert [_device(name) for name in (None, "default", "2", "USB")] == [None, True, 2, "USB"]
