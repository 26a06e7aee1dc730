"""Recognizer: what users ask. It opens clips and sources, and lets one caller at a time into the stages."""

from __future__ import annotations

import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .ahead import ahead
from .audio.decode import AudioFile
from .audio.features import INSTALL_NOTE
from .backends import BATCH, Runtime, SessionInfo
from .bundle import DEFAULT_BUNDLE, SPEECH, SPEECH_FEATURES, Licence, load_bundle
from .errors import BackendWarning, MediaError
from .machine import usable_cores
from .media import MediaInfo, probe
from .microphone import Microphone
from .pipeline import MAX_FACES, Look, Pipeline, Progress, ignore
from .segments import Groups, in_segments, number_of
from .sources import open_source
from .stream import Stream, StreamUpdate, check_timing
from .types import (
    ClipResult,
    Face,
    FaceScores,
    Frame,
    ModalityScores,
    Segment,
    Waveform,
    check_image,
)
from .video.decode import VideoFile
from .video.faces import FaceDetector
from .video.watched import Watched
from .window import Scored

FRAMES_AHEAD: Final = 2  # of a file, that are decoded and wait: one of 4K takes 25 MB
LOOKS_AHEAD: Final = (
    BATCH  # frames whose faces are cut out and wait: a batch while the last is scored
)
SOUNDS_AHEAD: Final = 64  # a second or more of sound


@dataclass(frozen=True)
class RecognizerInfo:
    """What really runs.

    Attributes:
        model: the bundle's name.
        bundle: its folder.
        detector, expression, voice: runtime, device and precision of each network, as read back from
            the runtime.
        speech: the same of the network that the voice's features come from, or None: from openSMILE.
        voice_features: their name; where openSMILE is not installed and they need it, how to get it.
        licences: under "code", "weights" and "data".
        notes: what was asked for and is not what runs, and why.
    """

    model: str
    bundle: Path
    detector: SessionInfo | None
    expression: SessionInfo
    voice: SessionInfo
    speech: SessionInfo | None
    voice_features: str
    licences: Mapping[str, Licence]
    notes: tuple[str, ...]


class Recognizer:
    """Tells which emotion a clip or a picture shows, from face and voice.

    Args:
        bundle: folder of a model bundle; by default the one that comes with the package.
        backend: "auto", "openvino", "onnxruntime", "onnxruntime-tensorrt" or "tensorrt".
        device: "auto", "cpu", "cuda", "cuda:1", "intel:gpu", "intel:npu" or "intel:auto".
        precision: "auto", "int8", "fp32", "bf16" or "fp16"; "auto" is INT8 for the networks that gain
            by it.
        threads: of the CPU, for each network and for decoding; None leaves it to the runtime. Unless it
            is 1, or there is but one core to use, a file is decoded and its faces are found in threads of
            their own.
        strict: refuse a device or precision that cannot be had. Without it a ``BackendWarning`` says
            what runs instead, and so does ``info``.
        min_face_px: the smallest face to look for, in pixels of the picture (the root of its box's area);
            what is large is then looked at in larger size, which takes longer. None: faces from a
            twentieth of a frame's longer side, and from a fortieth of a still's.
        max_faces: of a clip, the faces that ``ClipResult.tracks`` tells of, at most 8.
        detector: finds the faces, in place of the bundle's own; those of a file in another thread than the
            caller's, but one picture at a time.

    Raises:
        BundleError: the bundle is damaged or of another format.
        BackendError: the backend is not installed; or, if ``strict``, device or precision are not had.
        ValueError: no such backend, device or precision; ``max_faces`` is not from 1 to 8; ``min_face_px``
            is no positive number, or was given with a ``detector``, which decides that for itself.

    A Recognizer may be shared by threads; they take turns, and ``close`` waits for its own. A turn
    lasts as long as a clip, so a thread that produces frames for it needs a Recognizer of its own. A
    bundle that hears with openSMILE, as the paper's perceptron does, needs the extra ``audio``; without it
    the face alone is judged, and a result with a voice to judge says so in its notes. Memory does
    not grow with a clip's length but for its timeline, 20 bytes a frame and 100 for a face in it.

    Example:
        >>> from occam_sdk import Recognizer, demo_clip
        >>> with Recognizer() as recognizer:
        ...     result = recognizer.predict(demo_clip())
        >>> result.label
        'Happy'
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] = DEFAULT_BUNDLE,
        *,
        backend: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        strict: bool = False,
        min_face_px: float | None = None,
        max_faces: int = 1,
        detector: FaceDetector | None = None,
    ) -> None:
        if not 1 <= max_faces <= MAX_FACES:
            raise ValueError(f"max_faces: expected 1 to {MAX_FACES}, got {max_faces}")
        if min_face_px is not None and not (detector is None and 0 < min_face_px < math.inf):
            raise ValueError(
                f"min_face_px: expected a positive number of pixels, got {min_face_px}"
                if detector is None
                else "min_face_px: a detector of your own decides itself how small a face it looks for"
            )
        runtime = Runtime(backend, device, precision, threads, strict)
        opened = load_bundle(Path(bundle))
        pipeline = Pipeline(
            opened, runtime, detector=detector, min_face_px=min_face_px, max_faces=max_faces
        )
        self._lock = threading.RLock()
        self._pipeline: Pipeline | None = pipeline
        self._threads = threads
        self._overlaps = threads != 1 and usable_cores() > 1
        self._info = RecognizerInfo(
            model=opened.name,
            bundle=opened.path,
            detector=pipeline.infos.get("detector"),
            expression=pipeline.infos["expression"],
            voice=pipeline.infos["voice"],
            speech=pipeline.infos.get(SPEECH),
            voice_features=_voice_features_info(opened.voice.feature_set),
            licences=opened.licences,
            # Each once: four networks on a device that is not there are one fact.
            notes=tuple(dict.fromkeys(n for info in pipeline.infos.values() for n in info.notes)),
        )
        if self._info.notes:
            warnings.warn("; ".join(self._info.notes), BackendWarning, stacklevel=2)

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of networks and memory; a second call does nothing. Later calls raise ``RuntimeError``."""
        with self._lock:
            self._pipeline = None

    def warmup(self) -> None:
        """Run every network once, so that the first clip is not the slowest."""
        with self._turn() as pipeline:
            pipeline.warmup()

    @property
    def info(self) -> RecognizerInfo:
        """What really runs, read back from the runtimes."""
        return self._info

    def predict_image(self, image: NDArray[np.uint8]) -> tuple[FaceScores, ...]:
        """The faces of one picture, the largest first, and what each shows.

        Args:
            image: (H, W, 3) uint8, BGR as ``cv2.imread`` gives it.

        Returns:
            One value a face; empty when no face is found.

        Raises:
            TypeError, ValueError: not such an array.

        Example:
            >>> import numpy as np
            >>> from occam_sdk import Recognizer
            >>> with Recognizer() as recognizer:
            ...     recognizer.predict_image(np.zeros((120, 160, 3), np.uint8))
            ()
        """
        check_image(image)
        with self._turn() as pipeline:
            return pipeline.still(image)

    def predict(
        self,
        clip: str | os.PathLike[str] | Iterable[Frame],
        waveform: Waveform | None = None,
        *,
        progress: Progress | None = None,
    ) -> ClipResult:
        """What a clip shows and sounds like.

        Args:
            clip: a file that FFmpeg can play, or frames whose times strictly increase.
            waveform: the sound that belongs to frames; a file brings its own.
            progress: called with the time in seconds up to which the pictures have been looked at,
                or the sound of a clip without pictures heard.

        Returns:
            Always a result for a clip that could be opened: a missing face or voice is in its
            ``status``, damage to the file in ``truncated`` and ``notes``.

        Raises:
            MediaError: the file is missing, empty, a still picture, or nothing that plays; or the
                clip is a single frame without sound (``predict_image`` takes pictures), or none.
            TypeError, ValueError: frames or waveform are not as said above.
            RuntimeError: this Recognizer is closed.
        """
        tell = progress or ignore
        with self._turn() as pipeline:
            if isinstance(clip, (str, os.PathLike)):
                if waveform is not None:
                    raise TypeError("waveform: a file brings its own sound; give frames with it")
                return self._predict_file(pipeline, Path(clip), tell)
            if isinstance(clip, bytes) or not isinstance(clip, Iterable):
                raise TypeError(
                    f"clip: expected a file name or Frame values, got {type(clip).__name__}"
                )
            if waveform is not None and not isinstance(waveform, Waveform):
                raise TypeError(
                    f"waveform: expected a Waveform, got {type(waveform).__name__}; "
                    "wrap 16 kHz samples as Waveform(samples)"
                )
            # Frames are asked for in the caller's own thread: what makes them may know no other.
            source = _Source("the clip", True, waveform is not None)
            looks = pipeline.looks(_in_order(clip))
            sound = None if waveform is None else iter([waveform])
            result = pipeline.judge(looks, sound, tell)
            if not result.timeline and not source.has_audio:
                raise MediaError(
                    "the clip: no frames were given; a generator can be read only once"
                )
            _check_clip(source, result)
            return result

    def segments(
        self,
        clip: str | os.PathLike[str],
        segment_s: float = 10.0,
        *,
        progress: Progress | None = None,
    ) -> Generator[Segment]:
        """What a long file shows and sounds like in each ``segment_s`` seconds, as they are judged.

        Each segment is judged as a clip is, by frames and sound from its start up to its end: the same
        selection, pooling and fusion. The last is as long as what is left; sound that ends less than a
        second, or half a segment, after one has begun stays with the one before. Where a file has neither
        picture nor sound there is no segment. People keep their track ids from segment to segment. Memory
        does not grow with the file's length.

        Args:
            clip: a file that FFmpeg can play.
            segment_s: seconds from one segment's start to the next; the first starts at 0.
            progress: as ``predict`` takes it.

        Returns:
            Segments in order of time; the last also says what the file has lost. Other calls of this
            Recognizer come in between. Who stops early closes the generator, or lets go of it.

        Raises:
            MediaError, RuntimeError: as ``predict``.
            ValueError: ``segment_s`` is no positive number.

        Example:
            >>> from occam_sdk import Recognizer, demo_clip
            >>> with Recognizer() as recognizer:
            ...     for segment in recognizer.segments(demo_clip(), 2):
            ...         print(f"{segment.start_s:.1f} to {segment.end_s:.1f} s: {segment.label}")
            0.0 to 2.0 s: Happy
            2.0 to 3.1 s: Happy
        """
        if not 0 < segment_s < math.inf:
            raise ValueError(f"segment_s: expected a positive number of seconds, got {segment_s}")
        path, tell = Path(clip), progress or ignore
        with self._turn() as pipeline:
            media = probe(path)
        return self._segments(pipeline, path, media, segment_s, tell)

    def stream(
        self,
        source: int | str | os.PathLike[str] | None = None,
        *,
        microphone: int | str | bool | None = None,
        realtime: bool = False,
        window_s: float = 3.0,
        hop_s: float = 0.5,
        on_update: Callable[[StreamUpdate], None] | None = None,
    ) -> Stream:
        """What a camera, an address, a file or pushed frames show, while they are shown.

        Every ``hop_s`` seconds the last ``window_s`` are judged as a clip is. A live source is never waited
        for: under load the oldest frames are dropped and counted. One that vanishes is asked again after
        a while that grows to 8 s; meanwhile each update says how long it has been gone. Without its
        microphone a camera's stream goes on, with a note.

        Args:
            source: a camera's index, an address as ``rtsp://camera/1``, a file; None: frames and sound
                come by ``push_frame`` and ``push_audio``, from whichever thread.
            microphone: to hear beside a camera, or alone without a source: True for the system's default,
                or the number or a part of the name, as ``python -m sounddevice`` lists them.
            realtime: a file is played as if it were a camera, at its own pace.
            window_s: seconds that an update is about.
            hop_s: seconds from one update to the next, at most ``window_s``.
            on_update: called with each update, in a thread of the stream's own, in place of iterating.

        Returns:
            A running stream: iterate over it, and ``close`` it, unless the loop has run to its end.

        Raises:
            MediaError: the source or the microphone cannot be opened.
            BackendError: a microphone needs the extra ``live``, or the library PortAudio.
            TypeError, ValueError: no such source, window or hop, or a microphone beside a source that
                brings its own sound.
            RuntimeError: this Recognizer is closed.

        Example:
            >>> from occam_sdk import Recognizer, demo_clip
            >>> with Recognizer() as recognizer:
            ...     labels = [update.label for update in recognizer.stream(demo_clip())]
            >>> labels[-1]
            'Happy'
        """
        with self._turn() as pipeline:  # opening a source may take seconds: others have theirs
            watch = pipeline.watch
        check_timing(window_s, hop_s)  # before anything is opened
        begun_s = time.monotonic()
        opened = None
        if source is not None:
            opened = open_source(source, self._threads, realtime=realtime, begun_s=begun_s)
        heard = None
        if microphone is not None and microphone is not False:
            if opened is not None and opened.has_sound:
                raise ValueError(f"{opened.name} brings its own sound; leave out the microphone")
            heard = Microphone(microphone, begun_s)
        return Stream(
            _Live(self._turn),
            opened,
            microphone=heard,
            window_s=window_s,
            hop_s=hop_s,
            watch=watch,
            on_update=on_update,
        )

    def _predict_file(self, pipeline: Pipeline, path: Path, tell: Progress) -> ClipResult:
        with self._opened(pipeline, path, probe(path)) as (source, looks, sound):
            result = pipeline.judge(
                looks if source.has_video else None, sound if source.has_audio else None, tell
            )
        _check_clip(source, result)
        if not result.timeline and result.duration_s == 0:
            raise source.undecodable()
        return replace(
            result,
            duration_s=source.end_s,
            truncated=source.truncated,
            notes=(*result.notes, *source.notes),
        )

    def _segments(
        self, pipeline: Pipeline, path: Path, media: MediaInfo, segment_s: float, tell: Progress
    ) -> Generator[Segment]:
        with self._opened(pipeline, path, media) as (source, looks, sound):
            pictures = Groups((number_of(look.time_s, segment_s), look) for look in looks)
            sounds = Groups(in_segments(sound, segment_s))
            count = 0
            while coming := [n for n in (pictures.number, sounds.number) if n is not None]:
                number = min(coming)
                with self._turn():
                    result = pipeline.judge(
                        pictures.take(number) if source.has_video else None,
                        sounds.take(number) if source.has_audio else None,
                        tell,
                    )
                end_s, count = (number + 1) * segment_s, count + 1
                if pictures.number is None and sounds.number is None:
                    end_s = source.end_s
                    notes = (*result.notes, *source.notes)
                    result = replace(result, truncated=source.truncated, notes=notes)
                    if count == 1:
                        _check_clip(source, result)
                result = replace(result, duration_s=end_s - number * segment_s)
                yield Segment(number * segment_s, end_s, result)
            if not count:
                raise source.undecodable()

    @contextmanager
    def _opened(
        self, pipeline: Pipeline, path: Path, media: MediaInfo
    ) -> Iterator[tuple[_Source, Iterator[Look], Iterator[Waveform]]]:
        """A file's faces and sound; while some are judged, threads decode and find the next."""
        video, audio = VideoFile(path, self._threads), AudioFile(path)
        source = _Source(str(path), media.has_video, media.has_audio, (video, audio))
        with (
            ahead(iter(video), FRAMES_AHEAD * self._overlaps) as frames,
            ahead(pipeline.looks(frames), LOOKS_AHEAD * self._overlaps) as looks,
            ahead(audio.chunks(), SOUNDS_AHEAD * self._overlaps) as sound,
        ):
            yield source, looks, sound

    @contextmanager
    def _turn(self) -> Iterator[Pipeline]:
        """One caller at a time, and none after ``close``."""
        with self._lock:
            if self._pipeline is None:
                raise RuntimeError("this Recognizer is closed; make a new one")
            yield self._pipeline


class _Live:
    """What a stream asks of a recognizer, a turn at a time: clips and pictures come in between."""

    def __init__(self, turn: Callable[[], AbstractContextManager[Pipeline]]) -> None:
        self._turn = turn

    def detect(self, image: NDArray[np.uint8]) -> tuple[Face, ...]:
        """Faces of one picture."""
        with self._turn() as pipeline:
            return pipeline.detect(image)

    def score(self, image: NDArray[np.uint8], faces: tuple[Face, ...]) -> list[Scored]:
        """What the largest of the faces show."""
        with self._turn() as pipeline:
            return pipeline.score(image, faces)

    def hear(self, waveform: Waveform) -> tuple[ModalityScores | None, str]:
        """What the voice of a window says, or why nothing."""
        with self._turn() as pipeline:
            return pipeline.hear(waveform)

    def conclude(
        self, watched: Watched, voice: ModalityScores | None, notes: tuple[str, ...]
    ) -> ClipResult:
        """The answer about a window."""
        with self._turn() as pipeline:
            return pipeline.conclude(watched, voice, notes)


@dataclass(frozen=True)
class _Source:
    """Where a clip comes from, which tracks it has, and what reading it has brought to light."""

    name: str
    has_video: bool
    has_audio: bool
    files: tuple[VideoFile | AudioFile, ...] = ()

    @property
    def end_s(self) -> float:
        """When the last that was decoded ends, in seconds."""
        return max(file.end_s for file in self.files)

    @property
    def truncated(self) -> bool:
        """Whether a track was cut short or damaged."""
        return any(file.damage.truncated for file in self.files)

    @property
    def notes(self) -> list[str]:
        """What the tracks have lost."""
        return [note for file in self.files for note in file.damage.notes]

    def undecodable(self) -> MediaError:
        """What to raise when nothing came out of it."""
        return MediaError(f"{self.name}: nothing in it could be decoded; copy or download it again")


def _check_clip(source: _Source, result: ClipResult) -> None:
    """Raise ``MediaError`` for a single frame without sound, unless it is what is left of a clip."""
    if len(result.timeline) == 1 and not source.has_audio and not source.truncated:
        raise MediaError(
            f"{source.name}: has a single frame, a clip needs two; "
            "use Recognizer.predict_image for a picture"
        )


def _in_order(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The same frames, checked: ``Frame`` values whose times strictly increase."""
    last_s = -np.inf
    for frame in frames:
        if not isinstance(frame, Frame):
            raise TypeError(
                f"clip: expected a file name or Frame values, got {type(frame).__name__}; "
                "wrap a picture as Frame(index, time_s, image)"
            )
        if frame.time_s <= last_s:
            raise ValueError(
                f"clip: times must strictly increase, got {frame.time_s} s after {last_s} s"
            )
        last_s = frame.time_s
        yield frame


def _voice_features_info(feature_set: str) -> str:
    if feature_set == SPEECH_FEATURES:
        return f"{feature_set}, by the bundle's own network"
    try:
        return f"{feature_set}, by opensmile {version('opensmile')}"
    except PackageNotFoundError:
        return f"none: {INSTALL_NOTE}"
