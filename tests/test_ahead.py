"""Working ahead in a thread: the same items, bounded, and nothing is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from occam_sdk import Face, Frame, MediaError, Recognizer, demo_clip
from occam_sdk import recognizer as recognizers
from occam_sdk.ahead import ahead
from occam_sdk.video.decode import VideoFile

pytestmark = pytest.mark.usefixtures("two_cores")


def ahead_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "occam-ahead"]


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    yield
    assert ahead_threads() == []


# The helper


@pytest.mark.parametrize("most", [1, 2, 100])
def test_the_items_come_out_in_order_whatever_may_wait(most: int) -> None:
    with ahead(range(50), most) as items:
        assert list(items) == list(range(50))
        assert list(items) == []


def test_no_more_are_made_than_may_wait_and_one() -> None:
    made: list[int] = []
    four = threading.Event()

    def items() -> Iterator[int]:
        for number in count():
            made.append(number)
            if number == 3:
                four.set()
            yield number

    with ahead(items(), most=3) as numbers:
        assert four.wait(10)
        assert not threading.Event().wait(0.05)
        assert made == [0, 1, 2, 3]
        assert next(numbers) == 0


def test_they_are_made_in_another_thread_and_closed_there() -> None:
    who: list[threading.Thread] = []

    def items() -> Iterator[int]:
        try:
            who.append(threading.current_thread())
            yield from count()
        finally:
            who.append(threading.current_thread())

    with ahead(items(), most=1) as numbers:
        next(numbers)
    assert who[0] is who[1]
    assert who[0] is not threading.current_thread()


@pytest.mark.parametrize("error", [MediaError("a"), KeyboardInterrupt()])
def test_an_error_comes_where_the_next_item_was_asked_for(error: BaseException) -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise error

    with ahead(items(), most=9) as numbers:
        assert [next(numbers), next(numbers)] == [1, 2]
        with pytest.raises(type(error)) as raised:
            next(numbers)
    assert raised.value is error


def test_an_error_passes_through_one_thread_after_another() -> None:
    error = MediaError("the disk is gone")

    def items() -> Iterator[int]:
        yield 1
        raise error

    with (
        ahead(items(), 2) as one,
        ahead((2 * n for n in one), 2) as two,
        pytest.raises(MediaError) as got,
    ):
        list(two)
    assert got.value is error


@pytest.mark.parametrize("taken", [0, 1, 20])
def test_a_loop_that_is_left_early_ends_the_threads(taken: int) -> None:
    with ahead(count(), 2) as one, ahead((2 * n for n in one), 2) as two:
        for _ in range(taken):
            next(two)
        assert len(ahead_threads()) == 2
    assert ahead_threads() == []


def test_where_none_may_wait_each_is_made_when_it_is_asked_for() -> None:
    who: list[threading.Thread] = []

    def items() -> Iterator[int]:
        try:
            for number in count():
                who.append(threading.current_thread())
                yield number
        finally:
            who.clear()

    with ahead(items(), most=0) as numbers:
        assert [next(numbers), next(numbers)] == [0, 1]
        assert who == [threading.current_thread()] * 2
    assert who == []


# A file through the recognizer


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    with Recognizer(threads=2) as made:
        yield made


def test_a_file_is_judged_bit_for_bit_as_its_frames_are_one_after_the_other(
    recognizer: Recognizer,
) -> None:
    from occam_sdk.audio.decode import AudioFile

    in_threads = recognizer.predict(demo_clip()).to_dict()
    (sound,) = AudioFile(demo_clip())
    in_turn = recognizer.predict(VideoFile(demo_clip()), sound).to_dict()
    for result in (in_threads, in_turn):
        del result["duration_s"]  # a file's last frame stands until it ends
    assert in_threads == in_turn


@pytest.mark.parametrize(("threads", "cores"), [(1, 2), (None, 1)])
def test_with_one_thread_or_one_core_all_is_done_in_turn(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, threads: int | None, cores: int
) -> None:
    monkeypatch.setattr(recognizers, "usable_cores", lambda: cores)

    seen: list[str] = []
    with Recognizer(threads=threads) as made:
        result = made.predict(demo_clip(), progress=lambda _: seen.extend(ahead_threads()))
    assert (result.label, seen) == ("Happy", [])


class Failing:
    """A detector that fails at the ``at``-th look."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.looks, self._at, self._error = 0, at, error

    def detect(self, image: np.ndarray) -> tuple[Face, ...]:
        self.looks += 1
        if self.looks == self._at:
            raise self._error
        return ()


def test_what_a_detector_raises_reaches_the_caller_as_it_is() -> None:
    error = OSError("the accelerator is gone")
    with Recognizer(detector=Failing(5, error), threads=2) as made:
        with pytest.raises(OSError, match="the accelerator is gone") as raised:
            made.predict(demo_clip())
        assert raised.value is error
        assert ahead_threads() == []
        assert made.predict(demo_clip()).status == "no_face"


def test_what_decoding_raises_reaches_the_caller_as_it_is(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = MemoryError("a picture too many")

    class Broken(VideoFile):
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                if frame.index == 30:
                    raise error
                yield frame

    monkeypatch.setattr(recognizers, "VideoFile", Broken)
    with pytest.raises(MemoryError) as raised:
        recognizer.predict(demo_clip())
    assert raised.value is error


def test_what_the_caller_raises_on_the_way_ends_the_threads(recognizer: Recognizer) -> None:
    def stop(time_s: float) -> None:
        assert len(ahead_threads()) == 3
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recognizer.predict(demo_clip(), progress=stop)
    assert ahead_threads() == []
    assert recognizer.predict(demo_clip()).label == "Happy"


def test_a_picture_may_be_judged_while_the_next_of_a_file_is_looked_at(
    recognizer: Recognizer,
) -> None:
    wanted = recognizer.predict(demo_clip()).to_json()
    image = next(iter(VideoFile(demo_clip()))).image
    seen: list[int] = []
    result = recognizer.predict(
        demo_clip(), progress=lambda _: seen.append(len(recognizer.predict_image(image)))
    )
    assert seen == [1] * 75
    assert result.to_json() == wanted


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_ctrl_c_ends_a_long_file_at_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import itertools, signal, threading\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from occam_sdk import Recognizer, demo_clip, recognizer\n"
        "from occam_sdk.video.decode import VideoFile\n"
        "class Endless(VideoFile):\n"
        "    def __iter__(self):\n"
        "        (frame,) = itertools.islice(super().__iter__(), 1)\n"
        "        for number in itertools.count():\n"
        "            yield type(frame)(number, number / 25, frame.image)\n"
        "recognizer.VideoFile, recognizer.usable_cores = Endless, lambda: 2\n"
        "told = []\n"
        "def ours():\n"
        "    return sum(thread.name == 'occam-ahead' for thread in threading.enumerate())\n"
        "def tell(time_s):\n"
        "    if not told:\n"
        "        told.append(ours())\n"
        "        print('running', flush=True)\n"
        "with Recognizer(threads=2) as made:\n"
        "    try:\n"
        "        made.predict(demo_clip(), progress=tell)\n"
        "    except KeyboardInterrupt:\n"
        "        print(told[0], ours(), flush=True)\n"
    )
    running = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stdout.readline() == "running\n"
    running.send_signal(signal.SIGINT)
    rest, _ = running.communicate(timeout=30)
    assert rest == "3 0\n"
    assert running.returncode == 0
