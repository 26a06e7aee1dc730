"""The fusion's weight and temperature, fitted to pairs whose right answer is known here."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra 'train' is not installed")

from export.calibration import Judged, fit_face, fit_fusion, pairs
from occam_sdk.bundle import FusionModel
from occam_sdk.fusion import fuse
from occam_sdk.scores import softmax
from occam_sdk.types import ModalityScores
from training.metrics import calibration_error


def judged(count: int, sureness: float, seed: int) -> Judged:
    """Scores that are right as often as they say."""
    rng = np.random.default_rng(seed)
    logits = sureness * rng.normal(size=(count, 7))
    scores = softmax(logits.astype(np.float32))
    label = np.array([rng.choice(7, p=row / row.sum()) for row in scores.astype(float)])
    return Judged(label, scores)


def test_a_pair_has_one_label_and_each_voice_is_in_one_pair() -> None:
    face, voice = judged(300, 2, 0), judged(80, 1, 1)
    own, faces = pairs(voice.label, face.label)
    assert (face.label[faces] == voice.label[own]).all()
    assert own.tolist() == list(range(80))
    again = pairs(voice.label, face.label)
    assert (again[1] == faces).all()


def test_voices_whose_label_no_face_has_are_left_out() -> None:
    face = judged(300, 2, 0)
    happy = Judged(*(part[face.label == 3] for part in face))
    own, _ = pairs(judged(80, 1, 1).label, happy.label)
    assert set(judged(80, 1, 1).label[own]) == {3}
    with pytest.raises(ValueError, match="nothing to fit"):
        fit_fusion(happy, (Judged(np.array([1]), np.full((1, 7), 1 / 7, np.float32)),))


def test_a_voice_that_knows_nothing_gets_the_least_weight() -> None:
    face = judged(3000, 3, 0)
    mute = judged(1000, 0, 1)
    knowing = judged(1000, 3, 2)
    assert fit_fusion(face, (mute,)).face > fit_fusion(face, (knowing,)).face


def test_what_is_fused_is_as_sure_as_it_is_right() -> None:
    face, voice = judged(4000, 2, 0), judged(4000, 2, 1)
    model = fit_fusion(face, (voice,))
    others, heard = judged(4000, 2, 2), judged(4000, 2, 3)
    own, faces = pairs(heard.label, others.label)

    def error(model: FusionModel) -> float:
        fused = [
            fuse(ModalityScores(others.scores[f]), ModalityScores(heard.scores[v]), model).scores
            for f, v in zip(faces, own, strict=True)
        ]
        return calibration_error(np.array(fused), heard.label[own])

    assert model.mean == "geometric"
    # They are independent: together they are the product of both. A plain mean is too modest.
    assert (model.face, model.temperature) == pytest.approx((0.5, 0.5), abs=0.06)
    assert error(model) < 0.03 < error(FusionModel(model.face, model.voice))


ALIKE = np.ones(7)


def test_logits_that_were_scaled_and_shifted_are_brought_back() -> None:
    rng = np.random.default_rng(0)
    logits = (2 * rng.normal(size=(20_000, 7))).astype(np.float32)
    scores = softmax(logits).astype(float)
    label = np.array([rng.choice(7, p=row / row.sum()) for row in scores])
    factor = np.array([0.5, 1, 1, 2, 1, 1, 1], np.float32)
    added = np.array([0, 1, 0, 0, -1, 0, 0], np.float32)
    scale, shift = fit_face(label, logits / factor - added, ALIKE)
    np.testing.assert_allclose(scale, factor, rtol=0.1)
    np.testing.assert_allclose(
        shift - shift.mean(), factor * added - (factor * added).mean(), atol=0.15
    )
    before = logits / factor - added
    assert calibration_error(softmax(before), label) > 0.015
    assert calibration_error(softmax(before * scale + shift), label) < 0.015


def test_a_class_that_weighs_more_is_said_more_often() -> None:
    face = judged(4000, 1, 0)
    logits = np.log(face.scores)
    weight = np.where(np.arange(7) == 2, 5.0, 1.0)
    plain, lifted = (
        (logits * scale + shift).argmax(1)
        for scale, shift in (fit_face(face.label, logits, w) for w in (ALIKE, weight))
    )
    assert (lifted == 2).sum() > 1.5 * (plain == 2).sum()


def test_a_class_that_was_never_learnt_does_not_outweigh_the_others() -> None:
    """Valid has one face of it; by how often Train has it, that weighs thousands of times what others do."""
    face = judged(3000, 2, 0)
    some = (face.label != 1) | (np.cumsum(face.label == 1) == 1)
    label, logits = face.label[some], np.log(face.scores[some])
    scale, shift = fit_face(label, logits, np.where(np.arange(7) == 1, 5000.0, 1.0))
    assert (scale > 0).all()
    assert ((logits * scale + shift).argmax(1) == 1).mean() < 0.02


def test_what_no_face_tells_of_is_left_as_it_is() -> None:
    face = judged(500, 2, 0)
    some = face.label != 5
    scale, shift = fit_face(face.label[some], np.log(face.scores[some]), ALIKE)
    assert (scale[5], shift[5]) == (1, 0)
    one, none = fit_face(np.array([3]), np.zeros((1, 7), np.float32), ALIKE)
    assert np.isfinite(one).all()
    assert abs(none).max() < 1.5  # one face is no reason to be sure
