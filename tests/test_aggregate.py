"""From scored frames to one answer: selection, pooling, heads, each as the slow oracle has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from occam_sdk.bundle import FaceModel, LinearHeads
from occam_sdk.types import FrameScores, ModalityScores
from occam_sdk.video.aggregate import aggregate
from tests import reference

from .bundles import TEMPLATE, make_heads

member_counts = st.integers(1, 60)
seeds = st.integers(0, 2**32 - 1)


def _model(
    *,
    members: int = 1,
    weighted: bool = False,
    chunks: int = 16,
    temperature: float = 1.0,
    seed: int = 1,
) -> FaceModel:
    return FaceModel(
        input_size=48,
        mean=0.5,
        std=0.25,
        template=np.array(TEMPLATE, np.float32),
        chunks=chunks,
        temperature=temperature,
        heads=LinearHeads(**make_heads(seed, members=members, weighted=weighted)),
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
    mean = reference.mean_pool(embeddings)

    def linear(
        weight: NDArray[np.float32], bias: NDArray[np.float32], pooled: list[float]
    ) -> NDArray[np.float64]:
        return weight.astype(float) @ np.array(pooled) + bias

    scores = []
    for member, (weight, bias) in enumerate(
        zip(heads.emotion_weight, heads.emotion_bias, strict=True)
    ):
        pooled = mean
        if heads.frame_weight is not None and heads.frame_bias is not None:
            pooled = reference.sigmoid_weighted_pool(
                embeddings,
                frames.valence_arousal[chosen],
                heads.frame_weight[member].tolist(),
                float(heads.frame_bias[member]),
            )
        logits = linear(weight, bias, pooled)
        scores.append(reference.softmax(logits.astype(np.float32), model.temperature))
    valence_arousal = linear(heads.valence_arousal_weight, heads.valence_arousal_bias, mean)
    return (
        [sum(of_label) / len(scores) for of_label in zip(*scores, strict=True)],
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
    _check_against_oracle(_frames(count), _model(weighted=weighted, temperature=temperature))


@pytest.mark.parametrize("weighted", [False, True], ids=["mean", "sigmoid weights"])
@pytest.mark.parametrize("members", [1, 2, 4, 50])
def test_an_ensembles_answer_is_the_oracles(members: int, weighted: bool) -> None:
    _check_against_oracle(
        _frames(40, seed=members), _model(members=members, weighted=weighted, temperature=0.5)
    )


def _check_against_oracle(frames: FrameScores, model: FaceModel) -> None:
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


# ---- ensembles


def _ensemble(model: FaceModel, members: Sequence[int]) -> FaceModel:
    """The same model with only these members, in this order."""
    rows, heads = list(members), model.heads
    return replace(
        model,
        heads=replace(
            heads,
            emotion_weight=heads.emotion_weight[rows],
            emotion_bias=heads.emotion_bias[rows],
            frame_weight=None if heads.frame_weight is None else heads.frame_weight[rows],
            frame_bias=None if heads.frame_bias is None else heads.frame_bias[rows],
        ),
    )


@settings(max_examples=30, deadline=None)
@given(member_counts, st.booleans(), seeds)
def test_equal_members_say_what_one_says(members: int, weighted: bool, seed: int) -> None:
    frames, one = _frames(20, seed), _model(weighted=weighted, seed=seed)
    answer = _answer(frames, _ensemble(one, [0] * members))
    np.testing.assert_allclose(answer.scores, _answer(frames, one).scores, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(member_counts, st.booleans(), seeds)
def test_an_ensemble_says_the_mean_of_its_members(members: int, weighted: bool, seed: int) -> None:
    frames, model = _frames(20, seed), _model(members=members, weighted=weighted, seed=seed)
    answer = _answer(frames, model)
    alone = [_answer(frames, _ensemble(model, [member])) for member in range(members)]
    mean = np.mean([member.scores for member in alone], axis=0, dtype=np.float64)
    np.testing.assert_allclose(answer.scores, mean, rtol=1e-5)
    np.testing.assert_allclose(answer.scores.sum(), 1, rtol=1e-6)
    assert {(member.valence, member.arousal) for member in alone} == {
        (answer.valence, answer.arousal)
    }


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)), seeds)
def test_the_order_of_the_members_does_not_matter(order: list[int], seed: int) -> None:
    frames, model = _frames(20, seed), _model(members=6, weighted=True, seed=seed)
    answer = _answer(frames, _ensemble(model, order))
    np.testing.assert_allclose(answer.scores, _answer(frames, model).scores, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(member_counts, seeds)
def test_zero_frame_weights_are_mean_pooling(members: int, seed: int) -> None:
    frames, plain = _frames(20, seed), _model(members=members, seed=seed)
    zeros = replace(
        plain.heads,
        frame_weight=np.zeros((members, 2), np.float32),
        frame_bias=np.zeros(members, np.float32),
    )
    answer = _answer(frames, replace(plain, heads=zeros))
    np.testing.assert_allclose(answer.scores, _answer(frames, plain).scores, rtol=1e-5)


def test_members_with_mean_and_with_weighted_pooling_go_together() -> None:
    """The paper's "av. pool. (2) + weig. av. pool. (2)" [Table 4], the members in any order."""
    frames, model = _frames(40), _model(members=4, weighted=True)
    assert model.heads.frame_weight is not None
    assert model.heads.frame_bias is not None
    model.heads.frame_weight[::2] = model.heads.frame_bias[::2] = 0
    _check_against_oracle(frames, model)
    without = replace(model, heads=replace(model.heads, frame_weight=None, frame_bias=None))
    halves = (
        _answer(frames, _ensemble(without, [0, 2])),
        _answer(frames, _ensemble(model, [1, 3])),
    )
    mean = (halves[0].scores + halves[1].scores) / 2
    np.testing.assert_allclose(_answer(frames, model).scores, mean, rtol=1e-5)


def test_scores_are_averaged_not_logits() -> None:
    model = _model(members=2)
    model.heads.emotion_weight[:] = 0
    model.heads.emotion_bias[:] = 0
    model.heads.emotion_bias[0, 3] = 1000  # sure of it; the other knows nothing
    expected = np.full(7, 0.5 / 7)
    expected[3] += 0.5
    np.testing.assert_allclose(_answer(_frames(20), model).scores, expected, rtol=1e-6)


def test_frame_weights_leave_valence_and_arousal_alone() -> None:
    frames = _frames(40)
    model = _model(members=3, weighted=True)
    without = replace(model, heads=replace(model.heads, frame_weight=None, frame_bias=None))
    answer, expected = _answer(frames, model), _answer(frames, without)
    assert (answer.valence, answer.arousal) == (expected.valence, expected.arousal)
    assert np.abs(answer.scores - expected.scores).max() > 1e-4


# ---- selection and ranges


def test_only_the_chosen_frames_count() -> None:
    frames, model = _frames(64), _model()
    others = np.setdiff1d(np.arange(64), reference.select_frames(frames.scores, 16))
    expected = _answer(frames, model)
    frames.embeddings[others] = 1e6
    np.testing.assert_array_equal(_answer(frames, model).scores, expected.scores)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 80), st.sampled_from([1, 3, 16]), st.floats(0, 1), seeds)
def test_from_the_chosen_frames_all_are_chosen_once_more(
    count: int, chunks: int, broken: float, seed: int
) -> None:
    """So whoever has chosen before may give only these."""
    frames, model = _frames(count, seed), _model(chunks=chunks)
    frames.scores[np.random.default_rng(seed).random(count) < broken] = np.nan
    chosen = reference.select_frames(frames.scores, chunks)
    only = FrameScores(
        frames.times_s[chosen],
        frames.scores[chosen],
        frames.valence_arousal[chosen],
        frames.embeddings[chosen],
    )
    found, expected = aggregate(only, model), aggregate(frames, model)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        np.testing.assert_array_equal(found.scores, expected.scores)
        assert found.evidence_s == expected.evidence_s
        assert (found.valence, found.arousal) == (expected.valence, expected.arousal)


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


@pytest.mark.parametrize("members", [1, 50])
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_scores_sum_to_one_however_large_the_logits(members: int, scale: float) -> None:
    frames = _frames(20)
    frames.embeddings[:] *= scale
    scores = _answer(frames, _model(members=members, weighted=True)).scores
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(), 1, rtol=1e-6)


def test_the_frames_are_not_changed() -> None:
    frames = _frames(40)
    before = [frames.scores.copy(), frames.valence_arousal.copy(), frames.embeddings.copy()]
    aggregate(frames, _model(members=3, weighted=True))
    for array, kept in zip(
        [frames.scores, frames.valence_arousal, frames.embeddings], before, strict=True
    ):
        np.testing.assert_array_equal(array, kept)
