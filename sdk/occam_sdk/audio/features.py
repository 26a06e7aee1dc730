"""The 1582 openSMILE features of the INTERSPEECH 2010 paralinguistic challenge [2.2]."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, BundleError
from ..types import RATE_HZ, Waveform

FEATURE_COUNT: Final = 1582
FEATURE_SETS: Final = {"IS10_paraling_compat": "is09-13/IS10_paraling_compat.conf"}

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


class VoiceFeatures:
    """One openSMILE extractor. openSMILE is not thread-safe: one extractor a thread.

    Args:
        feature_set: the configuration's name, from the bundle.

    Raises:
        BackendError: openSMILE is not installed; the message is the command that installs it.
        BundleError: an unknown configuration, or one that does not give 1582 features.
    """

    def __init__(self, feature_set: str) -> None:
        check_feature_set(feature_set)
        if importlib.util.find_spec("opensmile") is None:
            raise BackendError(INSTALL_NOTE)
        try:
            import opensmile
        except (ImportError, OSError) as error:
            raise BackendError(
                f"openSMILE is installed but does not load ({error}); "
                "install it again: pip install --force-reinstall 'opensmile>=2.6'"
            ) from error
        _tell_licence()
        config = Path(opensmile.__file__).parent / "core" / "config" / FEATURE_SETS[feature_set]
        self._smile = opensmile.Smile(
            feature_set=str(config), feature_level="func", sampling_rate=RATE_HZ
        )
        count = len(self._smile.feature_names)
        if count != FEATURE_COUNT:
            raise BundleError(
                f"{config.name}: gives {count} features instead of {FEATURE_COUNT}; "
                "install another opensmile: pip install 'opensmile>=2.6'"
            )

    def extract(self, waveform: Waveform) -> NDArray[np.float32] | None:
        """Features of one utterance, whatever its recording level.

        Returns:
            (1582,) float32, or None: shorter than a second, or without speech (silence, hum, hiss).
        """
        if not has_speech(waveform):
            return None
        gain = 10 ** ((LEVEL_DB - _levels_db(waveform)[1]) / 20)
        samples = np.clip(waveform.samples * np.float32(gain), -PEAK, PEAK)
        features = self._smile.process_signal(samples, RATE_HZ).to_numpy(np.float32)[0]
        return np.asarray(np.nan_to_num(features, nan=0.0, posinf=0.0, neginf=0.0), np.float32)


def check_feature_set(name: str) -> None:
    """Raise ``BundleError`` for a configuration that this version does not know."""
    if name not in FEATURE_SETS:
        raise BundleError(
            f"voice.feature_set {name!r} is unknown, this occam-sdk has "
            f"{', '.join(FEATURE_SETS)}; install the one that the bundle was made for"
        )


def has_speech(waveform: Waveform) -> bool:
    """Whether there is something to score: long, loud and changing enough.

    Example:
        >>> import numpy as np
        >>> has_speech(Waveform(np.zeros(32_000, np.float32)))
        False
    """
    if waveform.duration_s < MIN_SPEECH_S:
        return False
    quiet, loud = _levels_db(waveform)
    return loud >= MIN_LEVEL_DB and loud - quiet >= MIN_RANGE_DB


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
