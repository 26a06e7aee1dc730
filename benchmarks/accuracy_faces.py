"""Faces: prepared ones through the shipped network, and stored pictures through the product's own door."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from occam_sdk import Recognizer
from occam_sdk.backends import Runtime, in_batches, open_session
from occam_sdk.bundle import Bundle
from occam_sdk.labels import FERPLUS_LABELS, LABELS
from occam_sdk.scores import softmax
from occam_sdk.video.align import align_face
from occam_sdk.video.expression import grey_input, to_grey
from training.faces import LabelledFaces
from training.metrics import calibration_error, ccc
from training.observe import plain_crop
from training.prepare import unpacked
from training.readers import READERS

from .accuracy_figures import NOT_FOUND, Floats, Ints, Row, judged

Image = NDArray[np.uint8]
GIVEN: Final = "aligned_or_plain_crop"
PLAIN: Final = "plain_crop"
SHIPPED: Final = "as_shipped"
FERPLUS_JUDGES: Final = 10  # of each face


@dataclass(frozen=True, eq=False)
class Pictures:
    """Test pictures as their makers stored them.

    Attributes:
        rows: (N,) of each, its row of the prepared faces.
        images: N pictures (H, W, 3) uint8 BGR of any size.
        plain: (N, S, S) uint8 grey, each brought to the network's size without looking for the face.
    """

    rows: Ints
    images: tuple[Image, ...]
    plain: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Answers:
    """What the product says of N pictures, of the largest face of each.

    Attributes:
        found: (N,) bool, whether there is an answer.
        scores: (N, 7) float32, zeros where none is.
        landmarks: (N, 5, 2) float32 in the picture's pixels, zeros where no face was found.
        crops: (N, S, S) uint8 grey, the faces as the product aligns them.
    """

    found: NDArray[np.bool_]
    scores: Floats
    landmarks: Floats
    crops: NDArray[np.uint8]

    @property
    def guess(self) -> Ints:
        """(N,) over ``LABELS``, ``NOT_FOUND`` without a face."""
        return np.where(self.found, self.scores.argmax(1), NOT_FOUND)


def prepared_faces(bundle: Bundle, folders: Sequence[Path]) -> LabelledFaces:
    """The faces of some caches, of the size that the bundle's network takes.

    Raises:
        ValueError: they are of another size, or none of them is for testing.
    """
    data = LabelledFaces(folders)
    if data.size != (size := bundle.face.input_size):
        raise ValueError(
            f"faces of {data.size} pixels, the network of {bundle.path} takes {size}; "
            f"prepare them with python -m training.prepare --size {size}"
        )
    if not len(data.test_rows()):
        raise ValueError("--faces: none of the folders has faces of a Test part")
    return data


def majority(votes: Floats) -> Ints:
    """(N,) over ``FERPLUS_LABELS`` what most of the crowd saw, -1 where there are no votes."""
    return np.where(votes.sum(1) > 0, votes.argmax(1), -1)


def counted_by_authors(votes: Floats) -> NDArray[np.bool_]:
    """(N,) whether FER+'s authors count a face when they say how often the majority is met.

    They leave out single votes, then every face of which no emotion has more than half of the rest: so are
    the figures of their paper (84.99 % of VGG-13, Barsoum et al. 2016; "majority" in their ``ferplus.py``).
    Ten people judged each face; what is missing from ten said that it is unknown or no face. That is one
    answer here and two there: four faces of 3,153 are not counted.
    """
    others = np.maximum(FERPLUS_JUDGES - votes.sum(1), 0)
    answers = np.concatenate([votes, others[:, None]], 1)
    answers[answers <= 1] = 0
    return np.asarray(answers[:, :-1].max(1) > answers.sum(1) / 2)


def run_expression(bundle: Bundle, grey: NDArray[np.uint8]) -> dict[str, Floats]:
    """The shipped network, in its default form, on (N, S, S) uint8 grey aligned faces."""
    session = open_session(bundle.network("expression"), Runtime("openvino", "cpu", strict=True))
    return in_batches(session, "image", grey_input(grey, bundle.face.mean, bundle.face.std))


def face_figures(bundle: Bundle, data: LabelledFaces) -> dict[str, Row]:
    """FER2013 and FER+ Test, whole and twin-free; valence-arousal on held-out synthetic faces."""
    test = data.test_rows()
    report: dict[str, Row] = {}
    for name, rows in (("test", test), ("test_twin_free", test[~data.twin[test]])):
        batch = data.batch(rows)
        out = run_expression(bundle, batch.faces.numpy())
        found, label = data.samples.found[rows], batch.label.numpy()
        known = label >= 0
        label, found = label[known], found[known]
        scores = softmax(out["emotion"][known] / bundle.face.temperature)
        right = label == scores.argmax(1)
        report[f"fer2013_{name}"] = {
            **judged(label, scores.argmax(1), LABELS),
            "expected_calibration_error": round(calibration_error(scores, label), 4),
            "faces_found": round(float(found.mean()), 4),
            "accuracy_if_not_found_is_wrong": round(float((right & found).mean()), 4),
        }
        crowd = majority(batch.votes.numpy())
        voted = crowd >= 0
        if voted.any():
            eight = out["ferplus"][voted].argmax(1)
            report[f"ferplus_{name}"] = judged(crowd[voted], eight, FERPLUS_LABELS)
            counted = counted_by_authors(batch.votes.numpy()[voted])
            if counted.any():
                report[f"ferplus_{name}_as_published"] = judged(
                    crowd[voted][counted], eight[counted], FERPLUS_LABELS
                )
    synthetic = data.test_rows(synthetic=True)
    if len(synthetic):
        report["diffusionfer_held_out"] = _valence_arousal(bundle, data, synthetic)
    return report


def _valence_arousal(bundle: Bundle, data: LabelledFaces, rows: Ints) -> Row:
    batch = data.batch(rows)
    target = batch.valence_arousal.numpy()
    guess = run_expression(bundle, batch.faces.numpy())["valence_arousal"].clip(-1, 1)
    return {
        "count": len(target),
        "ccc_valence": round(ccc(target[:, 0], guess[:, 0]), 4),
        "ccc_arousal": round(ccc(target[:, 1], guess[:, 1]), 4),
    }


def read_pictures(data: LabelledFaces, places: Mapping[str, Path], below: Path) -> Pictures:
    """The stored pictures of the Test faces of some corpora.

    Args:
        data: prepared faces: what is a test and what its label is, is said there.
        places: folder or zip file of each corpus, by the corpus's name.
        below: where archives are unpacked.

    Raises:
        OSError, ValueError: a picture is missing, or not the one that was prepared.
    """
    rows: list[int] = []
    images: list[Image] = []
    plain: list[Image] = []
    test, samples = data.test_rows(), data.samples
    for name, place in places.items():
        root = unpacked(place, below) if place.suffix == ".zip" else place
        stored = {sample.path.parts[-2:]: sample for sample in READERS[name](root).samples}
        for row in test[samples.corpus[test] == name].tolist():
            sample = stored.get(Path(str(samples.path[row])).parts[-2:])
            image = None if sample is None else cv2.imread(str(sample.path), cv2.IMREAD_COLOR)
            if sample is None or image is None or _digest(image) != samples.digest[row]:
                raise ValueError(
                    f"{place}: {samples.path[row]} is missing or not the picture that was prepared; "
                    f"prepare {name} from these pictures, or name those that it was made of"
                )
            rows.append(row)
            images.append(np.asarray(image, np.uint8))
            plain.append(plain_crop(images[-1], sample.box_xyxy, data.size))
    if not (data.label[rows] >= 0).any():
        raise ValueError(
            f"no labelled Test picture of {', '.join(places)} among the prepared faces; "
            "name a corpus that is one of --faces"
        )
    return Pictures(np.array(rows), tuple(images), to_grey(np.stack(plain)))


def _digest(image: NDArray[Any]) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def as_shipped(recognizer: Recognizer, bundle: Bundle, images: Iterable[Image]) -> Answers:
    """What a user is told of each picture: ``Recognizer.predict_image``, its largest face."""
    size, template = bundle.face.input_size, bundle.face.template
    found: list[bool] = []
    scores: list[Floats] = []
    landmarks: list[Floats] = []
    crops: list[Image] = []
    for image in images:
        faces = recognizer.predict_image(image)
        found.append(bool(faces))
        if faces:
            points = faces[0].face.landmarks
            scores.append(faces[0].scores)
            landmarks.append(points)
            crops.append(align_face(image, points, template, size))
        else:
            scores.append(np.zeros(len(LABELS), np.float32))
            landmarks.append(np.zeros((5, 2), np.float32))
            crops.append(np.zeros((size, size, 3), np.uint8))
    return Answers(np.array(found), np.stack(scores), np.stack(landmarks), to_grey(np.stack(crops)))


def side_by_side(
    bundle: Bundle, data: LabelledFaces, pictures: Pictures, shipped: Answers
) -> dict[str, dict[str, Row]]:
    """The same Test faces aligned as prepared, as plain crops, and as the product answers.

    The product has seven classes; the eight of FER+ are the shipped network's other head on the very
    crop that the product made.
    """
    batch = data.batch(pictures.rows)
    prepared = run_expression(bundle, batch.faces.numpy())
    plain = run_expression(bundle, pictures.plain)
    eight = run_expression(bundle, shipped.crops)["ferplus"].argmax(1)
    guesses = {
        "fer2013_test": {
            GIVEN: prepared["emotion"].argmax(1),
            PLAIN: plain["emotion"].argmax(1),
            SHIPPED: shipped.guess,
        },
        "ferplus_test": {
            GIVEN: prepared["ferplus"].argmax(1),
            PLAIN: plain["ferplus"].argmax(1),
            SHIPPED: np.where(shipped.found, eight, NOT_FOUND),
        },
    }
    truths = {
        "fer2013_test": (batch.label.numpy(), LABELS),
        "ferplus_test": (majority(batch.votes.numpy()), FERPLUS_LABELS),
    }
    report: dict[str, dict[str, Row]] = {}
    for test, (label, names) in truths.items():
        known = label >= 0
        if not known.any():
            continue
        report[test] = {
            how: judged(label[known], guess[known], names) for how, guess in guesses[test].items()
        }
        report[test][SHIPPED]["faces_found"] = round(float(shipped.found[known].mean()), 4)
    return report
