"""The temporal heads, against slow oracles and against the product; needs the extra ``train``."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")

from occam_sdk.bundle import EMBEDDING, FaceModel, LinearHeads  # noqa: E402
from occam_sdk.types import FrameScores  # noqa: E402
from occam_sdk.video.aggregate import aggregate  # noqa: E402
from training import temporal  # noqa: E402
from training.clips import CHUNKS, Clips  # noqa: E402
from training.temporal import KINDS, Kind, LSTMHeads, PooledHeads, Settings  # noqa: E402

from .bundles import TEMPLATE  # noqa: E402
from .caches import embedded_clips  # noqa: E402

POOLED: tuple[Kind, ...] = ("average", "weighted")
QUICK = Settings(epochs=3, lstm_epochs=3, batch=16, hidden=16)
LENGTHS = np.arange(84) % (CHUNKS + 1)  # from no frame to all of them
Heads = PooledHeads | LSTMHeads


def rows_of(clips: Clips, split: str) -> NDArray[np.int64]:
    return np.flatnonzero(clips.samples.split == split)


def trained(
    kind: Kind, clips: Clips, count: int = 1, settings: Settings = QUICK, split: str = "train"
) -> Heads:
    return temporal.train(clips, rows_of(clips, split), kind, count, settings)


def everyone(clips: Clips) -> NDArray[np.int64]:
    return np.arange(len(clips))


def assert_same(one: Heads, other: Heads, atol: float = 0.0) -> None:
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=atol)


def right(scores: NDArray[np.float32], clips: Clips, split: str) -> float:
    """Accuracy of the mean over the heads."""
    rows = rows_of(clips, split)
    return float((scores.mean(0)[rows].argmax(1) == clips.samples.label[rows]).mean())


# One head among many


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 5])
def test_a_head_learns_the_same_alone_and_among_others(kind: Kind, count: int) -> None:
    clips = embedded_clips(frames=LENGTHS)
    alone, many = trained(kind, clips, 1), trained(kind, clips, count)
    for one, other in zip(alone.parameters(), many.parameters(), strict=True):
        torch.testing.assert_close(other[:1], one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_ensemble_of_three_is_the_first_three_of_five(kind: Kind) -> None:
    clips = embedded_clips(frames=LENGTHS)
    three, five = trained(kind, clips, 3), trained(kind, clips, 5)
    for one, other in zip(three.parameters(), five.parameters(), strict=True):
        torch.testing.assert_close(other[:3], one, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        temporal.scores_of(five, clips, everyone(clips))[:3],
        temporal.scores_of(three, clips, everyone(clips)),
        rtol=1e-3,
        atol=1e-5,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_heads_begin_differently_and_end_differently(kind: Kind) -> None:
    clips = embedded_clips()
    scores = temporal.scores_of(trained(kind, clips, 3), clips, everyone(clips))
    assert np.abs(scores[0] - scores[1]).max() > 1e-3
    assert np.abs(scores[1] - scores[2]).max() > 1e-3


# What they compute


def test_the_lstms_are_pytorchs_over_the_frames_that_there_are() -> None:
    """The slow oracle: ``torch.nn.LSTM`` on one clip at a time, cut to its own frames."""
    torch.manual_seed(0)
    heads = LSTMHeads(3, Settings(hidden=128)).eval()
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.normal_(0, 0.1)
    lengths = [1, 2, 5, 15, 16, 16]
    embeddings = torch.randn(len(lengths), CHUNKS, EMBEDDING)
    chosen = torch.arange(CHUNKS) < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        got = heads(embeddings, torch.zeros(len(lengths), CHUNKS, 2), chosen)
    for member in range(3):
        oracle = torch.nn.LSTM(EMBEDDING, 128, batch_first=True)
        forget, enter, out, new = range(
            4
        )  # in the heads' order; PyTorch's is enter, forget, new, out
        order = [enter, forget, new, out]

        def rows(weight: torch.Tensor, order: list[int] = order) -> torch.Tensor:
            parts = weight.chunk(4, -1)
            return torch.cat([parts[gate] for gate in order], -1)

        with torch.no_grad():
            oracle.weight_ih_l0.copy_(rows(heads.input_weight[member]).T)
            oracle.weight_hh_l0.copy_(rows(heads.state_weight[member]).T)
            oracle.bias_ih_l0.copy_(rows(heads.gate_bias[member]))
            oracle.bias_hh_l0.zero_()
            for clip, length in enumerate(lengths):
                _, (state, _) = oracle(embeddings[clip : clip + 1, :length])
                wanted = state[0, 0] @ heads.emotion_weight[member] + heads.emotion_bias[member]
                torch.testing.assert_close(got[member, clip], wanted, rtol=1e-4, atol=1e-5)


def face_model(heads: PooledHeads, temperature: float = 1.0) -> FaceModel:
    """The bundle's form of trained heads."""
    named = {
        name: value.detach().numpy().astype(np.float32) for name, value in heads.named_parameters()
    }
    zeros = {
        "valence_arousal_weight": np.zeros((2, EMBEDDING), np.float32),
        "valence_arousal_bias": np.zeros(2, np.float32),
    }
    return FaceModel(
        input_size=64,
        mean=0.5,
        std=0.25,
        template=np.array(TEMPLATE, np.float32),
        chunks=CHUNKS,
        temperature=temperature,
        heads=LinearHeads(**named, **zeros),
    )


def shown(clips: Clips, clip: int) -> FrameScores:
    """The chosen frames of a clip, as the product has them."""
    rows = clips.chosen[clip]
    count = int(rows.sum())
    return FrameScores(
        times_s=np.arange(count) / 25,
        scores=np.full((count, 7), 1 / 7, np.float32),
        valence_arousal=clips.valence_arousal[clip][rows],
        embeddings=clips.embeddings[clip][rows],
    )


@pytest.mark.parametrize("kind", POOLED)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_product_says_what_training_says(kind: Kind, temperature: float) -> None:
    clips = embedded_clips(frames=LENGTHS)
    heads = trained(kind, clips, 4)
    assert isinstance(heads, PooledHeads)
    with torch.no_grad():  # far from where they began
        for parameter in heads.parameters():
            parameter.mul_(3)
    scores = temporal.scores_of(heads, clips, everyone(clips), temperature).mean(0)
    model = face_model(heads, temperature)
    for clip in everyone(clips).tolist():
        answer = aggregate(shown(clips, clip), model)
        if answer is None:
            assert np.isnan(scores[clip]).all()
        else:
            np.testing.assert_allclose(scores[clip], answer.scores, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bias", [-200.0, -90.0, 90.0])
def test_frame_weights_too_small_for_a_float_are_still_told_apart(bias: float) -> None:
    """As the product does: sigmoid(-200) is zero in float32, its part of the sum is not."""
    clips = embedded_clips(14, frames=5)
    heads = PooledHeads(2, QUICK, weighted=True).eval()
    with torch.no_grad():
        heads.frame_bias.fill_(bias)
    scores = temporal.scores_of(heads, clips, everyone(clips)).mean(0)
    for clip in everyone(clips).tolist():
        answer = aggregate(shown(clips, clip), face_model(heads))
        assert answer is not None
        np.testing.assert_allclose(scores[clip], answer.scores, rtol=1e-4, atol=1e-6)


def test_only_the_lstm_minds_the_order_of_the_frames() -> None:
    clips = embedded_clips(28)
    backwards = dataclasses.replace(
        clips,
        embeddings=clips.embeddings[:, ::-1].copy(),
        valence_arousal=clips.valence_arousal[:, ::-1].copy(),
    )
    for kind in KINDS:
        heads = trained(kind, clips)
        one, other = (temporal.scores_of(heads, c, everyone(c)) for c in (clips, backwards))
        assert (np.abs(one - other).max() > 1e-3) == (kind == "lstm"), kind


def test_only_the_weighted_mean_minds_valence_and_arousal() -> None:
    clips = embedded_clips(28)
    calm = dataclasses.replace(clips, valence_arousal=np.zeros_like(clips.valence_arousal))
    for kind in KINDS:
        heads = trained(kind, clips)
        one, other = (temporal.scores_of(heads, c, everyone(c)) for c in (clips, calm))
        assert (np.abs(one - other).max() > 1e-5) == (kind == "weighted"), kind


# Frames and clips that are not there


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_where_there_is_no_frame_changes_nothing(kind: Kind) -> None:
    clips = embedded_clips(frames=LENGTHS)
    rng = np.random.default_rng(1)
    none = ~clips.chosen[..., None]
    noisy = dataclasses.replace(
        clips,
        embeddings=clips.embeddings
        + none * rng.normal(0, 100, clips.embeddings.shape).astype("f4"),
        valence_arousal=clips.valence_arousal + none * np.float32(0.9),
    )
    heads, others = trained(kind, clips, 2), trained(kind, noisy, 2)
    assert_same(heads, others, atol=1e-6)
    np.testing.assert_allclose(
        temporal.scores_of(others, noisy, everyone(noisy)),
        temporal.scores_of(heads, clips, everyone(clips)),
        atol=1e-5,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_without_a_face_gets_no_scores_and_the_others_get_a_distribution(kind: Kind) -> None:
    clips = embedded_clips(frames=LENGTHS)
    scores = temporal.scores_of(trained(kind, clips, 3), clips, everyone(clips))
    faceless = LENGTHS == 0
    assert scores.shape == (3, 84, 7)
    assert scores.dtype == np.float32
    assert np.isnan(scores[:, faceless]).all()
    np.testing.assert_allclose(scores[:, ~faceless].sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_in_the_order_of_the_rows_asked_for(kind: Kind) -> None:
    clips = embedded_clips(28, frames=LENGTHS[:28])
    heads = trained(kind, clips, 2)
    rows = np.array([20, 0, 3, 17, 3])
    scores = temporal.scores_of(heads, clips, everyone(clips))
    np.testing.assert_allclose(temporal.scores_of(heads, clips, rows), scores[:, rows], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [[], [0, 17]], ids=["no clip", "no clip with a face"])
def test_where_no_face_is_asked_for_none_is_judged(kind: Kind, rows: list[int]) -> None:
    clips = embedded_clips(frames=LENGTHS)
    scores = temporal.scores_of(trained(kind, clips, 2), clips, np.array(rows, np.int64))
    assert scores.shape == (2, len(rows), 7)
    assert np.isnan(scores).all()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_learnt_from_a_clip_without_a_face_or_a_label(kind: Kind) -> None:
    clips = embedded_clips(frames=LENGTHS)
    useless = (LENGTHS == 0) | (np.arange(84) % 5 == 0)
    clips.samples.label[np.arange(84) % 5 == 0] = -1
    rows = rows_of(clips, "train")
    assert useless[rows].any()
    assert_same(
        temporal.train(clips, rows, kind, 2, QUICK),
        temporal.train(clips, rows[~useless[rows]], kind, 2, QUICK),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_learnt_from_other_rows(kind: Kind) -> None:
    clips = embedded_clips()
    other = dataclasses.replace(clips, embeddings=clips.embeddings.copy())
    other.embeddings[rows_of(clips, "valid")] = 1e6
    other.samples.label[rows_of(clips, "valid")] = 0
    assert_same(trained(kind, clips), trained(kind, other))


@pytest.mark.parametrize(
    "clips",
    [embedded_clips(28, frames=0), embedded_clips(28, label=np.full(28, -1))],
    ids=["no face", "no label"],
)
def test_without_anything_to_learn_from_it_says_so(clips: Clips) -> None:
    with pytest.raises(ValueError, match="made: no clip with a label and a face"):
        trained("average", clips)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="average, weighted, lstm, got 'max'"):
        trained("max", embedded_clips(28))  # type: ignore[arg-type]


# That they learn


@pytest.mark.parametrize("kind", KINDS)
def test_what_can_be_told_apart_is_learnt(kind: Kind) -> None:
    clips = embedded_clips(frames=1 + np.arange(84) % CHUNKS, signal=2.0)
    scores = temporal.scores_of(trained(kind, clips, 2, Settings()), clips, everyone(clips))
    assert right(scores, clips, "test") > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_where_there_is_nothing_to_learn_nothing_is_known_of_the_test(kind: Kind) -> None:
    clips = embedded_clips(280, signal=0.0)
    scores = temporal.scores_of(trained(kind, clips), clips, everyone(clips))
    assert right(scores, clips, "test") < 0.35


def test_the_regressor_learns_which_frames_to_trust() -> None:
    """One frame of four is aroused and shows the class; the calm ones all show one that is wrong."""
    rng = np.random.default_rng(0)
    count = 280
    clips = embedded_clips(count, frames=4, signal=0.0)
    aroused = rng.integers(4, size=count)
    wrong = (clips.samples.label + rng.integers(1, 7, count)) % 7
    clips.embeddings[:] *= 0.1
    clips.valence_arousal[:, :4, 1] = -1
    clips.valence_arousal[np.arange(count), aroused, 1] = 1
    clips.embeddings[np.arange(count), :4, wrong] += 6
    clips.embeddings[np.arange(count), aroused, wrong] -= 6
    clips.embeddings[np.arange(count), aroused, clips.samples.label] += 6
    settings = Settings(rate=0.05, epochs=30, dropout=0.2)
    average, weighted = (trained(kind, clips, 4, settings) for kind in POOLED)
    plain, trusting = (
        right(temporal.scores_of(heads, clips, everyone(clips)), clips, "test")
        for heads in (average, weighted)
    )
    assert isinstance(weighted, PooledHeads)
    assert (weighted.frame_weight[:, 1] > 1).all()
    assert trusting > 0.7
    assert plain < 0.4


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_learns_the_same_and_another_does_not(kind: Kind) -> None:
    clips = embedded_clips()
    one, again, other = (
        trained(kind, clips, 2, dataclasses.replace(QUICK, seed=seed)) for seed in (3, 3, 4)
    )
    assert_same(one, again)
    with pytest.raises(AssertionError):
        assert_same(one, other, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_training_draws_from_no_generator_but_its_own(kind: Kind) -> None:
    clips = embedded_clips(28)
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    one = trained(kind, clips)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(12)
    assert_same(one, trained(kind, clips))


@pytest.mark.parametrize("kind", KINDS)
def test_trained_heads_judge_without_dropout(kind: Kind) -> None:
    clips = embedded_clips(28)
    heads = trained(kind, clips)
    assert not heads.training
    np.testing.assert_array_equal(
        temporal.scores_of(heads, clips, everyone(clips)),
        temporal.scores_of(heads, clips, everyone(clips)),
    )
