"""openSMILE's features: 1582 numbers of speech at any level, none of what is not speech."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from occam_sdk import BackendError
from occam_sdk.audio import features
from occam_sdk.audio.decode import AudioFile
from occam_sdk.audio.features import VoiceFeatures, has_speech
from occam_sdk.bundle import FEATURE_SETS
from occam_sdk.types import RATE_HZ, Waveform

from . import clips
from .shared import DATA, needs_data

RAVDESS = DATA / "ravdess_speech_16k.zip"
FEATURE_SET = "IS10_paraling_compat"


@pytest.fixture(scope="module")
def extractor() -> VoiceFeatures:
    pytest.importorskip("opensmile")
    return VoiceFeatures(FEATURE_SET)


def sound(samples: np.ndarray) -> Waveform:
    return Waveform(np.asarray(samples, np.float32))


def noise(seconds: float, level: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    return level * rng.uniform(-1, 1, round(seconds * RATE_HZ))


def at_db(samples: np.ndarray, db: float) -> np.ndarray:
    return samples * 10 ** (db / 20)


def share_within(found: np.ndarray, expected: np.ndarray, rtol: float) -> float:
    """The share of features that agree; some are jumps of a contour and flip at a rounding."""
    return float(np.isclose(found, expected, rtol=rtol, atol=1e-4).mean())


# --- speech or not

NOT_SPEECH = {
    "nothing": np.zeros(0),
    "silence": np.zeros(3 * RATE_HZ),
    "constant": np.full(3 * RATE_HZ, 0.3),
    "hum at 50 Hz": clips.tone(3.0, 50, RATE_HZ),
    "beep at 1 kHz": clips.tone(3.0, 1_000, RATE_HZ),
    "full-scale noise": noise(3.0, 1.0),
    "noise": noise(3.0, 0.1),
    "faint noise": noise(3.0, 0.003),
    "fainter noise": noise(3.0, 1e-5),
    "a short word": clips.speech_like(0.5),
    "just too short": clips.speech_like(2.0)[: RATE_HZ - 1],
    "speech fainter than any recording": at_db(clips.speech_like(3.0), -60),
    "a web clip with next to no sound: -56 dB, range 5 dB": at_db(noise(3.0, 1.0), -52)
    * np.interp(np.arange(3 * RATE_HZ), [0, 3 * RATE_HZ], [0.55, 1.0]),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_SPEECH)
def test_what_is_not_speech_is_not_taken_for_it(name):
    assert not has_speech(sound(NOT_SPEECH[name]))


@pytest.mark.parametrize("db", [0, -10, -20, -30, -40])
@pytest.mark.parametrize("seconds", [1.0, 2.0, 7.4])
def test_speech_is_taken_for_speech_at_any_usual_level(seconds, db):
    assert has_speech(sound(at_db(clips.speech_like(seconds), db)))


@pytest.mark.parametrize("noise_db", [-40, -30])
def test_speech_in_a_noisy_room_is_taken_for_speech(noise_db):
    assert has_speech(sound(clips.speech_like(3.0) + at_db(noise(3.0, 1.0), noise_db)))


def test_what_is_not_speech_has_no_features(extractor):
    for samples in NOT_SPEECH.values():
        assert extractor.extract(sound(samples)) is None


# --- the features


def test_speech_has_1582_finite_features(extractor):
    found = extractor.extract(sound(clips.speech_like(3.0)))
    assert found is not None
    assert found.shape == (FEATURE_SETS[FEATURE_SET],) == (1582,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert len(np.unique(found)) > 1000


@pytest.mark.parametrize("seconds", [1.0, 7.5])
def test_short_and_long_pieces_have_finite_features(extractor, seconds):
    found = extractor.extract(sound(clips.speech_like(seconds)))
    assert found is not None
    assert np.isfinite(found).all()


def test_the_same_speech_has_the_same_features_twice(extractor):
    speech = sound(clips.speech_like(2.0))
    np.testing.assert_array_equal(extractor.extract(speech), extractor.extract(speech))


@pytest.mark.parametrize("db", [-12, -30, -38])
def test_the_recording_level_does_not_matter(extractor, db):
    speech = clips.speech_like(3.0)
    loud, faint = extractor.extract(sound(speech)), extractor.extract(sound(at_db(speech, db)))
    assert share_within(faint, loud, rtol=0.01) > 0.94
    assert share_within(faint, loud, rtol=0.1) > 0.98


def test_another_voice_has_other_features(extractor):
    """The tests of equality above mean something only as long as this holds."""
    one = extractor.extract(sound(clips.speech_like(3.0)))
    slowed = np.interp(
        np.arange(0, 3 * RATE_HZ, 0.8), np.arange(3 * RATE_HZ), clips.speech_like(3.0)
    )
    assert share_within(extractor.extract(sound(slowed)), one, rtol=0.01) < 0.5


def test_the_loudest_samples_do_not_wrap_round(extractor):
    """A faint voice with loud bursts: brought to its level, they go far beyond full scale.

    openSMILE's 16-bit cast turns +1.0 into -1.0. The first bursts end up just below full scale, so
    that only clipping, not wrapping, gives the others the same features.
    """
    speech = at_db(clips.speech_like(3.0), -25)
    time = np.arange(len(speech))
    bursts = np.sign(np.sin(2 * np.pi * 200 * time / RATE_HZ + 0.1))
    bursts[time // 400 % 30 != 7] = 0  # one frame of 30: too few to change the level

    def burst(peak: float) -> Waveform:
        return sound(np.where(bursts, peak * bursts, speech))

    gain = 10 ** ((features.LEVEL_DB - features._levels_db(burst(0.5))[1]) / 20)
    below, far, farther = (extractor.extract(burst(peak)) for peak in (0.99 / gain, 0.5, 1.0))
    np.testing.assert_array_equal(far, farther)
    assert share_within(far, below, rtol=0.05) > 0.95


@needs_data
def test_every_sampled_real_utterance_is_speech(extractor, tmp_path):
    with zipfile.ZipFile(RAVDESS) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".flac"))[::72]
        assert len(names) == 20
        for name in names:
            path = tmp_path / "utterance.flac"
            path.write_bytes(archive.read(name))
            (piece,) = AudioFile(path)
            found = extractor.extract(piece)
            assert found is not None, name
            assert np.isfinite(found).all()


# --- openSMILE, without all that its package brings along


@pytest.mark.parametrize("seconds", [1.0, 1.37, 3.0, 7.5, 30.0])
def test_the_features_are_those_of_the_opensmile_package_bit_for_bit(extractor, seconds):
    assert isinstance(extractor._smile, features._Library)
    config = features._config("IS10_paraling_compat")
    samples = np.asarray(clips.speech_like(seconds), np.float32)
    expected = features._Package(config).run(samples)
    found = extractor._smile.run(samples)
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def test_neither_pandas_nor_opensmiles_package_is_loaded():
    pytest.importorskip("opensmile")
    code = (
        "import sys, numpy as np\n"
        "from occam_sdk.audio.features import VoiceFeatures, Waveform\n"
        "time = np.arange(32_000) / 16_000\n"
        "sound = np.sin(700 * time) * (np.sin(9 * time) > 0)\n"
        f"found = VoiceFeatures({FEATURE_SET!r}).extract(Waveform(sound.astype(np.float32)))\n"
        "print(len(found), {'opensmile', 'pandas', 'pyarrow'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1582 set()"


def test_an_opensmile_laid_out_otherwise_is_used_by_its_public_door(monkeypatch, caplog, extractor):
    def gone(*_: object) -> None:
        raise FileNotFoundError("core/lib.py")

    monkeypatch.setattr(features._Library, "__init__", gone)
    with caplog.at_level(logging.INFO, "occam_sdk"):
        other = VoiceFeatures(FEATURE_SET)
    assert any("core/lib.py" in record.message for record in caplog.records)
    speech = sound(clips.speech_like(2.0))
    np.testing.assert_array_equal(other.extract(speech), extractor.extract(speech))


def test_an_opensmile_without_the_configuration_is_refused_with_the_remedy(monkeypatch, tmp_path):
    pytest.importorskip("opensmile")
    monkeypatch.setattr(features, "_config", lambda _: tmp_path / "core/config/is09-13/none.conf")
    with pytest.raises(BackendError, match=r"force-reinstall 'opensmile>=2\.6'"):
        VoiceFeatures(FEATURE_SET)


def test_sound_that_gives_no_features_is_an_error_not_a_guess(extractor):
    with pytest.raises(BackendError, match=r"no features of 0\.0 s"):
        extractor._smile.run(np.zeros(0, np.float32))


# --- set-up


def test_the_licence_is_told_exactly_once(monkeypatch, caplog):
    pytest.importorskip("opensmile")
    monkeypatch.setattr(features, "_licence_told", False)
    with caplog.at_level(logging.INFO, "occam_sdk"):
        VoiceFeatures(FEATURE_SET)
        VoiceFeatures(FEATURE_SET)
    told = [record for record in caplog.records if "research and private use" in record.message]
    assert [record.levelname for record in told] == ["WARNING"]


def test_without_opensmile_the_error_is_the_install_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(BackendError, match=r"pip install 'opensmile>=2\.6'"):
        VoiceFeatures(FEATURE_SET)
