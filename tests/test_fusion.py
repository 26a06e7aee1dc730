"""Late fusion: a weighted mean of what is there, and the result says what was there."""

from __future__ import annotations

import numpy as np
import pytest

from occam_sdk.bundle import FusionModel
from occam_sdk.fusion import fuse
from occam_sdk.types import FusionWeights, ModalityScores

FACE = ModalityScores(np.array([0.1, 0.0, 0.0, 0.7, 0.0, 0.2, 0.0], np.float32), 0.5, 0.25)
VOICE = ModalityScores(np.array([0.6, 0.0, 0.1, 0.1, 0.0, 0.2, 0.0], np.float32))


@pytest.mark.parametrize("face_weight", [0.0, 0.25, 0.5, 0.65, 1.0])
def test_scores_are_weighed_by_the_bundles_weights(face_weight: float) -> None:
    fused = fuse(FACE, VOICE, FusionModel(face_weight, 1 - face_weight))
    expected = [
        face_weight * float(face) + (1 - face_weight) * float(voice)
        for face, voice in zip(FACE.scores, VOICE.scores, strict=True)
    ]
    assert fused.scores is not None
    assert fused.scores.dtype == np.float32
    np.testing.assert_allclose(fused.scores, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(fused.scores.sum(), 1, rtol=1e-6)
    assert fused.weights == FusionWeights(face=face_weight, voice=1 - face_weight)
    assert fused.status == "ok"


@pytest.mark.parametrize(
    ("face", "voice", "weights", "status"),
    [
        (FACE, None, FusionWeights(face=1.0, voice=0.0), "no_voice"),
        (None, VOICE, FusionWeights(face=0.0, voice=1.0), "no_face"),
    ],
)
@pytest.mark.parametrize("model", [FusionModel(0.65, 0.35), FusionModel(0.0, 1.0)])
def test_the_weight_of_what_is_missing_goes_to_what_is_there(
    face: ModalityScores | None,
    voice: ModalityScores | None,
    weights: FusionWeights,
    status: str,
    model: FusionModel,
) -> None:
    fused = fuse(face, voice, model)
    there = face or voice
    assert there is not None
    np.testing.assert_array_equal(fused.scores, there.scores)
    assert (fused.weights, fused.status) == (weights, status)


def test_without_face_and_voice_there_is_no_answer() -> None:
    fused = fuse(None, None, FusionModel(0.65, 0.35))
    assert fused.scores is None
    assert (fused.weights, fused.status) == (FusionWeights(0.0, 0.0), "no_evidence")


@pytest.mark.parametrize("temperature", [0.5, 0.7, 2.0])
def test_the_mean_is_made_surer_or_less_sure_by_the_bundles_temperature(temperature: float) -> None:
    plain = fuse(FACE, VOICE, FusionModel(0.65, 0.35)).scores
    fused = fuse(FACE, VOICE, FusionModel(0.65, 0.35, temperature)).scores
    assert plain is not None
    assert fused is not None
    powers = [float(score) ** (1 / temperature) for score in plain]
    np.testing.assert_allclose(
        fused, [power / sum(powers) for power in powers], rtol=1e-5, atol=1e-7
    )
    assert fused.dtype == np.float32
    alone = fuse(FACE, None, FusionModel(0.65, 0.35, temperature)).scores
    np.testing.assert_array_equal(alone, FACE.scores)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_geometric_mean_is_that_of_the_logarithms(temperature: float) -> None:
    heard = ModalityScores(np.array([0.3, 0.1, 0.1, 0.2, 0.1, 0.15, 0.05], np.float32))
    shown = ModalityScores(np.array([0.1, 0.05, 0.05, 0.5, 0.1, 0.1, 0.1], np.float32))
    fused = fuse(shown, heard, FusionModel(0.6, 0.4, temperature, "geometric"))
    powers = [
        (float(face) ** 0.6 * float(voice) ** 0.4) ** (1 / temperature)
        for face, voice in zip(shown.scores, heard.scores, strict=True)
    ]
    assert fused.scores is not None
    assert fused.scores.dtype == np.float32
    np.testing.assert_allclose(fused.scores, [p / sum(powers) for p in powers], rtol=1e-5)
    assert fused.weights == FusionWeights(face=0.6, voice=0.4)


def test_of_a_geometric_mean_a_score_of_zero_rules_a_class_out() -> None:
    fused = fuse(FACE, VOICE, FusionModel(0.5, 0.5, 1.0, "geometric")).scores
    assert fused is not None
    assert np.isfinite(fused).all()
    impossible = (FACE.scores == 0) | (VOICE.scores == 0)
    assert (fused[impossible] < 1e-6).all()
    np.testing.assert_allclose(fused.sum(), 1, rtol=1e-6)


def test_independent_judges_together_are_bayes() -> None:
    """Equal weights and a temperature of a half: the product of what both say."""
    fused = fuse(FACE, VOICE, FusionModel(0.5, 0.5, 0.5, "geometric")).scores
    product = FACE.scores * VOICE.scores
    np.testing.assert_allclose(fused, product / product.sum(), rtol=1e-5, atol=1e-7)


def test_the_modalities_own_scores_are_left_alone() -> None:
    before = FACE.scores.copy(), VOICE.scores.copy()
    fuse(FACE, VOICE, FusionModel(0.65, 0.35))
    np.testing.assert_array_equal(FACE.scores, before[0])
    np.testing.assert_array_equal(VOICE.scores, before[1])
