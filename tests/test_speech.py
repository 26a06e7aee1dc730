"""The speaker encoder's features: a mean state of speech at any level, none of what is not speech."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from occam_sdk import demo_clip
from occam_sdk.audio.decode import MIN_PIECE_S, PIECE_S, AudioFile
from occam_sdk.audio.features import SpeechFeatures, levelled
from occam_sdk.backends import Runtime, open_session
from occam_sdk.bundle import SPEECH, SPEECH_SAMPLES, load_bundle
from occam_sdk.types import RATE_HZ, Waveform

from . import clips

BANDS, HIDDEN = 40, 256
Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def extractor() -> SpeechFeatures:
    runtime = Runtime(backend="openvino", device="cpu", precision="fp32")
    return SpeechFeatures(open_session(load_bundle().network(SPEECH), runtime))


@pytest.fixture(scope="module")
def speech() -> Waveform:
    return next(iter(AudioFile(demo_clip())))


def test_speech_becomes_a_mean_state(extractor: SpeechFeatures, speech: Waveform) -> None:
    found = extractor.extract(speech)
    assert found is not None
    assert (found.shape, found.dtype) == ((HIDDEN,), np.float32)
    assert np.abs(found).max() <= 1
    assert found.std() > 0.01


@pytest.mark.parametrize("gain", [0.01, 0.1, 0.7])
def test_the_recording_level_does_not_matter(
    extractor: SpeechFeatures, speech: Waveform, gain: float
) -> None:
    loud, quiet = extractor.extract(speech), extractor.extract(Waveform(gain * speech.samples))
    assert loud is not None
    assert quiet is not None
    np.testing.assert_allclose(quiet, loud, atol=1e-3)


@pytest.mark.parametrize("seconds", [1.0, 1.37, 4.0, PIECE_S + MIN_PIECE_S])
def test_every_length_that_the_product_cuts_is_taken(
    extractor: SpeechFeatures, seconds: float
) -> None:
    found = extractor.extract(Waveform(clips.speech_like(seconds)[: round(seconds * RATE_HZ)]))
    assert found is not None
    assert found.shape == (HIDDEN,)


def test_the_shapes_that_engines_are_built_for_are_those_that_occur() -> None:
    shortest, _, longest = SPEECH_SAMPLES
    assert shortest == RATE_HZ
    assert longest == round((PIECE_S + MIN_PIECE_S) * RATE_HZ)


@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_silence_and_less_than_a_second_are_nothing(
    extractor: SpeechFeatures, seconds: float
) -> None:
    assert extractor.extract(Waveform(np.zeros(round(seconds * RATE_HZ), np.float32))) is None


def test_the_network_computes_what_its_papers_formulas_say(
    extractor: SpeechFeatures, speech: Waveform
) -> None:
    """A slow oracle: Fourier transform, mel bands and two LSTM layers, step by step in float64."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(load_bundle().network(SPEECH).float32)
    weights = {
        tensor.name: onnx.numpy_helper.to_array(tensor).astype(np.float64)
        for tensor in model.graph.initializer
    }
    samples = levelled(speech)
    assert samples is not None
    state = _bands(samples.astype(np.float64))
    for layer in range(2):
        state = _lstm(state, weights, layer)
    np.testing.assert_allclose(extractor.extract(speech), state.mean(0), atol=2e-5)


def _bands(samples: Floats) -> Floats:
    """(T, 40): power in triangles on Slaney's mel scale, of 25 ms every 10 ms."""
    window = np.hanning(401)[:400]
    starts = range(0, len(samples) - 399, 160)
    power = np.abs(np.fft.rfft([samples[i : i + 400] * window for i in starts])) ** 2
    octaves = 27 * np.log(8) / np.log(6.4)  # mel from 1000 to 8000 Hz
    mel = np.linspace(0, 15 + octaves, BANDS + 2)
    hz = np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))
    bins = np.fft.rfftfreq(400, 1 / RATE_HZ)
    triangles = [
        np.interp(bins, hz[i : i + 3], [0, 2 / (hz[i + 2] - hz[i]), 0]) for i in range(BANDS)
    ]
    return np.asarray(power @ np.transpose(triangles))


def _lstm(inputs: Floats, weights: Mapping[str, Floats], layer: int) -> Floats:
    """(T, 256): every state of one layer, from none."""
    w, r, b = (weights[f"{name}{layer}"][0] for name in "wrb")
    state, cell, states = np.zeros(HIDDEN), np.zeros(HIDDEN), []
    for x in inputs:
        gates = w @ x + r @ state + b[: 4 * HIDDEN] + b[4 * HIDDEN :]
        let_in, out, keep = 1 / (1 + np.exp(-gates[: 3 * HIDDEN].reshape(3, HIDDEN)))
        cell = keep * cell + let_in * np.tanh(gates[3 * HIDDEN :])
        state = out * np.tanh(cell)
        states.append(state)
    return np.stack(states)
