"""Other packages that tell an emotion from a picture, behind the same two calls; none downloads anything."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NoReturn
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from occam_sdk import LABELS, Face
from occam_sdk.backends import open_session
from occam_sdk.bundle import load_bundle
from occam_sdk.pipeline import STILL_LONG_SIDE
from occam_sdk.video.faces import BundleDetector

Image = NDArray[np.uint8]
Judge = Callable[[Image], str | None]

OURS = {
    **{label.lower(): label for label in LABELS},
    "anger": "Angry",
    "happiness": "Happy",
    "sadness": "Sad",
}
"""The peers' names of the seven classes, in lower case, and ours."""


@contextmanager
def no_network() -> Iterator[None]:
    """A peer that lacks a file fails here, where it would have fetched it."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise ConnectionError("it asks for the network")

    with (
        mock.patch.object(socket, "getaddrinfo", refuse),
        mock.patch.object(socket.socket, "connect", refuse),
    ):
        yield


class Peer:
    """One package, by its defaults; ``why_not`` comes first, it opens the package.

    Attributes:
        name: in the tables.
        package: on the package index.
        install: the command that gets it.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    install: ClassVar[str]

    def why_not(self) -> str:
        """Empty if it can judge without the network, else why it cannot."""
        try:
            self._import()
        except ImportError as error:
            absent = (error.name or "").partition(".")[0] == self.package.replace("-", "_")
            return "not installed" if absent else f"does not import: {error}"
        weights = self._weights()
        if weights and not any(path.is_file() for path in weights):
            return "would download its weights"
        try:
            self._open()
        except ConnectionError:
            return "would download its weights"
        except Exception as error:  # of any kind: it is other people's code
            return f"does not start: {type(error).__name__}: {error}"
        return ""

    def judge(self, image: Image) -> str | None:
        """What the largest face of an (H, W, 3) BGR picture shows, of ``LABELS``; None without a face."""
        raise NotImplementedError

    def _import(self) -> None:
        raise NotImplementedError

    def _open(self) -> None:
        raise NotImplementedError

    def _weights(self) -> tuple[Path, ...]:
        """One of these files has to be there; none if they come with the package."""
        return ()


class Fer(Peer):
    """Its Haar cascade for the face and its Keras network, both in the wheels."""

    name = package = "fer"
    # OpenCV 5 has no cascades, later setuptools no pkg_resources.
    install = 'pip install fer==25.10.3 "opencv-python-headless<5" "setuptools<81"'

    def judge(self, image: Image) -> str | None:
        """As above."""
        found = self._fer.detect_emotions(image)
        if not found:
            return None
        largest = max(found, key=lambda face: int(face["box"][2]) * int(face["box"][3]))
        scores = largest["emotions"]
        return OURS[max(scores, key=scores.__getitem__)]

    def _import(self) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        self._class: Any = importlib.import_module("fer.fer").FER

    def _open(self) -> None:
        self._fer: Any = self._class()


class HSEmotionOnnx(Peer):
    """It has no face detector: ours finds the face for it, and counts in its time."""

    name = "hsemotion-onnx, our detector"
    package = "hsemotion-onnx"
    install = "pip install hsemotion-onnx, and its weights in ~/.hsemotion"
    model = "enet_b0_8_best_afew"

    def judge(self, image: Image) -> str | None:
        """As above; it knows contempt as well, and is asked for the best of the other seven."""
        faces = self._detector.detect(image)
        if not faces:
            return None
        crop = _cut(image, max(faces, key=lambda face: face.area))
        _, scores = self._recognizer.predict_emotions(crop[..., ::-1], logits=True)
        names = self._recognizer.idx_to_class
        best = max((n for n in names if names[n].lower() in OURS), key=scores.__getitem__)
        return OURS[names[best].lower()]

    def _import(self) -> None:
        self._module: Any = importlib.import_module("hsemotion_onnx.facial_emotions")

    def _open(self) -> None:
        self._recognizer: Any = self._module.HSEmotionRecognizer(model_name=self.model)
        network = load_bundle().network("detector")
        sessions = open_session(network), open_session(network)
        self._detector = BundleDetector(*sessions, long_side=STILL_LONG_SIDE)

    def _weights(self) -> tuple[Path, ...]:
        return (Path.home() / ".hsemotion" / f"{self.model}.onnx",)


class DeepFace(Peer):
    """Its defaults: OpenCV's cascade for the face, a small Keras or ONNX network."""

    name = package = "deepface"
    install = "pip install deepface, and its weights in ~/.deepface/weights"

    def judge(self, image: Image) -> str | None:
        """As above."""
        try:
            found = self._module.DeepFace.analyze(image, actions=["emotion"], silent=True)
        except ValueError:  # this is how it says that there is no face
            return None
        areas = [face["region"]["w"] * face["region"]["h"] for face in found]
        return OURS[found[int(np.argmax(areas))]["dominant_emotion"]]

    def _import(self) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        self._module: Any = importlib.import_module("deepface")
        importlib.import_module("deepface.DeepFace")

    def _open(self) -> None:
        self.judge(np.zeros((64, 64, 3), np.uint8))
        self._module.DeepFace.build_model("Emotion", task="facial_attribute")

    def _weights(self) -> tuple[Path, ...]:
        folder = Path(os.environ.get("DEEPFACE_HOME", Path.home())) / ".deepface" / "weights"
        return tuple(folder / f"facial_expression_model_weights.{kind}" for kind in ("h5", "onnx"))


PEERS: tuple[type[Peer], ...] = (Fer, HSEmotionOnnx, DeepFace)


def _cut(image: Image, face: Face) -> Image:
    height, width = image.shape[:2]
    left, top, right, bottom = (round(float(side)) for side in face.box_xyxy)
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return image[top : max(bottom, top + 1), left : max(right, left + 1)]
