"""What a piece of sound becomes: the states of a speaker encoder, or openSMILE's 1582 functionals [2.2].

A bundle says which of them its voice network has learnt.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..backends import Session
from ..bundle import FEATURE_SETS
from ..errors import BackendError, BundleError
from ..types import RATE_HZ, Waveform

CONFIGS: Final = {"IS10_paraling_compat": "is09-13/IS10_paraling_compat.conf"}
LEVEL: Final = "func"  # what these configurations call their functionals

MIN_SPEECH_S: Final = (
    1.0  # less sound than this has too few frames for functionals to mean anything
)
FRAME_S: Final = 0.025
MIN_LEVEL_DB: Final = -65.0  # of the loud frames, re full scale; the faintest RAVDESS actor has -56
MIN_RANGE_DB: Final = 12.0  # loud frames above quiet ones; hum and hiss have 5, speech 15 and more
LEVEL_DB: Final = -20.0  # what the loud frames are brought to
PEAK: Final = 0.999  # +1.0 wraps round in openSMILE's 16-bit cast

LICENCE_NOTE: Final = (
    "openSMILE, which the voice needs, is free for research and private use only; "
    "for a product, ask audEERING GmbH for a licence"
)
INSTALL_NOTE: Final = "voice needs openSMILE: pip install 'opensmile>=2.6'"

_logger = logging.getLogger("occam_sdk")
_licence_told = False


class SpeechFeatures:
    """The mean state of a recurrent network that has learnt to tell voices apart (Wan et al. 2018).

    What makes a voice its own takes thousands of speakers to learn, and the corpora of emotions have a few
    dozen. A network that knows it leaves to the classifier what the emotion adds.

    Args:
        session: the network, from ``open_session``; input ``samples`` (N, T) at 16 kHz, output
            ``features`` (N, 256).
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def extract(self, waveform: Waveform) -> NDArray[np.float32] | None:
        """Features of one utterance, whatever its recording level.

        Returns:
            (256,) float32 in [-1, 1], or None: shorter than a second, or without speech (silence, hum,
            hiss).
        """
        samples = levelled(waveform)
        if samples is None:
            return None
        (features,) = self._session.run({"samples": samples[np.newaxis]})["features"]
        return np.asarray(features, np.float32)


class VoiceFeatures:
    """The 1582 features of the INTERSPEECH 2010 paralinguistic challenge, by one openSMILE extractor.

    openSMILE is not thread-safe: one extractor a thread.

    Args:
        feature_set: the configuration's name, from the bundle; a key of ``CONFIGS``.

    Raises:
        BackendError: openSMILE is not installed; the message is the command that installs it.
        BundleError: the configuration does not give 1582 features.
    """

    def __init__(self, feature_set: str) -> None:
        config = _config(feature_set)
        try:
            self._smile = _open(config)
        except Exception as error:  # openSMILE's own are of a class that only it knows
            raise BackendError(
                f"openSMILE is installed but does not load ({error}); "
                "install it again: pip install --force-reinstall 'opensmile>=2.6'"
            ) from error
        _tell_licence()
        if self._smile.count != (expected := FEATURE_SETS[feature_set]):
            raise BundleError(
                f"{config.name}: gives {self._smile.count} features instead of {expected}; "
                "install another opensmile: pip install 'opensmile>=2.6'"
            )

    def extract(self, waveform: Waveform) -> NDArray[np.float32] | None:
        """Features of one utterance, whatever its recording level.

        Returns:
            (1582,) float32, or None: shorter than a second, or without speech (silence, hum, hiss).
        """
        samples = levelled(waveform)
        if samples is None:
            return None
        features = self._smile.run(samples)
        return np.asarray(np.nan_to_num(features, nan=0.0, posinf=0.0, neginf=0.0), np.float32)


def open_extractor(feature_set: str, speech: Session | None) -> SpeechFeatures | VoiceFeatures:
    """What a bundle hears with.

    Args:
        feature_set: of its manifest.
        speech: its network to hear with, opened, or None: it has none, and needs openSMILE.

    Raises:
        BackendError, BundleError: as ``VoiceFeatures``.
    """
    return VoiceFeatures(feature_set) if speech is None else SpeechFeatures(speech)


def _config(feature_set: str) -> Path:
    """The configuration's file in the package, which is not imported for that."""
    package = importlib.util.find_spec("opensmile")
    if package is None or package.origin is None:
        raise BackendError(INSTALL_NOTE)
    return Path(package.origin).parent / "core" / "config" / CONFIGS[feature_set]


class _Library:
    """openSMILE through the ctypes wrapper in its package, which is loaded without the package.

    ``import opensmile`` also loads pandas and pyarrow, only to put one row of numbers into a table:
    100 MB and most of a second, where this takes 5 MB and 10 ms. The numbers are the same bits.
    """

    def __init__(self, config: Path) -> None:
        core = config.parents[2]
        spec = importlib.util.spec_from_file_location("occam_sdk_opensmile", core / "lib.py")
        if spec is None or spec.loader is None:
            raise ImportError(f"{core / 'lib.py'} is no Python module")
        self._library: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._library)
        shared = core / "config" / "shared"
        self._config = str(config)
        self._options = {
            "source": shared / "standard_external_wave_input.conf.inc",
            "sink": shared / "standard_external_data_output_single.conf.inc",
            "sinkLevel": LEVEL,
            "bufferModeRbConf": shared / "BufferModeRb.conf.inc",
            "frameModeFunctionalsConf": shared / "FrameModeFunctionals.conf.inc",
            "sampleRate": RATE_HZ,
            "nBits": 16,
        }
        with self._opened() as smile:
            self.count: int = smile.external_sink_get_num_elements("extsink")

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        smile = self._library.OpenSMILE()
        try:
            smile.initialize(self._config, self._options)
            yield smile
        finally:
            smile.free()

    def run(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N,) samples in [-1, 1] to (count,) features; what is not defined is NaN or infinite."""
        found: list[NDArray[np.float32]] = []
        sound = (samples * np.float32(32768)).astype(np.int16).tobytes()
        with self._opened() as smile:
            smile.external_sink_set_callback_ex(
                "extsink", lambda data, _: found.extend(data.copy())
            )
            smile.external_audio_source_write_data("extsource", sound)
            smile.external_audio_source_set_eoi("extsource")
            smile.run()
        if not found:
            raise BackendError(f"openSMILE gave no features of {len(samples) / RATE_HZ:.1f} s")
        return found[0]


class _Package:
    """The same through the public door, for a later openSMILE that is laid out otherwise."""

    def __init__(self, config: Path) -> None:
        import opensmile

        self._smile = opensmile.Smile(
            feature_set=str(config), feature_level=LEVEL, sampling_rate=RATE_HZ
        )
        self.count = len(self._smile.feature_names)

    def run(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """As ``_Library.run``."""
        features = self._smile.process_signal(samples, RATE_HZ).to_numpy(np.float32)[0]
        return np.asarray(features, np.float32)


def _open(config: Path) -> _Library | _Package:
    try:
        return _Library(config)
    except (AttributeError, ImportError, OSError) as error:
        _logger.info("openSMILE is loaded whole, for 100 MB more memory: %s", error)
        return _Package(config)


def has_speech(waveform: Waveform) -> bool:
    """Whether there is something to score: long, loud and changing enough.

    Example:
        >>> import numpy as np
        >>> has_speech(Waveform(np.zeros(32_000, np.float32)))
        False
    """
    return _loudness_db(waveform) is not None


def levelled(waveform: Waveform) -> NDArray[np.float32] | None:
    """Its samples at the level that all voices are heard at; None if there is nothing to score.

    Example:
        >>> import numpy as np
        >>> levelled(Waveform(np.zeros(32_000, np.float32))) is None
        True
    """
    loudness = _loudness_db(waveform)
    if loudness is None:
        return None
    gain = 10 ** ((LEVEL_DB - loudness) / 20)
    return np.asarray(np.clip(waveform.samples * np.float32(gain), -PEAK, PEAK), np.float32)


def _loudness_db(waveform: Waveform) -> float | None:
    """Of the loud frames, dB re full scale; None if there is nothing to score."""
    if waveform.duration_s < MIN_SPEECH_S:
        return None
    quiet, loud = _levels_db(waveform)
    return loud if loud >= MIN_LEVEL_DB and loud - quiet >= MIN_RANGE_DB else None


def _levels_db(waveform: Waveform) -> tuple[float, float]:
    """RMS of 25 ms frames in dB re full scale: the 5th and the 95th percentile."""
    length = round(FRAME_S * RATE_HZ)
    frames = waveform.samples[: len(waveform.samples) // length * length].reshape(-1, length)
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    quiet, loud = np.percentile(10 * np.log10(power + 1e-18), [5, 95])
    return float(quiet), float(loud)


def _tell_licence() -> None:
    global _licence_told
    if not _licence_told:
        _licence_told = True
        _logger.warning(LICENCE_NOTE)
