"""Whether the networks compute on this machine what they computed where they were made.

A bundle holds samples: aligned faces, voice features, frames of its demo clip, and what each network said
of them when the bundle was made. Every runtime and precision of this machine is held against that.
"""

from __future__ import annotations

import io
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .backends import Runtime, Session, SessionInfo, devices, in_batches, installed, open_session
from .bundle import SPEECH, Bundle
from .demo import demo_clip
from .errors import BackendError, BundleError
from .labels import LABELS
from .video.decode import VideoFile
from .video.expression import grey_input
from .video.faces import BundleDetector

SAMPLES: Final = "samples.npz"
FRAMES: Final = (0, 25, 50, 74)  # of the demo clip: what the detector is shown
TOLERANCE: Final[Mapping[str, float]] = {"fp32": 0.005, "int8": 0.25, "bf16": 0.5, "fp16": 0.05}
"""How far a logit may lie from the one of the same form where the bundle was made (bf16 and fp16: from the
float32 one). Runtimes round INT8 sums at different places, which moves a few values by a step."""
TOLERANCE_FACE: Final[Mapping[str, float]] = {"fp32": 0.01, "int8": 0.2, "bf16": 0.1, "fp16": 0.02}
"""How far a landmark may lie from where it was, in distances between the eyes. In INT8 a step may change what
part of the picture the closer look is shown: between two runtimes of one machine a landmark moves by 0.1."""
TOLERANCE_FEATURES: Final[Mapping[str, float]] = {"fp32": 1e-4, "bf16": 0.01, "fp16": 0.01}
"""How far a feature of a voice may lie from where it was; they spread by less than 0.1."""
CALLS: Final = 30  # of which the median is the latency, after
WARM_UP: Final = 5  # more

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Check:
    """One network on one runtime in one precision, held against the bundle's samples.

    Attributes:
        network: one of ``Bundle.networks``.
        backend, device, precision: what was asked for.
        info: what ran, or None if nothing did.
        count: how many samples.
        max_delta: largest |difference|: of logits or features, or of landmarks in distances between the eyes.
        agreement: share of samples with the same class (a face at the same place; features that differ by
            no more than is allowed) as in float32.
        latency_ms: median of a call: one picture, one face, one voice.
        note: what was asked for and is not what ran; the answers are right all the same.
        failure: why the answers are not right; "" if they are.
    """

    network: str
    backend: str
    device: str
    precision: str
    info: SessionInfo | None = None
    count: int = 0
    max_delta: float | None = None
    agreement: float | None = None
    latency_ms: float | None = None
    note: str = ""
    failure: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        ran = None if self.info is None else {**asdict(self.info), "precision": self.info.precision}
        known = self.max_delta is not None and math.isfinite(self.max_delta)  # JSON has no NaN
        return {
            **asdict(self),
            "info": ran,
            "max_delta": self.max_delta if known else None,
            "passed": not self.failure,
        }


def verify(bundle: Bundle, runtimes: Sequence[Runtime] | None = None) -> Iterator[Check]:
    """Hold every network against the bundle's samples, one check after another.

    Args:
        bundle: with samples, as ``python -m export.int8`` adds them.
        runtimes: which to check; by default every runtime, device and precision of this machine.
            A precision of "auto" stands for float32 and INT8.

    Raises:
        BundleError: the bundle has no samples, or they are damaged.
    """
    samples = load_samples(bundle)
    for runtime in every_runtime() if runtimes is None else runtimes:
        precisions = ("fp32", "int8") if runtime.precision == "auto" else (runtime.precision,)
        for precision in precisions:
            for name in bundle.networks:
                if precision != "int8" or name in bundle.int8:
                    yield _check(bundle, name, replace(runtime, precision=precision), samples)


def every_runtime() -> tuple[Runtime, ...]:
    """What this machine has: each runtime on each of its devices, in float32 and INT8."""
    found = []
    for backend in installed():
        try:
            seen = devices(backend)
        except BackendError:  # there, but it does not load: occam doctor says why
            continue
        found += [
            Runtime(backend, device, precision)
            for device in seen
            if device != "intel:auto"  # one of the others
            for precision in ("fp32", "int8")
        ]
    return tuple(found)


def load_samples(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """``faces`` (N, S, S) uint8, ``features`` (M, F) float32, and what was said of them.

    Where the bundle has a network to hear with, there is ``sounds`` (K, T) float32, too.

    Under "expression.int8.emotion" is what the network said in INT8 where the bundle was made,
    under "detector.fp32.landmarks" (K, 5, 2) where the landmarks of each frame's largest face were.

    Raises:
        BundleError: there are none, or they are damaged.
    """
    if not bundle.has(SAMPLES):
        raise BundleError(
            f"{bundle.path}: has no {SAMPLES}, so there is nothing to verify it by; "
            "python -m export.int8 of the repository adds it"
        )
    content = bundle.read(SAMPLES)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            samples = {name: np.asarray(file[name]) for name in file.files}
    except Exception as error:  # a damaged archive raises anything: zlib.error, EOFError, TypeError
        raise BundleError(
            f"{bundle.path / SAMPLES}: not an .npz without pickles ({error}); get a complete copy"
        ) from error
    for name, shape in _shapes(bundle, samples).items():
        if name not in samples or samples[name].shape != shape or 0 in shape:
            got = samples[name].shape if name in samples else "nothing"
            raise BundleError(
                f"{bundle.path / SAMPLES}: {name}: expected {shape}, got {got}; get a complete copy"
            )
    return samples


def _shapes(bundle: Bundle, samples: Mapping[str, NDArray[Any]]) -> dict[str, tuple[int, ...]]:
    """Of every array that there must be."""
    side = bundle.face.input_size
    faces, voices = (len(np.atleast_1d(samples.get(name, []))) for name in ("faces", "features"))
    shapes: dict[str, tuple[int, ...]] = {
        "faces": (faces, side, side), "features": (voices, bundle.voice.feature_count)
    }  # fmt: skip
    if SPEECH in bundle.networks:
        sounds = np.atleast_2d(samples.get("sounds", [])).shape
        shapes["sounds"] = (sounds[0], sounds[1])
    said = {
        "detector": ("landmarks", (len(FRAMES), 5, 2)),
        "expression": ("emotion", (faces, len(LABELS))),
        "voice": ("emotion", (voices, len(LABELS))),
        SPEECH: ("features", (shapes.get("sounds", (0,))[0], bundle.voice.feature_count)),
    }
    for name in bundle.networks:
        output, shape = said[name]
        for form in ("fp32", "int8") if name in bundle.int8 else ("fp32",):
            shapes[f"{name}.{form}.{output}"] = shape
    return shapes


def outputs(
    name: str, session: Session, samples: Mapping[str, NDArray[Any]], bundle: Bundle
) -> dict[str, Floats]:
    """What a network says of the samples: its own outputs, or "landmarks" of the detector."""
    if name == "detector":
        return {"landmarks": _landmarks(session)}
    if name == SPEECH:  # as the product asks it: one piece of sound at a time
        said = [session.run({"samples": one[np.newaxis]})["features"] for one in samples["sounds"]]
        return {"features": np.concatenate(said)}
    return in_batches(session, *_rows(name, samples, bundle))


def demo_frames() -> list[NDArray[np.uint8]]:
    """What the detector is shown: (320, 320, 3) uint8 BGR."""
    frames = islice(VideoFile(demo_clip()), max(FRAMES) + 1)
    return [frame.image for frame in frames if frame.index in FRAMES]


def main_output(name: str) -> str:
    """What of a network's answers is held against the bundle's."""
    return {"detector": "landmarks", SPEECH: "features"}.get(name, "emotion")


def _rows(name: str, samples: Mapping[str, NDArray[Any]], bundle: Bundle) -> tuple[str, Floats]:
    if name == SPEECH:
        return "samples", samples["sounds"]
    if name == "voice":
        return "features", samples["features"]
    return "image", grey_input(samples["faces"], bundle.face.mean, bundle.face.std)


def _landmarks(session: Session) -> Floats:
    """(K, 5, 2) of the largest face in each frame, NaN where none is found."""
    detector = BundleDetector(session)
    found = np.full((len(FRAMES), 5, 2), np.nan, np.float32)
    for row, image in enumerate(demo_frames()):
        if faces := detector.detect(image):
            found[row] = max(faces, key=lambda face: face.area).landmarks
    return found


def _check(
    bundle: Bundle, name: str, runtime: Runtime, samples: Mapping[str, NDArray[Any]]
) -> Check:
    asked = (name, runtime.backend, runtime.device, runtime.precision)
    try:
        session = open_session(bundle.network(name), runtime)
        said = outputs(name, session, samples, bundle)
        latency_ms = _latency_ms(name, session, runtime, samples, bundle)
    except BackendError as error:
        return Check(*asked, failure=str(error))
    form = runtime.precision if runtime.precision in ("int8", "fp32") else "fp32"
    main = main_output(name)
    got = said[main]
    same_form, float32 = samples[f"{name}.{form}.{main}"], samples[f"{name}.fp32.{main}"]
    if name == "detector":
        eyes = np.linalg.norm(float32[:, 0] - float32[:, 1], axis=-1)[:, None]
        delta = np.linalg.norm(got - same_form, axis=-1) / eyes
        agree = (np.linalg.norm(got - float32, axis=-1) / eyes).mean(1) < 0.2
        limit = _limit(TOLERANCE_FACE, runtime.precision, session.info)
    else:
        delta = np.abs(got - same_form)
        tolerance = TOLERANCE_FEATURES if name == SPEECH else TOLERANCE
        limit = _limit(tolerance, runtime.precision, session.info)
        if name == SPEECH:
            agree = (np.abs(got - float32) <= limit).all(1)
        else:
            agree = got.argmax(1) == float32.argmax(1)
    failure = ""
    if not np.max(delta) <= limit:  # NaN is no answer either
        failure = (
            f"differs by {np.max(delta):.3g} from where the bundle was made, allowed are {limit:g}"
        )
    return Check(
        *asked,
        info=session.info,
        count=len(got),
        max_delta=float(np.max(delta)),
        agreement=float(agree.mean()),
        latency_ms=latency_ms,
        note="; ".join(session.info.notes),
        failure=failure,
    )


def _limit(tolerance: Mapping[str, float], precision: str, info: SessionInfo) -> float:
    """Of what was asked for, or of what runs instead where that is coarser."""
    return max(tolerance.get(name, 0.0) for name in (precision, *info.layers))


def _latency_ms(
    name: str,
    session: Session,
    runtime: Runtime,
    samples: Mapping[str, NDArray[Any]],
    bundle: Bundle,
) -> float:
    if name == "detector":
        detector = BundleDetector(session, open_session(bundle.network(name), runtime))
        call: Callable[[], object] = partial(detector.detect, demo_frames()[0])
    else:
        port, rows = _rows(name, samples, bundle)
        call = partial(session.run, {port: rows[:1]})
    taken = []
    for _ in range(CALLS + WARM_UP):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return 1e3 * statistics.median(taken[WARM_UP:])
