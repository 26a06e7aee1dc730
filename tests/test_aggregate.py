"""From scored frames to one answer: selection, pooling, heads, each as the slow oracle has it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from occam_sdk.bundle import FaceModel, LinearHeads
from occam_sdk.types import FrameScores, ModalityScores
from occam_sdk.video.aggregate import aggregate
from tests import reference

from .bundles import TEMPLATE, make_heads


def _model(*, weighted: bool = False, chunks: int = 16, temperature: float = 1.0) -> FaceModel:
    return FaceModel(
        input_size=48,
        mean=0.5,
        std=0.25,
        template=np.array(TEMPLATE, np.float32),
        chunks=chunks,
        temperature=temperature,
        heads=LinearHeads(**make_heads(seed=1, weighted=weighted)),
    )


def _frames(count: int, seed: int = 0) -> FrameScores:
    rng = np.random.default_rng(seed)
    scores = rng.random((count, 7), np.float32)
    return FrameScores(
        times_s=np.arange(count) / 25 + 0.5,
        scores=scores / scores.sum(axis=1, keepdims=True),
        valence_arousal=rng.uniform(-1, 1, (count, 2)).astype(np.float32),
        embeddings=rng.normal(size=(count, 512)).astype(np.float32),
    )


def _oracle(frames: FrameScores, model: FaceModel) -> tuple[list[float], list[float], list[float]]:
    """Scores, valence and arousal, and the times of the frames used, step by step in double."""
    chosen = reference.select_frames(frames.scores, model.chunks)
    embeddings, heads = frames.embeddings[chosen], model.heads
    if heads.frame_weight is None or heads.frame_bias is None:
        pooled = reference.mean_pool(embeddings)
    else:
        pooled = reference.sigmoid_weighted_pool(
            embeddings,
            frames.valence_arousal[chosen],
            heads.frame_weight.tolist(),
            float(heads.frame_bias),
        )

    def linear(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float64]:
        return weight.astype(float) @ np.array(pooled) + bias

    logits = linear(heads.emotion_weight, heads.emotion_bias)
    valence_arousal = linear(heads.valence_arousal_weight, heads.valence_arousal_bias)
    return (
        reference.softmax(logits.astype(np.float32), model.temperature),
        [max(-1.0, min(1.0, value)) for value in valence_arousal.tolist()],
        [float(frames.times_s[frame]) for frame in chosen],
    )


def _answer(frames: FrameScores, model: FaceModel) -> ModalityScores:
    answer = aggregate(frames, model)
    assert answer is not None
    return answer


@pytest.mark.parametrize("weighted", [False, True], ids=["mean", "sigmoid weights"])
@pytest.mark.parametrize("count", [1, 5, 15, 16, 17, 100, 1000])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_answer_is_the_oracles(count: int, weighted: bool, temperature: float) -> None:
    frames, model = _frames(count), _model(weighted=weighted, temperature=temperature)
    answer = _answer(frames, model)
    scores, valence_arousal, times_s = _oracle(frames, model)
    np.testing.assert_allclose(answer.scores, scores, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        [answer.valence, answer.arousal], valence_arousal, rtol=1e-4, atol=1e-5
    )
    assert list(answer.evidence_s) == times_s


def test_frame_weights_matter() -> None:
    frames = _frames(40)
    plain, weighted = _answer(frames, _model()), _answer(frames, _model(weighted=True))
    assert np.abs(plain.scores - weighted.scores).max() > 1e-4


def test_only_the_chosen_frames_count() -> None:
    frames, model = _frames(64), _model()
    chosen = reference.select_frames(frames.scores, 16)
    others = np.setdiff1d(np.arange(64), chosen)
    frames.embeddings[others] = 1e6
    only = FrameScores(
        frames.times_s[chosen],
        frames.scores[chosen],
        frames.valence_arousal[chosen],
        frames.embeddings[chosen],
    )
    np.testing.assert_array_equal(_answer(frames, model).scores, _answer(only, model).scores)


def test_a_frame_with_nan_is_no_evidence() -> None:
    frames = _frames(10)
    expected = _answer(_without(frames, 4), _model())
    frames.scores[4, 2] = np.nan
    frames.embeddings[4] = np.nan
    answer = _answer(frames, _model())
    assert float(frames.times_s[4]) not in answer.evidence_s
    np.testing.assert_array_equal(answer.scores, expected.scores)


def _without(frames: FrameScores, row: int) -> FrameScores:
    return FrameScores(
        np.delete(frames.times_s, row),
        np.delete(frames.scores, row, axis=0),
        np.delete(frames.valence_arousal, row, axis=0),
        np.delete(frames.embeddings, row, axis=0),
    )


@pytest.mark.parametrize("count", [0, 1, 40])
def test_without_a_usable_frame_there_is_no_answer(count: int) -> None:
    frames = _frames(max(count, 1))
    frames.scores[:] = np.nan
    none = FrameScores(
        frames.times_s[:count],
        frames.scores[:count],
        frames.valence_arousal[:count],
        frames.embeddings[:count],
    )
    assert aggregate(none, _model()) is None


def test_no_more_frames_are_evidence_than_there_are_chunks() -> None:
    assert len(_answer(_frames(100), _model(chunks=16)).evidence_s) == 16
    assert len(_answer(_frames(100), _model(chunks=1)).evidence_s) == 1
    assert len(_answer(_frames(5), _model(chunks=16)).evidence_s) == 5


def test_valence_and_arousal_stay_in_their_range() -> None:
    frames = _frames(20)
    frames.embeddings[:] *= 1000
    answer = _answer(frames, _model())
    assert answer.valence is not None
    assert answer.arousal is not None
    assert {abs(answer.valence), abs(answer.arousal)} == {1.0}


def test_a_higher_temperature_is_less_sure_of_the_same_label() -> None:
    frames = _frames(20)
    sure, unsure = _answer(frames, _model()), _answer(frames, _model(temperature=4.0))
    assert sure.label == unsure.label
    assert unsure.scores.max() < sure.scores.max()


def test_scores_sum_to_one_however_large_the_logits() -> None:
    frames = _frames(20)
    frames.embeddings[:] *= 1e6
    np.testing.assert_allclose(_answer(frames, _model()).scores.sum(), 1, rtol=1e-6)


def test_the_frames_are_not_changed() -> None:
    frames = _frames(40)
    before = [frames.scores.copy(), frames.valence_arousal.copy(), frames.embeddings.copy()]
    aggregate(frames, _model(weighted=True))
    for array, kept in zip(
        [frames.scores, frames.valence_arousal, frames.embeddings], before, strict=True
    ):
        np.testing.assert_array_equal(array, kept)
