"""One sample, seen and heard by the product's own code: aligned faces, features of voices."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from occam_sdk.audio.decode import AudioFile
from occam_sdk.audio.features import SpeechFeatures, VoiceFeatures, open_extractor
from occam_sdk.backends import Runtime, open_session
from occam_sdk.bundle import FEATURE_SETS, SPEECH, SPEECH_FEATURES, load_bundle
from occam_sdk.errors import MediaError
from occam_sdk.types import Face
from occam_sdk.video.align import align_face
from occam_sdk.video.decode import VideoFile
from occam_sdk.video.expression import to_grey
from occam_sdk.video.faces import BundleDetector
from occam_sdk.video.follow import follow
from occam_sdk.video.watched import main_track

from .samples import Media, Sample

TEMPLATE: Final = (
    (0.313, 0.402), (0.687, 0.402), (0.500, 0.604), (0.357, 0.756), (0.643, 0.756),
)  # fmt: skip
"""Where the landmarks lie in an aligned face, in fractions of its side: the median over FER+ Train,
made symmetric, so that aligned FER+ faces lose as little as possible at their borders."""


LOOKED: Final = 2
"""Which way of finding faces and cutting them out this is: another number where they come out otherwise."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a face or a voice is in the cache.

    Attributes:
        size: side of an aligned face in pixels: the input size of the network that will see it.
        template: where the five landmarks lie in it, in fractions of the side.
        feature_set: what a voice becomes, a key of ``FEATURE_SETS``; see ``occam_sdk.bundle``.
    """

    size: int = 64
    template: tuple[tuple[float, float], ...] = TEMPLATE
    feature_set: str = SPEECH_FEATURES

    def __post_init__(self) -> None:
        if self.feature_set not in FEATURE_SETS:
            raise ValueError(
                f"feature_set: expected one of {', '.join(FEATURE_SETS)}, got {self.feature_set!r}"
            )
        if not 16 <= self.size <= 1024:
            raise ValueError(f"size: expected 16 to 1024 pixels, got {self.size}")


@dataclass(frozen=True, eq=False)
class Seen:
    """What a sample became: K faces (K, S, S) uint8 grey with their times, L pieces of sound."""

    faces: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    voices: NDArray[np.float32]
    found: bool
    digest: str

    @staticmethod
    def nothing(settings: Settings) -> Seen:
        """No face and no voice, in the right shapes."""
        return Seen(
            np.zeros((0, settings.size, settings.size), np.uint8),
            np.zeros(0),
            np.zeros((0, FEATURE_SETS[settings.feature_set]), np.float32),
            False,
            "",
        )


class Observer:
    """Sees and hears samples of one kind; make one in each process."""

    def __init__(self, media: Media, settings: Settings) -> None:
        self.settings = settings
        self._template = np.array(settings.template, np.float32)
        self._observe = {"face": self._picture, "voice": self._utterance, "clip": self._clip}[media]
        if media != "voice":
            network = load_bundle().network("detector")
            self._detector = BundleDetector(open_session(network), open_session(network))
        if media != "face":
            self._extractor = _extractor(settings.feature_set)

    def observe(self, sample: Sample) -> Seen | str:
        """What the sample shows, or why it cannot be used."""
        try:
            return self._observe(sample)
        except (MediaError, OSError, cv2.error) as error:
            return f"broken: {str(error).replace(str(sample.path), sample.path.name)}"

    def _picture(self, sample: Sample) -> Seen | str:
        image = cv2.imread(str(sample.path), cv2.IMREAD_COLOR)
        if image is None:
            return "missing" if not sample.path.is_file() else "broken: OpenCV cannot read it"
        picture = np.asarray(image, np.uint8)
        faces = self._detector.detect(picture)
        if faces:
            crop = self._aligned(picture, _labelled(faces, sample))
        else:
            crop = plain_crop(picture, sample.box_xyxy, self.settings.size)
        return Seen(
            to_grey(crop[None]), np.zeros(1), Seen.nothing(self.settings).voices,
            bool(faces), hashlib.sha256(picture.tobytes()).hexdigest(),
        )  # fmt: skip

    def _aligned(self, image: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
        return align_face(image, face.landmarks, self._template, self.settings.size)

    def _utterance(self, sample: Sample) -> Seen | str:
        voices, digest = self._voices(sample)
        if not len(voices):
            return "no speech in it, or less than a second"
        nothing = Seen.nothing(self.settings)
        return Seen(nothing.faces, nothing.times_s, voices, False, digest)

    def _voices(self, sample: Sample) -> tuple[NDArray[np.float32], str]:
        """(L, F): the pieces that the product would cut the sound into, and are speech."""
        digest, found = hashlib.sha256(), []
        for piece in AudioFile(sample.path):
            digest.update(piece.samples.tobytes())
            features = self._extractor.extract(piece)
            if features is not None:
                found.append(features)
        voices = np.stack(found) if found else Seen.nothing(self.settings).voices
        return voices, digest.hexdigest()

    def _clip(self, sample: Sample) -> Seen | str:
        digest = hashlib.sha256()
        tracks: dict[int | None, dict[int, Face]] = {}
        crops: dict[tuple[int | None, int], NDArray[np.uint8]] = {}
        times_s, pixels = [], []
        for row, (frame, faces) in enumerate(
            follow(iter(VideoFile(sample.path)), self._detector.detect)
        ):
            height, width = frame.image.shape[:2]
            digest.update(frame.image.tobytes())
            times_s.append(frame.time_s)
            pixels.append(width * height)
            for face in faces:
                tracks.setdefault(face.track_id, {})[row] = face
                crop = self._aligned(frame.image, face)
                crops[face.track_id, row] = to_grey(crop[None])[0]
        voices, heard = self._voices(sample)
        digest.update(heard.encode())
        if not times_s and not len(voices):
            return "broken: neither pictures nor speech in it"
        if not tracks:
            nothing = Seen.nothing(self.settings)
            return Seen(nothing.faces, nothing.times_s, voices, False, digest.hexdigest())
        main = main_track(tracks, times_s, pixels)
        return Seen(
            np.stack([crops[main, row] for row in tracks[main]]),
            np.array([times_s[row] for row in tracks[main]]),
            voices,
            True,
            digest.hexdigest(),
        )


def _extractor(feature_set: str) -> SpeechFeatures | VoiceFeatures:
    runtime = Runtime(backend="openvino", device="cpu", precision="fp32", threads=1)
    hears = feature_set == SPEECH_FEATURES
    speech = open_session(load_bundle().network(SPEECH), runtime) if hears else None
    return open_extractor(feature_set, speech)


def plain_crop(
    image: NDArray[np.uint8], box_xyxy: tuple[float, float, float, float] | None, size: int
) -> NDArray[np.uint8]:
    """(S, S, 3): the labelled box or the whole picture in an aligned face's size, if no face is found."""
    if box_xyxy is not None:
        left, top, right, bottom = (max(0, round(edge)) for edge in box_xyxy)
        part = image[top:bottom, left:right]
        image = part if part.size else image
    return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def _labelled(faces: tuple[Face, ...], sample: Sample) -> Face:
    """The face that the label is of: the one most inside the labelled box, or the largest."""
    box = sample.box_xyxy
    if box is None:
        return max(faces, key=lambda face: face.area)

    def overlap(face: Face) -> float:
        left, top = np.maximum(face.box_xyxy[:2], box[:2])
        right, bottom = np.minimum(face.box_xyxy[2:], box[2:])
        common = max(0.0, float(right - left)) * max(0.0, float(bottom - top))
        union = face.area + (box[2] - box[0]) * (box[3] - box[1]) - common
        return common / union if union > 0 else 0.0

    best = max(faces, key=overlap)
    return best if overlap(best) > 0 else max(faces, key=lambda face: face.area)
