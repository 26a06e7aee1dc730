"""Streams: windows, drops, gaps and ends; sources that misbehave are made here."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from occam_sdk import (
    LABELS,
    ClipResult,
    Face,
    FaceScores,
    Frame,
    MediaError,
    ModalityScores,
    Recognizer,
    StreamUpdate,
    Waveform,
    demo_clip,
    sources,
)
from occam_sdk.audio.decode import AudioFile
from occam_sdk.microphone import Microphone
from occam_sdk.sources import Camera, Clock, Lost, again, open_source
from occam_sdk.stream import MAX_WAITING, Stream
from occam_sdk.types import FusionWeights
from occam_sdk.video.decode import VideoFile
from occam_sdk.video.watched import Watched
from occam_sdk.window import Scored

Image = NDArray[np.uint8]
BLACK = np.zeros((60, 80, 3), np.uint8)
RATE_HZ = 25
SECOND = np.zeros(16_000, np.float32)


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    with Recognizer(threads=1) as made:
        yield made


class Simple:
    """Judges by no network: a face in every picture that is not black. Waits until it may.

    Attributes:
        may: clear it to have every picture wait.
        heard: seconds of each window's sound.
    """

    def __init__(self) -> None:
        self.may = threading.Event()
        self.may.set()
        self.looking = threading.Event()
        self.heard: list[float] = []

    def detect(self, image: Image) -> tuple[Face, ...]:
        self.looking.set()
        self.may.wait(10)
        box = np.array([10, 10, 40, 40], np.float32)
        return (Face(box, np.zeros((5, 2), np.float32), 0.9),) if image.any() else ()

    def score(self, image: Image, faces: tuple[Face, ...]) -> list[Scored]:
        scores = np.eye(7, dtype=np.float32)[int(image[0, 0, 0]) % 7]
        return [(FaceScores(face, scores, 0, 0), np.zeros(512, np.float32)) for face in faces]

    def hear(self, waveform: Waveform) -> tuple[ModalityScores | None, str]:
        self.heard.append(waveform.duration_s)
        return None, "nobody listens"

    def conclude(
        self, watched: Watched, voice: ModalityScores | None, notes: tuple[str, ...]
    ) -> ClipResult:
        timeline, scored = watched.main_track()
        scores = None if scored is None else scored.scores[-1]
        return ClipResult(
            scores, None, None, "no_voice" if scored else "no_evidence", None, None,
            FusionWeights(0, 0), timeline, watched.span_s, notes=notes,
        )  # fmt: skip


def stream(
    judge: Simple,
    source: sources.Source | None = None,
    *,
    microphone: Microphone | None = None,
    **asked: float,
) -> Stream:
    timing = {"window_s": 3.0, "hop_s": 0.5} | asked
    watch = partial(Watched, 16)
    return Stream(judge, source, watch=watch, on_update=None, microphone=microphone, **timing)


def shown(number: int) -> Image:
    """A picture with a face of class ``number``."""
    return np.full((60, 80, 3), 7 + number, np.uint8)


# Windows


def test_the_last_window_of_a_file_is_judged_as_a_clip_of_it_is(recognizer: Recognizer) -> None:
    updates = list(recognizer.stream(demo_clip(), window_s=10))
    clip = recognizer.predict(demo_clip())
    last = updates[-1].result
    assert (last.status, last.label, len(last.timeline)) == (clip.status, clip.label, 75)
    assert last.face is not None
    assert clip.face is not None
    assert last.face.evidence_s == clip.face.evidence_s
    np.testing.assert_allclose(last.face.scores, clip.face.scores, atol=2e-3)
    np.testing.assert_allclose(last.scores, clip.scores, atol=2e-3)
    hops = np.diff([update.time_s for update in updates])
    assert hops[:-1] == pytest.approx(0.5, abs=1 / 25)


def test_pushed_pictures_and_sound_are_judged_as_the_file_they_come_from(
    recognizer: Recognizer,
) -> None:
    items = [
        *VideoFile(demo_clip()),
        *AudioFile(demo_clip()).chunks(),
    ]
    items.sort(key=lambda item: item.time_s if isinstance(item, Frame) else item.start_s)
    with recognizer.stream(window_s=10) as pushed:
        for item in items:
            if isinstance(item, Waveform):
                pushed.push_audio(item.samples, item.start_s)
                continue
            while pushed._inbox._frames >= MAX_WAITING - 1:  # as slowly as it is judged
                time.sleep(0.001)
            pushed.push_frame(item.image, item.time_s)
        pushed.end()
        last = list(pushed)[-1].result
    expected = list(recognizer.stream(demo_clip(), window_s=10))[-1].result
    assert last.status == "ok"
    np.testing.assert_allclose(last.scores, expected.scores, atol=2e-3)


def test_an_update_is_about_the_last_seconds_alone() -> None:
    with stream(Simple(), window_s=1.0) as pushed:
        for number in range(3 * RATE_HZ + 1):
            push_slowly(pushed, shown(number // RATE_HZ), number / RATE_HZ)
        pushed.end()
        updates = list(pushed)
    assert [update.time_s for update in updates] == pytest.approx(
        [0.52, 1.0, 1.52, 2.0, 2.52, 3.0], abs=1e-6
    )
    assert updates[-1].result.timeline[0].time_s == pytest.approx(2.04)
    assert [len(update.result.timeline) for update in updates] == [14, 25, 25, 25, 25, 25]
    assert updates[-1].label == LABELS[(7 + 2) % 7], "the first of a chunk of equals is picked"


def test_sound_alone_is_judged_a_little_later() -> None:
    judge = Simple()
    with stream(judge, window_s=2.0, hop_s=1.0) as pushed:
        for second in range(5):
            pushed.push_audio(SECOND, float(second))
        pushed.end()
        updates = list(pushed)
    assert [update.time_s for update in updates] == [1, 2, 3, 4, 5]
    assert judge.heard == [1, 2, 2, 2, 2]
    assert updates[0].result.notes == ("nobody listens",)


def test_sound_after_a_pause_is_not_joined_to_what_was_before() -> None:
    judge = Simple()
    with stream(judge, window_s=3.0, hop_s=3.0) as pushed:
        pushed.push_audio(SECOND, 0.0)
        pushed.push_audio(SECOND, 2.0)
        pushed.end()
        list(pushed)
    assert judge.heard == [1]


def test_a_stream_of_nothing_says_nothing() -> None:
    with stream(Simple()) as pushed:
        pushed.end()
        assert list(pushed) == []


# What comes too fast


def push_slowly(pushed: Stream, image: Image, time_s: float) -> None:
    """Once there is room: nothing is dropped."""
    while pushed._inbox._frames >= MAX_WAITING:
        time.sleep(0.001)
    pushed.push_frame(image, time_s)


def test_who_pushes_never_waits_and_the_oldest_pictures_are_dropped_and_counted() -> None:
    judge = Simple()
    with stream(judge, hop_s=3.0) as pushed:
        pushed.push_frame(shown(0), 0.0)
        assert judge.looking.wait(5)
        judge.may.clear()
        for number in range(1, 51):
            pushed.push_frame(shown(number), number / RATE_HZ)
        judge.may.set()
        pushed.end()
        (update,) = list(pushed)
    seen = [row.index for row in update.result.timeline]
    assert update.dropped == 51 - len(seen)
    assert seen[-MAX_WAITING:] == list(range(51 - MAX_WAITING, 51))
    assert len(seen) <= MAX_WAITING + 3


def test_a_file_is_waited_for_and_loses_nothing() -> None:
    judge = Simple()
    judge.may.clear()
    reading = stream(judge, open_source(demo_clip()), window_s=10)
    assert judge.looking.wait(5)
    judge.may.set()
    updates = list(reading)
    assert len(updates[-1].result.timeline) == 75
    assert not any(update.dropped for update in updates)


def test_of_a_long_recording_little_waits_in_memory() -> None:
    class Long:
        name, is_live, has_sound = "long", False, True
        given = 0

        def items(self, closed: threading.Event) -> Iterator[Frame | Waveform | Lost]:
            for self.given in range(1, 1001):
                yield Waveform(SECOND[:800], 0.05 * self.given)

    class Busy(Simple):
        def hear(self, waveform: Waveform) -> tuple[ModalityScores | None, str]:
            self.looking.set()
            self.may.wait(10)
            return super().hear(waveform)

    judge, source = Busy(), Long()
    judge.may.clear()
    with stream(judge, source) as reading:
        assert judge.looking.wait(5)
        time.sleep(0.2)
        assert source.given < 200, "of a thousand"
        judge.may.set()
        updates = list(reading)
    assert updates[-1].time_s == pytest.approx(50.05)


def test_what_is_pushed_is_copied() -> None:
    judge = Simple()
    image = shown(3)
    with stream(judge) as pushed:
        pushed.push_frame(shown(3), 0.0)
        assert judge.looking.wait(5)
        judge.may.clear()
        pushed.push_frame(image, 0.04)
        image[:] = 8
        judge.may.set()
        pushed.end()
        assert list(pushed)[-1].label == LABELS[10 % 7]


# Mistakes


def test_times_must_increase(recognizer: Recognizer) -> None:
    with recognizer.stream() as pushed:
        pushed.push_frame(BLACK, 1.0)
        with pytest.raises(
            ValueError, match=r"push_frame: times must strictly increase, got 1.0 s"
        ):
            pushed.push_frame(BLACK, 1.0)
        pushed.push_audio(SECOND, 0.0)
        with pytest.raises(ValueError, match=r"push_audio: times must strictly increase"):
            pushed.push_audio(SECOND, 0.0)
        with pytest.raises(TypeError, match=r"image: .* cv2.imread gives None"):
            pushed.push_frame(None, 2.0)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="image: expected"):
            pushed.push_frame(BLACK.astype(float), 2.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"window_s": 0}, "window_s: expected a positive"),
        ({"hop_s": float("nan")}, "hop_s: expected a positive"),
        ({"hop_s": 4}, "hop_s: expected at most the window's"),
    ],
)
def test_windows_and_hops_that_cannot_be_are_refused(
    recognizer: Recognizer, asked: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        recognizer.stream(**asked)


@pytest.mark.parametrize("source", [True, 1.5, b"clip.mp4"])
def test_what_is_no_source_is_refused(recognizer: Recognizer, source: object) -> None:
    with pytest.raises(TypeError, match="a camera's index, an address or a file"):
        recognizer.stream(source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.mp4", "no such file"),
        (73, "camera 73: cannot be opened"),
        ("http://127.0.0.1:9/clip.mp4", "cannot be opened .* plays in another program"),
    ],
)
def test_a_source_that_is_not_there_is_said_at_once(
    recognizer: Recognizer, source: int | str, message: str
) -> None:
    with pytest.raises(MediaError, match=message):
        recognizer.stream(source)


def test_a_stream_with_a_source_takes_no_pictures(recognizer: Recognizer) -> None:
    with recognizer.stream(demo_clip()) as reading:
        with pytest.raises(RuntimeError, match=r"push into recognizer.stream"):
            reading.push_frame(BLACK, 0.0)
        with pytest.raises(RuntimeError, match="brings its own sound"):
            reading.push_audio(SECOND, 0.0)


def test_what_goes_wrong_meanwhile_is_raised_where_one_waits() -> None:
    class Broken(Simple):
        def detect(self, image: Image) -> tuple[Face, ...]:
            raise ArithmeticError("broken")

    with stream(Broken()) as pushed:
        pushed.push_frame(BLACK, 0.0)
        with pytest.raises(ArithmeticError, match="broken"):
            list(pushed)
        with pytest.raises(ArithmeticError, match="broken"):
            pushed.wait()


# Ends


def test_another_thread_ends_it_within_a_second() -> None:
    judge = Simple()
    pushed = stream(judge)
    threading.Timer(0.2, pushed.close).start()
    started = time.monotonic()
    assert list(pushed) == []
    assert time.monotonic() - started < 5, "of a busy machine; the timer is at 0.2 s"
    with pytest.raises(RuntimeError, match="this stream is closed"):
        pushed.push_frame(BLACK, 0.0)
    pushed.close()


def test_closing_does_not_wait_for_a_picture_that_takes_long() -> None:
    judge = Simple()
    pushed = stream(judge)
    pushed.push_frame(shown(0), 0.0)
    assert judge.looking.wait(5)
    judge.may.clear()
    pushed.push_frame(shown(0), 0.04)
    pushed.push_frame(shown(0), 0.08)
    started = time.monotonic()
    pushed.close()
    assert time.monotonic() - started < 5
    judge.may.set()


def test_who_iterates_need_not_wait_for_a_picture_that_takes_long() -> None:
    judge = Simple()
    judge.may.clear()
    pushed = stream(judge)
    pushed.push_frame(shown(0), 0.0)
    assert judge.looking.wait(5)
    threading.Timer(0.2, pushed.close).start()
    started = time.monotonic()
    assert list(pushed) == []
    assert time.monotonic() - started < 5, "the picture would take ten seconds"
    judge.may.set()


def test_leaving_the_loop_closes_it(recognizer: Recognizer) -> None:
    reading = recognizer.stream(demo_clip(), hop_s=0.1)
    for _ in reading:
        break
    assert reading.wait(5)


def test_a_closed_recognizer_has_no_streams() -> None:
    made = Recognizer(threads=1)
    pushed = made.stream()
    made.close()
    pushed.push_frame(BLACK, 0.0)
    with pytest.raises(RuntimeError, match="this Recognizer is closed"):
        list(pushed)
    with pytest.raises(RuntimeError, match="this Recognizer is closed"):
        made.stream()


def test_updates_can_be_told_to_a_function(recognizer: Recognizer) -> None:
    told: list[StreamUpdate] = []
    reading = recognizer.stream(demo_clip(), on_update=told.append)
    assert reading.wait(60)
    assert [update.label for update in told] == ["Happy"] * len(told)
    assert len(told) == 6
    assert told[-1].to_dict()["label"] == "Happy"
    assert "timeline" in told[-1].to_dict(timeline=True)


# Sources that are gone and come back


class Plugged:
    """In place of ``cv2.VideoCapture``: ``plan`` says how many pictures each opening gives, -1: it fails."""

    def __init__(self, plan: list[int]) -> None:
        self._plan = plan
        self._left = 0
        self.released = 0

    def __call__(self, index: int) -> Plugged:
        self._left = self._plan.pop(0) if self._plan else -1
        return self

    def isOpened(self) -> bool:  # noqa: N802
        return self._left >= 0

    def read(self) -> tuple[bool, Image | None]:
        self._left -= 1
        time.sleep(0.002)
        return (True, shown(0)) if self._left >= 0 else (False, None)

    def release(self) -> None:
        self.released += 1


def test_a_camera_that_is_unplugged_is_asked_again_and_the_gap_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "BACK_OFF_S", (0.01, 0.02))
    camera = Camera(3, Plugged([5, -1, -1, 6]))
    updates = []
    with stream(Simple(), camera, hop_s=0.001) as reading:
        for update in reading:
            updates.append(update)
            if update.result.notes and "is back" in update.result.notes[0]:
                break
    gaps = [update for update in updates if update.gap_s or update.result.status == "no_evidence"]
    notes = [update.result.notes[0] for update in gaps]
    assert notes[0] == "camera 3: sends no more; asked again in 0.01 s"
    assert notes[1] == "camera 3: sends no more; asked again in 0.02 s"
    assert notes[-1] == "camera 3 is back"
    assert [update.gap_s for update in gaps] == sorted(update.gap_s for update in gaps)
    assert gaps[-1].gap_s >= 0.05
    assert any(update.label for update in updates), "it saw something before"


def test_after_a_gap_nothing_of_what_was_before_is_judged() -> None:
    class Twice:
        name, is_live, has_sound = "twice", False, True

        def items(self, closed: threading.Event) -> Iterator[Frame | Waveform | Lost]:
            yield Frame(0, 0.0, shown(1))
            yield Lost(1.0, 0.5, "gone")
            yield Frame(1, 1.5, shown(2))

    updates = list(stream(Simple(), Twice()))
    assert [(update.time_s, update.gap_s) for update in updates] == [(1.0, 0.5), (1.5, 0)]
    assert [row.index for row in updates[-1].result.timeline] == [1]


def test_waiting_for_a_source_ends_when_it_is_closed() -> None:
    closed = threading.Event()
    items = again(lambda clock: iter(()), "nothing", closed, Clock())
    assert isinstance(next(items), Lost)
    closed.set()
    assert list(items) == []


def test_times_of_a_live_source_always_increase() -> None:
    clock = Clock()
    frames = [clock.frame(time_s, BLACK) for time_s in (5.0, 5.0, 4.0, 5.1)]
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    times_s = [frame.time_s for frame in frames]
    assert times_s == sorted(set(times_s))
    assert times_s == pytest.approx([5.0, 5.0, 5.0, 5.1], abs=1e-4)
    assert clock.now_s() > 5.1


def test_an_address_is_decoded_with_its_sound(recognizer: Recognizer, tmp_path: Path) -> None:
    """A file from a web server, which has an end."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(Path(demo_clip()).parent))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{Path(demo_clip()).name}"
        updates = list(recognizer.stream(address, window_s=10))
        server.shutdown()
    last = updates[-1].result
    assert (last.label, last.status) == ("Happy", "ok")
    assert len(last.timeline) == 75
