"""Other packages behind one protocol, each as its makers set it up; none may download anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from occam_sdk.machine import has_module
from occam_sdk.video.faces import FaceDetector

# What others call our classes; contempt and the like have no counterpart.
NAMES: Final = {
    "anger": "Angry", "angry": "Angry", "disgust": "Disgust", "fear": "Fear", "happiness": "Happy",
    "happy": "Happy", "sadness": "Sad", "sad": "Sad", "neutral": "Neutral", "surprise": "Surprise",
}  # fmt: skip

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Seen:
    """A face that a package found: (4,) float32 left, top, right, bottom; scores by its own names."""

    box_xyxy: NDArray[np.float32]
    scores: Mapping[str, float]

    @property
    def label(self) -> str | None:
        """The class with the highest score, as we call it; None if we have no such class."""
        return NAMES.get(max(self.scores, key=lambda name: self.scores[name]).casefold())

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        width, height = (self.box_xyxy[2:] - self.box_xyxy[:2]).tolist()
        return float(width * height)


class Peer(Protocol):
    """A package for expressions of faces, ready to run."""

    def faces(self, image: Image) -> list[Seen]:
        """Every face of a (H, W, 3) BGR picture."""

    def face(self, crop: Image) -> Seen:
        """The one face that fills a (H, W, 3) BGR picture."""


@dataclass(frozen=True)
class Entry:
    """A package that may take part.

    Attributes:
        name: of the distribution.
        module: that must be there.
        weights: files of which one must be there, for it would download them; none if they come along.
        open: makes it ready, from a detector for packages that have none.
        note: what to know of it.
    """

    name: str
    module: str
    weights: tuple[Path, ...]
    open: Callable[[FaceDetector], Peer]
    note: str = ""

    def available(self) -> str | None:
        """Why it cannot take part, or None."""
        if not has_module(self.module):
            return f"not installed: pip install {self.name}"
        if self.weights and not any(path.is_file() for path in self.weights):
            return "its weights are not there, and nothing is downloaded"
        return None


class Fer:
    """``fer``: Haar cascade and a TensorFlow Lite network, as its constructor gives them."""

    def __init__(self, _detector: FaceDetector) -> None:
        self._fer: Any = import_module("fer.fer").FER()

    def faces(self, image: Image) -> list[Seen]:
        """See ``Peer``."""
        return [_seen(face) for face in self._fer.detect_emotions(image)]

    def face(self, crop: Image) -> Seen:
        """See ``Peer``; without the margin that it adds to the boxes of its own detector."""
        height, width = crop.shape[:2]
        rim = 10  # its default ``offsets``: a box this much smaller is the whole picture
        inner = [rim, rim, width - 2 * rim, height - 2 * rim]
        return _seen(self._fer.detect_emotions(crop, face_rectangles=[inner])[0])


def _seen(found: Mapping[str, Any]) -> Seen:
    """Of fer's dict, whose box is left, top, width, height."""
    left, top, width, height = (float(side) for side in found["box"])
    return Seen(np.array([left, top, left + width, top + height], np.float32), found["emotions"])


class EmotiEff:
    """``emotiefflib``: EfficientNet-B0 by ONNX Runtime, on faces that our detector finds."""

    MODEL: Final = "enet_b0_8_best_vgaf"

    def __init__(self, detector: FaceDetector) -> None:
        library: Any = import_module("emotiefflib.facial_analysis")
        self._recognizer = library.EmotiEffLibRecognizer(engine="onnx", model_name=self.MODEL)
        self._detector = detector

    def faces(self, image: Image) -> list[Seen]:
        """See ``Peer``."""
        found = []
        for face in self._detector.detect(image):
            left, top, right, bottom = face.box_xyxy.astype(int).tolist()
            crop = image[top : max(bottom, top + 1), left : max(right, left + 1)]
            found.append(Seen(face.box_xyxy, self.face(crop).scores))
        return found

    def face(self, crop: Image) -> Seen:
        """See ``Peer``."""
        rgb = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)
        _, scores = self._recognizer.predict_emotions(rgb, logits=False)
        names = self._recognizer.idx_to_emotion_class
        height, width = crop.shape[:2]
        box = np.array([0, 0, width, height], np.float32)
        return Seen(box, {names[i]: float(score) for i, score in enumerate(scores[0])})


class DeepFace:
    """``deepface``: its emotion model with its default detector."""

    def __init__(self, _detector: FaceDetector) -> None:
        self._analyze: Any = import_module("deepface").DeepFace.analyze

    def faces(self, image: Image) -> list[Seen]:
        """See ``Peer``."""
        return [face for face, found in self._seen(image, "opencv") if found]

    def face(self, crop: Image) -> Seen:
        """See ``Peer``."""
        return self._seen(crop, "skip")[0][0]

    def _seen(self, image: Image, detector: str) -> list[tuple[Seen, bool]]:
        """Faces, and whether each was found: where there is none, it judges the whole picture."""
        results = self._analyze(
            image, actions=["emotion"], detector_backend=detector, enforce_detection=False,
            silent=True,
        )  # fmt: skip
        found = []
        for result in results:
            left, top, width, height = (result["region"][side] for side in "xywh")
            box = np.array([left, top, left + width, top + height], np.float32)
            found.append((Seen(box, result["emotion"]), result["face_confidence"] > 0))
        return found


class Rmn:
    """``rmn``: residual masking network with YuNet."""

    def __init__(self, _detector: FaceDetector) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"  # it downloads while it is imported
        self._rmn: Any = import_module("rmn").RMN()

    def faces(self, image: Image) -> list[Seen]:
        """See ``Peer``."""
        return [
            Seen(
                np.array([face[side] for side in ("xmin", "ymin", "xmax", "ymax")], np.float32),
                _merged(face["proba_list"]),
            )
            for face in self._rmn.detect_emotion_for_single_frame(image)
        ]

    def face(self, crop: Image) -> Seen:
        """See ``Peer``."""
        _, _, scores = self._rmn.detect_emotion_for_single_face_image(crop)
        height, width = crop.shape[:2]
        return Seen(np.array([0, 0, width, height], np.float32), _merged(scores))


def _merged(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: score for part in scores for name, score in part.items()}


_HOME: Final = Path.home()
_DEEPFACE: Final = Path(os.environ.get("DEEPFACE_HOME", str(_HOME))) / ".deepface" / "weights"
PEERS: Final = (
    Entry("fer", "fer", (), Fer),
    Entry("emotiefflib", "emotiefflib", (_HOME / ".emotiefflib" / f"{EmotiEff.MODEL}.onnx",),
          EmotiEff, "has no face detector: it was given our faces, found on its own time"),
    Entry("deepface", "deepface", tuple(
        _DEEPFACE / f"facial_expression_model_weights.{kind}" for kind in ("h5", "onnx", "pth")
    ), DeepFace),
    Entry("rmn", "rmn", (Path("pretrained_ckpt"),), Rmn),
)  # fmt: skip


def opened(
    entries: Sequence[Entry], detector: FaceDetector
) -> tuple[dict[str, tuple[Entry, Peer]], dict[str, str]]:
    """Those that can take part, ready to run; and why the others cannot."""
    peers: dict[str, tuple[Entry, Peer]] = {}
    left_out: dict[str, str] = {}
    for entry in entries:
        why_not = entry.available()
        if why_not is None:
            try:
                peers[entry.name] = entry, entry.open(detector)
            except Exception as error:  # whatever another package raises is its reason
                why_not = f"does not start: {type(error).__name__}: {error}"
        if why_not is not None:
            left_out[entry.name] = why_not
    return peers, left_out
