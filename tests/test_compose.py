"""A row of Table 4 made to be shipped: what the product computes of it; needs the extra ``train``."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
pytest.importorskip("sklearn", reason="the extra 'train' is not installed")

from occam_sdk.bundle import EMBEDDING, FaceModel, FusionModel, LinearHeads  # noqa: E402
from occam_sdk.fusion import fuse  # noqa: E402
from occam_sdk.scores import softmax  # noqa: E402
from occam_sdk.types import FrameScores, ModalityScores  # noqa: E402
from occam_sdk.video.aggregate import aggregate  # noqa: E402
from training import compose, ensemble, voice  # noqa: E402
from training.clips import CHUNKS, Clips  # noqa: E402
from training.compose import Composition, Settings  # noqa: E402

from .bundles import TEMPLATE  # noqa: E402
from .caches import embedded_clips  # noqa: E402

PAPERS_THIRD = Settings(visual="average*2 + weighted*2", audio="forest + tuned")


def some_clips(seed: int = 0, signal: float = 0.7) -> Clips:
    """Some without a face, some without a voice, one without either."""
    number = np.arange(112)
    return embedded_clips(
        112, frames=number % 5 * 4, pieces=number % 4, signal=signal, seed=seed
    )  # fmt: skip


def pretraining() -> voice.Voices:
    return ensemble.voices_of(embedded_clips(42, seed=9), np.arange(42))


def said_by_the_product(composition: Composition, clips: Clips, clip: int) -> np.ndarray:
    """Scores by the product's own aggregation and fusion, NaN for a clip without evidence."""
    zeros = {
        "valence_arousal_weight": np.zeros((2, EMBEDDING), np.float32),
        "valence_arousal_bias": np.zeros(2, np.float32),
    }
    model = FaceModel(
        input_size=64,
        mean=0.5,
        std=0.25,
        template=np.array(TEMPLATE, np.float32),
        chunks=CHUNKS,
        temperature=composition.face_temperature,
        heads=LinearHeads(**composition.heads, **zeros),
    )
    there = clips.chosen[clip]
    frames = FrameScores(
        times_s=np.arange(there.sum()) / 25,
        scores=np.full((there.sum(), 7), 1 / 7, np.float32),
        valence_arousal=clips.valence_arousal[clip][there],
        embeddings=clips.embeddings[clip][there],
    )
    first = clips.samples.voices[:clip].sum()
    pieces = clips.voices[first : first + clips.samples.voices[clip]]
    heard = None
    if len(pieces):
        logits = voice.logits_of(composition.voice, pieces) / composition.voice_temperature
        heard = ModalityScores(softmax(logits.astype(np.float32)).mean(0))
    weights = FusionModel(composition.face_weight, 1 - composition.face_weight)
    scores = fuse(aggregate(frames, model), heard, weights).scores
    return np.full(7, np.nan) if scores is None else scores


# What a row is


@pytest.mark.parametrize(
    "settings",
    [
        Settings("average", "tuned"),
        Settings("weighted*2", "mlp*2", weight="0.3"),
        Settings("average*3", "forest", weight="mean"),
        PAPERS_THIRD,
        Settings("weighted + average + weighted", "mlp + forest"),
    ],
    ids=lambda settings: f"{settings.visual} | {settings.audio}",
)
def test_the_product_says_what_training_says(settings: Settings) -> None:
    clips = some_clips()
    composition, scores = compose.compose(clips, pretraining(), settings)
    wanted = [said_by_the_product(composition, clips, clip) for clip in range(len(clips))]
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-6)
    assert np.isnan(scores[0]).all()


def test_plain_and_weighted_heads_go_into_one_ensemble() -> None:
    composition, _ = compose.compose(some_clips(), pretraining(), PAPERS_THIRD)
    heads = composition.heads
    assert heads["emotion_weight"].shape == (4, 7, EMBEDDING)
    assert heads["frame_weight"].shape == (4, 2)
    assert np.any(heads["frame_weight"] != 0, axis=1).tolist() == [False, False, True, True]
    assert {array.dtype for array in heads.values()} == {np.dtype(np.float32)}


def test_heads_that_only_average_bring_no_frame_weights() -> None:
    composition, _ = compose.compose(some_clips(), None, Settings("average*2", "mlp"))
    assert set(composition.heads) == {"emotion_weight", "emotion_bias"}


def test_every_member_of_the_voice_is_in_it() -> None:
    composition, _ = compose.compose(
        some_clips(), pretraining(), Settings(audio="forest*2 + tuned")
    )
    assert composition.voice.architecture == (
        "mean of random-forest and random-forest and mlp-1582-64-7"
    )


# What is chosen, and on what


def test_weight_and_temperatures_are_of_valid_and_nothing_is_of_test() -> None:
    clips = some_clips()
    changed = dataclasses.replace(
        clips, embeddings=clips.embeddings.copy(), voices=clips.voices.copy()
    )
    test = clips.samples.split == "test"
    changed.embeddings[test] *= -3
    changed.voices[test[np.repeat(np.arange(len(clips)), clips.samples.voices)]] *= -3
    changed.samples.label[test] = 0
    one, other = (compose.compose(c, None, Settings())[0] for c in (clips, changed))
    for name, array in one.heads.items():
        np.testing.assert_array_equal(other.heads[name], array)
    for name in ("face_temperature", "voice_temperature", "face_weight"):
        assert getattr(one, name) == getattr(other, name)


def test_the_temperature_is_the_one_that_makes_valid_likeliest() -> None:
    clips = some_clips()
    composition, _ = compose.compose(clips, None, Settings())
    label = clips.samples.label
    valid = np.flatnonzero((clips.samples.split == "valid") & (clips.samples.voices > 0))

    def likelihood(temperature: float) -> float:
        scores = ensemble.voice_scores(composition.voice, clips, temperature)
        return float(np.log(scores[valid, label[valid]]).mean())

    fitted = composition.voice_temperature
    assert likelihood(fitted) >= max(likelihood(0.9 * fitted), likelihood(1.1 * fitted))


def test_where_the_labels_are_chance_the_face_is_less_sure() -> None:
    clear, vague = some_clips(signal=2.0), some_clips(signal=2.0)
    valid = np.flatnonzero(vague.samples.split == "valid")
    vague.samples.label[valid] = np.random.default_rng(0).integers(7, size=len(valid))
    sure, unsure = (compose.compose(c, None, Settings())[0] for c in (clear, vague))
    assert sure.face_temperature < 1 < unsure.face_temperature


def test_the_weight_goes_to_the_modality_that_is_right() -> None:
    clips = embedded_clips(112, signal=2.0)
    deaf = dataclasses.replace(clips, voices=np.zeros_like(clips.voices))
    composition, _ = compose.compose(deaf, None, Settings())
    assert composition.face_weight >= 0.5
    given, _ = compose.compose(deaf, None, Settings(weight="0.2"))
    assert given.face_weight == 0.2


def test_the_same_seed_composes_the_same_and_another_does_not() -> None:
    clips = some_clips()
    one, again, other = (
        compose.compose(clips, None, Settings("weighted", "mlp", seed=seed))[1]
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, again)
    assert np.nanmax(np.abs(one - other)) > 1e-3


# What is refused


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"visual": "lstm"}, "of average, weighted, got 'lstm'"),
        ({"visual": "average + lstm"}, "of average, weighted, got 'lstm'"),
        ({"visual": "frames"}, "of average, weighted, got 'frames'"),
        ({"audio": "average"}, "of mlp, tuned, forest, got 'average'"),
        ({"audio": ""}, "of mlp, tuned, forest"),
        ({"weight": "2"}, "'mean', 'learned' or a number from 0 to 1, got '2'"),
    ],
)
def test_a_row_that_cannot_be_shipped_is_refused_before_anything_is_trained(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**wrong)


def test_what_cannot_be_composed_is_named() -> None:
    clips = some_clips()
    with pytest.raises(ValueError, match="no corpus to pre-train on"):
        compose.compose(clips, None, Settings(audio="tuned"))
    own = ensemble.voices_of(clips, np.arange(len(clips)))
    with pytest.raises(ValueError, match="are in the corpus to pre-train on as well"):
        compose.compose(clips, own, Settings(audio="tuned"))
    for missing in ("train", "valid"):
        clips = some_clips()
        clips.samples.label[clips.samples.split == missing] = -1
        with pytest.raises(ValueError, match=r"made: (needs|no clip)"):
            compose.compose(clips, None, Settings())
    with pytest.raises(ValueError, match="made: no clip with a label and a voice"):
        compose.compose(embedded_clips(56, pieces=0), None, Settings())
    with pytest.raises(ValueError, match="made: no clip with a label and a face"):
        compose.compose(embedded_clips(56, frames=0), None, Settings())


# On disk


@pytest.mark.parametrize("settings", [Settings("average", "mlp"), PAPERS_THIRD])
def test_a_composition_comes_back_as_it_was(settings: Settings, tmp_path: Path) -> None:
    clips = some_clips()
    composition, _ = compose.compose(clips, pretraining(), settings)
    compose.save(composition, tmp_path)
    back = compose.load(tmp_path)
    assert set(back.heads) == set(composition.heads)
    for name, array in composition.heads.items():
        np.testing.assert_array_equal(back.heads[name], array)
    for name in ("face_temperature", "voice_temperature", "face_weight"):
        assert getattr(back, name) == getattr(composition, name)
    np.testing.assert_array_equal(
        voice.logits_of(back.voice, clips.voices), voice.logits_of(composition.voice, clips.voices)
    )


def test_one_that_was_not_finished_is_none(tmp_path: Path) -> None:
    (tmp_path / "heads.npz").write_bytes(b"half of it")
    with pytest.raises(FileNotFoundError, match=r"python -m training\.compose"):
        compose.load(tmp_path)


# The command


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The command on the small clips, composing into ``tmp_path/run``; options are added to it."""
    monkeypatch.setattr(compose, "load_clips", lambda *_: some_clips())
    monkeypatch.setattr(compose.voice, "load_voices", lambda _: pretraining())
    argv = ["compose", "--clips", "clips", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", argv)
    return argv


def test_the_command_leaves_a_composition_and_its_figures(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command += ["--visual", "average*2", "--audio", "tuned", "--pretrain", "first"]
    compose.main()
    assert len(compose.load(tmp_path / "run").heads["emotion_bias"]) == 2
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    for part in ("valid", "test"):
        assert report[part]["clips"] == 28
        low, high = report[part]["accuracy_95_wilson"]
        assert low < report[part]["accuracy"] < high
        assert 0 <= report[part]["uar"] <= 1
    assert 0 <= report["face_weight"] <= 1
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["visual"] == "average*2"
    assert settings["data"] == some_clips().inputs
    assert '"face_weight"' in capsys.readouterr().out


def test_a_folder_is_not_composed_into_twice_with_other_settings(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compose.main()
    compose.main()
    command += ["--seed", "1"]
    with pytest.raises(SystemExit):
        compose.main()
    assert "other settings (seed)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--visual", "lstm"], "of average, weighted, got 'lstm'"),
        (["--audio", "tuned"], "'tuned' needs --pretrain"),
        (["--weight", "much"], "'mean', 'learned' or a number"),
    ],
)
def test_a_mistake_is_named_and_does_not_take_the_folder(
    options: list[str],
    message: str,
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command += options
    with pytest.raises(SystemExit) as exit_:
        compose.main()
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_clip_without_evidence_counts_as_wrong() -> None:
    scores = np.full((4, 7), np.nan, np.float32)
    scores[:2] = np.eye(7)[[0, 1]]
    got = compose.figures(scores, np.array([0, 1, 0, 1]))
    assert got["accuracy"] == got["uar"] == 0.5
