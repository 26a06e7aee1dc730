"""The stages of one bundle in their order, the only module that knows it [2]."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .audio.classifier import VoiceClassifier
from .audio.decode import pieces
from .audio.features import SpeechFeatures, VoiceFeatures, open_extractor
from .backends import BATCH, Runtime, Session, SessionInfo, open_session
from .bundle import SPEECH, Bundle
from .errors import BackendError, BundleError
from .fusion import fuse
from .types import (
    ClipResult,
    Face,
    FaceScores,
    FaceTrack,
    Frame,
    FrameScores,
    ModalityScores,
    TimelineRow,
    Waveform,
)
from .video.aggregate import aggregate
from .video.align import align_face
from .video.expression import ExpressionNetwork
from .video.faces import CLOSE_SIDE, BundleDetector, FaceDetector
from .video.follow import follow
from .video.watched import Watched
from .window import Scored

MAX_FACES: Final = (
    8  # of a clip's frame, the largest, are judged: a crowd in the background decides nothing
)
MOST_LOOKS: Final = 2 * MAX_FACES  # closer ones at a frame: some of the places are no faces
STILL_LONG_SIDE: Final = 640  # a still is searched in a larger size than a frame

NO_SPEECH: Final = "no speech was heard: the sound is silent, steady noise, or under a second long"

Progress = Callable[[float], None]


class Pipeline:
    """From pictures and sound to an answer; one caller at a time, but for ``looks``.

    Args:
        bundle: whose networks are opened.
        runtime: what runs them.
        detector: finds the faces in place of the bundle's own.
        min_face_px: of the bundle's detector, see there.
        max_faces: that a clip's answer tells of.

    Attributes:
        infos: what runs each network that was opened, by its name.
        watch: makes what the pictures of a clip or a window are collected in.

    Raises:
        BundleError, BackendError: as ``Recognizer``.
    """

    def __init__(
        self,
        bundle: Bundle,
        runtime: Runtime,
        *,
        detector: FaceDetector | None,
        min_face_px: float | None,
        max_faces: int,
    ) -> None:
        self._bundle = bundle
        self.watch = partial(Watched, bundle.face.chunks, max_faces)
        detectors: tuple[FaceDetector, FaceDetector]
        sessions: dict[str, Session] = {}
        self._close: Session | None = None
        if detector is None:
            sessions["detector"] = _open(bundle, "detector", {"image"}, set(), runtime)
            self._close = _open(bundle, "detector", {"image"}, set(), runtime)
            detectors = _detectors(bundle, sessions["detector"], self._close, min_face_px)
        else:
            detectors = detector, detector
        turn = threading.Lock()
        self._video_detector, self._still_detector = (_InTurn(one, turn) for one in detectors)
        outputs = {"emotion", "valence_arousal", "embedding"}
        sessions["expression"] = _open(bundle, "expression", {"image"}, outputs, runtime)
        sessions["voice"] = _open(bundle, "voice", {"features"}, {"emotion"}, runtime)
        if SPEECH in bundle.networks:
            sessions[SPEECH] = _open(bundle, SPEECH, {"samples"}, {"features"}, runtime)
        self._expression = ExpressionNetwork(sessions["expression"], bundle.face)
        self._classifier = VoiceClassifier(sessions["voice"], bundle.voice)
        self._speech = sessions.get(SPEECH)
        # Made when there is something to hear: openSMILE takes time to load.
        self._features: SpeechFeatures | VoiceFeatures | None = None
        self.infos: Mapping[str, SessionInfo] = {
            name: session.info for name, session in sessions.items()
        }

    def warmup(self) -> None:
        """Run every network once."""
        self.detect(np.zeros((240, 320, 3), np.uint8))
        if self._close is not None:  # there was no face to look at closer
            self._close.run({"image": np.zeros((1, 3, CLOSE_SIDE, CLOSE_SIDE), np.float32)})
        size = self._bundle.face.input_size
        self._expression.score(np.zeros((BATCH, size, size, 3), np.uint8), np.zeros(BATCH))
        count = self._bundle.voice.feature_count
        self._classifier.score(np.zeros((1, count), np.float32), (0.0,))
        with suppress(BackendError):  # without openSMILE each result says so
            self._voice_features().extract(_like_speech())

    # ---- a picture

    def still(self, image: NDArray[np.uint8]) -> tuple[FaceScores, ...]:
        """What each face of an (H, W, 3) uint8 BGR picture shows, the largest first."""
        faces = _largest_first(self._still_detector.detect(image))
        found: list[FaceScores] = []
        for start in range(0, len(faces), BATCH):
            found += [face for face, _ in self._scored(image, faces[start : start + BATCH])]
        return tuple(found)

    # ---- a clip

    def looks(self, frames: Iterator[Frame]) -> Iterator[Look]:
        """Find and align the faces of every frame, and let go of its picture; in any thread."""
        for frame, found in follow(frames, self.detect):
            height, width = frame.image.shape[:2]
            faces = _largest_first(found)[:MAX_FACES]
            crops = self._crops(frame.image, faces)
            yield Look(frame.index, frame.time_s, width * height, faces, crops)

    def judge(
        self, looks: Iterator[Look] | None, sound: Iterator[Waveform] | None, tell: Progress
    ) -> ClipResult:
        """The answer about these frames and what sounds meanwhile; None: there is no such track."""
        watched = self._watch(iter(()) if looks is None else looks, tell)
        timeline, tracks = self._tracks(watched)
        notes = [] if looks is not None else ["no video track"]
        if looks is not None and not (tracks and tracks[0].scores):
            notes.append("no face was found")
        voice, heard_s = None, 0.0
        if sound is None:
            notes.append("no audio track")
        else:
            voice, why_not, heard_s = self._listen(pieces(sound), ignore if timeline else tell)
            notes += [why_not] if why_not else []
        answer = self._fused(timeline, tracks, voice, notes)
        return replace(answer, duration_s=max(watched.span_s, heard_s))

    # ---- a window of a stream

    def detect(self, image: NDArray[np.uint8]) -> tuple[Face, ...]:
        """Faces of one (H, W, 3) uint8 BGR picture of a clip; in any thread."""
        return self._video_detector.detect(image)

    def score(self, image: NDArray[np.uint8], faces: tuple[Face, ...]) -> list[Scored]:
        """What the largest of the faces show."""
        faces = _largest_first(faces)[:MAX_FACES]
        return self._scored(image, faces) if faces else []

    def hear(self, waveform: Waveform) -> tuple[ModalityScores | None, str]:
        """What the voice of a window says, or why nothing."""
        voice, why_not, _ = self._listen(iter([waveform]), ignore)
        return voice, why_not

    def conclude(
        self, watched: Watched, voice: ModalityScores | None, notes: tuple[str, ...]
    ) -> ClipResult:
        """The answer about a window."""
        timeline, tracks = self._tracks(watched)
        found = bool(tracks) and tracks[0].scores is not None
        why = [] if found else ["no face was found" if len(watched) else "no pictures"]
        answer = self._fused(timeline, tracks, voice, [*why, *notes])
        return replace(answer, duration_s=watched.span_s)

    # ---- the stages

    def _watch(self, looks: Iterator[Look], tell: Progress) -> Watched:
        """Score the faces of every frame; crops are let go batch by batch."""
        watched = self.watch()
        waiting: list[_Sighting] = []
        for row, look in enumerate(looks):
            waiting += [
                _Sighting(row, look.time_s, face, crop)
                for face, crop in zip(look.faces, look.crops, strict=True)
            ]
            watched.add_frame(look.index, look.time_s, look.pixels)
            while len(waiting) >= BATCH:
                self._score_batch(waiting[:BATCH], watched)
                del waiting[:BATCH]
            tell(look.time_s)
        if waiting:
            self._score_batch(waiting, watched)
        return watched

    def _score_batch(self, batch: list[_Sighting], watched: Watched) -> None:
        """Score a batch of faces and remember them."""
        times_s = np.array([sighting.time_s for sighting in batch], np.float64)
        scored = self._expression.score(np.stack([sighting.crop for sighting in batch]), times_s)
        for row, sighting in enumerate(batch):
            found = _face_scores(sighting.face, scored, row)
            watched.add_face(sighting.row, found, scored.embeddings[row])

    def _scored(self, image: NDArray[np.uint8], faces: tuple[Face, ...]) -> list[Scored]:
        """What the faces of one picture show, at most a batch of them."""
        scored = self._expression.score(self._crops(image, faces), np.zeros(len(faces)))
        return [
            (_face_scores(face, scored, row), scored.embeddings[row])
            for row, face in enumerate(faces)
        ]

    def _crops(self, image: NDArray[np.uint8], faces: tuple[Face, ...]) -> NDArray[np.uint8]:
        """(N, S, S, 3) uint8, the faces aligned."""
        size, template = self._bundle.face.input_size, self._bundle.face.template
        crops = np.empty((len(faces), size, size, 3), np.uint8)
        for row, face in enumerate(faces):
            crops[row] = align_face(image, face.landmarks, template, size)
        return crops

    def _listen(
        self, sound: Iterator[Waveform], tell: Progress
    ) -> tuple[ModalityScores | None, str, float]:
        """The voice's scores or None, why there are none, and how long it was listened to."""
        features: list[NDArray[np.float32]] = []
        starts_s: list[float] = []
        heard_s, why_not = 0.0, NO_SPEECH
        for piece in sound:
            heard_s += piece.duration_s
            tell(piece.start_s + piece.duration_s)
            try:
                found = self._voice_features().extract(piece)
            except BackendError as error:  # read on all the same: what the file has lost counts
                found, why_not = None, f"the voice was not judged: {error}"
            if found is not None:
                features.append(found)
                starts_s.append(piece.start_s)
        if not features:
            return None, why_not, heard_s
        return self._classifier.score(np.stack(features), tuple(starts_s)), "", heard_s

    def _voice_features(self) -> SpeechFeatures | VoiceFeatures:
        if self._features is None:
            self._features = open_extractor(self._bundle.voice.feature_set, self._speech)
        return self._features

    def _tracks(self, watched: Watched) -> tuple[Sequence[TimelineRow], tuple[FaceTrack, ...]]:
        """The main face's rows, and what each of the faces that count most shows."""
        tracks = tuple(
            FaceTrack(
                timeline.track_id,
                aggregate(scored, self._bundle.face) if scored else None,
                timeline,
            )
            for timeline, scored in watched.main_tracks()
        )
        return tracks[0].timeline if tracks else watched.main_track()[0], tracks

    def _fused(
        self,
        timeline: Sequence[TimelineRow],
        tracks: tuple[FaceTrack, ...],
        voice: ModalityScores | None,
        notes: list[str],
    ) -> ClipResult:
        face = tracks[0].scores if tracks else None
        fused = fuse(face, voice, self._bundle.fusion)
        return ClipResult(
            scores=fused.scores,
            valence=face.valence if face else None,
            arousal=face.arousal if face else None,
            status=fused.status,
            face=face,
            voice=voice,
            weights=fused.weights,
            timeline=timeline,
            duration_s=0.0,
            notes=tuple(notes),
            tracks=tracks,
        )


@dataclass(frozen=True, eq=False)
class Look:
    """A frame of so many pixels without its picture: the faces that count and their (N, S, S, 3) crops."""

    index: int
    time_s: float
    pixels: int
    faces: tuple[Face, ...]
    crops: NDArray[np.uint8]


def ignore(_time_s: float) -> None:
    """What is told to nobody."""


@dataclass(frozen=True, eq=False)
class _Sighting:
    """A face of the ``row``-th frame that waits to be scored with its (S, S, 3) crop."""

    row: int
    time_s: float
    face: Face
    crop: NDArray[np.uint8]


class _InTurn:
    """A detector whose networks are shared: a clip's thread and who asks about a picture take turns."""

    def __init__(self, detector: FaceDetector, turn: threading.Lock) -> None:
        self._detector, self._turn = detector, turn

    def detect(self, image: NDArray[np.uint8]) -> tuple[Face, ...]:
        """As the detector does, when it is free."""
        with self._turn:
            return self._detector.detect(image)


def _open(
    bundle: Bundle, name: str, inputs: set[str], outputs: set[str], runtime: Runtime
) -> Session:
    session = open_session(bundle.network(name), runtime)
    has_inputs, has_outputs = session.ports
    if has_inputs != inputs or not outputs <= has_outputs:
        raise BundleError(
            f"{bundle.path / name}.onnx: expected inputs {sorted(inputs)} and outputs "
            f"{sorted(outputs)}, got {sorted(has_inputs)} and {sorted(has_outputs)}; "
            "get a complete copy of the bundle"
        )
    return session


def _detectors(
    bundle: Bundle, session: Session, close: Session, min_face_px: float | None
) -> tuple[FaceDetector, FaceDetector]:
    """The bundle's own, for the frames of a clip and for a still."""
    try:
        video = BundleDetector(session, close, min_face_px=min_face_px, most_looks=MOST_LOOKS)
    except ValueError as error:
        raise BundleError(
            f"{bundle.path / 'detector'}.onnx: {error}; get a complete copy of the bundle"
        ) from error
    still = BundleDetector(session, close, long_side=STILL_LONG_SIDE, min_face_px=min_face_px)
    return video, still


def _largest_first(faces: tuple[Face, ...]) -> tuple[Face, ...]:
    return tuple(sorted(faces, key=lambda face: -face.area))


def _face_scores(face: Face, scored: FrameScores, row: int) -> FaceScores:
    valence, arousal = scored.valence_arousal[row].tolist()
    return FaceScores(face, scored.scores[row], valence, arousal)


def _like_speech() -> Waveform:
    """Two seconds of noise, loud and quiet by turns, that pass for speech: to warm up what hears."""
    level = np.where(np.arange(32_000) % 8_000 < 4_000, 0.1, 0.001)
    return Waveform((level * np.random.default_rng(0).uniform(-1, 1, 32_000)).astype(np.float32))
