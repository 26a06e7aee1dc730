"""The training code on small data made here; needs the extra ``train``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")

from occam_sdk.labels import LABELS  # noqa: E402
from training import face  # noqa: E402
from training.augment import augment  # noqa: E402
from training.network import ResNet18Lite  # noqa: E402

SIZE = 64


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Stripes whose width is the class: 70 to learn from, 14 to choose on."""
    rng = np.random.default_rng(0)
    count = 84
    label = np.arange(count) % len(LABELS)
    columns = np.arange(SIZE)
    pictures = [128 + 100 * np.sin(columns * (c + 1) / 3)[None].repeat(SIZE, 0) for c in label]
    votes = np.zeros((count, 8), np.float32)
    votes[np.arange(count), label] = 10
    path = tmp_path / "faces.npz"
    np.savez(
        path,
        faces=(np.array(pictures) + rng.normal(0, 5, (count, SIZE, SIZE)))
        .clip(0, 255)
        .astype(np.uint8),
        found=np.ones(count, bool),
        twin=np.zeros(count, bool),
        split=np.where(np.arange(count) < 70, "train", "valid"),
        synthetic=np.zeros(count, bool),
        label=label,
        votes=votes,
        valence_arousal=np.full((count, 2), np.nan, np.float32),
    )
    return path


SETTINGS = face.Settings(epochs=2, batch=35, warmup_epochs=1, average_decay=0.5)


def test_the_lite_network_stays_within_the_papers_budget() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    network = ResNet18Lite().eval()
    with FlopCounterMode(display=False) as counter:
        out = network(torch.zeros(1, 1, SIZE, SIZE))
    assert sum(p.numel() for p in network.parameters()) <= 2.0e6
    assert counter.get_total_flops() / 2 <= 180e6
    shapes = {name: tuple(value.shape) for name, value in out.items()}
    assert shapes == {
        "embedding": (1, 512),
        "emotion": (1, 7),
        "valence_arousal": (1, 2),
        "ferplus": (1, 8),
    }


def test_augmentation_keeps_shape_and_range_and_repeats_with_its_seed() -> None:
    pictures = torch.rand(16, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    once = augment(pictures, torch.Generator().manual_seed(2))
    again = augment(pictures, torch.Generator().manual_seed(2))
    assert once.shape == pictures.shape
    assert once.min() >= 0
    assert once.max() <= 1
    assert torch.equal(once, again)
    assert not torch.equal(once, augment(pictures, torch.Generator().manual_seed(3)))


def test_a_missing_target_adds_nothing_to_the_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    out = {
        name: torch.randn(4, size, generator=generator)
        for name, size in (("emotion", 7), ("ferplus", 8), ("valence_arousal", 2))
    }
    prior = torch.full((7,), 1 / 7)
    votes = torch.ones(4, 8)
    label = torch.tensor([0, 1, 2, 3])
    nothing = torch.full((4, 2), torch.nan)
    empty = torch.zeros(4, SIZE, SIZE, dtype=torch.uint8)
    some = face.Faces(empty, torch.tensor([0, 1, -1, -1]), votes, nothing)
    first_two = {name: torch.cat([value[:2], value[:2]]) for name, value in out.items()}
    doubled = face.Faces(empty, torch.tensor([0, 1, 0, 1]), votes, nothing)
    difference = face.loss(out, some, prior, SETTINGS) - face.loss(
        out, face.Faces(empty, label, votes, nothing), prior, SETTINGS
    )
    assert difference.abs() > 1e-4
    emotion_only = face.Faces(empty, doubled.label, votes, nothing)
    masked = face.loss({**out, "ferplus": first_two["ferplus"]}, some, prior, SETTINGS)
    whole = face.loss(first_two, emotion_only, prior, SETTINGS)
    assert masked == pytest.approx(float(whole), abs=1e-5)


def test_training_lowers_the_loss_and_leaves_a_log(faces: Path, tmp_path: Path) -> None:
    face.train(
        faces,
        tmp_path / "run",
        face.Settings(epochs=6, batch=35, warmup_epochs=1, average_decay=0.5),
    )
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(6))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["epochs"] == 6


def test_a_run_that_was_killed_ends_as_an_unbroken_one(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = face.train(faces, tmp_path / "whole", SETTINGS)
    save = face._save

    def save_and_die(path: Path, epoch: int, state: dict[str, object]) -> None:
        save(path, epoch, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(face, "_save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        face.train(faces, tmp_path / "broken", SETTINGS)
    monkeypatch.setattr(face, "_save", save)
    resumed = face.train(faces, tmp_path / "broken", SETTINGS)
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_run_is_not_continued_with_other_settings(faces: Path, tmp_path: Path) -> None:
    face.train(faces, tmp_path, SETTINGS)
    with pytest.raises(ValueError, match="other settings"):
        face.train(faces, tmp_path, dataclasses.replace(SETTINGS, epochs=3))


def test_a_run_starts_from_the_weights_of_another(faces: Path, tmp_path: Path) -> None:
    first = face.train(faces, tmp_path / "first", SETTINGS)
    still = face.Settings(epochs=2, batch=35, warmup_epochs=1, rate=1e-12)
    second = face.train(faces, tmp_path / "second", still, start=tmp_path / "first")
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_onnx_says_what_the_checkpoint_says() -> None:
    pytest.importorskip("onnx", reason="the extra 'export' is not installed")
    from export.networks import FACE_OUTPUTS, expression_onnx
    from occam_sdk.backends import open_session

    torch.manual_seed(0)
    network = ResNet18Lite()
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.uniform_(-0.2, 0.2)
                part.running_var.uniform_(0.5, 2)
    pictures = torch.randn(5, 1, SIZE, SIZE)
    assert str(Path(__file__).parents[1]).encode() not in expression_onnx(network)
    got = open_session(expression_onnx(network)).run({"image": pictures.numpy()})
    with torch.no_grad():
        wanted = network.eval()(pictures)
    for name in FACE_OUTPUTS:
        np.testing.assert_allclose(got[name], wanted[name].numpy(), rtol=1e-4, atol=1e-5)


def test_rare_classes_are_lifted_only_as_far_as_it_pays() -> None:
    pytest.importorskip("onnx", reason="the extra 'export' is not installed")
    from export.bundle import rare_class_shift

    prior = np.array([0.9, 0.02, 0.02, 0.02, 0.02, 0.01, 0.01])
    rng = np.random.default_rng(0)
    label = rng.choice(7, 4000, p=prior)
    sure = np.eye(7, dtype=np.float32)[label] * 50
    assert (rare_class_shift(label, sure, prior) == 0).all()
    shy = np.eye(7, dtype=np.float32)[label] + 0.25 * np.log(prior).astype(np.float32)
    shift = rare_class_shift(label, shy + rng.normal(0, 0.3, shy.shape).astype(np.float32), prior)
    assert shift[5] > shift[1] > shift[0] > 0
