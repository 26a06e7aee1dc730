"""The face network's training on small data made here; needs the extra ``train``."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")

from occam_sdk.backends import open_session  # noqa: E402
from occam_sdk.bundle import DEFAULT_BUNDLE, load_bundle  # noqa: E402
from occam_sdk.labels import FERPLUS_LABELS, LABELS  # noqa: E402
from training import distil, face, fit, judge, shipped  # noqa: E402
from training.augment import augment  # noqa: E402
from training.clips import open_network  # noqa: E402
from training.faces import Batch, LabelledFaces  # noqa: E402
from training.network import ARCHITECTURES, HEADS, FaceNetwork, cost  # noqa: E402
from training.runs import Run  # noqa: E402

from .caches import SIZE, face_cache, striped, write_cache  # noqa: E402

ROOT = Path(__file__).parents[1]
SETTINGS = face.Settings(epochs=2, batch=35, warmup_epochs=1, average_decay=0.5)


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return face_cache(tmp_path / "striped")


def large_cache(folder: Path) -> Path:
    """Faces of the size that ``resnet18`` takes, to learn from and to choose on."""
    return write_cache(
        folder, "face", label=np.arange(84) % 7, split=np.repeat(["train", "valid"], 42),
        pixels=np.zeros((84, 224, 224), np.uint8),
    )  # fmt: skip


def rows_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def assert_same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


# The networks


@pytest.mark.parametrize(
    ("name", "most_parameters", "most_operations"),
    [
        ("resnet-lite", 2.0e6, 180e6),
        ("resnet18", 11.3e6, 1.82e9),
    ],
)
def test_a_network_costs_what_table_2_allows(
    name: str, most_parameters: float, most_operations: float
) -> None:
    parameters, operations = cost(name)
    assert 0.8 * most_parameters < parameters <= most_parameters
    assert 0.4 * most_operations < operations <= most_operations


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_gives_an_embedding_and_three_heads(name: str) -> None:
    size = ARCHITECTURES[name].size
    out = FaceNetwork(name).eval()(torch.zeros(2, 1, size, size))
    assert {key: tuple(value.shape) for key, value in out.items()} == {
        "embedding": (2, 512),
        "emotion": (2, 7),
        "valence_arousal": (2, 2),
        "ferplus": (2, 8),
    }
    assert set(HEADS) < set(out)


def test_augmentation_keeps_shape_and_range_and_repeats_with_its_seed() -> None:
    pictures = torch.rand(16, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    once = augment(pictures, torch.Generator().manual_seed(2))
    again = augment(pictures, torch.Generator().manual_seed(2))
    assert once.shape == pictures.shape
    assert once.min() >= 0
    assert once.max() <= 1
    assert torch.equal(once, again)
    assert not torch.equal(once, augment(pictures, torch.Generator().manual_seed(3)))


def test_a_weaker_augmentation_changes_faces_less_and_none_not_at_all() -> None:
    pictures = torch.from_numpy(striped(np.arange(64) % 7))[:, None].float() / 255
    pictures = pictures[:, :, :, :1].expand(
        -1, -1, -1, SIZE
    )  # every column alike: mirroring is nothing

    def change(strength: float) -> float:
        changed = augment(pictures, torch.Generator().manual_seed(2), strength)
        return float((changed - pictures).abs().mean())

    assert 0 == change(0) < change(0.2) < change(0.6) < change(1)


# The loss


def _out(count: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = {"emotion": 7, "ferplus": 8, "valence_arousal": 2}
    return {
        name: torch.randn(count, size, generator=generator, requires_grad=True)
        for name, size in sizes.items()
    }


def _batch(label: list[int], votes: torch.Tensor, valence_arousal: torch.Tensor) -> Batch:
    empty = torch.zeros(len(label), SIZE, SIZE, dtype=torch.uint8)
    return Batch(empty, torch.tensor(label), votes, valence_arousal)


PRIOR = torch.full((7,), 1 / 7)


def test_a_missing_target_is_not_counted_and_moves_nothing() -> None:
    out = _out(4)
    votes = torch.zeros(4, 8)
    votes[0, 3] = 10
    rated = torch.full((4, 2), torch.nan)
    rated[3] = torch.tensor([0.5, -0.5])
    sums, counts = fit.loss_parts(out, _batch([1, -1, 2, -1], votes, rated), PRIOR, SETTINGS)
    assert counts.tolist() == [2, 1, 1]
    sums.sum().backward()  # type: ignore[no-untyped-call]
    moved = {
        name: value.grad.abs().sum(1) > 0 for name, value in out.items() if value.grad is not None
    }
    assert moved["emotion"].tolist() == [True, False, True, False]
    assert moved["ferplus"].tolist() == [True, False, False, False]
    assert moved["valence_arousal"].tolist() == [False, False, False, True]


def test_a_batch_without_any_target_costs_nothing() -> None:
    nothing = torch.full((2, 2), torch.nan)
    sums, counts = fit.loss_parts(
        _out(2), _batch([-1, -1], torch.zeros(2, 8), nothing), PRIOR, SETTINGS
    )
    assert sums.tolist() == [0, 0, 0]
    assert counts.tolist() == [0, 0, 0]


def test_a_head_of_weight_zero_learns_nothing() -> None:
    out = _out(2)
    settings = dataclasses.replace(SETTINGS, emotion_weight=0.0)
    sums, _ = fit.loss_parts(
        out, _batch([1, 2], torch.ones(2, 8), torch.zeros(2, 2)), PRIOR, settings
    )
    sums.sum().backward()  # type: ignore[no-untyped-call]
    assert (out["emotion"].grad == 0).all()
    assert (out["ferplus"].grad != 0).any()


def test_the_logit_adjustment_lets_a_rare_class_win_sooner() -> None:
    batch = _batch([6], torch.zeros(1, 8), torch.full((1, 2), torch.nan))
    rare = torch.tensor([0.9, 0.02, 0.02, 0.02, 0.02, 0.01, 0.01])
    level, lifted = (
        fit.loss_parts(_out(1), batch, prior, SETTINGS)[0][0] for prior in (PRIOR, rare)
    )
    assert lifted > level  # more is asked of it in training


# The data


def test_twins_are_not_learnt_from_and_contradictions_have_no_label(tmp_path: Path) -> None:
    digest = np.array(["a", "b", "a", "c", "c"])
    split = np.array(["train", "train", "valid", "train", "train"])
    folder = write_cache(
        tmp_path / "x", "face", label=np.array([0, 1, 0, 2, 3]), digest=digest, split=split,
        pixels=striped(np.arange(5)), votes=np.ones((5, 8), np.float32),
    )  # fmt: skip
    data = LabelledFaces([folder])
    assert data.twin.tolist() == [True, False, True, False, False]
    assert data.train_rows().tolist() == [1, 3, 4]
    assert data.label.tolist() == [0, 1, 0, -1, -1]


def test_twins_are_found_across_corpora(tmp_path: Path) -> None:
    one = write_cache(
        tmp_path / "one", "face", label=np.array([0]), digest=np.array(["a"]),
        pixels=striped(np.zeros(1, np.int64)),
    )  # fmt: skip
    other = write_cache(
        tmp_path / "other", "face", label=np.array([0]), digest=np.array(["a"]), split=np.array(["test"]),
        pixels=striped(np.zeros(1, np.int64)),
    )  # fmt: skip
    assert LabelledFaces([one, other]).twin.all()


def test_synthetic_faces_count_more_often_and_are_never_chosen_on(tmp_path: Path) -> None:
    real = face_cache(tmp_path / "real")
    synthetic = write_cache(
        tmp_path / "diffusionfer", "face", label=np.array([-1, -1]), pixels=striped(np.arange(2)),
        valence_arousal=np.zeros((2, 2), np.float32), split=np.array(["train", "valid"]),
    )  # fmt: skip
    data = LabelledFaces([real, synthetic])
    assert len(data.train_rows(3)) == 70 + 3
    assert not data.synthetic[data.valid_rows()].any()


def test_what_is_held_out_is_held_out_with_the_person(tmp_path: Path) -> None:
    label = np.arange(210) % 7
    subject = np.array([f"{i % 30}" for i in range(210)])
    folder = write_cache(
        tmp_path / "x", "face", label=label, subject=subject, pixels=striped(label)
    )
    divided = face_cache(tmp_path / "divided")  # a corpus with a Valid part changes nothing for it
    data = LabelledFaces([divided, folder])
    valid, train = data.valid_rows(), data.train_rows()
    own = set(data.samples.subject[valid].tolist()) - {""}
    assert own
    assert not own & set(data.samples.subject[train].tolist())


def test_without_a_valid_part_a_tenth_is_held_out_and_copies_stay_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    digest = np.array([rng.bytes(32).hex() for _ in range(200)])
    digest[100:] = digest[:100]
    label = np.arange(200) % 7
    label[100:] = label[:100]
    folder = write_cache(tmp_path / "x", "face", label=label, digest=digest, pixels=striped(label))
    data = LabelledFaces([folder])
    valid, train = data.valid_rows(), data.train_rows()
    assert 5 < len(valid) < 40
    assert not set(digest[valid].tolist()) & set(digest[train].tolist())
    assert len(valid) + len(train) == 200


def test_faces_of_two_sizes_are_refused(tmp_path: Path) -> None:
    small = write_cache(
        tmp_path / "small", "face", label=np.array([0]), pixels=np.zeros((1, 32, 32), np.uint8)
    )
    with pytest.raises(ValueError, match="several sizes"):
        LabelledFaces([face_cache(tmp_path / "x"), small])


def test_a_batch_is_read_in_the_order_asked_for_across_corpora(tmp_path: Path) -> None:
    folders = [
        write_cache(
            tmp_path / name, "face", label=np.arange(3),
            pixels=np.full((3, SIZE, SIZE), np.arange(first, first + 3)[:, None, None], np.uint8),
        )
        for name, first in (("one", 0), ("other", 3))
    ]  # fmt: skip
    batch = LabelledFaces(folders).batch(np.array([5, 0, 3, 2]))
    assert batch.faces[:, 0, 0].tolist() == [5, 0, 3, 2]
    assert batch.label.tolist() == [2, 0, 0, 2]


# A run


def test_training_lowers_the_loss_and_leaves_a_record(faces: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=6)
    run = tmp_path / "run"
    face.train([faces], run, settings)
    rows = rows_of(run)
    assert [row["epoch"] for row in rows] == list(range(6))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert all(row["faces_per_s"] > 0 and row["faces_cpu_s"] >= 0 for row in rows)
    recorded = json.loads((run / "settings.json").read_text())
    assert recorded["epochs"] == 6
    assert (
        recorded["data"]["striped"]["sha256"]
        == json.loads((faces / "report.json").read_text())["sha256"]
    )
    start = json.loads((run / "starts.jsonl").read_text())
    assert set(start) >= {"commit", "torch", "python"}
    assert list((run / "tensorboard").glob("events*"))


def test_the_network_of_the_best_epoch_is_kept(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worths = iter([0.1, 0.9, 0.3])
    states = []

    def evaluate(network: torch.nn.Module, *_: object) -> dict[str, float]:
        states.append({name: value.clone() for name, value in network.state_dict().items()})
        return {"worth": next(worths)}

    monkeypatch.setattr(face, "evaluate", evaluate)
    kept = face.train([faces], tmp_path / "run", dataclasses.replace(SETTINGS, epochs=3))
    for name, value in kept.state_dict().items():
        torch.testing.assert_close(value, states[1][name])


def test_training_stops_early_when_valid_gets_no_better(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worths = iter([0.1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    monkeypatch.setattr(face, "evaluate", lambda *_: {"worth": next(worths)})
    settings = dataclasses.replace(SETTINGS, epochs=7, patience=2)
    face.train([faces], tmp_path / "run", settings)
    assert [row["epoch"] for row in rows_of(tmp_path / "run")] == [0, 1, 2, 3]
    face.train([faces], tmp_path / "run", settings)  # and stays stopped
    assert len(rows_of(tmp_path / "run")) == 4


def test_a_run_is_not_continued_with_other_settings_or_data(faces: Path, tmp_path: Path) -> None:
    face.train([faces], tmp_path / "run", SETTINGS)
    with pytest.raises(ValueError, match=r"other settings \(epochs\)"):
        face.train([faces], tmp_path / "run", dataclasses.replace(SETTINGS, epochs=3))
    other = face_cache(tmp_path / "other" / "striped", count=91)
    with pytest.raises(ValueError, match=r"other settings \(data\)"):
        face.train([other], tmp_path / "run", SETTINGS)


def test_a_run_that_goes_on_elsewhere_is_left_alone(tmp_path: Path) -> None:
    with Run(tmp_path / "run", SETTINGS, {}), pytest.raises(ValueError, match="another process"):
        Run(tmp_path / "run", SETTINGS, {})
    with Run(tmp_path / "run", SETTINGS, {}):
        pass


@pytest.mark.parametrize(
    "wrong",
    [{"batch": 0}, {"epochs": 0}, {"dropout": 7.0}, {"synthetic_times": 0}, {"precision": "int8"}],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_written(
    wrong: dict[str, float], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        dataclasses.replace(SETTINGS, **wrong)


def test_a_start_that_is_no_run_or_of_another_architecture_is_refused(
    faces: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither a bundle .* nor a run"):
        face.train([faces], tmp_path / "second", SETTINGS, face.Origin(tmp_path / "nothing"))
    face.train([faces], tmp_path / "first", SETTINGS)
    large = large_cache(tmp_path / "large")
    with pytest.raises(ValueError, match="give the same --architecture"):
        face.train(
            [large], tmp_path / "second", dataclasses.replace(SETTINGS, architecture="resnet18"),
            face.Origin(tmp_path / "first"),
        )  # fmt: skip
    assert not (tmp_path / "second").exists()


def test_the_transfer_fits_the_heads_first_and_then_everything(faces: Path, tmp_path: Path) -> None:
    first = face.train([faces], tmp_path / "first", SETTINGS)
    heads_only = dataclasses.replace(SETTINGS, heads_epochs=2, epochs=0)
    second = face.train([faces], tmp_path / "second", heads_only, face.Origin(tmp_path / "first"))
    for (name, before), after in zip(
        first.state_dict().items(), second.state_dict().values(), strict=True
    ):
        learnt = name.split(".")[0] in ("emotion", "ferplus")  # nothing to learn of the third head
        assert torch.equal(before, after) != learnt or name.startswith("valence_arousal"), name
    both = dataclasses.replace(SETTINGS, heads_epochs=1, epochs=1)
    face.train([faces], tmp_path / "third", both, face.Origin(tmp_path / "first"))
    last = torch.load(tmp_path / "third" / "checkpoint.pt", weights_only=True)["network"]
    assert not torch.equal(last["stem.0.weight"], first.state_dict()["stem.0.weight"])
    assert [row["phase"] for row in rows_of(tmp_path / "third")] == ["heads", "all"]
    assert json.loads((tmp_path / "third" / "settings.json").read_text())["start"]["run"] == "first"


# What ships as a start


def test_the_network_of_a_bundle_says_in_pytorch_what_the_bundle_says() -> None:
    network = judge.load_network(DEFAULT_BUNDLE)
    faces = np.random.default_rng(0).normal(size=(5, 1, SIZE, SIZE)).astype(np.float32)
    session = open_session(load_bundle(DEFAULT_BUNDLE).read("expression.onnx"))
    wanted = session.run({"image": faces})
    with torch.no_grad():
        said = network(torch.from_numpy(faces))
        # Learning from the batch's own statistics, it still says the same: they are those it was told.
        shipped.measure_norms(network, torch.from_numpy(faces))
        retold = network.eval()(torch.from_numpy(faces))
        learning = network.train()(torch.from_numpy(faces))
    for name, value in wanted.items():
        np.testing.assert_allclose(said[name], value, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(retold[name], value, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(learning["emotion"], wanted["emotion"], atol=0.05)


def test_a_run_starts_from_a_bundle_and_is_taught_by_it(faces: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=1, warmup_epochs=0, rate=1e-9, distillation=0.5)
    origin = face.Origin(start=DEFAULT_BUNDLE, teachers=(DEFAULT_BUNDLE,))
    network = face.train([faces], tmp_path / "run", settings, origin)
    for (name, here), there in zip(
        network.named_parameters(), judge.load_network(DEFAULT_BUNDLE).parameters(), strict=True
    ):
        if name.endswith("0.weight"):  # filters; the factors of batch norms undo what was measured
            torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-4)
    recorded = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert recorded["start"]["network"] == recorded["teachers"]["models"]
    assert judge.load_statistics(tmp_path / "run").mean == load_bundle(DEFAULT_BUNDLE).face.mean


def test_a_bundle_whose_face_network_is_unknown_is_no_start(faces: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "theirs"
    shutil.copytree(DEFAULT_BUNDLE, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["face"]["architecture"] = "theirs"
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    for origin in (face.Origin(bundle), face.Origin(teachers=(bundle,))):
        settings = dataclasses.replace(SETTINGS, distillation=0.5 * bool(origin.teachers))
        with pytest.raises(ValueError, match="face network is a theirs"):
            face.train([faces], tmp_path / "run", settings, origin)


# Teachers


def test_a_network_comes_to_say_what_its_teachers_say(faces: Path, tmp_path: Path) -> None:
    quick = dataclasses.replace(SETTINGS, epochs=6, rate=0.01)
    face.train([faces], tmp_path / "one", quick)
    face.train([faces], tmp_path / "two", dataclasses.replace(quick, seed=1))
    teachers = (tmp_path / "one", tmp_path / "two")
    taught_only = dataclasses.replace(
        quick, epochs=12, distillation=1.0, augmentation=0.0, dropout=0.0
    )
    learner = face.train([faces], tmp_path / "learner", taught_only, face.Origin(teachers=teachers))
    pixels = torch.from_numpy(striped(np.arange(7)))[:, None].float() / 255
    known = [distil.Teacher(judge.load_network(run), *judge.load_scale(run)) for run in teachers]
    taught = distil.mean_scores(known, pixels)["emotion"]
    torch.testing.assert_close(taught.sum(1), torch.ones(7))
    other = face.train(
        [faces], tmp_path / "other", dataclasses.replace(taught_only, distillation=0.0)
    )
    told = [
        distil.mean_scores([known[0]._replace(network=network)], pixels)["emotion"]
        for network in (learner, other)
    ]
    assert (told[0] - taught).abs().mean() < (told[1] - taught).abs().mean()
    recorded = json.loads((tmp_path / "learner" / "settings.json").read_text())
    assert set(recorded["teachers"]) == {"one", "two"}


def test_a_learner_that_says_what_it_is_taught_has_the_least_loss() -> None:
    taught = {"emotion": torch.tensor([[0.7, 0.2, 0.1]]), "ferplus": torch.tensor([[0.5, 0.5]])}
    agreeing = {head: scores.log() for head, scores in taught.items()}
    entropy = -sum(float((scores * scores.log()).sum()) for scores in taught.values())
    assert float(distil.scores_loss(agreeing, taught)) == pytest.approx(entropy)
    other = {**agreeing, "emotion": agreeing["emotion"].flip(1)}
    assert float(distil.scores_loss(other, taught)) > entropy


def test_teachers_and_their_share_go_together(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--teachers and --distillation"):
        face.train([faces], tmp_path / "run", dataclasses.replace(SETTINGS, distillation=0.5))
    face.train([faces], tmp_path / "first", SETTINGS)
    with pytest.raises(ValueError, match="--teachers and --distillation"):
        face.train([faces], tmp_path / "run", SETTINGS, face.Origin(teachers=(tmp_path / "first",)))
    with pytest.raises(ValueError, match="name one"):
        face.Origin(start=tmp_path / "first", pretrained=tmp_path / "first")
    assert not (tmp_path / "run").exists()


def test_faces_without_labels_are_only_for_teachers(tmp_path: Path) -> None:
    labelled = face_cache(tmp_path / "striped")
    bare = write_cache(
        tmp_path / "bare", "face", label=np.full(40, -1), pixels=striped(np.arange(40) % 7, seed=3),
        found=np.arange(40) % 2 == 0,
    )  # fmt: skip
    data = LabelledFaces([labelled, bare])
    plain, taught = data.train_rows(), data.train_rows(taught=True)
    added = np.setdiff1d(taught, plain)
    assert set(data.samples.corpus[plain]) == {"striped"}
    assert len(added) == 20
    assert data.samples.found[added].all()
    assert set(data.samples.corpus[data.valid_rows()]) == {"striped"}


def test_faces_of_another_size_than_the_networks_are_refused(faces: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, architecture="resnet18")
    with pytest.raises(ValueError, match=r"--size 224, or train it for others with --size 64"):
        face.train([faces], tmp_path / "run", settings)


def test_a_network_for_faces_of_another_size_says_so_in_its_run(
    faces: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(
        SETTINGS, architecture="resnet18", size=64, epochs=0, heads_epochs=1
    )
    assert face.train([faces], tmp_path / "run", settings).size == 64
    assert judge.load_network(tmp_path / "run").size == 64
    assert open_network(tmp_path / "run").size == 64


def test_a_teacher_of_another_size_is_shown_the_same_faces_in_its_own() -> None:
    known = FaceNetwork("resnet-lite").eval()
    shown: list[torch.Tensor] = []
    known.stem.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    cells = torch.rand(3, 1, 4, 4)
    small, large = (cells.repeat_interleave(n, 2).repeat_interleave(n, 3) for n in (16, 32))
    for pixels in (small, large):
        distil.mean_scores([distil.Teacher(known, 0.5, 0.25)], pixels)
    one, other = shown
    assert one.shape == other.shape == (3, 1, 64, 64)
    one, other = (pixels[..., 8::16, 8::16] for pixels in shown)  # the middle of each cell
    torch.testing.assert_close(one, (cells - 0.5) / 0.25)
    torch.testing.assert_close(other, one)


def _command(faces: Path, run: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "training.face", "--faces", str(faces), "--out", str(run),
        "--epochs", "4", "--batch", "34", "--warmup-epochs", "1", *more,
    ]  # fmt: skip


def test_a_run_that_was_killed_ends_as_an_unbroken_one(faces: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        _command(faces, tmp_path / "whole"),
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
    )
    broken = subprocess.Popen(
        _command(faces, tmp_path / "broken"), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "broken" / "checkpoint.pt").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    broken.send_signal(signal.SIGKILL)
    broken.wait()
    done = len(rows_of(tmp_path / "broken"))
    assert 1 <= done < 4
    subprocess.run(
        _command(faces, tmp_path / "broken"),
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
    )
    whole, resumed = rows_of(tmp_path / "whole"), rows_of(tmp_path / "broken")
    assert [row["loss"] for row in resumed] == [row["loss"] for row in whole]
    assert_same(judge.load_network(tmp_path / "whole"), judge.load_network(tmp_path / "broken"))
    assert len((tmp_path / "broken" / "starts.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_two_processes_reach_the_loss_of_one(faces: Path, tmp_path: Path) -> None:
    # Without augmentation and dropout, and with a trunk that keeps its batch norm, both see the same:
    # the gradients averaged over two processes are those of one.
    fixed = [
        "--heads-epochs", "3", "--epochs", "0", "--augmentation", "0", "--dropout", "0",
        "--precision", "float32",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name, more in (("fixed", fixed), ("free", ["--epochs", "14"])):
        one = _command(faces, tmp_path / f"{name}-one", *more)
        two = _command(faces, tmp_path / f"{name}-two", *more)
        torchrun = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
        ]
        for command in (one, [*torchrun, *two[1:]]):
            subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        losses = [
            [row["loss"] for row in rows_of(tmp_path / f"{name}-{which}")]
            for which in ("one", "two")
        ]
        if name == "fixed":
            np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
        else:  # batch norm is of half a batch in each process, and each draws its own augmentation
            assert len(losses[1]) == 14
            assert losses[1][-1] < 1.4 * losses[0][-1] < 0.8 * losses[1][0]


def test_the_command_line_names_a_mistake_and_shows_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        _command(tmp_path / "nothing", tmp_path / "run"), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "training.prepare" in done.stderr
    assert "Traceback" not in done.stderr


def test_classes_are_where_the_heads_have_them() -> None:
    assert [FERPLUS_LABELS[i] for i in judge.SEVEN_OF_EIGHT] == list(LABELS)
