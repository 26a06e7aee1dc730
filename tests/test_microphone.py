"""Microphones: what they hear and when, and how they fail; the sound cards are a stand-in's."""

from __future__ import annotations

import inspect
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest

from occam_sdk import BackendError, MediaError, Recognizer, Waveform, demo_clip, microphone, sources
from occam_sdk.microphone import Microphone
from occam_sdk.sources import Lost
from occam_sdk.stream import StreamUpdate
from occam_sdk.types import RATE_HZ

from .soundcards import TONE_HZ, WAY_S, Card, InputStream, Soundcards
from .test_stream import Plugged, Simple, stream

Plug = Callable[..., Soundcards]


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Plug:
    """Give this machine sound cards."""

    def put(*cards: Card) -> Soundcards:
        module = Soundcards(*cards)
        monkeypatch.setitem(sys.modules, "sounddevice", module)
        return module

    return put


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    with Recognizer(threads=1) as made:
        yield made


def heard(card: Card, plug: Plug, seconds: float = 0.5) -> list[Waveform]:
    """What the microphone of a machine with this card alone hears; then it is closed."""
    plug(card)
    closed = threading.Event()
    items = Microphone(True, time.monotonic()).items(closed)
    sound = list(islice(items, round(seconds / microphone.BLOCK_S)))
    closed.set()
    assert list(items) == []
    assert card.opened[0].closed
    return sound


CARDS = [
    pytest.param(Card("USB", inputs=1), 16_000, 1, id="mono at 16 kHz"),
    pytest.param(Card("USB", inputs=2), 16_000, 2, id="stereo at 16 kHz"),
    pytest.param(Card("default", inputs=128), 16_000, 2, id="as many channels as ALSA claims"),
    pytest.param(Card("HDA", rates_hz=(44_100, 48_000)), 44_100, 2, id="its own rate"),
    pytest.param(Card("Pro", rates_hz=(96_000,), inputs=1), 96_000, 1, id="a high rate"),
]


@pytest.mark.parametrize(("card", "rate_hz", "channels"), CARDS)
def test_any_card_is_heard_as_mono_at_16_khz(
    card: Card, rate_hz: int, channels: int, plug: Plug
) -> None:
    card.opened.clear()
    sound = np.concatenate([piece.samples for piece in heard(card, plug)])
    assert (card.opened[0].samplerate, card.opened[0].channels) == (rate_hz, channels)
    assert sound.dtype == np.float32
    assert np.isfinite(sound).all(), "a block's memory is the driver's again after the call"
    spectrum = np.abs(np.fft.rfft(sound[: RATE_HZ // 4]))
    assert spectrum.argmax() * 4 == pytest.approx(TONE_HZ, abs=4)
    mean_of_channels = 0.5 if channels == 1 else 0.375
    assert np.abs(sound).max() == pytest.approx(mean_of_channels, abs=0.02)


def test_sound_is_timed_when_it_sounded_not_when_it_came(plug: Plug) -> None:
    card = Card("USB")
    begun_s = time.monotonic()
    sound = heard(card, plug)
    started_s = card.opened[0].begun_s - begun_s
    assert WAY_S > 2 * microphone.BLOCK_S
    for number, piece in enumerate(sound):
        assert piece.start_s == pytest.approx(started_s + 0.02 * number, abs=0.015)


def test_of_a_card_that_tells_no_times_sound_has_just_come(plug: Plug) -> None:
    card = Card("old", tells_times=False)
    begun_s = time.monotonic()
    sound = heard(card, plug)
    late_s = [
        piece.start_s - (card.opened[0].begun_s - begun_s + 0.02 * number)
        for number, piece in enumerate(sound)
    ]
    assert np.median(late_s) == pytest.approx(WAY_S - microphone.BLOCK_S, abs=0.015)


def test_the_driver_never_waits_for_us(plug: Plug) -> None:
    card = Card("USB")
    plug(card)
    hearing = Microphone(True, time.monotonic())
    items = hearing.items(threading.Event())
    next(items)
    time.sleep(0.3)  # nobody listens
    items.close()
    assert card.opened[0].longest_call_s < 0.1


# Streams


def test_a_camera_and_a_microphone_are_on_one_clock(
    plug: Plug, monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer
) -> None:
    plug(Card("USB"))
    monkeypatch.setattr(sources, "_capture", Plugged([10**6]))
    with recognizer.stream(0, microphone=True, window_s=1.0) as both:
        for update in both:
            if update.time_s > 1.5:
                break
        frame = both.view()
        sound = both._window._sound[-1]
    assert update.result.timeline
    assert frame is not None
    assert sound.start_s == pytest.approx(frame.frame.time_s, abs=0.3)


def test_a_microphone_alone_is_a_stream_too(plug: Plug) -> None:
    plug(Card("USB"))
    judge = Simple()
    hearing = Microphone(True, time.monotonic())
    with stream(judge, microphone=hearing, window_s=0.5, hop_s=0.25) as alone:
        first = next(iter(alone))
        assert alone.view() is None
        with pytest.raises(RuntimeError, match=r"reads microphone 0 \(USB\)"):
            alone.push_frame(np.zeros((60, 80, 3), np.uint8), 0.0)
    assert first.result.notes == ("nobody listens",)


def test_lost_sound_is_counted(plug: Plug) -> None:
    plug(Card("USB", overflows=(3, 4, 100)))
    hearing = Microphone(True, time.monotonic())
    lost = []
    with stream(Simple(), microphone=hearing, window_s=0.5, hop_s=0.25) as alone:
        for update in alone:
            lost.append(update.overflows)
            if sum(lost) == 3:
                break
    assert lost[0] == 2
    assert update.to_dict()["overflows"] == 1


def test_closing_ends_it_within_a_second(plug: Plug) -> None:
    card = Card("USB")
    plug(card)
    with stream(Simple(), microphone=Microphone(True, time.monotonic())) as alone:
        next(iter(alone))
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 1
    assert card.opened[0].closed


def test_closing_before_it_was_heard_lets_go_of_it(plug: Plug) -> None:
    card = Card("USB")
    plug(card)
    closed = threading.Event()
    closed.set()
    assert list(Microphone(True, time.monotonic()).items(closed)) == []
    assert card.opened[0].closed


def test_one_that_vanishes_is_asked_again_and_heard_when_it_is_back(
    plug: Plug, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BACK_OFF_S", (0.05,))
    card = Card("USB", blocks=20)
    plug(Card("built-in"), card, Card("speakers", inputs=0))
    begun_s = time.monotonic()
    with stream(Simple(), microphone=Microphone("usb", begun_s), hop_s=0.25) as alone:
        gaps: list[StreamUpdate] = []
        for update in alone:
            if update.result.notes[0].startswith("microphone"):
                gaps.append(update)
            if "is back" in update.result.notes[0]:
                break
            card.busy = len(gaps) < 3  # it is still unplugged
    assert gaps[-1].result.notes == ("microphone 1 (USB) is back",)
    assert 0.1 < gaps[-1].gap_s < time.monotonic() - begun_s
    first, second = (gap.result.notes[0] for gap in gaps[:2])
    assert first.startswith(
        "microphone 1 (USB): sends no more; plug it in again, or name another: "
    )
    assert second.startswith("microphone 1 (USB): cannot be opened")
    assert all(opened.closed for opened in card.opened)


def test_pictures_go_on_without_it(
    plug: Plug, monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer
) -> None:
    plug(Card("USB", blocks=5))
    monkeypatch.setattr(sources, "_capture", Plugged([10**6]))
    with recognizer.stream(0, microphone=True, window_s=1.0, hop_s=0.25) as both:
        for update in both:
            assert update.gap_s == 0
            if any("sends no more" in note for note in update.result.notes):
                break
    assert len(update.result.timeline) > 1


def test_one_that_falls_silent_has_vanished(plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "SILENT_S", 0.2)
    monkeypatch.setattr(InputStream, "active", True)
    plug(Card("USB", blocks=5))
    items = Microphone(True, 0.0).items(threading.Event())
    lost = next(item for item in items if isinstance(item, Lost))
    assert lost.is_sound
    assert re.search(r"sends no more; .* another: none; asked again in 0.5 s$", lost.why)


# Mistakes


WRONG = [
    (7, r"microphone 7: expected the number .* there are: 0 \(built-in\), 1 \(USB one\), 3"),
    (2, r"microphone 2: expected the number"),
    ("nowhere", "microphone 'nowhere': expected"),
    (
        "usb",
        "microphone 'usb': expected the number of one, or a part of its name that no other has",
    ),
]


@pytest.mark.parametrize(("device", "says"), WRONG)
def test_one_that_is_not_there_is_told_with_those_that_are(
    device: int | str, says: str, plug: Plug
) -> None:
    plug(Card("built-in"), Card("USB one"), Card("speakers", inputs=0), Card("USB two"))
    with pytest.raises(MediaError, match=says) as caught:
        Microphone(device, 0.0)
    assert "\n" not in str(caught.value)


def test_a_machine_without_any(plug: Plug) -> None:
    plug(Card("speakers", inputs=0))
    with pytest.raises(MediaError, match="no default one; there are: none"):
        Microphone(True, 0.0)


def test_one_that_another_program_has(plug: Plug) -> None:
    plug(Card("USB", busy=True), Card("built-in"))
    with pytest.raises(
        MediaError, match=r"0 \(USB\): cannot be opened \(.*unavailable.* 1 \(built-in\)"
    ):
        Microphone(0, 0.0)


def test_what_is_no_name_of_one(plug: Plug) -> None:
    plug(Card("USB"))
    with pytest.raises(TypeError, match="expected True, a number or a part of a name, got float"):
        Microphone(0.5, 0.0)  # type: ignore[arg-type]


def test_a_source_with_sound_of_its_own_takes_no_microphone(
    plug: Plug, recognizer: Recognizer
) -> None:
    plug(Card("USB"))
    with pytest.raises(ValueError, match="brings its own sound; leave out the microphone"):
        recognizer.stream(demo_clip(), microphone=True)


def test_a_wrong_hop_opens_no_microphone(plug: Plug, recognizer: Recognizer) -> None:
    card = Card("USB")
    plug(card)
    with pytest.raises(ValueError, match="hop_s"):
        recognizer.stream(microphone=True, hop_s=9)
    assert card.opened == []


def test_without_the_package_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(BackendError, match=r'pip install "occam-sdk\[live\]"'):
        Microphone(True, 0.0)


def test_without_portaudio_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendError, match="sudo apt install libportaudio2"):
        Microphone(True, 0.0)


def test_the_stand_in_is_called_as_the_real_package_is() -> None:
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        pytest.skip(f"sounddevice: {error}")
    for real, ours in (
        (sounddevice.InputStream.__init__, InputStream.__init__),
        (sounddevice.query_devices, Soundcards.query_devices),
        (sounddevice.check_input_settings, Soundcards.check_input_settings),
        (sounddevice.InputStream.abort, InputStream.abort),
        (sounddevice.InputStream.close, InputStream.close),
    ):
        taken = set(inspect.signature(ours).parameters) - {"self", "cards"}
        assert taken <= set(inspect.signature(real).parameters), real
    assert {"active", "latency", "start"} <= set(dir(sounddevice.InputStream))
    assert issubclass(sounddevice.PortAudioError, Exception)
