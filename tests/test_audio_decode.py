"""Sound: all of it, at the right time, mono, 16 kHz, in [-1, 1], in pieces that suit the model."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occam_sdk.audio.decode import GAP_S, MIN_PIECE_S, PIECE_S, AudioFile, pieces
from occam_sdk.types import RATE_HZ, Waveform

from . import clips

PIECE, REST = round(PIECE_S * RATE_HZ), round(MIN_PIECE_S * RATE_HZ)


def heard(path) -> np.ndarray:
    """All samples of a file."""
    return np.concatenate([piece.samples for piece in AudioFile(path)])


def frequency_hz(samples: np.ndarray) -> float:
    """The strongest frequency."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * RATE_HZ / len(samples))


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def float_wav(path, channels: np.ndarray, rate_hz: int):
    """A 32-bit float WAV, byte by byte: an encoder would refuse NaN."""
    channels = np.atleast_2d(channels).astype("<f4")
    count = len(channels)
    header = struct.pack("<HHIIHH", 3, count, rate_hz, rate_hz * 4 * count, 4 * count, 32)
    data = channels.T.tobytes()
    body = b"WAVEfmt " + struct.pack("<I", len(header)) + header
    body += b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


# --- one format out of many

CODECS = {
    ".wav": "pcm_s16le",
    ".flac": "flac",
    ".mp3": "libmp3lame",
    ".m4a": "aac",
    ".aac": "aac",
    ".mkv": "pcm_f32le",
    ".mp4": "aac",
}


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("suffix", CODECS)
def test_a_tone_keeps_its_length_pitch_and_level(tmp_path, suffix, rate_hz):
    path = clips.write_clip(
        tmp_path / f"tone{suffix}",
        sound=clips.tone(2.0, 1_000, rate_hz, level=0.25),
        sound_hz=rate_hz,
        sound_codec=CODECS[suffix],
    )
    samples = heard(path)
    exact = suffix in (".wav", ".flac", ".mkv")  # the others pad to whole blocks
    assert len(samples) / RATE_HZ == pytest.approx(2.0, abs=1e-3 if exact else 0.3)
    middle = samples[RATE_HZ // 2 : RATE_HZ * 3 // 2]
    assert frequency_hz(middle) == pytest.approx(1_000, abs=1.5)
    assert rms(middle) == pytest.approx(0.25 / np.sqrt(2), rel=0.06)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
@pytest.mark.parametrize("gains", [(1.0,), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (1.0,) * 6])
def test_channels_are_averaged(tmp_path, gains, rate_hz):
    # At full scale FFmpeg 9 takes this tone's samples for another format's marks.
    tone = clips.tone(2.0, 500, rate_hz, level=0.9)
    path = clips.write_clip(
        tmp_path / "tone.wav",
        sound=np.outer(gains, tone).astype(np.float32),
        sound_hz=rate_hz,
        sound_codec="pcm_s16le",
    )
    samples = heard(path)
    assert rms(samples) == pytest.approx(0.9 * np.mean(gains) / np.sqrt(2), rel=0.01)
    assert np.abs(samples).max() <= 1.0


def test_sound_that_is_already_right_comes_out_as_it_is(tmp_path):
    sound = clips.speech_like(2.0)
    path = float_wav(tmp_path / "sound.wav", sound, RATE_HZ)
    np.testing.assert_array_equal(heard(path), sound)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_values_that_are_none_are_silenced_and_loud_ones_clipped(tmp_path, channels, rate_hz):
    sound = np.tile(3 * clips.tone(2.0, 300, rate_hz, level=1.0), (channels, 1))
    sound[:, 1000:1010], sound[:, 2000], sound[:, 3000] = np.nan, np.inf, -np.inf
    samples = heard(float_wav(tmp_path / "sound.wav", sound, rate_hz))
    assert len(samples) / RATE_HZ == pytest.approx(2.0, abs=1e-3)
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() == pytest.approx(1.0, abs=1e-6)
    assert (samples == 0).sum() < 200  # what is lost is the holes and little around them
    assert frequency_hz(samples[RATE_HZ:]) == pytest.approx(300, abs=2)


def test_a_change_of_format_on_the_way_loses_nothing(tmp_path):
    parts = []
    for index, (rate_hz, channels) in enumerate([(44_100, 1), (48_000, 2), (32_000, 1)]):
        path = clips.write_clip(
            tmp_path / f"part{index}.mp3",
            sound=np.tile(clips.tone(1.0, 600, rate_hz), (channels, 1)),
            sound_hz=rate_hz,
            sound_codec="libmp3lame",
            muxer={"write_xing": "0", "id3v2_version": "0"},
        )
        parts.append(path.read_bytes())
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(b"".join(parts))
    samples = heard(joined)
    assert len(samples) / RATE_HZ == pytest.approx(3.0, abs=0.25)
    for second in (0.5, 1.5, 2.5):
        around = samples[int((second - 0.25) * RATE_HZ) : int((second + 0.25) * RATE_HZ)]
        assert frequency_hz(around) == pytest.approx(600, abs=4)


# --- times


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_that_starts_late_says_so(tmp_path, suffix):
    path = clips.write_clip(
        tmp_path / f"clip{suffix}",
        images=[clips.numbered(index) for index in range(60)],
        sound=clips.tone(1.5),
        sound_start_s=0.5,
    )
    audio = AudioFile(path)
    (piece,) = audio
    assert piece.start_s == pytest.approx(0.5, abs=0.05)
    assert audio.end_s == pytest.approx(2.0, abs=0.05)
    assert audio.end_s == pytest.approx(piece.start_s + piece.duration_s, abs=1e-6)


def test_the_end_is_where_the_last_piece_ends(tmp_path):
    path = clips.write_clip(tmp_path / "sound.wav", sound=clips.tone(13.3), sound_codec="pcm_s16le")
    audio = AudioFile(path)
    found = [(piece.start_s, piece.duration_s) for piece in audio]
    assert [start_s for start_s, _ in found] == pytest.approx([0.0, 6.0])
    assert sum(found[-1]) == pytest.approx(audio.end_s, abs=1e-6)
    assert audio.end_s == pytest.approx(13.3, abs=1e-3)


def test_a_pause_in_the_timestamps_is_kept_and_told(tmp_path):
    path = tmp_path / "clip.mkv"
    with clips.av.open(str(path), "w") as container:
        packets = clips.sound_packets(container, clips.tone(4.0), codec="pcm_s16le")
        clips.mux(container, [p for p in packets if not 1.0 <= float(p.pts * p.time_base) < 2.0])
    audio = AudioFile(path)
    first, second = audio
    assert (first.start_s, first.duration_s) == pytest.approx((0.0, 1.0), abs=0.03)
    assert (second.start_s, second.duration_s) == pytest.approx((2.0, 2.0), abs=0.03)
    assert "no sound from 1.0 s to 2.0 s" in audio.damage.notes
    assert not audio.damage.truncated


def retimed(path: Path, sound: np.ndarray, retime: Callable[[float], float]) -> Path:
    """A clip of this 44.1 kHz sound, its packets' times changed."""
    with clips.av.open(str(path), "w") as container:
        for packet in clips.sound_packets(container, sound, codec="pcm_s16le"):
            time_s = retime(float(packet.pts * packet.time_base))
            packet.pts = packet.dts = round(time_s / packet.time_base)
            container.mux(packet)
    return path


@pytest.mark.parametrize("rate", [0.98, 0.999, 1.001, 1.02])
def test_a_sound_card_whose_clock_is_off_never_runs_away_from_the_pictures(tmp_path, rate):
    """Small steps add up to a pause, or to an overlap that is left out, and no further."""
    path = retimed(tmp_path / "clip.mkv", clips.tone(60.0), lambda time_s: time_s * rate)
    audio = AudioFile(path)
    chunks = list(audio.chunks())
    assert audio.end_s == pytest.approx(60 * rate, abs=GAP_S + 0.05)
    steps_s = np.diff([chunk.start_s for chunk in chunks])
    assert (steps_s > 0).all()
    heard_s = sum(chunk.duration_s for chunk in chunks)
    assert heard_s == pytest.approx(min(60, 60 * rate), abs=GAP_S + 0.05)
    left_out = [note for note in audio.damage.notes if "overlaps" in note]
    assert bool(left_out) == (rate == 0.98)
    assert not audio.damage.truncated


def test_recordings_that_were_joined_and_begin_at_zero_again_play_one_after_the_other(tmp_path):
    """Camera files that were copied behind one another, byte by byte."""
    path = tmp_path / "joined.ts"
    part = clips.write_clip(tmp_path / "part.ts", sound=clips.tone(3.0), sound_codec="mp2")
    path.write_bytes(3 * part.read_bytes())
    audio = AudioFile(path)
    assert sum(piece.duration_s for piece in audio) == pytest.approx(9.0, abs=0.2)
    assert audio.end_s == pytest.approx(9.0, abs=0.2)


def test_timestamps_that_stand_still_cost_no_sound(tmp_path):
    path = retimed(tmp_path / "clip.mkv", clips.tone(4.0), lambda time_s: min(time_s, 1.0))
    audio = AudioFile(path)
    assert sum(piece.duration_s for piece in audio) == pytest.approx(4.0, abs=0.1)


def test_a_file_without_sound_has_no_pieces(tmp_path):
    path = clips.write_clip(tmp_path / "clip.mp4", images=[clips.numbered(0)] * 5)
    audio = AudioFile(path)
    assert list(audio) == []
    assert (audio.end_s, audio.damage.truncated) == (0.0, False)


# --- pieces


TICK = np.float32(2**-24)  # exact in float32, and small enough to stay below 1


def in_chunks(sizes: list[int], start_s: float = 0.0) -> list[Waveform]:
    """Chunks whose samples count up from 0 in steps of TICK."""
    chunks, done = [], 0
    for size in sizes:
        samples = np.arange(done, done + size, dtype=np.float32) * TICK
        chunks.append(Waveform(samples, start_s + done / RATE_HZ))
        done += size
    return chunks


@pytest.mark.parametrize(
    ("length_s", "expected_s"),
    [
        (0.5, [0.5]),
        (6.0, [6.0]),
        (7.4, [7.4]),
        (7.5, [6.0, 1.5]),
        (12.0, [6.0, 6.0]),
        (13.4, [6.0, 7.4]),
        (13.5, [6.0, 6.0, 1.5]),
        (60.0, [6.0] * 10),
    ],
)
def test_pieces_are_six_seconds_and_a_short_rest_stays_with_the_last(length_s, expected_s):
    chunks = in_chunks([round(length_s * RATE_HZ)])
    assert [p.duration_s for p in pieces(iter(chunks))] == pytest.approx(expected_s)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    sizes=st.lists(st.one_of(st.integers(0, 3000), st.integers(0, 3 * PIECE)), max_size=12),
    start_s=st.floats(-1, 1000),
)
def test_however_sound_arrives_nothing_is_lost_or_doubled(sizes, start_s):
    found = list(pieces(iter(in_chunks(sizes, start_s))))
    total = sum(sizes)
    samples = np.concatenate([p.samples for p in found]) if found else np.zeros(0, np.float32)
    np.testing.assert_array_equal(samples, np.arange(total, dtype=np.float32) * TICK)
    lengths = [len(p.samples) for p in found]
    assert all(length == PIECE for length in lengths[:-1])
    if lengths:
        assert 0 < lengths[-1] < PIECE + REST
        assert lengths[-1] >= REST or len(lengths) == 1
    for piece in found:
        assert piece.start_s == pytest.approx(
            start_s + float(piece.samples[0] / TICK) / RATE_HZ, abs=1e-6
        )


@pytest.mark.parametrize("gap_s", [0.0, GAP_S / 2, GAP_S * 2, 3.0])
def test_a_pause_between_chunks_ends_a_piece(gap_s):
    second = np.ones(RATE_HZ, np.float32)
    chunks = [Waveform(second, 0.0), Waveform(second, 1.0 + gap_s)]
    starts_s = [piece.start_s for piece in pieces(iter(chunks))]
    assert starts_s == pytest.approx([0.0, 1.0 + gap_s] if gap_s > GAP_S else [0.0])


def test_no_sound_gives_no_piece():
    assert list(pieces(iter([]))) == []
    assert list(pieces(iter([Waveform(np.zeros(0, np.float32))]))) == []
