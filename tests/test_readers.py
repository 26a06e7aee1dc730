"""Every reader on a small tree of the layout in which its corpus is published, written here."""

from __future__ import annotations

import doctest
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from occam_sdk.labels import FERPLUS_LABELS, LABELS
from training import labelspaces
from training.labelspaces import CLASSES, emotion
from training.readers import (
    READERS,
    read_afew,
    read_affectnet,
    read_csv,
    read_diffusionfer,
    read_emodb,
    read_ferplus,
    read_folders,
    read_iemocap,
    read_rafdb,
    read_ravdess,
    read_sfew,
    read_unlabelled,
    summary,
)
from training.samples import Corpus, Sample

from .shared import DATA, needs_data


def tree(root: Path, *names: str) -> Path:
    """Empty files: no reader opens one."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def class_of(sample: Sample) -> str | None:
    return None if sample.label is None else LABELS[sample.label]


def vote_of(sample: Sample) -> str | None:
    return None if sample.votes is None else FERPLUS_LABELS[int(np.argmax(sample.votes))]


def left_out(corpus: Corpus) -> dict[str, str]:
    return {item.what: item.reason for item in corpus.left_out}


def found(corpus: Corpus) -> list[tuple[str, str, str | None]]:
    return [(sample.path.name, sample.split, class_of(sample)) for sample in corpus.samples]


# The table of classes


@pytest.mark.parametrize("corpus", CLASSES)
def test_every_class_of_a_corpus_is_one_of_ours_or_known_to_be_none(corpus: str) -> None:
    for code, its in CLASSES[corpus].items():
        assert its.ours in (*LABELS, "Contempt", None)
        assert emotion(corpus, f" {code.lower()} ") == its


def test_every_corpus_has_its_own_number_of_classes_and_only_these_are_lost() -> None:
    assert {corpus: len(classes) for corpus, classes in CLASSES.items() if corpus != "own"} == {
        "affectnet": 11, "rafdb": 7, "sfew": 7, "afew": 7, "iemocap": 11,
        "fer2013": 7, "diffusionfer": 7, "ravdess": 8, "emodb": 7,
    }  # fmt: skip
    lost = {
        corpus: [its.theirs for its in classes.values() if its.ours is None]
        for corpus, classes in CLASSES.items()
    }
    assert {corpus: names for corpus, names in lost.items() if names and corpus != "own"} == {
        "affectnet": ["none", "uncertain", "no face"],
        "iemocap": ["frustration", "other", "no agreement"],
        "ravdess": ["calm"],
        "emodb": ["boredom"],
    }


def test_all_seven_can_be_reached_from_every_corpus_but_emodb_which_has_no_surprise() -> None:
    for corpus, classes in CLASSES.items():
        missing = set(LABELS) - {its.ours for its in classes.values()}
        assert missing == ({"Surprise"} if corpus == "emodb" else set())


def test_contempt_is_a_vote_and_no_label() -> None:
    contempt = emotion("affectnet", "7")
    assert contempt is not None
    assert contempt.label is None
    assert contempt.votes == (0, 0, 0, 0, 0, 0, 0, 1)
    assert emotion("affectnet", "11") is None


def test_examples_of_the_table_run() -> None:
    assert doctest.testmod(labelspaces).failed == 0


# AffectNet

AFFECTNET_HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,"
    "facial_landmarks,expression,valence,arousal"
)


def affectnet(root: Path, *rows: str, header: bool = True, pictures: str = "") -> Path:
    lists = root / "Manually_Annotated_file_lists"
    write(lists / "training.csv", *([AFFECTNET_HEADER] if header else []), *rows)
    write(lists / "validation.csv", AFFECTNET_HEADER, "9/z.jpg,0,0,9,9,1;2,0,0.1,0.2")
    tree(root / pictures / "Manually_Annotated_Images", "1/a.jpg", "1/b.jpg", "9/z.jpg")
    return root


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("pictures", ["", "Manually_Annotated_compressed"])
def test_affectnet_tables_give_class_vote_rating_and_box(
    tmp_path: Path, header: bool, pictures: str
) -> None:
    root = affectnet(
        tmp_path,
        "1/a.jpg,10,20,100,50,1;2,6,-0.5,0.75",
        "1/b.jpg,10,20,100,50,1;2,7,-2,-2",
        header=header,
        pictures=pictures,
    )
    anger, contempt, valid = read_affectnet(root).samples
    assert (class_of(anger), vote_of(anger)) == ("Angry", "Angry")
    assert anger.valence_arousal == (-0.5, 0.75)
    assert anger.box_xyxy == (10, 20, 110, 70)
    assert (class_of(contempt), vote_of(contempt)) == (None, "Contempt")
    assert contempt.valence_arousal is None  # -2 is: unknown
    assert (anger.split, valid.split) == ("train", "valid")


def test_affectnet_names_every_row_that_it_cannot_use(tmp_path: Path) -> None:
    corpus = read_affectnet(
        affectnet(
            tmp_path,
            "1/a.jpg,0,0,9,9,1;2,8,0.1,0.1",  # none
            "1/a.jpg,NULL,NULL,NULL,NULL,,10,-2,-2",  # no face
            "1/away.jpg,0,0,9,9,1;2,1,0,0",
            "1/code.jpg,0,0,9,9,1;2,77,0,0",
            "1/rated.jpg,0,0,9,9,1;2,1,3.5,0",
            "1/flat.jpg,0,0,0,9,1;2,1,0,0",
            "1/short.jpg,0,0",
            "1/b.jpg,NULL,NULL,NULL,NULL,,1,0,0",  # without a box: the whole picture
        )
    )
    assert [sample.path.name for sample in corpus.samples] == ["b.jpg", "z.jpg"]
    assert corpus.lost == {"none": 1, "no face": 1}
    below = "Manually_Annotated_Images/1"
    assert left_out(corpus) == {
        f"{below}/away.jpg": "missing",
        f"{below}/code.jpg": "unknown class '77'",
        f"{below}/rated.jpg": "valence and arousal are not two numbers in -1..1",
        f"{below}/flat.jpg": "the box is not four numbers with an area",
        "training.csv, line 8": "malformed row",
    }


def annotate(
    folder: Path, number: int, expression: str, valence: str = "", arousal: str = ""
) -> None:
    tree(folder, f"images/{number}.jpg")
    (folder / "annotations").mkdir(exist_ok=True)
    for kind, value in (("exp", expression), ("val", valence), ("aro", arousal)):
        if value:
            np.save(folder / "annotations" / f"{number}_{kind}.npy", np.array(value))


def test_affectnets_newer_layout_has_one_file_a_number(tmp_path: Path) -> None:
    annotate(tmp_path / "train_set", 10, "1", "0.5", "0.25")
    annotate(tmp_path / "train_set", 9, "7", "-0.5", "0")
    annotate(tmp_path / "train_set", 3, "9", "-2", "-2")
    tree(tmp_path / "train_set", "images/4.jpg", "images/5.jpg", "annotations/5_exp.npy")
    annotate(tmp_path / "val_set", 0, "0")
    corpus = read_affectnet(tmp_path)
    assert found(corpus) == [
        ("9.jpg", "train", None),
        ("10.jpg", "train", "Happy"),
        ("0.jpg", "valid", "Neutral"),
    ]
    assert [vote_of(sample) for sample in corpus.samples] == ["Contempt", "Happy", "Neutral"]
    assert [s.valence_arousal for s in corpus.samples] == [(-0.5, 0.0), (0.5, 0.25), None]
    assert corpus.lost == {"uncertain": 1}
    assert left_out(corpus) == {
        "train_set/images/4.jpg": "no annotation",
        "train_set/images/5.jpg": "an annotation that NumPy cannot read",
    }


def test_half_of_affectnet_says_which_half(tmp_path: Path) -> None:
    annotate(tmp_path / "val_set", 0, "0")
    assert left_out(read_affectnet(tmp_path)) == {"train_set/annotations": "missing folder"}


# RAF-DB


@pytest.mark.parametrize("nested", ["", "basic"])
def test_rafdb_is_read_by_its_list(tmp_path: Path, nested: str) -> None:
    root = tmp_path / nested
    tree(root / "Image/aligned", "train_00001_aligned.jpg", "test_0001_aligned.jpg")
    write(
        root / "EmoLabel/list_patition_label.txt",
        "train_00001.jpg 5",
        "train_00002.jpg 4",
        "train_00003.jpg 9",
        "train_00004.jpg",
        "test_0001.jpg 1",
    )
    corpus = read_rafdb(tmp_path)
    assert found(corpus) == [
        ("train_00001_aligned.jpg", "train", "Sad"),
        ("test_0001_aligned.jpg", "test", "Surprise"),
    ]
    assert {Path(what).name: reason for what, reason in left_out(corpus).items()} == {
        "train_00002_aligned.jpg": "missing",
        "train_00003_aligned.jpg": "unknown class '9'",
        "list_patition_label.txt, line 4": "malformed row",
    }


# SFEW and AFEW


def test_sfew_knows_a_frames_film_and_has_an_unlabelled_test_set(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "Train/Angry/AboutABoy_000234280_00000019.png",
        "Train/Happy/Hangover_2_003.png",
        "Train/Bored/Hangover_2_004.png",
        "Val/Fear/Saw3D_000.png",
        "Test/Friends_000.png",
    )
    corpus = read_sfew(tmp_path)
    assert [(s.subject, s.split, class_of(s)) for s in corpus.samples] == [
        ("AboutABoy", "train", "Angry"),
        ("Hangover", "train", "Happy"),
        ("Saw3D", "valid", "Fear"),
        ("Friends", "test", None),
    ]
    assert left_out(corpus) == {"Train/Bored/Hangover_2_004.png": "unknown class 'Bored'"}


def test_sfew_prefers_whole_frames_and_finds_folders_of_the_same_name_in_one_another(
    tmp_path: Path,
) -> None:
    tree(
        tmp_path,
        "Train/Train/Angry/A_1.png",
        "Train_Aligned_Faces/Train_Aligned_Faces/Angry/A_1.png",
        "Val_Aligned_Faces_new/Val_Aligned_Faces/Sad/B_1.png",
    )
    corpus = read_sfew(tmp_path)
    assert [sample.path.relative_to(tmp_path).as_posix() for sample in corpus.samples] == [
        "Train/Train/Angry/A_1.png",
        "Val_Aligned_Faces_new/Val_Aligned_Faces/Sad/B_1.png",
    ]
    assert left_out(corpus) == {
        "Train_Aligned_Faces": "another copy: Train is read",
        "Test": "missing folder",
    }


def test_afew_is_read_in_the_challenges_folders(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "Train_AFEW/Surprise/000149120.avi",
        "Train_AFEW/AlignedFaces_LBPTOP_Points/Faces/000149120/000.jpg",
        "Train_AFEW/000000000.avi",
        "Val_AFEW/Neutral/000149121.avi",
        "Test_AFEW/000149122.avi",
    )
    corpus = read_afew(tmp_path)
    assert found(corpus) == [
        ("000149120.avi", "train", "Surprise"),
        ("000149121.avi", "valid", "Neutral"),
        ("000149122.avi", "test", None),
    ]
    assert (corpus.media, corpus.samples[0].subject) == ("clip", None)
    assert left_out(corpus) == {"Train_AFEW/000000000.avi": "not in a folder of a class"}


def test_a_test_set_that_somebody_sorted_has_labels(tmp_path: Path) -> None:
    tree(tmp_path, "AFEW/Train/Sad/1.avi", "AFEW/Val/Sad/2.avi", "AFEW/Test/Sad/3.avi")
    assert found(read_afew(tmp_path))[-1] == ("3.avi", "test", "Sad")


# IEMOCAP


def iemocap(root: Path, *turns: str) -> Path:
    write(
        root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt",
        "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]",
        "",
        *turns,
        "C-E2:\tNeutral;\t()",
        "A-E3:\tval 3; act 2; dom  2;\t()",
    )
    tree(
        root / "Session1",
        *(f"sentences/wav/Ses01F_impro01/Ses01F_impro01_{turn}.wav" for turn in ("F000", "M001")),
        "dialog/EmoEvaluation/._Ses01F_impro01.txt",
        "dialog/EmoEvaluation/Categorical/Ses01F_impro01_e1_cat.txt",
    )
    return root


@pytest.mark.parametrize("nested", ["", "IEMOCAP_full_release"])
def test_iemocap_gives_each_turn_class_rating_and_who_speaks(tmp_path: Path, nested: str) -> None:
    iemocap(
        tmp_path / nested,
        "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 4.0000, 2.5000]",
        "[10.0100 - 11.3925]\tSes01F_impro01_M001\texc\t[5.5000, 1.0000, 2.5000]",
    )
    her, him = read_iemocap(tmp_path).samples
    assert (class_of(her), her.subject, her.valence_arousal) == ("Neutral", "01F", (-0.25, 0.5))
    assert (class_of(him), him.subject, him.valence_arousal) == ("Happy", "01M", (1.0, -1.0))


def test_iemocap_counts_what_has_no_class_here_and_names_the_rest(tmp_path: Path) -> None:
    corpus = read_iemocap(
        iemocap(
            tmp_path,
            "[1.0 - 2.0]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]",
            "[1.0 - 2.0]\tSes01F_impro01_F001\tfru\t[2.0, 3.0, 2.5]",
            "[1.0 - 2.0]\tSes01F_impro01_F002\txxx\t[2.0, 3.0, 2.5]",
            "[1.0 - 2.0]\tSes01F_impro01_F003\tsad\t[2.0, 3.0, 2.5]",
            "[1.0 - 2.0]\tSes01F_impro01_F004\twow\t[2.0, 3.0, 2.5]",
            "[1.0 - 2.0]\tSes01F_impro01_F005\tsad\t[2.0]",
        )
    )
    assert len(corpus.samples) == 1
    assert corpus.lost == {"frustration": 1, "no agreement": 1}
    below = "Session1/sentences/wav/Ses01F_impro01"
    assert left_out(corpus) == {
        f"{below}/Ses01F_impro01_F003.wav": "missing",
        f"{below}/Ses01F_impro01_F004.wav": "unknown class 'wow'",
        "Ses01F_impro01.txt, line 8": "malformed row",
        **{f"Session{n}/dialog/EmoEvaluation/*.txt": "missing" for n in (2, 3, 4, 5)},
    }


# FER+ and DiffusionFER

FERPLUS_HEADER = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
)


def ferplus(root: Path, votes: list[str], labels: list[str]) -> Path:
    write(root / "fer2013new.csv", FERPLUS_HEADER, *votes)
    write(root / "fer2013_original_labels.csv", "split,image,fer2013_label,rms,second_rms", *labels)
    return tree(root, "FER2013Train/a.png", "FER2013Train/b.png", "FER2013Test/a.png")


def test_ferplus_joins_votes_and_labels_by_the_pictures_name(tmp_path: Path) -> None:
    root = ferplus(
        tmp_path,
        ["Training,b.png,0,9,1,0,0,0,0,0,0,0", "PrivateTest,a.png,8,0,0,2,0,0,0,0,0,0"],
        ["FER2013Test,a.png,sad,0.5,30", "FER2013Train,b.png,happy,0.5,30"],
    )
    corpus = read_ferplus(root)
    assert found(corpus) == [("b.png", "train", "Happy"), ("a.png", "test", "Sad")]
    assert corpus.samples[0].votes == (0, 9, 1, 0, 0, 0, 0, 0)
    assert (corpus.lost, corpus.left_out) == ({}, ())


@pytest.mark.parametrize(
    ("votes", "label", "kept", "lost"),
    [
        # the crowd could not tell, or saw no face
        ("0,2,0,0,0,0,0,0,8,0", "happy,0.5,30", (False, True), "crowd undecided"),
        ("0,2,0,0,0,0,0,0,0,8", "happy,0.5,30", (False, True), "crowd undecided"),
        ("0,9,1,0,0,0,0,0,0,0", ",3.5,60", (True, False), "original label not matched surely"),
    ],
)
def test_what_is_not_known_of_a_face_is_none_and_counted(
    tmp_path: Path, votes: str, label: str, kept: tuple[bool, bool], lost: str
) -> None:
    corpus = read_ferplus(
        ferplus(tmp_path, [f"Training,a.png,{votes}"], [f"FER2013Train,a.png,{label}"])
    )
    (sample,) = corpus.samples
    assert (sample.votes is not None, sample.label is not None) == kept
    ((name, count),) = corpus.lost.items()
    assert name.startswith(lost)
    assert count == 1


def test_a_name_that_stands_twice_is_one_face_and_has_votes_only_if_they_agree(
    tmp_path: Path,
) -> None:
    rows = ["0,9,1,0,0,0,0,0,0,0", "9,0,1,0,0,0,0,0,0,0"]
    label = ["FER2013Train,a.png,sad,0.5,30"]
    corpus = read_ferplus(ferplus(tmp_path, [f"Training,a.png,{row}" for row in rows], label))
    (sample,) = corpus.samples
    assert (sample.votes, class_of(sample)) == (None, "Sad")
    assert corpus.lost == {"votes that contradict each other": 1}


def test_ferplus_counts_rows_without_a_name_and_names_what_is_missing_or_broken(
    tmp_path: Path,
) -> None:
    corpus = read_ferplus(
        ferplus(
            tmp_path,
            [
                "Training,,0,0,0,0,0,0,0,0,0,10",
                "Training,a.png,9,0,0,0,0,0,0,0,0,0",
                "Training,away.png,9,0,0,0,0,0,0,0,0,0",
                "Training,b.png,9",
                "Elsewhere,b.png,9,0,0,0,0,0,0,0,0,0",
            ],
            ["FER2013Train,a.png,sad,0.5,30", "FER2013Train,b.png,weird,0.5,30"],
        )
    )
    assert found(corpus) == [("a.png", "train", "Sad")]
    assert corpus.lost == {"not a face (FER+ took the picture out)": 1}
    assert left_out(corpus) == {
        "fer2013_original_labels.csv, line 3": "unknown class 'weird'",
        "fer2013new.csv, line 5": "malformed row",
        "fer2013new.csv, line 6": "malformed row",
        "FER2013Train/away.png": "missing",
    }


def test_diffusionfer_keeps_a_label_only_where_the_folder_agrees(tmp_path: Path) -> None:
    tree(tmp_path, "happy/a.jpg", "happy/b.jpg", "sad/c.jpg", "sad/unlisted.jpg")
    write(
        tmp_path / "labels.csv",
        "path,valence,arousal,expression",
        "sad/c.jpg,-0.6,-0.2,2",
        "happy/b.jpg,-0.5,0,2",
        "happy/a.jpg,0.8,0.5,1",
        "sad/d.jpg,-0.6,-0.2,2",
        "sad/e.jpg,-0.6,,2",
        "sad/f.jpg,-0.6,0,12",
    )
    corpus = read_diffusionfer(tmp_path)
    assert found(corpus) == [  # every fifth is for testing
        ("a.jpg", "test", "Happy"),
        ("b.jpg", "train", None),
        ("c.jpg", "train", "Sad"),
    ]
    assert corpus.samples[1].valence_arousal == (-0.5, 0.0)
    assert corpus.lost == {"label that disagrees with its folder": 1}
    assert left_out(corpus) == {
        "sad/d.jpg": "missing",
        "labels.csv, line 6": "malformed row",
        "sad/f.jpg": "unknown class '12'",
        "sad/unlisted.jpg": "not in labels.csv",
    }


# Voices


def test_ravdess_is_read_by_its_names_and_calm_is_lost(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "Actor_07/03-01-05-01-02-01-07.flac",
        "Actor_07/03-01-08-01-02-01-07.wav",
        "Actor_07/03-01-02-01-02-01-07.flac",
        "Actor_07/03-01-09-01-02-01-07.flac",
        "Actor_07/03-02-05-01-02-01-07.wav",
        "Actor_07/notes.wav",
        "copy/Actor_07/03-01-05-01-02-01-07.wav",
        "__MACOSX/Actor_07/._03-01-05-01-02-01-07.wav",
    )
    corpus = read_ravdess(tmp_path)
    assert [(class_of(s), s.subject) for s in corpus.samples] == [
        ("Angry", "07"),
        ("Surprise", "07"),
    ]
    assert corpus.lost == {"calm": 1}
    assert left_out(corpus) == {
        "Actor_07/03-01-09-01-02-01-07.flac": "unknown class '09'",
        "Actor_07/03-02-05-01-02-01-07.wav": "not named like this corpus's speech",  # sung
        "Actor_07/notes.wav": "not named like this corpus's speech",
        "copy/Actor_07/03-01-05-01-02-01-07.wav": "there twice",
    }


def test_emodb_is_read_by_its_names_and_boredom_is_lost(tmp_path: Path) -> None:
    tree(tmp_path, "wav/16a02Ec.wav", "wav/16a02Lc.wav", "wav/16a02Xc.wav", "wav/x.wav", "readme")
    corpus = read_emodb(tmp_path)
    assert [(class_of(s), s.subject) for s in corpus.samples] == [("Disgust", "16")]
    assert corpus.lost == {"boredom": 1}
    assert left_out(corpus) == {
        "wav/16a02Xc.wav": "unknown class 'X'",
        "wav/x.wav": "not named like this corpus's speech",
    }


@needs_data
@pytest.mark.parametrize(
    ("name", "archive", "samples", "lost"),
    [
        ("ravdess", "ravdess_speech_16k.zip", 1248, {"calm": 192}),
        ("emodb", "emodb_2s_16k.zip", 454, {"boredom": 81}),
    ],
)
def test_the_real_corpora_have_the_size_that_is_documented(
    tmp_path: Path, name: str, archive: str, samples: int, lost: dict[str, int]
) -> None:
    with zipfile.ZipFile(DATA / archive) as file:
        tree(tmp_path, *(each for each in file.namelist() if not each.endswith("/")))
    corpus = READERS[name](tmp_path)
    assert (len(corpus.samples), corpus.lost, corpus.left_out) == (samples, lost, ())


# Own data


def test_own_folders_are_classes_in_splits_or_not_and_in_any_case(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "HAPPINESS/deep/a.wav",
        "anger/b.MP3",
        "Validation/Fearful/c.flac",
        "test/sad/d.ogg",
        "calm/e.wav",
        "Contempt/f.wav",
        "odd/g.wav",
        "sad/h.txt",
        "i.wav",
        ".cache/sad/j.wav",
    )
    corpus = READERS["own_voices"](tmp_path)
    assert (corpus.name, corpus.media) == ("own_voices", "voice")
    assert sorted(found(corpus)) == [
        ("a.wav", "train", "Happy"),
        ("b.MP3", "train", "Angry"),
        ("c.flac", "valid", "Fear"),
        ("d.ogg", "test", "Sad"),
    ]
    assert corpus.lost == {"calm": 1, "contempt": 1}  # voices have no vote
    text = left_out(corpus).pop("sad/h.txt")
    assert text.startswith("not a voice by its extension (.wav")
    assert left_out(corpus)["odd/g.wav"] == "unknown class 'odd'"
    assert left_out(corpus)["i.wav"] == "not in a folder of a class"
    assert len(corpus.left_out) == 3


def test_unlabelled_faces_are_found_wherever_they_lie(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg", "people/b.PNG", "people/deep/c.webp", "SOURCES.csv")
    corpus = read_unlabelled(tmp_path)
    assert {sample.path.name for sample in corpus.samples} == {"a.jpg", "b.PNG", "c.webp"}
    assert all(s.label is None and s.votes is None and s.split == "train" for s in corpus.samples)
    assert [one.what for one in corpus.left_out] == ["SOURCES.csv"]


def test_own_faces_have_votes_if_contempt_was_sorted_out(tmp_path: Path) -> None:
    tree(tmp_path, "happy/a.png")
    assert read_folders(tmp_path, "face").samples[0].votes is None
    tree(tmp_path, "contempt/b.jpg")
    contempt, happy = read_folders(tmp_path, "face").samples
    assert (class_of(contempt), vote_of(contempt), vote_of(happy)) == (None, "Contempt", "Happy")


def test_an_own_table_has_what_is_known(tmp_path: Path) -> None:
    tree(tmp_path, "data/a.mp4", "data/b.mp4", "data/c.mp4", "d.mp4")
    write(
        tmp_path / "data" / "clips.csv",
        "Path,Label,Split,Subject,Valence,Arousal",
        "a.mp4,joy,val,ann,,",
        "b.mp4,,test,,0.5,-0.5",
        f"{(tmp_path / 'd.mp4').as_posix()},Sad",
    )
    table = tmp_path / "data" / "clips.csv"
    corpus = READERS["own_clips"](table)
    assert found(corpus) == [
        ("a.mp4", "valid", "Happy"),
        ("b.mp4", "test", None),
        ("d.mp4", "train", "Sad"),
    ]
    assert [sample.subject for sample in corpus.samples] == ["ann", None, None]
    assert corpus.samples[1].valence_arousal == (0.5, -0.5)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_from_excel_is_read(tmp_path: Path, encoding: str, separator: str) -> None:
    tree(tmp_path, "Jürgen/a.wav")
    rows = (("path", "label", "valence", "arousal"), ("Jürgen\\a.wav", "Angry", '"-0,5"', "1"), ())
    text = "\r\n".join(separator.join(row) for row in rows)
    (tmp_path / "voices.csv").write_bytes(text.encode(encoding))
    (sample,) = read_csv(tmp_path / "voices.csv", "voice").samples
    assert sample.path == tmp_path / "Jürgen" / "a.wav"
    assert (class_of(sample), sample.valence_arousal) == ("Angry", (-0.5, 1.0))


def test_an_own_table_names_every_row_that_it_cannot_use(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "b.png", "c.png", "d.png", "e.png")
    write(
        tmp_path / "own.csv",
        "path,label,split,valence,arousal",
        "a.png,happy",
        "a.png,sad",
        "b.png,meh",
        "c.png,happy,somewhere",
        "d.png,happy,,2,0",
        "e.png",
        ",happy",
        "",
        "away.png,happy",
        "a.png/below.png,happy",
    )
    corpus = read_csv(tmp_path / "own.csv", "face")
    assert found(corpus) == [("a.png", "train", "Happy")]
    assert left_out(corpus) == {
        "a.png": "named twice; the first counts",
        "b.png": "unknown class 'meh'",
        "c.png": "unknown split 'somewhere': expected train, valid or test",
        "d.png": "valence and arousal are not two numbers in -1..1",
        "e.png": "neither a label nor valence and arousal",
        "own.csv, line 8": "no path",
        "away.png": "missing",
        "a.png/below.png": "missing",
    }


def test_a_table_with_other_columns_says_which_are_expected(tmp_path: Path) -> None:
    write(tmp_path / "own.csv", "file,label", "a.png,happy")
    with pytest.raises(
        ValueError, match=r"expected a first line .* path and label .* got file, label"
    ):
        read_csv(tmp_path / "own.csv", "face")


# All


@pytest.mark.parametrize("name", READERS)
def test_a_corpus_that_is_not_there_says_what_was_expected(name: str, tmp_path: Path) -> None:
    with pytest.raises((FileNotFoundError, ValueError), match=r"expected is|name a folder"):
        READERS[name](tmp_path / "nowhere")
    with pytest.raises((FileNotFoundError, ValueError), match=r"expected is .+"):
        READERS[name](tmp_path)


def test_a_corpus_of_which_nothing_can_be_used_says_why(tmp_path: Path) -> None:
    tree(tmp_path, "dataset/happy/a.png", "dataset/sad/b.png")
    with pytest.raises(ValueError, match=r"unknown class 'dataset': 2 \(dataset/happy/a\.png, "):
        read_folders(tmp_path, "face")


def test_a_summary_counts_everything(tmp_path: Path) -> None:
    tree(
        tmp_path,
        *(f"train/happy/{n}.png" for n in range(3)),
        "test/contempt/a.png",
        "test/calm/a.png",
        *(f"odd/{n}.png" for n in range(4)),
    )
    assert summary(read_folders(tmp_path, "face")).splitlines() == [
        "own_faces: 4 faces",
        "  train 3: Happy 3",
        "  test 1: Contempt by votes alone 1",
        "  lost: calm 1",
        "  left out: 4",
        "    unknown class 'odd': 4 (odd/0.png, odd/1.png, odd/2.png, ...)",
    ]


def test_the_order_of_samples_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    names = [f"{folder}/{name}.wav" for folder in ("sad", "happy") for name in "cab"]
    tree(tmp_path / "one", *names)
    tree(tmp_path / "two", *reversed(names))
    one, two = (read_folders(tmp_path / each, "voice") for each in ("one", "two"))
    assert found(one) == found(two)
    assert Counter(class_of(sample) for sample in one.samples) == {"Sad": 3, "Happy": 3}
