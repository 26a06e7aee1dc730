"""occam-sdk: which emotion a face and a voice show, on the edge.

    >>> from occam_sdk import Recognizer, demo_clip
    >>> with Recognizer() as recognizer:
    ...     result = recognizer.predict(demo_clip())
    >>> result.label, result.status
    ('Happy', 'ok')

Importing this package loads no runtime, opens no file and prints nothing: a name is loaded when it
is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batch import BatchSettings, BatchSummary, judge_files
    from .demo import demo_clip
    from .errors import BackendError, BackendWarning, BundleError, MediaError, OccamError
    from .labels import LABELS
    from .recognizer import Recognizer, RecognizerInfo
    from .stream import Stream, StreamUpdate, StreamView
    from .types import (
        ClipResult,
        Face,
        FaceScores,
        FaceTrack,
        Frame,
        FusionWeights,
        ModalityScores,
        Segment,
        TimelineRow,
        Waveform,
    )

__version__ = "0.1.0"

_MODULES = {
    "LABELS": "labels",
    "BackendError": "errors",
    "BackendWarning": "errors",
    "BatchSettings": "batch",
    "BatchSummary": "batch",
    "BundleError": "errors",
    "ClipResult": "types",
    "Face": "types",
    "FaceScores": "types",
    "FaceTrack": "types",
    "Frame": "types",
    "FusionWeights": "types",
    "MediaError": "errors",
    "ModalityScores": "types",
    "OccamError": "errors",
    "Recognizer": "recognizer",
    "RecognizerInfo": "recognizer",
    "Segment": "types",
    "Stream": "stream",
    "StreamUpdate": "stream",
    "StreamView": "stream",
    "TimelineRow": "types",
    "Waveform": "types",
    "demo_clip": "demo",
    "judge_files": "batch",
}

__all__ = [
    "LABELS",
    "BackendError",
    "BackendWarning",
    "BatchSettings",
    "BatchSummary",
    "BundleError",
    "ClipResult",
    "Face",
    "FaceScores",
    "FaceTrack",
    "Frame",
    "FusionWeights",
    "MediaError",
    "ModalityScores",
    "OccamError",
    "Recognizer",
    "RecognizerInfo",
    "Segment",
    "Stream",
    "StreamUpdate",
    "StreamView",
    "TimelineRow",
    "Waveform",
    "demo_clip",
    "judge_files",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
