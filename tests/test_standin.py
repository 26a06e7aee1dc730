"""The AFEW-like stand-in: its counts, and that nobody and no picture is in two of its splits."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="the extra 'train' is not installed")

from occam_sdk.labels import LABELS
from training import standin
from training.cache import Cache, load_cache
from training.paper import TABLE1
from training.standin import Settings

from .caches import write_cache

SIDE = 36
ACTORS = 24
SHORT = Settings(frames_least=1, frames_most=3, shot_least=1, shot_most=2)


def patchwork(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """(count, 36, 36) pictures of 6 x 6 light and dark fields: known again if moved and relit."""
    fields = np.random.default_rng(seed).integers(0, 2, (count, 6, 6))
    return np.asarray(60 + 130 * fields.repeat(6, 1).repeat(6, 2), np.uint8)


def faces_cache(folder: Path, each: int = 2, **given: NDArray[np.generic]) -> Cache:
    """FER+: of every class ``each`` faces for every actor in Valid, and as many in Train and Test."""
    count = ACTORS * each * 7 * 3
    columns: dict[str, NDArray[np.generic]] = {
        "label": np.arange(count) % 7,
        "split": np.array(["valid", "train", "test"])[np.arange(count) // 7 % 3],
        "pixels": patchwork(count),
    }
    return load_cache(write_cache(folder, "face", **{**columns, **given}))


def voices_cache(folder: Path, **given: NDArray[np.generic]) -> Cache:
    """RAVDESS: 24 actors who say everything twice; the first feature is the utterance's number."""
    count = ACTORS * 7 * 2
    columns: dict[str, NDArray[np.generic]] = {
        "label": np.arange(count) % 7,
        "subject": np.array([f"{i // 14 + 1:02d}" for i in range(count)]),
        "features": np.arange(count)[:, None].repeat(1582, 1),
    }
    return load_cache(write_cache(folder, "voice", **{**columns, **given}))


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """A stand-in with what it was made of, and which of the faces each of its frames shows."""

    faces: Cache
    voices: Cache
    clips: Cache
    shows: list[NDArray[np.int64]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """With exact copies among the faces: within Valid, of Valid in Train, of different classes."""
    folder = tmp_path_factory.mktemp("standin")
    count = ACTORS * 2 * 7 * 3
    digest, pixels = np.array([f"{i:064x}" for i in range(count)]), patchwork(count)
    valid = np.flatnonzero(np.arange(count) // 7 % 3 == 0)
    copies = [(valid[i], valid[i + 24 * 7]) for i in range(20 * 7)]
    copies += [(valid[-1], valid[-1] + 7), (valid[-2], valid[-3])]
    for one, other in copies:
        digest[other], pixels[other] = digest[one], pixels[one]
    faces = faces_cache(folder / "ferplus", digest=digest, pixels=pixels)
    voices = voices_cache(folder / "ravdess")
    standin.make(faces, voices, folder / "standin", SHORT)
    clips = load_cache(folder / "standin")
    known, seen = (
        array.reshape(len(array), -1) - array.mean((1, 2), keepdims=True).reshape(-1, 1)
        for array in (np.asarray(faces.faces, float), np.asarray(clips.faces, float))
    )
    likeness = seen @ (known / np.linalg.norm(known, axis=1, keepdims=True)).T
    rows = np.split(likeness.argmax(1), np.cumsum(clips.samples.faces)[:-1])
    return Made(faces, voices, clips, rows)


# What it is made of


def test_it_has_as_many_clips_of_each_class_in_each_split_as_afew(made: Made) -> None:
    samples = made.clips.samples
    for split, counts in TABLE1.items():
        got = np.bincount(samples.label[samples.split == split], minlength=7)
        assert tuple(got.tolist()) == counts
    assert made.clips.report["corpus"] == "standin"
    assert len(samples) == sum(map(sum, TABLE1.values()))


def test_nobody_is_in_two_splits(made: Made) -> None:
    samples = made.clips.samples
    cast = {split: set(samples.subject[samples.split == split].tolist()) for split in TABLE1}
    assert {split: len(names) for split, names in cast.items()} == {
        "train": 12, "valid": 6, "test": 6,
    }  # fmt: skip
    assert len(set().union(*cast.values())) == ACTORS


def test_no_picture_is_in_two_splits_not_even_as_a_copy(made: Made) -> None:
    where: dict[str, set[str]] = {}
    for split, rows in zip(made.clips.samples.split.tolist(), made.shows, strict=True):
        for digest in made.faces.samples.digest[rows].tolist():
            where.setdefault(digest, set()).add(split)
    assert len(where) > 150
    assert {len(splits) for splits in where.values()} == {1}


def test_every_picture_is_one_personas(made: Made) -> None:
    whose: dict[int, set[str]] = {}
    for subject, rows in zip(made.clips.samples.subject.tolist(), made.shows, strict=True):
        for row in rows.tolist():
            whose.setdefault(row, set()).add(subject)
    assert {len(names) for names in whose.values()} == {1}


def test_only_faces_of_valid_are_used_and_none_that_has_a_copy_elsewhere(made: Made) -> None:
    samples = made.faces.samples
    used = np.unique(np.concatenate(made.shows))
    assert set(samples.split[used].tolist()) == {"valid"}
    copied = Counter(samples.digest.tolist())
    across = {
        digest for digest, count in copied.items()
        if count > 1 and len(set(samples.split[samples.digest == digest].tolist())) > 1
    }  # fmt: skip
    assert across
    assert not across & set(samples.digest[used].tolist())
    contradicting = {
        digest for digest, count in copied.items()
        if count > 1 and len(set(samples.label[samples.digest == digest].tolist())) > 1
    }  # fmt: skip
    assert contradicting
    assert not contradicting & set(samples.digest[used].tolist())


def test_every_clip_shows_its_class_and_has_as_many_frames_as_asked(made: Made) -> None:
    label = made.faces.samples.label
    samples = made.clips.samples
    for own, rows in zip(samples.label.tolist(), made.shows, strict=True):
        assert own in label[rows]
    assert set(samples.faces.tolist()) == {1, 2, 3}
    assert len(made.clips.faces) == len(made.clips.times_s) == samples.faces.sum()


def test_no_two_frames_are_the_same_pixels(made: Made) -> None:
    frames = {frame.tobytes() for frame in made.clips.faces}
    assert len(frames) > 0.99 * len(made.clips.faces)


def test_frames_follow_each_other_at_25_a_second(made: Made) -> None:
    times_s = np.split(made.clips.times_s, np.cumsum(made.clips.samples.faces)[:-1])
    for own in times_s:
        np.testing.assert_allclose(own, np.arange(len(own)) / 25)


def test_a_clip_is_heard_in_its_class_by_its_own_actor(made: Made) -> None:
    spoken = made.clips.voices[:, 0].astype(int)
    voices, clips = made.voices.samples, made.clips.samples
    np.testing.assert_array_equal(voices.label[spoken], clips.label)
    np.testing.assert_array_equal(voices.subject[spoken], clips.subject)
    assert (clips.voices == 1).all()


def test_every_utterance_is_heard_as_rarely_as_may_be(made: Made) -> None:
    clips = made.clips.samples
    for subject in np.unique(clips.subject):
        for label in range(7):
            own = (clips.subject == subject) & (clips.label == label)
            heard = Counter(made.clips.voices[own, 0].tolist())
            assert len(heard) == min(2, own.sum())
            assert max(heard.values()) - min(heard.values()) <= 1


def test_off_label_shots_are_mostly_neutral(tmp_path: Path) -> None:
    """By default 60 % of them, and a seventh of the rest."""
    faces, voices = faces_cache(tmp_path / "ferplus", each=1), voices_cache(tmp_path / "ravdess")
    shown: list[NDArray[np.int64]] = []
    settings = Settings(frames_least=20, frames_most=20, shot_least=1, shot_most=1)

    def nothing(
        pictures: NDArray[np.uint8], rows: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        shown.append(faces.samples.label[rows])
        return np.zeros((len(rows), SIDE, SIDE), np.uint8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(standin, "_filmed", nothing)
        standin.make(faces, voices, tmp_path / "out", settings)
    label = load_cache(tmp_path / "out").samples.label
    on_label = np.array([(rows == own).mean() for rows, own in zip(shown, label, strict=True)])
    neutral = LABELS.index("Neutral")
    others = label != neutral
    assert on_label.min() >= 0.2
    assert np.mean(on_label[others]) == pytest.approx(0.4 + 0.6 * 0.4 / 7, abs=0.02)
    share = np.mean([np.mean(shown[clip] == neutral) for clip in np.flatnonzero(others)])
    assert share == pytest.approx(0.6 * (0.6 + 0.4 / 7), abs=0.02)


# Again


def hashes(folder: Path) -> str:
    return str(json.loads((folder / "report.json").read_text())["sha256"])


def test_the_same_seed_makes_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    faces, voices = faces_cache(tmp_path / "ferplus", each=1), voices_cache(tmp_path / "ravdess")
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        standin.make(faces, voices, tmp_path / name, dataclasses.replace(SHORT, seed=seed))
    assert hashes(tmp_path / "one") == hashes(tmp_path / "again") != hashes(tmp_path / "other")


def test_what_is_there_is_left_alone_and_other_settings_are_refused(
    made: Made, tmp_path: Path
) -> None:
    folder = made.clips.folder
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    standin.make(made.faces, made.voices, folder, SHORT)
    for settings in (dataclasses.replace(SHORT, seed=5), dataclasses.replace(SHORT, frames_most=4)):
        with pytest.raises(ValueError, match="holds other clips"):
            standin.make(made.faces, made.voices, folder, settings)
    with pytest.raises(ValueError, match="holds other clips"):
        standin.make(faces_cache(tmp_path / "ferplus", each=1), made.voices, folder, SHORT)
    with pytest.raises(ValueError, match="holds other clips"):
        standin.make(made.faces, made.voices, made.faces.folder, SHORT)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_one_that_was_killed_is_made_again(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "standin"
    out.mkdir()
    for name in ("faces.partial.npy", "voices.npy"):
        (out / name).write_bytes(b"half of it")
    standin.make(made.faces, made.voices, out, SHORT)
    assert hashes(out) == hashes(made.clips.folder)
    assert not list(out.glob("*partial*"))


# What is refused


def test_too_few_faces_of_a_class_are_named(tmp_path: Path) -> None:
    count = ACTORS * 7
    label = np.arange(count) % 7
    label[label == 1] = 2
    label[1::14] = 1  # twelve faces of Disgust for 24 actors
    faces = load_cache(
        write_cache(
            tmp_path / "ferplus", "face", label=label, split=np.full(count, "valid"),
            pixels=patchwork(count),
        )
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"ferplus: 12 faces of Disgust .*, 24 are needed"):
        standin.make(faces, voices_cache(tmp_path / "ravdess"), tmp_path / "out", SHORT)
    assert not (tmp_path / "out" / "report.json").exists()


def test_an_actor_who_never_speaks_in_a_class_is_named(tmp_path: Path) -> None:
    label = np.arange(ACTORS * 14) % 7
    label[[3, 10]] = 4
    voices = voices_cache(tmp_path / "ravdess", label=label)
    with pytest.raises(ValueError, match="ravdess: 01 never speaks Happy"):
        standin.make(faces_cache(tmp_path / "ferplus", each=1), voices, tmp_path / "out", SHORT)


@pytest.mark.parametrize(("valid", "test"), [(12, 12), (0, 6), (6, 0), (24, 1)])
def test_some_must_be_left_for_each_split(
    valid: int, test: int, made: Made, tmp_path: Path
) -> None:
    settings = dataclasses.replace(SHORT, valid_subjects=valid, test_subjects=test)
    with pytest.raises(ValueError, match="one at least for each split"):
        standin.make(made.faces, made.voices, tmp_path / "out", settings)


def test_a_cache_of_something_else_is_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ravdess: holds voices, not faces"):
        standin.make(made.voices, made.faces, tmp_path / "out", SHORT)
    with pytest.raises(ValueError, match="standin: holds clips, not voices"):
        standin.make(made.faces, made.clips, tmp_path / "out", SHORT)


@pytest.mark.parametrize(
    "wrong", [{"frames_least": 0}, {"frames_least": 81}, {"shot_least": 0}, {"shot_most": 3}]
)
def test_lengths_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected 1 <= least <= most"):
        Settings(**wrong)


def test_the_command_names_a_mistake_and_shows_no_traceback(
    made: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    faces, voices = str(made.faces.folder), str(made.voices.folder)
    for options, message in (
        (["--faces", str(tmp_path), "--voices", voices], "python -m training.prepare"),
        (["--faces", faces, "--voices", voices, "--shot-least", "13"], "shot: expected"),
        (["--faces", faces, "--voices", voices, "--test-subjects", "20"], "6 and 20 subjects"),
    ):
        out = ["--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["standin", *options, *out])
        with pytest.raises(SystemExit) as exit_:
            standin.main()
        assert exit_.value.code == 2
        assert message in capsys.readouterr().err
