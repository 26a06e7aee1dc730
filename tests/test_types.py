"""Values between the stages: checked once when they are made, plain JSON when they leave."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from occam_sdk.labels import FERPLUS_LABELS, LABELS
from occam_sdk.types import (
    RATE_HZ,
    ClipResult,
    Face,
    FaceScores,
    Frame,
    FrameScores,
    FusionWeights,
    ModalityScores,
    TimelineRow,
    Waveform,
    check_image,
    scores_dict,
)


def _zeros(*shape: int, dtype: Any = np.float32) -> Any:
    return np.zeros(shape, dtype)


FACE = Face(np.array([10, 20, 30, 60], np.float32), _zeros(5, 2), 0.9, track_id=3)
SCORES = np.array([0.05, 0.05, 0.1, 0.5, 0.1, 0.1, 0.1], np.float32)


def _result(**changes: Any) -> ClipResult:
    seen = FaceScores(FACE, SCORES, 0.5, -0.25)
    result = ClipResult(
        scores=SCORES,
        valence=0.5,
        arousal=-0.25,
        status="no_voice",
        face=ModalityScores(SCORES, 0.5, -0.25, (0.0, 0.04)),
        voice=None,
        weights=FusionWeights(face=1.0, voice=0.0),
        timeline=(TimelineRow(0, 0.0, seen), TimelineRow(1, 0.04, None)),
        duration_s=0.08,
        notes=("no audio track",),
    )
    return dataclasses.replace(result, **changes)


def test_the_classes_are_table_ones_in_its_order() -> None:
    assert LABELS == ("Angry", "Disgust", "Fear", "Happy", "Sad", "Neutral", "Surprise")
    assert set(FERPLUS_LABELS) == {*LABELS, "Contempt"}


WRONG: list[tuple[str, Callable[[], object], type[Exception], str]] = [
    ("image of floats", lambda: Frame(0, 0.0, _zeros(4, 4, 3)), TypeError, "image: expected"),
    ("image as list", lambda: Frame(0, 0.0, [[[0, 0, 0]]]), TypeError, "got list"),
    ("no image", lambda: Frame(0, 0.0, None), TypeError, "got NoneType"),
    ("grey image", lambda: check_image(_zeros(4, 4, dtype=np.uint8)), ValueError, r"\(H, W, 3\)"),
    ("BGRA", lambda: check_image(_zeros(4, 4, 4, dtype=np.uint8)), ValueError, r"\(H, W, 3\)"),
    ("channels first", lambda: check_image(_zeros(3, 4, 4, dtype=np.uint8)), ValueError, "image"),
    ("no rows", lambda: check_image(_zeros(0, 4, 3, dtype=np.uint8)), ValueError, "1x1 pixels"),
    ("no columns", lambda: check_image(_zeros(4, 0, 3, dtype=np.uint8)), ValueError, "1x1 pixels"),
    (
        "time NaN",
        lambda: Frame(0, float("nan"), _zeros(4, 4, 3, dtype=np.uint8)),
        ValueError,
        "time_s",
    ),
    (
        "time infinite",
        lambda: Frame(0, float("inf"), _zeros(4, 4, 3, dtype=np.uint8)),
        ValueError,
        "time_s",
    ),
    ("box of 5", lambda: Face(_zeros(5), _zeros(5, 2), 1.0), ValueError, "box_xyxy"),
    ("box float64", lambda: Face(_zeros(4, dtype=float), _zeros(5, 2), 1.0), TypeError, "box_xyxy"),
    ("landmarks flat", lambda: Face(_zeros(4), _zeros(10), 1.0), ValueError, r"\(5, 2\) float32"),
    ("landmarks 68", lambda: Face(_zeros(4), _zeros(68, 2), 1.0), ValueError, r"got \(68, 2\)"),
    ("sound of ints", lambda: Waveform(_zeros(9, dtype=np.int16)), TypeError, r"\(N,\) float32"),
    ("stereo", lambda: Waveform(_zeros(9, 2)), ValueError, r"\(N,\) float32, got \(9, 2\)"),
    ("sound with NaN", lambda: Waveform(np.full(9, np.nan, np.float32)), ValueError, "finite"),
    ("sound with inf", lambda: Waveform(np.full(9, np.inf, np.float32)), ValueError, "finite"),
    (
        "big-endian sound",
        lambda: Waveform(_zeros(9, dtype=">f4")),
        TypeError,
        "float32, got .*>f4",
    ),
    (
        "times float32",
        lambda: FrameScores(_zeros(3), _zeros(3, 7), _zeros(3, 2), _zeros(3, 512)),
        TypeError,
        "times_s: expected .*float64",
    ),
    (
        "scores of 2 of 3 frames",
        lambda: FrameScores(np.zeros(3), _zeros(2, 7), _zeros(3, 2), _zeros(3, 512)),
        ValueError,
        r"scores: expected \(3, 7\)",
    ),
    (
        "8 classes",
        lambda: FrameScores(np.zeros(3), _zeros(3, 8), _zeros(3, 2), _zeros(3, 512)),
        ValueError,
        r"scores: expected \(3, 7\)",
    ),
    (
        "valence alone",
        lambda: FrameScores(np.zeros(3), _zeros(3, 7), _zeros(3, 1), _zeros(3, 512)),
        ValueError,
        r"valence_arousal: expected \(3, 2\)",
    ),
    (
        "embeddings of 4 of 3 frames",
        lambda: FrameScores(np.zeros(3), _zeros(3, 7), _zeros(3, 2), _zeros(4, 512)),
        ValueError,
        r"embeddings: expected \(3, D\)",
    ),
    ("8 scores", lambda: ModalityScores(_zeros(8)), ValueError, r"\(7,\) float32, got \(8,\)"),
    ("scores as list", lambda: ModalityScores([0.0] * 7), TypeError, "got list"),  # type: ignore
    ("scores 2-d", lambda: FaceScores(FACE, _zeros(1, 7), 0, 0), ValueError, "FaceScores.scores"),
    ("unknown status", lambda: _result(status="fine"), ValueError, "status: expected one of"),
    ("fused float64", lambda: _result(scores=_zeros(7, dtype=float)), TypeError, "ClipResult"),
]


@pytest.mark.parametrize(
    ("make", "error", "says"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_what_does_not_fit_is_refused_with_what_was_expected(
    make: Callable[[], object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        make()


def test_values_cannot_be_changed() -> None:
    for value in (FACE, _result(), FusionWeights(1.0, 0.0), Waveform(_zeros(3))):
        field = dataclasses.fields(value)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, None)


def test_values_with_arrays_compare_by_identity_and_can_be_hashed() -> None:
    one, other = Waveform(_zeros(3)), Waveform(_zeros(3))
    assert one == one
    assert one != other
    assert len({one, other}) == 2


def test_no_frames_are_scores_of_no_frames() -> None:
    none = FrameScores(np.zeros(0), _zeros(0, 7), _zeros(0, 2), _zeros(0, 512))
    assert none.embeddings.shape == (0, 512)


def test_a_view_of_a_picture_is_a_picture() -> None:
    image = _zeros(8, 8, 3, dtype=np.uint8)
    assert Frame(0, 0.0, image[::2, ::-1, ::-1]).image.shape == (4, 8, 3)


def test_a_waveform_lasts_its_samples_over_16_khz() -> None:
    assert RATE_HZ == 16_000
    assert Waveform(_zeros(24_000), start_s=2.0).duration_s == 1.5
    assert Waveform(_zeros(0)).duration_s == 0.0


@pytest.mark.parametrize(
    ("box", "area"),
    [((10, 20, 30, 60), 800.0), ((5, 5, 5, 9), 0.0), ((30, 60, 10, 20), 0.0), ((9, 0, 3, 7), 0.0)],
)
def test_a_box_turned_inside_out_has_no_area(box: tuple[float, ...], area: float) -> None:
    assert Face(np.array(box, np.float32), _zeros(5, 2), 1.0).area == area


def test_the_label_is_the_highest_score_and_of_equals_the_first() -> None:
    assert ModalityScores(SCORES).label == FaceScores(FACE, SCORES, 0, 0).label == "Happy"
    assert _result().label == "Happy"
    assert ModalityScores(np.full(7, 1 / 7, np.float32)).label == "Angry"


def test_scores_are_told_highest_first_and_equals_in_the_classes_order() -> None:
    told = scores_dict(SCORES)
    assert list(told) == ["Happy", "Fear", "Sad", "Neutral", "Surprise", "Angry", "Disgust"]
    assert told["Happy"] == 0.5
    assert all(type(score) is float for score in told.values())


def test_without_evidence_there_is_no_label() -> None:
    nothing = _result(
        scores=None, face=None, status="no_evidence", weights=FusionWeights(0.0, 0.0), timeline=()
    )
    assert nothing.label is None
    told = nothing.to_dict()
    assert (told["label"], told["scores"], told["face"], told["timeline"]) == (None, None, None, [])


def test_a_result_becomes_json_and_comes_back() -> None:
    told = json.loads(_result().to_json())
    assert told == _result().to_dict()
    assert (told["label"], told["status"], told["voice"]) == ("Happy", "no_voice", None)
    assert told["weights"] == {"face": 1.0, "voice": 0.0}
    assert told["face"]["evidence_s"] == [0.0, 0.04]
    assert told["notes"] == ["no audio track"]
    first, second = told["timeline"]
    assert first["face"]["box_xyxy"] == [10.0, 20.0, 30.0, 60.0]
    assert (first["face"]["track_id"], first["face"]["label"]) == (3, "Happy")
    assert second == {"index": 1, "time_s": 0.04, "face": None}


def test_the_timeline_may_be_left_out() -> None:
    assert "timeline" not in _result().to_dict(timeline=False)
    assert "timeline" not in json.loads(_result().to_json(timeline=False, indent=2))


def test_json_never_holds_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        _result(valence=float("nan")).to_json()
