"""Readers and preparation on small trees of the published layouts, written here."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from occam_sdk import demo_clip
from occam_sdk.labels import FERPLUS_LABELS, LABELS
from occam_sdk.video.decode import VideoFile
from training.data import read_diffusionfer, read_emodb, read_ferplus, read_ravdess
from training.prepare_faces import SIZE, TEMPLATE, contradicting_twins, prepare, twins_across_splits

from .shared import DATA, needs_data

HEADER = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
)


def ferplus(root: Path, votes: list[str], labels: list[str]) -> Path:
    for folder in ("FER2013Train", "FER2013Valid", "FER2013Test"):
        (root / folder).mkdir(parents=True)
    for row in votes:
        usage, name = row.split(",")[:2]
        folder = {"Training": "FER2013Train", "PublicTest": "FER2013Valid"}.get(
            usage, "FER2013Test"
        )
        if name:
            cv2.imwrite(str(root / folder / name), np.zeros((48, 48), np.uint8))
    (root / "fer2013new.csv").write_text("\n".join([HEADER, *votes]) + "\n")
    head = "split,image,fer2013_label,rms,second_rms"
    (root / "fer2013_original_labels.csv").write_text("\n".join([head, *labels]) + "\n")
    return root


def test_ferplus_joins_votes_and_labels_by_the_pictures_name(tmp_path: Path) -> None:
    root = ferplus(
        tmp_path,
        ["Training,b.png,0,9,1,0,0,0,0,0,0,0", "PrivateTest,a.png,8,0,0,2,0,0,0,0,0,0"],
        ["FER2013Test,a.png,sad,0.5,30", "FER2013Train,b.png,happy,0.5,30"],
    )
    train, test = read_ferplus(root)
    assert (train.path.name, train.split, LABELS[train.label or 0]) == ("b.png", "train", "Happy")
    assert (test.path.name, test.split, LABELS[test.label or 0]) == ("a.png", "test", "Sad")
    assert train.votes == (0, 9, 1, 0, 0, 0, 0, 0)
    assert FERPLUS_LABELS[int(np.argmax(train.votes))] == "Happy"


@pytest.mark.parametrize(
    ("votes", "label", "kept"),
    [
        ("0,2,0,0,0,0,0,0,8,0", "happy,0.5,30", (False, True)),  # the crowd could not tell
        ("0,2,0,0,0,0,0,0,0,8", "happy,0.5,30", (False, True)),  # the crowd saw no face
        ("0,9,1,0,0,0,0,0,0,0", ",3.5,60", (True, False)),  # no original label was matched
    ],
)
def test_what_is_not_known_of_a_face_is_none(
    tmp_path: Path, votes: str, label: str, kept: tuple[bool, bool]
) -> None:
    root = ferplus(tmp_path, [f"Training,a.png,{votes}"], [f"FER2013Train,a.png,{label}"])
    (sample,) = read_ferplus(root)
    assert (sample.votes is not None, sample.label is not None) == kept


def test_a_name_that_stands_twice_is_one_face_and_has_votes_only_if_they_agree(
    tmp_path: Path,
) -> None:
    rows = ["0,9,1,0,0,0,0,0,0,0", "9,0,1,0,0,0,0,0,0,0"]
    root = ferplus(tmp_path, [f"Training,a.png,{row}" for row in rows], [])
    (sample,) = read_ferplus(root)
    assert sample.votes is None


def test_a_row_without_a_name_is_no_face_and_a_missing_picture_is_named(tmp_path: Path) -> None:
    root = ferplus(
        tmp_path, ["Training,,0,0,0,0,0,0,0,0,0,10", "Training,a.png,9,0,0,0,0,0,0,0,0,0"], []
    )
    assert len(list(read_ferplus(root))) == 1
    (root / "FER2013Train" / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png: missing"):
        list(read_ferplus(root))


def test_diffusionfer_keeps_a_label_only_where_the_folder_agrees(tmp_path: Path) -> None:
    for name in ("happy/a.jpg", "happy/b.jpg", "sad/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    rows = [
        "path,valence,arousal,expression",
        "happy/a.jpg,0.8,0.5,1",
        "happy/b.jpg,-0.5,0,2",
        "sad/c.jpg,-0.6,-0.2,2",
    ]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    samples = list(read_diffusionfer(tmp_path))
    assert [s.label if s.label is None else LABELS[s.label] for s in samples] == [
        "Happy",
        None,
        "Sad",
    ]
    assert [s.split for s in samples] == ["test", "train", "train"]
    assert samples[1].valence_arousal == (-0.5, 0.0)


def test_voices_are_read_by_their_names(tmp_path: Path) -> None:
    for name in (
        "03-01-05-01-02-01-07.flac",
        "03-01-02-01-02-01-07.flac",
        "16a02Ec.flac",
        "16a02Lc.flac",
    ):
        folder = tmp_path / ("ravdess" if "-" in name else "emodb")
        folder.mkdir(exist_ok=True)
        (folder / name).touch()
    (angry,) = read_ravdess(tmp_path / "ravdess")  # calm is left out
    (disgust,) = read_emodb(tmp_path / "emodb")  # boredom is left out
    assert (LABELS[angry.label], angry.speaker, angry.corpus) == ("Angry", "07", "ravdess")
    assert (LABELS[disgust.label], disgust.speaker, disgust.corpus) == ("Disgust", "16", "emodb")


def test_a_corpus_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="unpack the corpus there"):
        list(read_ravdess(tmp_path))


def test_faces_are_aligned_by_the_products_code_and_the_rest_is_a_plain_crop(
    tmp_path: Path,
) -> None:
    root = ferplus(
        tmp_path / "ferplus",
        [
            "Training,face.png,0,9,1,0,0,0,0,0,0,0",
            "PublicTest,blank.png,9,0,0,0,0,0,0,0,0,0",
            "PrivateTest,twin.png,9,0,0,0,0,0,0,0,0,0",
        ],
        ["FER2013Train,face.png,happy,0.5,30", "FER2013Test,twin.png,happy,0.5,0.5"],
    )
    portrait = list(VideoFile(demo_clip()))[-1].image
    for name in ("FER2013Train/face.png", "FER2013Test/twin.png"):
        cv2.imwrite(str(root / name), portrait)
    prepare(list(read_ferplus(root)), tmp_path / "faces.npz")
    with np.load(tmp_path / "faces.npz", allow_pickle=False) as file:
        assert file["faces"].shape == (3, SIZE, SIZE)
        assert file["found"].tolist() == [True, False, True]
        assert file["twin"].tolist() == [True, False, True]
        assert file["label"].tolist() == [LABELS.index("Happy"), -1, LABELS.index("Happy")]
        assert np.isnan(file["valence_arousal"]).all()
        aligned = file["faces"][0]
    # the eyes, darker than the cheeks below them, lie where the template says
    for x, y in TEMPLATE[:2]:
        column, row = round(x * SIZE), round(y * SIZE)
        eye = aligned[row - 3 : row + 4, column - 4 : column + 5].mean()
        cheek = aligned[row + 9 : row + 15, column - 4 : column + 5].mean()
        assert eye < cheek - 10


def test_twins_and_contradictions_are_found_by_pixels(tmp_path: Path) -> None:
    root = ferplus(
        tmp_path,
        [
            f"{usage},{name}.png,9,0,0,0,0,0,0,0,0,0"
            for usage, name in (("Training", "a"), ("Training", "b"), ("PrivateTest", "c"))
        ],
        [],
    )
    samples = list(read_ferplus(root))
    assert twins_across_splits(samples, ["x", "y", "x"]) == [True, False, True]
    assert contradicting_twins([0, 1, 2, -1], ["x", "y", "x", "y"]) == [0, 2]


@needs_data
def test_the_real_corpora_have_the_size_that_is_documented() -> None:
    import zipfile

    with zipfile.ZipFile(DATA / "ravdess_speech_16k.zip") as archive:
        assert sum(name.endswith(".flac") for name in archive.namelist()) == 1440
