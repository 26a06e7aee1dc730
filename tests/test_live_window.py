"""``occam live --window``: what is drawn, how it ends, and that the stream never waits for it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from occam_sdk import (
    BackendError,
    Face,
    FaceScores,
    FaceTrack,
    Frame,
    StreamUpdate,
    StreamView,
    demo_clip,
)
from occam_sdk._live_window import LiveWindow, Overlay
from occam_sdk.stream import Stream
from occam_sdk.video.watched import Watched

from .results import nothing, one_hot, result_of, seen
from .test_stream import Simple, shown

GREY = np.full((240, 320, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """A screen that nobody sees, where there is Xvfb; else the user's own."""
    pytest.importorskip("tkinter", reason="this Python has no tkinter", exc_type=ImportError)
    if shutil.which("Xvfb") is None:
        if "DISPLAY" not in os.environ:
            pytest.skip("neither a display nor Xvfb")
        yield os.environ["DISPLAY"]
        return
    reads, writes = os.pipe()
    command = ["Xvfb", "-displayfd", str(writes), "-screen", "0", "1600x900x24"]
    with subprocess.Popen(command, pass_fds=[writes], stderr=subprocess.DEVNULL) as server:
        os.close(writes)
        with os.fdopen(reads) as told:
            yield f":{told.readline().strip()}"
        server.terminate()


@pytest.fixture
def window(display: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveWindow]:
    monkeypatch.setenv("DISPLAY", display)
    made = LiveWindow("a test")
    yield made
    made.close()


def start(display: str, *arguments: str) -> subprocess.Popen[str]:
    """``occam live``; it hears Ctrl-C however the tests were started."""
    return subprocess.Popen(
        [
            "env", "--default-signal=INT",
            sys.executable, "-m", "occam_sdk", "live", str(demo_clip()), "--threads", "1", *arguments,
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"DISPLAY": display},
    )  # fmt: skip


def pushed(on_update: Callable[[StreamUpdate], None] | None = None) -> Stream:
    watch = partial(Watched, 16)
    return Stream(Simple(), None, window_s=3.0, hop_s=0.1, watch=watch, on_update=on_update)


# What is drawn


def happy() -> StreamUpdate:
    """About a face of track 0."""
    result = result_of([0.0, 0.5], ["Happy", "Happy"])
    track = FaceTrack(0, result.face, result.timeline)
    return StreamUpdate(1.0, dataclasses.replace(result, tracks=(track,)))


def view(*faces: FaceScores, image: Any = GREY) -> StreamView:
    return StreamView(Frame(0, 0.0, image), faces)


def test_before_the_first_update_it_is_the_picture_alone() -> None:
    drawn = Overlay().draw(view(), None)
    assert drawn.shape == (600, 800, 3), "small pictures are enlarged, to be read"
    assert (drawn == 128).all()


def test_an_update_is_drawn_with_the_newest_box() -> None:
    overlay = Overlay()
    update = happy()
    at = np.array([100, 60, 200, 180], np.float32)
    moved = FaceScores(Face(at, np.zeros((5, 2), np.float32), 0.9, 0), one_hot("Sad"), 0, 0)
    plain, boxed = overlay.draw(view(), update), overlay.draw(view(moved), update)
    assert (plain != 128).any(), "the bars"
    changed = (plain != boxed).any(axis=2)
    assert changed[300, 250 - 4 : 250 + 4].any(), "2.5 times as large, at the left"
    assert changed[300, 500 - 4 : 500 + 4].any()
    assert not changed[160:440, 260:490].any(), "not what is in the box"
    assert (GREY == 128).all(), "the stream's own picture is as it was"


def test_faces_that_nothing_is_said_of_have_no_box() -> None:
    overlay, update = Overlay(), happy()
    other = seen("Sad", track_id=7)
    np.testing.assert_array_equal(overlay.draw(view(other), update), overlay.draw(view(), update))


@pytest.mark.parametrize("size", [(48, 64), (240, 320), (1080, 1920), (900, 300), (1, 1)])
def test_without_a_face_any_picture_can_be_shown(size: tuple[int, int]) -> None:
    drawn = Overlay().draw(view(image=np.zeros((*size, 3), np.uint8)), StreamUpdate(1, nothing()))
    height, width = drawn.shape[:2]
    assert height <= 720
    assert width <= 1280
    assert height / width == pytest.approx(size[0] / size[1], rel=0.01)


def test_a_camera_may_change_its_resolution() -> None:
    overlay, update = Overlay(), happy()
    for size in ((240, 320), (120, 320), (720, 1280)):
        overlay.draw(view(seen("Happy"), image=np.zeros((*size, 3), np.uint8)), update)


# The window itself


def run_until(window: LiveWindow, act: Callable[[], None]) -> float:
    """Show a stream, and ``act`` once its picture is there; the seconds from then to the end."""
    acted_s = []

    class Acting(Stream):
        def wait(self, timeout_s: float | None = None) -> bool:
            if window._picture.width() == 800 and not acted_s and self.view() is not None:
                window._root.update()
                acted_s.append(time.monotonic())
                act()
            return super().wait(timeout_s)

    watch = partial(Watched, 16)
    with Acting(Simple(), None, window_s=3.0, hop_s=0.1, watch=watch, on_update=None) as stream:
        stream.push_frame(GREY, 0.0)
        window.show(stream)
    return time.monotonic() - acted_s[0]


@pytest.mark.parametrize("key", ["<Key-q>", "<Escape>"])
def test_a_key_ends_it_within_a_second(window: LiveWindow, key: str) -> None:
    def press() -> None:
        window._root.focus_force()
        window._root.update()
        window._root.event_generate(key)

    assert run_until(window, press) < 1


def test_its_cross_ends_it_within_a_second(window: LiveWindow) -> None:
    cross = window._root.protocol("WM_DELETE_WINDOW")
    assert run_until(window, lambda: window._root.tk.call(cross)) < 1


def test_the_stream_goes_on_while_the_window_is_not_looked_after(window: LiveWindow) -> None:
    told: list[StreamUpdate] = []

    def tell(update: StreamUpdate) -> None:
        told.append(update)
        window.tell(update, f"{len(told)} updates")

    with pushed(tell) as stream:
        for number in range(60):
            stream.push_frame(shown(number % 7), number / 25)
            time.sleep(0.002)
        stream.end()
        assert stream.wait(10)
        assert len(told) > 10
        window.show(stream)
    assert stream.view() is not None


def test_the_newest_picture_is_shown(window: LiveWindow) -> None:
    with pushed() as stream:
        for number in range(5):
            stream.push_frame(np.full((450, 800, 3), 40 * number, np.uint8), number / 25)
        run = stream.wait

        def few(timeout_s: float | None = None, left: list[int] = [5]) -> bool:  # noqa: B006
            left[0] -= 1
            return left[0] < 0 or run(timeout_s)

        stream.wait = few  # type: ignore[method-assign]
        window.show(stream)
    assert window._picture.get(400, 100) == (160, 160, 160)


# The command


def test_a_film_is_played_at_its_own_pace_and_json_goes_on_beside_it(display: str) -> None:
    began_s = time.monotonic()
    with start(display, "--window", "--json", "--hop-s", "1") as live:
        out, err = live.communicate(timeout=60)
    assert (live.returncode, err) == (0, "")
    updates = [json.loads(line) for line in out.splitlines()]
    assert {update["label"] for update in updates} == {"Happy"}
    assert time.monotonic() - began_s > 3, "it lasts three seconds"


def test_ctrl_c_ends_it_within_a_second(display: str) -> None:
    with start(display, "--window", "--json") as live:
        assert live.stdout is not None
        live.stdout.readline()
        began_s = time.monotonic()
        live.send_signal(signal.SIGINT)
        live.wait(10)
        assert time.monotonic() - began_s < 1.5, "Python itself takes a while to end"
        assert live.stderr is not None
        assert (live.returncode, live.stderr.read()) == (0, "")


def test_without_a_display_it_is_one_line() -> None:
    pytest.importorskip("tkinter", reason="this Python has no tkinter", exc_type=ImportError)
    with start("", "--window") as live:
        _, err = live.communicate(timeout=60)
    assert live.returncode == 2
    assert err.count("\n") == 1
    assert "a window needs a display" in err


def test_without_tkinter_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tkinter", None)
    with pytest.raises(BackendError, match="sudo apt install python3-tk"):
        LiveWindow("a test")


def test_without_the_option_no_window_is_needed(tmp_path: Path) -> None:
    (tmp_path / "tkinter.py").write_text("raise ImportError('no tkinter')")
    done = subprocess.run(
        [sys.executable, "-m", "occam_sdk", "live", str(demo_clip()), "--threads", "1", "--json"],
        capture_output=True, text=True, check=False, timeout=60,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
