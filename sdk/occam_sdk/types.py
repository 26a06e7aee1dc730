"""Every value that crosses a stage: frozen, and checked once when it is made."""

from __future__ import annotations

import json
import math
import numbers
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .labels import LABELS

RATE_HZ: Final = 16_000
"""Sample rate of every waveform, in Hz: what the voice features are defined on."""

Status = Literal["ok", "no_face", "no_voice", "no_evidence"]
"""``ok``: face and voice; ``no_face``, ``no_voice``: the other alone; ``no_evidence``: neither."""


def _check_array(
    name: str, array: object, dtype: type[np.generic], shape: tuple[int | str, ...]
) -> None:
    """Raise unless ``array`` has this dtype and shape; a string in ``shape`` is any length."""
    fits = False
    if isinstance(array, np.ndarray):
        fits = array.ndim == len(shape) and all(
            isinstance(wanted, str) or wanted == got
            for wanted, got in zip(shape, array.shape, strict=True)
        )
        if fits and array.dtype == dtype:
            return
    want = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''}) {np.dtype(dtype).name}"
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected {want}, got {type(array).__name__}")
    error = TypeError if fits else ValueError
    raise error(f"{name}: expected {want}, got {array.shape} {array.dtype}")


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a clip.

    Attributes:
        index: position in the clip, from 0.
        time_s: presentation time in seconds, from the stream's own timestamps.
        image: (H, W, 3) uint8, BGR, upright, neither side zero.

    Raises:
        TypeError: the image is not uint8, or no NumPy array at all.
        ValueError: the image is not (H, W, 3), a side is zero, or the time is not finite.

    Example:
        >>> import numpy as np
        >>> Frame(0, 0.0, np.zeros((120, 160, 3), np.uint8)).image.shape
        (120, 160, 3)
    """

    index: int
    time_s: float
    image: NDArray[np.uint8]

    def __post_init__(self) -> None:
        check_image(self.image)
        object.__setattr__(self, "index", operator.index(self.index))
        object.__setattr__(self, "time_s", _seconds("Frame.time_s", self.time_s))


def _seconds(name: str, value: object) -> float:
    """A plain float of any finite real number: NumPy's, or a Fraction as PyAV gives times."""
    if not isinstance(value, (numbers.Real, np.number)):
        raise TypeError(f"{name}: expected a number of seconds, got {type(value).__name__}")
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError(f"{name}: expected finite seconds, got {seconds}")
    return seconds


def check_image(image: object) -> None:
    """Raise unless ``image`` is a non-empty (H, W, 3) uint8 array, as OpenCV gives pictures."""
    try:
        _check_array("image", image, np.uint8, ("H", "W", 3))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error}; {_image_remedy(image)}") from None
    assert isinstance(image, np.ndarray)  # narrows the type; _check_array has raised otherwise
    if 0 in image.shape:
        raise ValueError(
            f"image: expected at least 1x1 pixels, got {image.shape}; check where it was cut out"
        )


def _image_remedy(image: object) -> str:
    if image is None:
        return "cv2.imread gives None for a file that it cannot read: check its name"
    if not isinstance(image, np.ndarray):
        return "read a file with cv2.imread(path)"
    if image.dtype != np.uint8:
        return "bring it to 0..255, 16 bits by (image >> 8).astype(np.uint8)"
    return "bring it to BGR with cv2.cvtColor, COLOR_GRAY2BGR or COLOR_BGRA2BGR"


@dataclass(frozen=True, eq=False)
class Face:
    """A face found in one picture, in that picture's pixels.

    Attributes:
        box_xyxy: (4,) float32, left, top, right, bottom.
        landmarks: (5, 2) float32, x and y of the eye, eye, nose tip, mouth corner, mouth corner;
            of each pair the one further left in the picture comes first (of an upright face).
        confidence: in [0, 1].
        track_id: the same person in the frames of one clip has the same id; None before tracking.
    """

    box_xyxy: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    confidence: float
    track_id: int | None = None

    def __post_init__(self) -> None:
        _check_array("Face.box_xyxy", self.box_xyxy, np.float32, (4,))
        _check_array("Face.landmarks", self.landmarks, np.float32, (5, 2))

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        left, top, right, bottom = self.box_xyxy
        return float(max(0.0, right - left) * max(0.0, bottom - top))


def intersection_over_union(one: Face, other: Face) -> float:
    """Of the two boxes, in [0, 1]."""
    left_top = np.maximum(one.box_xyxy[:2], other.box_xyxy[:2])
    right_bottom = np.minimum(one.box_xyxy[2:], other.box_xyxy[2:])
    width, height = np.maximum(right_bottom - left_top, 0).tolist()
    common: float = width * height
    union = one.area + other.area - common
    return common / union if union > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Waveform:
    """Mono sound at 16 kHz.

    Attributes:
        samples: (N,) float32 in [-1, 1], 16,000 a second.
        start_s: when the first sample sounds, in seconds on the clock of the clip's frames.

    Raises:
        TypeError, ValueError: wrong dtype or shape, or samples beyond [-1, 1] or not finite.
    """

    samples: NDArray[np.float32]
    start_s: float = 0.0

    def __post_init__(self) -> None:
        _check_array("Waveform.samples", self.samples, np.float32, ("N",))
        object.__setattr__(self, "start_s", _seconds("Waveform.start_s", self.start_s))
        if not np.isfinite(self.samples).all():
            raise ValueError("Waveform.samples: expected finite numbers, got NaN or infinity")
        if len(self.samples) and float(np.abs(self.samples).max()) > 1:
            raise ValueError(
                "Waveform.samples: expected values in [-1, 1]; divide 16-bit samples by 32768, "
                "clip others with np.clip(samples, -1, 1)"
            )

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / RATE_HZ


@dataclass(frozen=True, eq=False)
class FrameScores:
    """What the expression network says of T faces, one a frame.

    Attributes:
        times_s: (T,) float64, seconds.
        scores: (T, 7) float32, softmax over ``LABELS``.
        valence_arousal: (T, 2) float32 in [-1, 1]; positive is pleasant, excited.
        embeddings: (T, 512) float32.
    """

    times_s: NDArray[np.float64]
    scores: NDArray[np.float32]
    valence_arousal: NDArray[np.float32]
    embeddings: NDArray[np.float32]

    def __post_init__(self) -> None:
        _check_array("FrameScores.times_s", self.times_s, np.float64, ("T",))
        count = len(self.times_s)
        _check_array("FrameScores.scores", self.scores, np.float32, (count, len(LABELS)))
        _check_array("FrameScores.valence_arousal", self.valence_arousal, np.float32, (count, 2))
        _check_array("FrameScores.embeddings", self.embeddings, np.float32, (count, "D"))


@dataclass(frozen=True, eq=False)
class ModalityScores:
    """What one modality, face or voice, says of a clip.

    Attributes:
        scores: (7,) float32, softmax over ``LABELS``.
        valence, arousal: in [-1, 1], or None where the modality does not tell (voice).
        evidence_s: the times, in seconds, that were used: the selected frames of the face, the
            starts of the pieces of sound of the voice.
    """

    scores: NDArray[np.float32]
    valence: float | None = None
    arousal: float | None = None
    evidence_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check_array("ModalityScores.scores", self.scores, np.float32, (len(LABELS),))

    @property
    def label(self) -> str:
        """The class with the highest score."""
        return LABELS[int(self.scores.argmax())]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "label": self.label,
            "scores": scores_dict(self.scores),
            "valence": self.valence,
            "arousal": self.arousal,
            "evidence_s": list(self.evidence_s),
        }


@dataclass(frozen=True, eq=False)
class FaceScores:
    """A face and what its expression looks like, for one picture.

    Attributes:
        face: where it is.
        scores: (7,) float32, softmax over ``LABELS``.
        valence, arousal: in [-1, 1].
    """

    face: Face
    scores: NDArray[np.float32]
    valence: float
    arousal: float

    def __post_init__(self) -> None:
        _check_array("FaceScores.scores", self.scores, np.float32, (len(LABELS),))

    @property
    def label(self) -> str:
        """The class with the highest score."""
        return LABELS[int(self.scores.argmax())]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "box_xyxy": [round(float(v), 2) for v in self.face.box_xyxy],
            "landmarks": [[round(float(v), 2) for v in point] for point in self.face.landmarks],
            "confidence": self.face.confidence,
            "track_id": self.face.track_id,
            "label": self.label,
            "scores": scores_dict(self.scores),
            "valence": self.valence,
            "arousal": self.arousal,
        }


@dataclass(frozen=True, eq=False)
class TimelineRow:
    """One frame of the clip: its time and the main face, or None where that face is not seen."""

    index: int
    time_s: float
    face: FaceScores | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        seen = self.face.to_dict() if self.face else None
        return {"index": self.index, "time_s": self.time_s, "face": seen}


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """One face of a clip, from frame to frame.

    Attributes:
        track_id: of its ``Face`` values.
        scores: what it shows over the clip, or None if no frame of it could be scored.
        timeline: one row a decoded frame, as of ``ClipResult``; None where this face is not seen.
    """

    track_id: int | None
    scores: ModalityScores | None
    timeline: Sequence[TimelineRow]

    def to_dict(self, *, timeline: bool = True) -> dict[str, Any]:
        """Plain JSON types; ``timeline=False`` leaves the per-frame rows out."""
        result = {
            "track_id": self.track_id,
            "face": self.scores.to_dict() if self.scores else None,
        }
        return result | ({"timeline": [row.to_dict() for row in self.timeline]} if timeline else {})


@dataclass(frozen=True)
class FusionWeights:
    """The weights that were really used: 0 for what is missing; both sum to 1 or to 0."""

    face: float
    voice: float


@dataclass(frozen=True, eq=False)
class ClipResult:
    """What a clip shows and sounds like; ``occam_sdk.formats`` makes CSV, pandas, WebVTT, ELAN of it.

    Attributes:
        scores: (7,) float32, fused over ``LABELS``, or None when there is no evidence.
        valence, arousal: of the face, in [-1, 1], or None without a face.
        status: which modalities there was evidence for.
        face, voice: each modality's own answer, or None when it is missing.
        weights: the fusion weights that were really used.
        timeline: one row a decoded frame, in order of time; ``predict`` gives a sequence that makes
            each row when it is asked for.
        tracks: the faces that were seen longest and largest, at most ``max_faces`` of the Recognizer;
            the first is the one that is judged.
        duration_s: how much of the clip was analysed, in seconds.
        truncated: the file ended early or was damaged; what could be decoded is in the result.
        notes: what the user should know about this answer, in plain words.
    """

    scores: NDArray[np.float32] | None
    valence: float | None
    arousal: float | None
    status: Status
    face: ModalityScores | None
    voice: ModalityScores | None
    weights: FusionWeights
    timeline: Sequence[TimelineRow]
    duration_s: float
    truncated: bool = False
    notes: tuple[str, ...] = ()
    tracks: tuple[FaceTrack, ...] = ()

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            known = get_args(Status)
            raise ValueError(f"ClipResult.status: expected one of {known}, got {self.status!r}")
        if self.scores is not None:
            _check_array("ClipResult.scores", self.scores, np.float32, (len(LABELS),))

    @property
    def label(self) -> str | None:
        """The class with the highest score, or None when there is no evidence."""
        return None if self.scores is None else LABELS[int(self.scores.argmax())]

    def to_dict(self, *, timeline: bool = True) -> dict[str, Any]:
        """Plain JSON types; ``timeline=False`` leaves the per-frame rows out."""
        result: dict[str, Any] = {
            "label": self.label,
            "scores": None if self.scores is None else scores_dict(self.scores),
            "valence": self.valence,
            "arousal": self.arousal,
            "status": self.status,
            "face": self.face.to_dict() if self.face else None,
            "voice": self.voice.to_dict() if self.voice else None,
            "weights": {"face": self.weights.face, "voice": self.weights.voice},
            # The first one's rows are the clip's own.
            "tracks": [
                track.to_dict(timeline=timeline and place > 0)
                for place, track in enumerate(self.tracks)
            ],
            "duration_s": self.duration_s,
            "truncated": self.truncated,
            "notes": list(self.notes),
        }
        if timeline:
            result["timeline"] = [row.to_dict() for row in self.timeline]
        return result

    def to_json(self, *, timeline: bool = True, indent: int | None = None) -> str:
        """``to_dict`` as strict JSON text (no NaN)."""
        return json.dumps(self.to_dict(timeline=timeline), indent=indent, allow_nan=False)


@dataclass(frozen=True, eq=False)
class Segment:
    """What a clip shows and sounds like from one time to another.

    Attributes:
        start_s, end_s: in seconds; the last segment ends with the clip.
        result: of these seconds, as of a clip; times in it are the clip's.
    """

    start_s: float
    end_s: float
    result: ClipResult

    @property
    def label(self) -> str | None:
        """The class with the highest score, or None when there is no evidence."""
        return self.result.label

    def to_dict(self, *, timeline: bool = False) -> dict[str, Any]:
        """Plain JSON types; ``timeline=True`` adds the rows of the segment's frames."""
        times = {"start_s": self.start_s, "end_s": self.end_s}
        return times | self.result.to_dict(timeline=timeline)


def scores_dict(scores: Sequence[float] | NDArray[np.float32]) -> dict[str, float]:
    """Scores under their labels, highest first."""
    named = zip(LABELS, map(float, scores), strict=True)
    return dict(sorted(named, key=lambda pair: -pair[1]))
