"""Where the milliseconds of a clip go: the product's stages, each on a stopwatch, composed as it does."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from occam_sdk import Recognizer
from occam_sdk.audio.classifier import VoiceClassifier
from occam_sdk.audio.decode import AudioFile
from occam_sdk.audio.features import SpeechFeatures, VoiceFeatures, open_extractor
from occam_sdk.backends import BATCH, Runtime, Session, open_session
from occam_sdk.bundle import SPEECH, Bundle
from occam_sdk.errors import BackendError
from occam_sdk.fusion import fuse
from occam_sdk.media import probe
from occam_sdk.pipeline import MAX_FACES
from occam_sdk.types import Face, FaceScores, Frame, ModalityScores
from occam_sdk.video.aggregate import aggregate
from occam_sdk.video.align import align_face
from occam_sdk.video.decode import VideoFile
from occam_sdk.video.expression import ExpressionNetwork
from occam_sdk.video.faces import BundleDetector
from occam_sdk.video.follow import follow
from occam_sdk.video.watched import Watched

# Each stage, and what is counted of it. "in and out" is what surrounds a network: pictures to tensors,
# maps to faces, logits to scores.
STAGES: Final = {
    "opening the file": "times",
    "decoding pictures": "frames",
    "detector: in and out": "frames looked at",
    "detector: network": "runs",
    "following": "frames",
    "alignment": "faces",
    "expression: in and out": "faces",
    "expression: network": "runs",
    "selection and pooling": "times",
    "decoding sound": "pieces",
    "voice: features": "pieces",
    "voice: network": "runs",
    "fusion": "times",
    "between the stages": "times",
}
T = TypeVar("T")


class Stopwatch:
    """Seconds of each stage; while one runs inside another, the outer one's time stands still."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str, count: int = 1) -> Iterator[None]:
        """The time of the block belongs to this stage, in which so many things are done."""
        self._switch()
        self._running.append(name)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()
            self.counts[name] += count

    def each(self, name: str, items: Iterator[T]) -> Iterator[T]:
        """The same items; the time to make each belongs to this stage."""
        while True:
            with self.stage(name, 0):
                item = next(items, None)
            if item is None:
                return
            self.counts[name] += 1
            yield item

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now


class _Timed:
    """A session whose runs are a stage of their own."""

    def __init__(self, session: Session, watch: Stopwatch, name: str) -> None:
        self.info, self.ports = session.info, session.ports
        self._session, self._watch, self._name = session, watch, name

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        with self._watch.stage(self._name):
            return self._session.run(inputs)


@dataclass(frozen=True, eq=False)
class Judged:
    """What the composed stages say of a clip."""

    scores: NDArray[np.float32] | None
    frames: int
    faces: int
    notes: tuple[str, ...] = ()


class Stages:
    """The stages of one bundle, ready to run; ``judge`` is ``Recognizer.predict`` on a stopwatch."""

    def __init__(self, bundle: Bundle, runtime: Runtime | None = None) -> None:
        self._bundle = bundle
        sessions = {name: open_session(bundle.network(name), runtime) for name in bundle.networks}
        self._sessions = sessions
        self._close = open_session(bundle.network("detector"), runtime)
        self._features: SpeechFeatures | VoiceFeatures | None = None
        self._why_not = ""
        try:
            self._features = open_extractor(bundle.voice.feature_set, sessions.get(SPEECH))
        except BackendError as error:
            self._why_not = f"the voice is not measured: {error}"

    def judge(self, clip: Path, watch: Stopwatch) -> Judged:
        """The clip's scores; the stopwatch has run through every stage."""
        with watch.stage("between the stages"):
            with watch.stage("opening the file"):
                probe(clip)
            watched, faces = self._watch(clip, watch)
            with watch.stage("selection and pooling"):
                _, scored = watched.main_track()
                face = aggregate(scored, self._bundle.face) if scored else None
            voice = self._listen(clip, watch)
            with watch.stage("fusion"):
                fused = fuse(face, voice, self._bundle.fusion)
        return Judged(fused.scores, len(watched), faces, (self._why_not,) if self._why_not else ())

    def _watch(self, clip: Path, watch: Stopwatch) -> tuple[Watched, int]:
        model = self._bundle.face
        far, close = (
            _Timed(session, watch, "detector: network")
            for session in (self._sessions["detector"], self._close)
        )
        detector = BundleDetector(far, close)
        network = ExpressionNetwork(
            _Timed(self._sessions["expression"], watch, "expression: network"), model
        )
        watched, waiting, faces = Watched(model.chunks), list[_Waiting](), 0

        def detect(image: NDArray[np.uint8]) -> tuple[Face, ...]:
            with watch.stage("detector: in and out"):
                return detector.detect(image)

        def score(batch: list[_Waiting]) -> None:
            times_s = np.array([frame.time_s for _, frame, _, _ in batch], np.float64)
            with watch.stage("expression: in and out", len(batch)):
                found = network.score(np.stack([crop for *_, crop in batch]), times_s)
            with watch.stage("selection and pooling", 0):
                for place, (row, _, face, _) in enumerate(batch):
                    mood = found.valence_arousal[place].tolist()
                    scores = FaceScores(face, found.scores[place], *mood)
                    watched.add_face(row, scores, found.embeddings[place])

        frames = watch.each("decoding pictures", iter(VideoFile(clip)))
        followed = watch.each("following", follow(frames, detect))
        for row, (frame, seen) in enumerate(followed):
            largest = sorted(seen, key=lambda face: -face.area)[:MAX_FACES]
            with watch.stage("alignment", len(largest)):
                crops = [
                    align_face(frame.image, face.landmarks, model.template, model.input_size)
                    for face in largest
                ]
            waiting += [(row, frame, *pair) for pair in zip(largest, crops, strict=True)]
            faces += len(largest)
            with watch.stage("selection and pooling", 0):
                height, width = frame.image.shape[:2]
                watched.add_frame(frame.index, frame.time_s, width * height)
            while len(waiting) >= BATCH:
                score(waiting[:BATCH])
                del waiting[:BATCH]
        if waiting:
            score(waiting)
        return watched, faces

    def _listen(self, clip: Path, watch: Stopwatch) -> ModalityScores | None:
        classifier = VoiceClassifier(
            _Timed(self._sessions["voice"], watch, "voice: network"), self._bundle.voice
        )
        heard = []
        for piece in watch.each("decoding sound", iter(AudioFile(clip))):
            if self._features is not None:
                with watch.stage("voice: features"):
                    found = self._features.extract(piece)
                if found is not None:
                    heard.append((found, piece.start_s))
        if not heard:
            return None
        features, starts_s = zip(*heard, strict=True)
        return classifier.score(np.stack(features), starts_s)


_Waiting = tuple[int, Frame, Face, NDArray[np.uint8]]


def measure(bundle: Bundle, clip: Path, rounds: int) -> dict[str, Any]:
    """Milliseconds a frame of every stage and its share, and the same clip by ``Recognizer``.

    Raises:
        MediaError: the clip is none.
        ValueError: it has no pictures.
    """
    stages, recognizer = Stages(bundle), Recognizer(bundle.path)
    laps: list[Stopwatch] = []
    whole: list[float] = []
    for number in range(rounds + 1):
        watch = Stopwatch()
        judged = stages.judge(clip, watch)
        started = time.perf_counter()
        recognizer.predict(clip)
        if number:  # the first round is warm-up
            laps.append(watch)
            whole.append(time.perf_counter() - started)
    if not judged.frames:
        raise ValueError(f"{clip.name}: has no pictures to measure the stages on")
    medians = {name: statistics.median(lap.seconds[name] for lap in laps) for name in STAGES}
    total = sum(medians.values())
    return {
        "clip": clip.name,
        "model": bundle.name,
        "frames": judged.frames,
        "faces": judged.faces,
        "rounds": rounds,
        "stages": [
            {
                "stage": name,
                "count": laps[0].counts[name],
                "of": unit,
                "ms_per_frame": 1000 * medians[name] / judged.frames,
                "ms_each": 1000 * medians[name] / max(1, laps[0].counts[name]),
                "share": medians[name] / total,
            }
            for name, unit in STAGES.items()
        ],
        "ms_per_frame": 1000 * total / judged.frames,
        "predict_ms_per_frame": 1000 * statistics.median(whole) / judged.frames,
        "notes": list(judged.notes),
    }
