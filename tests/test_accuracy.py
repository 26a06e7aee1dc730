"""How the accuracy report is made: what counts as wrong, who is in which group, what is shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
pytest.importorskip("matplotlib", reason="the extra 'train' is not installed")
pytest.importorskip("onnx", reason="the extra 'export' is not installed")

from benchmarks import accuracy, accuracy_voices  # noqa: E402
from benchmarks.accuracy_calibration import fused_scores  # noqa: E402
from benchmarks.accuracy_conditions import (  # noqa: E402
    CONDITIONS,
    away_from_frontal,
    by_turning,
    conditions,
)
from benchmarks.accuracy_faces import (  # noqa: E402
    PLAIN,
    SHIPPED,
    Answers,
    Pictures,
    as_shipped,
    counted_by_authors,
    prepared_faces,
    read_pictures,
    side_by_side,
)
from benchmarks.accuracy_figures import NOT_FOUND, calibration, judged, summary  # noqa: E402
from benchmarks.accuracy_report import compared, draw, markdown, update_blocks  # noqa: E402
from benchmarks.accuracy_voices import (  # noqa: E402
    NEVER_HEARD,
    Heard,
    by_strangers,
    like_shipped,
    subgroups,
)
from export.calibration import pairs  # noqa: E402
from occam_sdk import Recognizer  # noqa: E402
from occam_sdk.bundle import FusionModel, load_bundle  # noqa: E402
from occam_sdk.labels import FERPLUS_LABELS, LABELS  # noqa: E402
from occam_sdk.verify import demo_frames  # noqa: E402
from training.readers import READERS  # noqa: E402
from training.voice import FOR_STATES, Recipe, Voices, logits_of  # noqa: E402

from .caches import write_cache  # noqa: E402

BUNDLE = load_bundle()
BLANK = np.full((120, 160, 3), 90, np.uint8)
HAPPY = LABELS.index("Happy")
QUICK = Recipe(mlp=replace(FOR_STATES, epochs=2))


@pytest.fixture(scope="module")
def recognizer() -> Any:
    with Recognizer(backend="openvino", device="cpu", strict=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def face() -> NDArray[np.uint8]:
    """A picture of a happy face: a frame of the clip that comes with the package."""
    return next(iter(demo_frames()))


# --- figures


def test_a_face_that_was_not_found_is_wrong_and_has_a_column_of_its_own() -> None:
    label, guess = np.array([0, 0, 1, 1]), np.array([0, NOT_FOUND, 1, 0])
    row = judged(label, guess, ("a", "b"))
    assert row["accuracy"] == 0.5
    assert row["recall"] == {"a": 0.5, "b": 0.5}
    assert row["confusion_rows_are_truth"] == [[1, 0, 1], [1, 1, 0]]


def test_the_worst_class_is_named_and_classes_without_examples_have_no_recall() -> None:
    row = judged(np.array([0, 0, 2, 2]), np.array([0, 0, 2, 1]), ("a", "b", "c"))
    assert (row["worst_class"], row["worst_recall"]) == ("c", 0.5)
    assert row["recall"] == {"a": 1.0, "c": 0.5}
    assert row["uar"] == 0.75
    assert row["confusion_rows_are_truth"] == [[2, 0, 0], [0, 0, 0], [0, 1, 1]]


def test_intervals_hold_the_value_and_are_the_same_each_time() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 7, 300)
    guess = np.where(rng.random(300) < 0.6, label, rng.integers(0, 7, 300))
    speaker = np.array([f"{i % 12:02d}" for i in range(300)])
    for who in (None, speaker):
        row = judged(label, guess, LABELS, who)
        assert row == judged(label, guess, LABELS, who)
        for key in ("accuracy", "uar"):
            low, high = row[f"{key}_95"]
            assert low < row[key] < high
        for name, recall in row["recall"].items():
            low, high = row["recall_95"][name]
            assert low <= recall <= high


def test_voices_are_drawn_by_speaker() -> None:
    """Of two speakers one is always right: more utterances of the same two say no more."""
    label = np.zeros(400, np.int64)
    speaker = np.repeat(["one", "other"], 200)
    guess = np.where(speaker == "one", 0, 1)
    assert summary(label, guess, speaker)["accuracy_95"] == [0, 1]
    low, high = summary(label, guess)["accuracy_95"]
    assert high - low < 0.12


def test_nothing_judged_is_a_count_of_none() -> None:
    nobody = np.zeros(0, np.int64)
    assert summary(nobody, nobody) == judged(nobody, nobody, LABELS) == {"count": 0}


def test_calibration_of_known_scores() -> None:
    scores = np.tile(np.array([[0.9, 0.1]], np.float32), (10, 1))
    row = calibration(scores, np.array([0] * 6 + [1] * 4))
    assert row["mean_confidence"] == 0.9
    assert row["expected_calibration_error"] == pytest.approx(0.3, abs=1e-4)
    assert row["confidence_minus_accuracy"] == pytest.approx(0.3, abs=1e-4)
    low, high = row["confidence_minus_accuracy_95"]
    assert low < 0.3 < high
    modest = calibration(scores, np.zeros(10, np.int64))
    assert modest["confidence_minus_accuracy"] == pytest.approx(-0.1, abs=1e-4)


# --- the product's own door


def test_the_product_answers_for_the_largest_face_or_not_at_all(
    recognizer: Recognizer, face: NDArray[np.uint8]
) -> None:
    answers = as_shipped(recognizer, BUNDLE, [face, BLANK])
    assert answers.found.tolist() == [True, False]
    assert answers.guess.tolist() == [HAPPY, NOT_FOUND]
    said = recognizer.predict_image(face)[0]
    np.testing.assert_array_equal(answers.scores[0], said.scores)
    np.testing.assert_array_equal(answers.landmarks[0], said.face.landmarks)
    size = BUNDLE.face.input_size
    assert answers.crops.shape == (2, size, size)


def stored_faces(
    folder: Path, pictures: list[NDArray[np.uint8]], corpus: str = "own_faces"
) -> tuple[Path, Path]:
    """Happy pictures as ``own_faces`` reads them, and a cache as if they had been prepared."""
    stored = folder / "own" / "test" / "happy"
    stored.mkdir(parents=True)
    for i, picture in enumerate(pictures):
        cv2.imwrite(str(stored / f"{i}.png"), picture)
    count, size = len(pictures), BUNDLE.face.input_size
    votes = np.zeros((count, 8), np.float32)
    votes[:, FERPLUS_LABELS.index("Happy")] = 10
    cache = write_cache(
        folder / corpus, "face", label=np.full(count, HAPPY), votes=votes,
        split=np.full(count, "test"), path=np.array([f"test/happy/{i}.png" for i in range(count)]),
        digest=np.array([hashlib.sha256(p.tobytes()).hexdigest() for p in pictures]),
        found=np.array([bool(p.std() > 1) for p in pictures]),
        pixels=np.stack([cv2.cvtColor(cv2.resize(p, (size, size)), cv2.COLOR_BGR2GRAY) for p in pictures]),
    )  # fmt: skip
    return folder / "own", cache


@pytest.mark.parametrize(
    ("votes", "counted"),
    [
        ([10], True),
        ([6, 4], True),
        ([5, 5], False),
        ([5, 4, 1], True),  # a single vote is left out: five of nine
        ([4, 1, 1, 1, 1, 1, 1], True),
        ([5], False),  # the other five say that it is unknown, or no face
        ([8, 1], True),
        ([0, 0, 0, 0, 0, 0, 0, 1], False),  # of another corpus, which has one label for ten votes
    ],
)
def test_ferplus_counts_a_face_where_more_than_half_agree(votes: list[int], counted: bool) -> None:
    row = np.zeros((1, len(FERPLUS_LABELS)), np.float32)
    row[0, : len(votes)] = votes
    before = row.copy()
    assert counted_by_authors(row).tolist() == [counted]
    np.testing.assert_array_equal(row, before)


def test_the_same_faces_stand_side_by_side(
    recognizer: Recognizer, face: NDArray[np.uint8], tmp_path: Path
) -> None:
    place, cache = stored_faces(tmp_path, [face, BLANK])
    data = prepared_faces(BUNDLE, [cache])
    pictures = read_pictures(data, {"own_faces": place}, tmp_path)
    shipped = as_shipped(recognizer, BUNDLE, pictures.images)
    report = side_by_side(BUNDLE, data, pictures, shipped)
    for test in ("fer2013_test", "ferplus_test"):
        assert {row["count"] for row in report[test].values()} == {2}
        assert report[test][SHIPPED]["faces_found"] == 0.5
        assert report[test][SHIPPED]["recall"] == {"Happy": 0.5}  # the blank one is wrong
        assert "faces_found" not in report[test][PLAIN]
    unfound = replace(shipped, found=np.zeros(2, np.bool_))  # whatever their crops show
    for rows in side_by_side(BUNDLE, data, pictures, unfound).values():
        assert rows[SHIPPED]["accuracy"] == 0


def test_a_plain_crop_is_the_stored_picture_in_the_networks_size(
    face: NDArray[np.uint8], tmp_path: Path
) -> None:
    place, cache = stored_faces(tmp_path, [face])
    data = prepared_faces(BUNDLE, [cache])
    pictures = read_pictures(data, {"own_faces": place}, tmp_path)
    np.testing.assert_array_equal(pictures.images[0], face)
    size = BUNDLE.face.input_size
    small = cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(pictures.plain[0], cv2.cvtColor(small, cv2.COLOR_BGR2GRAY))


def test_faces_prepared_by_another_detector_are_noticed(
    recognizer: Recognizer,
    face: NDArray[np.uint8],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place, cache = stored_faces(tmp_path, [face, BLANK])
    data = prepared_faces(BUNDLE, [cache])
    pictures = read_pictures(data, {"own_faces": place}, tmp_path)
    shipped = as_shipped(recognizer, BUNDLE, pictures.images)
    assert accuracy.found_as_prepared(data, pictures, shipped) == 1
    assert capsys.readouterr().out == ""
    elsewhere = replace(shipped, found=np.array([True, True]))
    assert accuracy.found_as_prepared(data, pictures, elsewhere) == 0.5
    assert "prepare it again" in capsys.readouterr().out


def test_other_pictures_than_the_prepared_ones_are_refused(
    face: NDArray[np.uint8], tmp_path: Path
) -> None:
    place, cache = stored_faces(tmp_path, [face])
    cv2.imwrite(str(place / "test" / "happy" / "0.png"), BLANK)
    data = prepared_faces(BUNDLE, [cache])
    with pytest.raises(ValueError, match=r"0\.png is missing or not the picture"):
        read_pictures(data, {"own_faces": place}, tmp_path)


def test_pictures_of_no_prepared_corpus_are_refused(
    face: NDArray[np.uint8], tmp_path: Path
) -> None:
    place, cache = stored_faces(tmp_path, [face])
    data = prepared_faces(BUNDLE, [cache])
    with pytest.raises(ValueError, match="no labelled Test picture of unlabelled_faces"):
        read_pictures(data, {"unlabelled_faces": place}, tmp_path)


def test_faces_of_another_size_than_the_networks_are_refused(tmp_path: Path) -> None:
    pixels = np.zeros((1, 32, 32), np.uint8)
    cache = write_cache(tmp_path / "small", "face", label=np.zeros(1, np.int64), pixels=pixels)
    with pytest.raises(ValueError, match=f"--size {BUNDLE.face.input_size}"):
        prepared_faces(BUNDLE, [cache])


# --- conditions


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_alters_the_picture_and_leaves_the_original(name: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 48, 3)).astype(np.uint8)
    before = image.copy()
    altered = CONDITIONS[name].alter(image)
    np.testing.assert_array_equal(image, before)
    assert altered.dtype == np.uint8
    assert not np.array_equal(altered, image)
    np.testing.assert_array_equal(altered, CONDITIONS[name].alter(image))


def test_dark_small_and_covered_are_what_they_say() -> None:
    image = np.full((48, 40, 3), 200, np.uint8)
    assert (CONDITIONS["dark"].alter(image) == 50).all()
    assert CONDITIONS["small_24"].alter(image).shape == (24, 20, 3)
    assert CONDITIONS["small_24"].alter(image[:16, :16]).shape == (16, 16, 3)  # never enlarged
    covered = CONDITIONS["covered"].alter(image)
    assert (covered[:24] == 200).all()
    assert (covered[24:] == 128).all()


def test_each_condition_is_judged_with_no_face_counted_wrong(
    recognizer: Recognizer, face: NDArray[np.uint8]
) -> None:
    pictures = Pictures(np.arange(2), (face, BLANK), np.zeros((2, 8, 8), np.uint8))
    stored = as_shipped(recognizer, BUNDLE, pictures.images)
    report = conditions(recognizer, BUNDLE, pictures, np.array([HAPPY, HAPPY]), stored)
    assert set(report) == {"as_stored", *CONDITIONS}
    assert report["as_stored"]["faces_found"] == report["as_stored"]["accuracy"] == 0.5
    assert report["as_stored"]["accuracy_where_found"] == 1
    assert all(row["accuracy"] <= row["faces_found"] for row in report.values())


def test_a_nose_between_the_eyes_is_frontal_however_the_head_is_tilted() -> None:
    frontal = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], np.float32)
    aside = frontal + np.array([[0, 0], [0, 0], [10, 0], [0, 0], [0, 0]], np.float32)
    tilt = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]], np.float32)
    away = away_from_frontal(np.stack([frontal, frontal @ tilt, aside, aside @ tilt]))
    np.testing.assert_allclose(away, [0, 0, 0.25, 0.25], atol=1e-6)


def test_faces_are_told_apart_by_how_far_they_look_away() -> None:
    eyes = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], np.float32)
    landmarks = np.stack([eyes] * 4)
    landmarks[:, 2, 0] += [0, 6, 30, 0]
    scores = np.eye(7, dtype=np.float32)[[0, 1, 2, 0]]
    found = np.array([True, True, True, False])
    answers = Answers(found, scores, landmarks, np.zeros((4, 8, 8), np.uint8))
    report = by_turning(np.array([0, 1, 0, 0]), answers, LABELS)
    assert report["near_frontal"]["accuracy"] == report["turned"]["accuracy"] == 1
    assert report["strongly_turned"]["accuracy"] == 0
    assert report["not_found"] == {"count": 1}


# --- voices


def heard(label: list[int], guess: list[int], speaker: list[str]) -> Heard:
    logits = np.eye(len(LABELS), dtype=np.float32)[guess] * 5
    return Heard(np.array(label), logits, np.array(speaker))


def test_sex_is_what_the_corpora_say() -> None:
    actors = heard([0, 0, 1], [0, 0, 0], ["ravdess/01", "ravdess/03", "ravdess/24"])
    speakers = heard([0] * 4, [0, 0, 0, 1], ["emodb/08", "emodb/16", "emodb/03", "emodb/15"])
    report = subgroups({"ravdess_six_folds_by_actor": actors, "emodb_one_speaker_out": speakers})
    assert report["ravdess"]["male"]["speakers"] == 2
    assert report["ravdess"]["male"]["recall"] == {"Angry": 1.0}
    assert report["ravdess"]["female"]["recall"] == {"Disgust": 0.0}
    assert report["emodb"]["female"]["uar"] == 1
    assert report["emodb"]["male"]["uar"] == 0.5


def two_corpora() -> Voices:
    rng = np.random.default_rng(0)
    label = np.tile([0, HAPPY], 8)
    features = rng.normal(size=(16, 256)).astype(np.float32)
    corpus = np.repeat(["ravdess", "other"], 8)
    speaker = np.tile(np.repeat(["01", "02"], 4), 2)
    return Voices(features, label, corpus, speaker)


def test_nobody_is_judged_by_a_network_that_has_heard_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accuracy_voices, "through_runtime", logits_of)  # faster, and says the same
    voices, trained_on = two_corpora(), []

    def trainer(some: Voices) -> Any:
        trained_on.append({f"{c}/{s}" for c, s in zip(some.corpus, some.speaker, strict=True)})
        return QUICK(some)

    report = by_strangers(voices, trainer)
    own, other = {"ravdess/01", "ravdess/02"}, {"other/01", "other/02"}
    one_less = [(own | other) - {who} for who in (*sorted(other), *sorted(own))]
    assert trained_on == [*one_less, own, other]
    assert list(report) == ["other_speakers_never_heard", "ravdess_six_folds_by_actor", NEVER_HEARD]
    assert set(report[NEVER_HEARD].speaker.tolist()) == own | other


def test_another_voice_than_the_bundles_is_refused() -> None:
    voices = two_corpora()
    assert like_shipped(QUICK, None)(voices).architecture == "mlp-256-64-7"
    with pytest.raises(ValueError, match="--voice-run"):
        like_shipped(QUICK, "mlp-256-8-7")(voices)


# --- both


def test_voices_are_paired_with_faces_of_the_same_label() -> None:
    voice, face = np.array([0, 1, 1, 6]), np.array([1, 0, 1, -1, 0])
    voices, faces = pairs(voice, face)
    assert voices.tolist() == [0, 1, 2]  # no face is surprised
    np.testing.assert_array_equal(voice[voices], face[faces])
    np.testing.assert_array_equal(pairs(voice, face), (voices, faces))
    many = pairs(np.zeros(50, np.int64), np.zeros(50, np.int64), seed=1)[1]
    assert len(set(many.tolist())) > 20


def test_pairs_are_fused_by_the_products_weights() -> None:
    face, voice = np.eye(7, dtype=np.float32)[[0]], np.eye(7, dtype=np.float32)[[1]]
    for weight in (0.9, 0.1):
        bundle = replace(BUNDLE, fusion=FusionModel(face=weight, voice=1 - weight))
        assert fused_scores(bundle, face, voice).argmax() == (0 if weight > 0.5 else 1)


# --- the report


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, face: NDArray[np.uint8]) -> Path:
    """The folder of a report of the shipped bundle on next to nothing, by the command line."""
    folder = tmp_path_factory.mktemp("accuracy")
    place, faces = stored_faces(folder, [face, face[:, ::-1].copy(), BLANK], "ferplus")
    voices = two_corpora()
    caches = []
    for name, corpus in (("ravdess", "ravdess"), ("emodb", "other")):
        own = voices[voices.corpus == corpus]
        given = {"label": own.label, "subject": own.speaker, "features": own.features}
        caches.append(str(write_cache(folder / name, "voice", **given)))
    (folder / "card.md").write_text("<!-- conditions -->\nold\n<!-- /conditions -->\nkept\n")
    data = ["--faces", str(faces), "--voices", *caches, "--pictures", f"ferplus={place}"]
    out = ["--json", str(folder / "a.json"), "--plots", str(folder / "plots"),
           "--update", str(folder / "card.md")]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accuracy, "Recipe", lambda: QUICK)
        patch.setitem(READERS, "ferplus", READERS["own_faces"])  # type: ignore[misc]
        accuracy.main([*data, *out])
    return folder


def report_of(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "a.json").read_text())
    return read


def test_the_report_says_which_network_was_measured(measured: Path) -> None:
    files = BUNDLE.files
    assert report_of(measured)["expression_sha256"] == files["expression.int8.onnx"]["sha256"]


def test_every_figure_of_the_table_has_an_interval(measured: Path) -> None:
    report = report_of(measured)
    tests = "fer2013_test", "ferplus_test", "ravdess_six_folds_by_actor", "emodb_one_speaker_out"
    for name in tests:
        assert {"accuracy_95", "uar_95", "recall_95", "worst_recall"} <= set(report[name])
    kinds = [
        f"{who}_{what}_never_heard" for who in ("voice", "fused") for what in ("speakers", "corpus")
    ]
    assert set(report["calibration"]) == {"face", *kinds}
    for row in report["calibration"].values():
        low, high = row["expected_calibration_error_95"]
        assert 0 <= low <= high


def test_every_block_is_a_table_as_wide_as_its_header(measured: Path) -> None:
    blocks = markdown(report_of(measured))
    assert set(blocks) == {
        "figures", "recalls", "confusion", "more", "side_by_side", "calibration", "subgroups", "conditions"
    }  # fmt: skip
    for name, block in blocks.items():
        for table in block.split("\n\n") if name != "more" else ():
            assert len({line.count("|") for line in table.splitlines()}) == 1, name


def test_without_pictures_there_is_no_block_of_them(measured: Path) -> None:
    report = report_of(measured)
    del report["side_by_side"], report["conditions"], report["turned"]
    assert not {"side_by_side", "conditions"} & set(markdown(report))


def test_documents_get_their_blocks_and_keep_the_rest(measured: Path) -> None:
    card = (measured / "card.md").read_text()
    assert "a quarter of the light" in card
    assert card.endswith("<!-- /conditions -->\nkept\n")
    assert "old" not in card
    assert update_blocks("no marker", {"conditions": "table"}) == "no marker"


def test_figures_of_another_corpus_are_not_called_those_of_ferplus(
    tmp_path: Path, face: NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    _, faces = stored_faces(tmp_path, [face, BLANK], "rafdb")
    with pytest.raises(SystemExit):
        accuracy.main(["--faces", str(faces), "--voices", "nowhere"])
    assert "rafdb has faces of a Test part" in capsys.readouterr().err


def test_a_document_that_is_not_there_is_told_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        accuracy.main(
            ["--faces", "a", "--voices", "b", "--pictures", "ferplus=.", "--update", "no/card.md"]
        )
    assert "no/card.md: no such file" in capsys.readouterr().err


def test_documents_are_not_updated_by_half(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        accuracy.main(["--faces", "a", "--voices", "b", "--update", "README.md"])
    assert "--pictures" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["ferplus", "nobody=here", "ferplus=not/there"])
def test_pictures_that_cannot_be_are_refused(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        accuracy.main(["--faces", "a", "--voices", "b", "--pictures", given])
    assert given.partition("=")[0] in capsys.readouterr().err


def test_confusions_are_drawn_the_same_each_time(measured: Path, tmp_path: Path) -> None:
    drawn = draw(report_of(measured), tmp_path)
    assert [path.name for path in drawn] == [
        "confusion_fer2013_test.png", "confusion_ferplus_test.png",
        "confusion_ravdess_six_folds_by_actor.png", "confusion_emodb_one_speaker_out.png",
    ]  # fmt: skip
    for path in drawn:
        assert path.read_bytes() == (measured / "plots" / path.name).read_bytes()
        picture = cv2.imread(str(path))
        assert picture is not None
        assert min(picture.shape[:2]) > 200


def test_comparing_shows_what_both_have_and_what_changed() -> None:
    old = {"a": {"uar": 0.5, "same": 1, "gone": 2, "uar_95": [0.1, 0.9]}, "sha": "x"}
    new: Mapping[str, Any] = {
        "new": 1,
        "sha": "y",
        "a": {"same": 1, "uar": 0.525, "uar_95": [0, 1]},
    }
    assert compared(old, new) == ["a.uar: 0.5 -> 0.525 (+0.025)"]
    assert compared({"b": 1.0, "a": 1.0}, {"a": 2.0, "b": 3.0}) == [
        "a: 1 -> 2 (+1)",
        "b: 1 -> 3 (+2)",
    ]
    assert compared(old, old) == []
