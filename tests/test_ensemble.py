"""Ensembles within a modality, the fusion of both, and what is guessed; needs the extra ``train``."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
pytest.importorskip("sklearn", reason="the extra 'train' is not installed")

from occam_sdk.bundle import FusionModel  # noqa: E402
from occam_sdk.fusion import fuse as product_fuse  # noqa: E402
from occam_sdk.types import ModalityScores  # noqa: E402
from training import ensemble, forest, temporal, voice  # noqa: E402
from training.ensemble import AUDIO, VISUAL, WEIGHTS, Mix, fuse, guesses, weight_of  # noqa: E402

from .caches import embedded_clips  # noqa: E402

QUICK = ensemble.Settings(
    temporal.Settings(epochs=1, lstm_epochs=1, hidden=8),
    voice.Settings(epochs=1, hidden=8),
    voice.Settings(epochs=1, hidden=8),
    forest.Settings(n_estimators=3),
)
NOTHING = np.full(7, np.nan, np.float32)


def sure_of(*classes: int) -> np.ndarray:
    """A row of scores for each class; -1 for a clip that shows, or says, nothing."""
    rows = [NOTHING if c < 0 else 0.4 / 7 + 0.6 * np.eye(7, dtype=np.float32)[c] for c in classes]
    return np.array(rows, np.float32)


def first_corpus() -> voice.Voices:
    clips = embedded_clips(42, seed=9)
    return ensemble.voices_of(clips, np.arange(42))


# What an ensemble is made of


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("average", {"average": 1}),
        ("average*50", {"average": 50}),
        ("average * 50", {"average": 50}),
        ("  average*2+weighted*2 ", {"average": 2, "weighted": 2}),
        ("average + average*3", {"average": 4}),
        ("average + lstm + average", {"average": 2, "lstm": 1}),
    ],
)
def test_a_sum_of_kinds_is_read(text: str, needed: dict[str, int]) -> None:
    assert Mix.parse(text, VISUAL).needed() == needed


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "+", "average +", "+ average", "forest", "Average", "average*0", "average*-1",
        "average*1.5", "average**2", "2*average", "average 2", "average*", "average - weighted",
        "average*2*2", "average, weighted",
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match=r"'a\*2 \+ b' of frames, average, weighted, lstm"):
        Mix.parse(text, VISUAL)


def test_every_member_counts_the_same() -> None:
    of = {"average": sure_of(0, 1, 2)[:, None], "weighted": sure_of(5)[:, None]}
    got = Mix.parse("average*3 + weighted", VISUAL).scores(of)
    np.testing.assert_allclose(got, sure_of(0, 1, 2, 5).mean(0, keepdims=True), rtol=1e-6)


def test_the_first_members_are_taken() -> None:
    of = {"average": sure_of(0, 1, 2)[:, None]}
    got = Mix.parse("average*2", VISUAL).scores(of)
    np.testing.assert_allclose(got, sure_of(0, 1).mean(0, keepdims=True), rtol=1e-6)


def test_a_clip_without_a_face_has_no_scores_in_an_ensemble_either() -> None:
    of = {"average": np.stack([sure_of(0, -1)] * 2)}
    got = Mix.parse("average*2", VISUAL).scores(of)
    assert np.isnan(got).any(1).tolist() == [False, True]


def test_more_members_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="4 of average are asked for, 2 are there"):
        Mix.parse("average*4", VISUAL).scores({"average": np.stack([sure_of(0)] * 2)})


# Members


@pytest.mark.parametrize("kind", [*temporal.KINDS, *AUDIO])
def test_a_kind_is_trained_on_some_clips_and_judges_all_of_them(kind: str) -> None:
    clips = embedded_clips(56, frames=np.arange(56) % 3, pieces=np.arange(56) % 4)
    train = np.flatnonzero(clips.samples.split == "train")
    trained = ensemble.train(clips, train, kind, 2, QUICK, first_corpus())
    missing = np.arange(56) % (4 if kind in AUDIO else 3) == 0
    assert trained.scores.shape == (2, 56, 7)
    assert (np.isnan(trained.scores).all((0, 2)) == missing).all()
    np.testing.assert_allclose(trained.scores[:, ~missing].sum(-1), 1, rtol=1e-5)
    assert np.abs(trained.scores[0, ~missing] - trained.scores[1, ~missing]).max() > 1e-4
    assert trained.seconds > 0


def test_frames_is_the_mean_of_the_frames_own_scores_and_learns_nothing() -> None:
    clips = embedded_clips(28)
    trained = ensemble.train(clips, np.array([], np.int64), "frames", 1, QUICK)
    np.testing.assert_array_equal(trained.scores, clips.frame_scores[None])
    assert len(trained.models) == 0


@pytest.mark.parametrize("kind", AUDIO)
def test_a_voice_does_not_depend_on_how_many_are_trained_after_it(kind: str) -> None:
    clips, rows = embedded_clips(28), np.arange(14)
    one, two = (ensemble.train(clips, rows, kind, count, QUICK, first_corpus()) for count in (1, 2))
    np.testing.assert_allclose(two.scores[:1], one.scores, rtol=1e-5)


@pytest.mark.parametrize("kind", ["average", "weighted", "lstm", "mlp", "tuned", "forest"])
def test_two_seeds_have_no_member_in_common(kind: str) -> None:
    clips, rows = embedded_clips(56), np.arange(28)
    scores = [
        ensemble.train(clips, rows, kind, 3, QUICK.with_seed(seed), first_corpus()).scores
        for seed in (0, 1)
    ]
    for one in scores[0]:
        for other in scores[1]:
            assert np.abs(one - other).max() > 1e-4


def test_the_pretrained_perceptron_learns_the_other_corpus_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[tuple[int, bool]] = []
    train = voice.train

    def recording(
        voices: voice.Voices, settings: voice.Settings, start: voice.VoiceNetwork | None = None
    ) -> voice.VoiceNetwork:
        heard.append((len(voices.label), start is not None))
        return train(voices, settings, start)

    monkeypatch.setattr(voice, "train", recording)
    ensemble.train(embedded_clips(28), np.arange(21), "tuned", 2, QUICK, first_corpus())
    assert heard == [(42, False), (21, True)] * 2


def test_what_cannot_be_trained_is_refused() -> None:
    clips, rows = embedded_clips(28), np.arange(14)
    with pytest.raises(ValueError, match=r"frames, average, .*, forest, got 'svm'"):
        ensemble.train(clips, rows, "svm", 1, QUICK)
    with pytest.raises(ValueError, match="no corpus to pre-train on"):
        ensemble.train(clips, rows, "tuned", 1, QUICK)
    for kind, missing in (("forest", "voice"), ("mlp", "voice"), ("average", "face")):
        empty = embedded_clips(28, frames=0, pieces=0)
        with pytest.raises(ValueError, match=f"made: no clip with a label and a {missing}"):
            ensemble.train(empty, rows, kind, 1, QUICK)


def test_a_corpus_to_pretrain_on_that_has_sound_of_the_clips_is_refused() -> None:
    """As RAVDESS has, of which the stand-in is made: what is judged would have been learnt from."""
    clips = embedded_clips(28)
    ensemble.check_apart(clips, None)
    ensemble.check_apart(clips, first_corpus())
    shared = dataclasses.replace(first_corpus(), features=first_corpus().features.copy())
    shared.features[[3, 5]] = clips.voices[[20, 1]]
    with pytest.raises(ValueError, match="made: 2 of its pieces of sound are in the corpus"):
        ensemble.check_apart(clips, shared)


def test_a_corpus_to_pretrain_on_with_other_features_is_refused() -> None:
    narrow = dataclasses.replace(first_corpus(), features=first_corpus().features[:, :256].copy())
    with pytest.raises(
        ValueError, match=r"made: has 1582 features .* pre-train on 256; prepare both"
    ):
        ensemble.check_apart(embedded_clips(28), narrow)


# Voices of clips


def test_every_piece_of_sound_is_an_utterance_of_its_clips_class() -> None:
    pieces = np.array([0, 1, 3, 2, 0, 1, 2])
    clips = embedded_clips(7, pieces=pieces)
    clips.samples.label[3] = -1
    heard = ensemble.voices_of(clips, np.array([0, 2, 3, 5]))
    assert heard.label.tolist() == [2, 2, 2, 5]
    np.testing.assert_array_equal(heard.features, clips.voices[[1, 2, 3, 6]])
    assert heard.speaker.tolist() == clips.samples.subject[[2, 2, 2, 5]].tolist()


def test_a_clips_voice_is_the_mean_of_its_pieces_and_of_silence_nothing_is_known() -> None:
    clips = embedded_clips(3, pieces=np.array([0, 1, 3]))

    class Says(torch.nn.Module):
        """The class that is written into the first feature."""

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return torch.log(torch.from_numpy(sure_of(*features[:, 0].int().tolist())))

    clips.voices[:, 0] = [4, 1, 1, 6]
    got = ensemble.voice_scores(Says(), clips)  # type: ignore[arg-type]
    assert np.isnan(got[0]).all()
    np.testing.assert_allclose(got[1:2], sure_of(4), rtol=1e-5)
    np.testing.assert_allclose(got[2], sure_of(1, 1, 6).mean(0), rtol=1e-5)
    warm = ensemble.voice_scores(Says(), clips, temperature=2.0)  # type: ignore[arg-type]
    rooted = np.sqrt(sure_of(4))
    np.testing.assert_allclose(warm[1:2], rooted / rooted.sum(), rtol=1e-5)


def test_where_nobody_speaks_every_voice_is_unknown() -> None:
    clips = embedded_clips(14, pieces=0)
    speaker = voice.train(first_corpus(), voice.Settings(epochs=1))
    assert np.isnan(ensemble.voice_scores(speaker, clips)).all()


# Fusion


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
def test_the_fusion_is_the_products(weight: float) -> None:
    """Also where a modality is missing: its weight goes to the other."""
    visual, audio = sure_of(0, 1, -1, -1), sure_of(2, -1, 3, -1)
    got = fuse(visual, audio, weight)
    for clip in range(4):
        face, heard = (
            None if np.isnan(s[clip]).any() else ModalityScores(s[clip]) for s in (visual, audio)
        )
        wanted = product_fuse(face, heard, FusionModel(weight, 1 - weight)).scores
        np.testing.assert_allclose(got[clip], NOTHING if wanted is None else wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("asked", "weight"), [("mean", 0.5), ("0", 0.0), ("1", 1.0), ("0.65", 0.65), ("1e-1", 0.1)]
)
def test_a_weight_can_be_given(asked: str, weight: float) -> None:
    """Then no clip is looked at."""
    empty = np.zeros((0, 7), np.float32)
    assert weight_of(asked, empty, empty, np.zeros(0, np.int64)) == weight


@pytest.mark.parametrize("asked", ["", "half", "-0.1", "1.1", "nan", "inf", "0,5", "Learned"])
def test_another_weight_is_refused(asked: str) -> None:
    with pytest.raises(ValueError, match="'mean', 'learned' or a number from 0 to 1"):
        weight_of(asked, sure_of(0), sure_of(0), np.array([0]))


@pytest.mark.parametrize(("better", "weight"), [("visual", 0.55), ("audio", 0.45)])
def test_the_learned_weight_is_the_least_that_lets_the_better_modality_win(
    better: str, weight: float
) -> None:
    """All weights beyond a half are right equally often: the one nearest to it is taken."""
    right, wrong = sure_of(3, 4, 5), sure_of(0, 1, 2)  # of equal scores the first class is guessed
    both = (right, wrong) if better == "visual" else (wrong, right)
    assert weight_of("learned", *both, np.array([3, 4, 5])) == pytest.approx(weight)


def test_of_weights_that_are_all_right_the_half_is_learned() -> None:
    assert weight_of("learned", sure_of(0, 1), sure_of(0, 1), np.array([0, 1])) == 0.5
    assert weight_of("learned", sure_of(0, 1), sure_of(0, 1), np.array([2, 3])) == 0.5


def test_no_other_weight_is_right_more_often_than_the_learned_one() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(7, size=200)

    def modality(clarity: float) -> np.ndarray:
        raw = rng.random((200, 7)) + clarity * np.eye(7)[label] * (rng.random((200, 1)) < 0.7)
        return np.asarray(raw / raw.sum(1, keepdims=True), np.float32)

    visual, audio = modality(0.7), modality(0.4)
    right = {
        weight: int((fuse(visual, audio, weight).argmax(1) == label).sum())
        for weight in WEIGHTS.tolist()
    }
    learned = weight_of("learned", visual, audio, label)
    assert right[learned] == max(right.values())
    ties = [weight for weight, count in right.items() if count == right[learned]]
    assert abs(learned - 0.5) == min(abs(weight - 0.5) for weight in ties)


def test_the_weight_is_learned_on_clips_with_a_label_a_face_and_a_voice() -> None:
    label = np.array([3, 4, 2, 2, -1])
    visual = sure_of(3, 4, 2, -1, 6)
    audio = sure_of(0, 1, -1, 2, 6)
    assert weight_of("learned", visual, audio, label) == pytest.approx(0.55)
    with pytest.raises(ValueError, match="no clip to choose on has a face and a voice"):
        weight_of("learned", visual[2:], audio[2:], label[2:])


# Guesses


def test_a_guess_is_the_highest_score_and_something_else_where_nothing_is_known() -> None:
    assert guesses(sure_of(3, -1, 0), otherwise=5).tolist() == [3, 5, 0]
    assert guesses(np.stack([sure_of(3, -1), sure_of(2, 1)]), -1).tolist() == [[3, -1], [2, 1]]


def test_the_settings_of_a_seed_differ_in_nothing_but_the_seed() -> None:
    seeded = QUICK.with_seed(7)
    for name, seed in (("temporal", "seed"), ("mlp", "seed"), ("tuned", "seed")):
        wanted = dataclasses.replace(getattr(QUICK, name), **{seed: 7})
        assert getattr(seeded, name) == wanted
    assert seeded.forest == dataclasses.replace(QUICK.forest, random_state=7)
