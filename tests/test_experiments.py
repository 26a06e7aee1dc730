"""The protocol of Tables 3 and 4: who learns from whom, and going on after a kill; needs ``train``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")

from training import ensemble, experiments, voice  # noqa: E402
from training.clips import Clips  # noqa: E402
from training.ensemble import AUDIO, VISUAL  # noqa: E402
from training.experiments import Settings  # noqa: E402

from .caches import embedded_clips  # noqa: E402

FEW = Settings(seeds=2, ensemble=3, folds=2)


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """A training that was asked for."""

    rows: NDArray[np.int64]
    kind: str
    count: int
    seed: int


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What is trained, in order; every score that the i-th training gives is i."""
    made: list[Call] = []

    def train(
        clips: Clips,
        rows: NDArray[np.int64],
        kind: str,
        count: int,
        settings: ensemble.Settings,
        first_corpus: voice.Voices | None = None,
    ) -> ensemble.Trained:
        made.append(Call(rows, kind, count, settings.temporal.seed))
        assert settings == ensemble.Settings().with_seed(settings.temporal.seed)
        scores = np.full((count, len(clips), 7), len(made) - 1, np.float32)
        return ensemble.Trained((), scores, 1.5)

    monkeypatch.setattr(ensemble, "train", train)
    return made


def pretraining() -> voice.Voices:
    return ensemble.voices_of(embedded_clips(14, seed=9), np.arange(14))


def run(out: Path, clips: Clips, settings: Settings = FEW) -> experiments.Results:
    return experiments.run(clips, pretraining(), settings, out)


# Who learns from whom


def test_train_and_both_learn_from_what_their_names_say_and_never_from_test(
    calls: list[Call], tmp_path: Path
) -> None:
    clips = embedded_clips()
    clips.samples.label[:3] = -1
    results = run(tmp_path, clips, dataclasses.replace(FEW, seeds=1))
    split = clips.samples.split
    for (way, kind), scores in results.scores.items():
        for which in np.unique(scores[~np.isnan(scores)]).astype(int).tolist():
            call = calls[which]
            assert call.kind == kind
            learnt = {"train": ["train"], "both": ["train", "valid"], "folds": ["train", "valid"]}
            assert set(split[call.rows]) <= set(learnt[way])
            if way == "both":
                assert len(call.rows) == 60  # all that have a label


def test_in_cross_validation_nobody_is_judged_by_what_has_learnt_from_them(
    calls: list[Call], tmp_path: Path
) -> None:
    clips = embedded_clips(168)
    results = run(tmp_path, clips)
    subject, split = clips.samples.subject, clips.samples.split
    for kind in (*VISUAL, *AUDIO):
        for scores in results.scores["folds", kind]:
            judged = scores[0, :, 0]
            assert (~np.isnan(judged) == (split != "test")).all()
            assert len(np.unique(judged[split != "test"])) == FEW.folds
            for clip in np.flatnonzero(split != "test"):
                learnt = calls[int(judged[clip])]
                assert learnt.kind == kind
                assert subject[clip] not in subject[learnt.rows]


def test_in_cross_validation_all_the_other_labelled_clips_are_learnt_from(
    calls: list[Call], tmp_path: Path
) -> None:
    clips = embedded_clips(168)
    clips.samples.label[::10] = -1
    results = run(tmp_path, clips, dataclasses.replace(FEW, seeds=1))
    usable = (clips.samples.split != "test") & (clips.samples.label >= 0)
    judged = results.scores["folds", "average"][0, 0, :, 0]
    assert (~np.isnan(judged) == usable).all()
    for which in np.unique(judged[usable]).astype(int):
        wanted = np.flatnonzero(usable & (judged != which))
        np.testing.assert_array_equal(calls[which].rows, wanted)


def test_each_seed_has_folds_of_its_own(calls: list[Call], tmp_path: Path) -> None:
    clips = embedded_clips(840)
    clips.samples.subject[:] = [f"{i % 60}" for i in range(840)]
    results = run(tmp_path, clips)
    one, other = results.scores["folds", "average"][:, 0, :, 0]
    usable = clips.samples.split != "test"
    assert len(np.unique(np.stack([one, other])[:, usable], axis=1).T) > FEW.folds


def test_a_seed_has_the_members_that_the_tables_need(calls: list[Call], tmp_path: Path) -> None:
    results = run(tmp_path, embedded_clips(), Settings(seeds=1, ensemble=50, folds=2))
    counts = {key: scores.shape[1] for key, scores in results.scores.items()}
    assert counts["train", "average"] == counts["train", "weighted"] == 50
    assert counts["train", "tuned"] == counts["both", "tuned"] == 2  # submissions 4 to 6
    assert counts["both", "average"] == 4  # submission 7
    assert results.seconds["train", "average"] == 1.5
    assert results.seconds["folds", "average"] == 3.0  # of both folds
    assert set(results.kinds) == {*VISUAL, *AUDIO}


@pytest.mark.parametrize(
    ("frames", "pieces", "first", "kinds"),
    [
        (0, 1, True, set(AUDIO)),
        (16, 0, True, set(VISUAL)),
        (16, 1, False, {*VISUAL, *AUDIO} - {"tuned"}),
    ],
    ids=["no face", "no voice", "nothing to pre-train on"],
)
def test_what_cannot_be_trained_is_left_out(
    frames: int, pieces: int, first: bool, kinds: set[str], calls: list[Call], tmp_path: Path
) -> None:
    clips = embedded_clips(frames=frames, pieces=pieces)
    results = experiments.run(clips, pretraining() if first else None, FEW, tmp_path)
    assert set(results.kinds) == kinds == {call.kind for call in calls}


def test_without_folds_there_is_no_cross_validation(calls: list[Call], tmp_path: Path) -> None:
    results = run(tmp_path, embedded_clips(), dataclasses.replace(FEW, folds=0))
    assert {way for way, _ in results.scores} == {"train", "both"}


# A folder of seeds


def test_what_is_there_is_not_trained_again(calls: list[Call], tmp_path: Path) -> None:
    clips = embedded_clips()
    run(tmp_path, clips, dataclasses.replace(FEW, seeds=1))
    first = tmp_path / "seed-000.npz"
    before, known = first.stat().st_mtime_ns, len(calls)
    run(tmp_path, clips)
    assert {call.seed for call in calls[known:]} == {1}
    assert first.stat().st_mtime_ns == before
    known = len(calls)
    assert len(run(tmp_path, clips, dataclasses.replace(FEW, seeds=1)).scores["train", "lstm"]) == 1
    assert len(calls) == known
    starts = [json.loads(line) for line in (tmp_path / "starts.jsonl").read_text().splitlines()]
    assert len(starts) == 3
    assert all("commit" in start for start in starts)


def test_a_run_that_was_killed_ends_as_an_unbroken_one(
    calls: list[Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = embedded_clips()
    whole = run(tmp_path / "whole", clips)
    train, of_a_seed = ensemble.train, len(calls) // FEW.seeds
    calls.clear()

    def dies(*given: object) -> ensemble.Trained:
        trained = train(*given)  # type: ignore[arg-type]
        if len(calls) == of_a_seed + 3:
            raise KeyboardInterrupt
        return trained

    monkeypatch.setattr(ensemble, "train", dies)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", clips)
    assert {path.name for path in (tmp_path / "broken").glob("seed*")} == {"seed-000.npz"}
    monkeypatch.setattr(ensemble, "train", train)
    del calls[of_a_seed:]
    resumed = run(tmp_path / "broken", clips)
    assert {call.seed for call in calls[of_a_seed:]} == {1}
    for key, scores in whole.scores.items():
        np.testing.assert_array_equal(resumed.scores[key], scores)


def test_a_file_that_was_not_finished_counts_for_nothing(calls: list[Call], tmp_path: Path) -> None:
    (tmp_path / "seed-000.partial.npz").write_bytes(b"half of it")
    results = run(tmp_path, embedded_clips())
    assert len(results.scores["train", "average"]) == 2


CHANGES: dict[str, Callable[[Clips], tuple[Clips, voice.Voices | None, Settings]]] = {
    "other clips": lambda clips: (
        dataclasses.replace(clips, inputs={**clips.inputs, "clips": "others"}), pretraining(), FEW,
    ),
    "another network": lambda clips: (
        dataclasses.replace(clips, inputs={**clips.inputs, "network": "another"}), pretraining(), FEW,
    ),
    "nothing to pre-train on": lambda clips: (clips, None, FEW),
    "other labels to pre-train on": lambda clips: (
        clips, dataclasses.replace(pretraining(), label=pretraining().label[::-1].copy()), FEW,
    ),
    "another ensemble": lambda clips: (
        clips, pretraining(), dataclasses.replace(FEW, ensemble=4),
    ),
    "other folds": lambda clips: (clips, pretraining(), dataclasses.replace(FEW, folds=0)),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_figures_of_something_else_are_not_mixed_in(
    change: str, calls: list[Call], tmp_path: Path
) -> None:
    clips = embedded_clips()
    run(tmp_path, clips)
    known = len(calls)
    other, first, settings = CHANGES[change](clips)
    with pytest.raises(ValueError, match="other settings"):
        experiments.run(other, first, settings, tmp_path)
    assert len(calls) == known


# What is refused


@pytest.mark.parametrize(
    "wrong", [{"seeds": 0}, {"ensemble": 0}, {"folds": 1}, {"folds": -1}, {"seeds": -3}]
)
def test_no_seed_no_head_or_a_single_fold_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected 1 seed"):
        Settings(**wrong)


@pytest.mark.parametrize("missing", ["train", "valid"])
def test_without_labels_of_a_part_it_says_so(
    missing: str, calls: list[Call], tmp_path: Path
) -> None:
    clips = embedded_clips()
    clips.samples.label[clips.samples.split == missing] = -1
    with pytest.raises(ValueError, match="labelled clips of Train and of Valid"):
        run(tmp_path / "out", clips)
    assert not calls
    assert not (tmp_path / "out").exists()


def test_without_faces_and_voices_it_says_so(calls: list[Call], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no clip shows a face or has a voice"):
        run(tmp_path, embedded_clips(frames=0, pieces=0))


def test_a_corpus_to_pretrain_on_that_has_sound_of_the_clips_is_refused(
    calls: list[Call], tmp_path: Path
) -> None:
    clips = embedded_clips()
    with pytest.raises(ValueError, match="pre-train on another"):
        experiments.run(clips, ensemble.voices_of(clips, np.arange(7)), FEW, tmp_path)
    assert not calls


def test_too_few_subjects_for_the_folds_are_named_before_anything_is_trained(
    calls: list[Call], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="from 2 to 4 folds, one subject in each"):
        run(tmp_path / "out", embedded_clips(), dataclasses.replace(FEW, folds=5))
    assert not calls
    assert not (tmp_path / "out").exists()
