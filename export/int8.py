r"""Give a bundle its INT8 files: equalise, calibrate, quantise, keep in float32 what INT8 harms, lint.

    python -m export.int8 sdk/occam_sdk/models --faces runs/ferplus runs/diffusionfer \
        --voices runs/ravdess runs/emodb --scenes ../shared/data/scenes.zip

Faces are calibrated on ``CALIBRATION`` aligned faces of the training split, drawn with a seed and listed in
the bundle's ``calibration.csv``. On Valid the INT8 form is held against float32: while it loses more than
``Gate`` allows, the layer that harms most for its size goes back to float32. The voice goes through the same
door, and the detector, on pictures of ``--scenes``; whether INT8 is what runs by default is decided by
the clock.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from occam_sdk.backends import BATCH, Network, Runtime, Session, in_batches, open_session
from occam_sdk.bundle import MANIFEST, load_bundle
from occam_sdk.errors import OccamError
from occam_sdk.types import Face, intersection_over_union
from occam_sdk.video.expression import grey_input
from occam_sdk.video.faces import BundleDetector, detector_input
from training.detector.label import decoded
from training.faces import LabelledFaces
from training.voice import load_voices

from .agreement import Agreement, Targets, agreement
from .equalise import equalise
from .lint import lint, quantised_layers
from .manifest import write_manifest
from .quantise import calibrate, layers, quantise
from .samples import write_samples

CALIBRATION: Final = 1024  # faces; and voices, and a fifth as many pictures for the detector
SEED: Final = 0
SYNTHETIC: Final = 512  # faces with valence and arousal, to judge those by
SCENES: Final = 200  # pictures to calibrate the detector on, and as many to judge it by
MIN_EYES_PX: Final = 8.0  # a face whose eyes are closer together is no face to align
WORTH_IT: Final = 1.25  # times as fast as float32: less is within what the clock cannot tell
LOOKS: Final = 16  # inputs to rank layers by
ROUNDS: Final = 60

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Gate:
    """What INT8 may lose on Valid.

    Attributes:
        accuracy: of either head, as a share.
        ccc: of valence or arousal.
        labels: share of faces that must keep their label, of either head: 99 % are asked of Test, whose
            faces are less clear; and of 3,500 faces such a share has a standard deviation of 0.15 %.
    """

    accuracy: float = 0.003
    ccc: float = 0.01
    labels: float = 0.9945

    def passes(self, found: Agreement) -> bool:
        """Whether nothing is lost beyond this."""
        losses = (found.accuracy, found.accuracy_of_eight)
        same = (found.labels, found.labels_of_eight)
        return (
            all(loss is None or loss >= -self.accuracy for loss in losses)
            and (found.ccc is None or found.ccc >= -self.ccc)
            and all(share is None or share >= self.labels for share in same)
        )


@dataclass(frozen=True)
class DetectorGate:
    """What INT8 may lose of the faces that float32 finds.

    Attributes:
        found: least share of them that are found again.
        extra: most that are found besides, as a share of them.
        shift: most that a landmark moves on average, in distances between the eyes.
    """

    found: float = 0.97
    extra: float = 0.03
    shift: float = 0.03

    def passes(self, found: Sighted) -> bool:
        """Whether nothing is lost beyond this."""
        return found.found >= self.found and found.extra <= self.extra and found.shift <= self.shift


@dataclass(frozen=True)
class Sighted:
    """One form of the detector held against another: see ``DetectorGate``; ``count`` faces."""

    count: int
    found: float
    extra: float
    shift: float


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network on its way to INT8.

    Attributes:
        name: "detector", "expression" or "voice".
        model: float32.
        feeds: inputs to calibrate on.
        judge: what a session is worth.
        passes: whether a judgement is good enough.
        usual: an input as it usually comes, for the clock.
    """

    name: str
    model: onnx.ModelProto
    feeds: Sequence[Mapping[str, Floats]]
    judge: Callable[[Session], Any]
    passes: Callable[[Any], bool]
    usual: Mapping[str, Floats]


def session_of(name: str, model: onnx.ModelProto, *, int8: bool) -> Session:
    """A session of the runtime that is the default, on the CPU."""
    content = model.SerializeToString()
    network = Network(name, content, content if int8 else None, int8_layers=1 if int8 else 0)
    runtime = Runtime(backend="openvino", device="cpu", precision="int8" if int8 else "fp32")
    return open_session(network, runtime)


def quantise_within(candidate: Candidate) -> tuple[onnx.ModelProto, list[str], Any]:
    """The INT8 form, the layers that stayed float32, and its judgement.

    Raises:
        ValueError: no form with a layer in INT8 is good enough.
    """
    model = equalise(candidate.model, candidate.feeds)
    every, ranges = layers(model), calibrate(model, candidate.feeds)

    def judged(keep: Sequence[str]) -> tuple[onnx.ModelProto, Any]:
        form = quantise(model, ranges, keep)
        return form, candidate.judge(session_of(candidate.name, form, int8=True))

    form, found = judged([])
    print(f"{candidate.name}: all {len(every)} layers in INT8: {found}", flush=True)
    if candidate.passes(found):
        return form, [], found
    worst = _worst_first(replace(candidate, model=model), ranges)
    for count in range(1, len(every)):
        form, found = judged(worst[:count])
        print(f"{candidate.name}: {worst[count - 1]} back to float32: {found}", flush=True)
        if candidate.passes(found):
            return form, worst[:count], found
    raise ValueError(f"{candidate.name}: no form with a layer in INT8 loses little enough")


def _worst_first(candidate: Candidate, ranges: Mapping[str, float]) -> list[str]:
    """The layers, first what, quantised alone, moves the outputs most for its size."""
    every, feeds = layers(candidate.model), candidate.feeds[:LOOKS]
    float32 = session_of(candidate.name, candidate.model, int8=False)
    reference = [float32.run(feed) for feed in feeds]
    spread = {
        name: float(np.mean([out[name].std() for out in reference])) + 1e-6 for name in reference[0]
    }

    def harm(layer: str) -> float:
        form = quantise(candidate.model, ranges, [name for name in every if name != layer])
        session = session_of(candidate.name, form, int8=True)
        return sum(
            float(np.abs(out - expected[name]).mean()) / spread[name]
            for feed, expected in zip(feeds, reference, strict=True)
            for name, out in session.run(feed).items()
        )

    weights = {tensor.name: np.prod(tensor.dims) for tensor in candidate.model.graph.initializer}
    size = {
        node.name: weights.get(node.input[1], 0)
        for node in candidate.model.graph.node
        if len(node.input) > 1
    }
    return sorted(every, key=lambda name: -(harm(name) ** 2) / size[name])


def speedup(candidate: Candidate, int8: onnx.ModelProto) -> float:
    """How many times faster INT8 is than float32 on this machine: medians, taken by turns."""
    sessions = {
        kind: session_of(candidate.name, model, int8=kind == "int8")
        for kind, model in (("fp32", candidate.model), ("int8", int8))
    }
    taken: dict[str, list[float]] = {kind: [] for kind in sessions}
    for number in range(ROUNDS + 10):
        for kind, session in sessions.items():
            started = time.perf_counter()
            session.run(candidate.usual)
            if number >= 10:  # warm-up
                taken[kind].append(time.perf_counter() - started)
    return statistics.median(taken["fp32"]) / statistics.median(taken["int8"])


def expression(folder: Path, faces: Sequence[Path]) -> tuple[Candidate, list[tuple[str, str]]]:
    """The expression network, and corpus and path of every face that it is calibrated on."""
    bundle = load_bundle(folder)
    data = LabelledFaces(faces)
    if data.size != bundle.face.input_size:
        raise ValueError(
            f"faces of {data.size} pixels, the network of {folder} takes {bundle.face.input_size}; "
            f"prepare them with --size {bundle.face.input_size}"
        )
    train, valid = data.train_rows(), data.valid_rows()
    if min(len(train), len(valid)) == 0:
        raise ValueError("the faces need a training and a validation part")
    order = np.random.default_rng(SEED).permutation(train)
    chosen = np.sort(order[:CALIBRATION])
    left = order[CALIBRATION:]
    judged_by = np.concatenate([valid, left[data.synthetic[left]][:SYNTHETIC]])

    def inputs(rows: NDArray[np.int64]) -> Floats:
        return grey_input(data.batch(rows).faces.numpy(), bundle.face.mean, bundle.face.std)

    batch, images, calibration = data.batch(judged_by), inputs(judged_by), inputs(chosen)
    images = np.concatenate([images, images[..., ::-1]])  # mirrored, each face is judged twice
    known = (batch.label.numpy(), batch.votes.numpy(), batch.valence_arousal.numpy())
    targets = Targets(*(np.concatenate([column, column]) for column in known))
    model = onnx.load(folder / "expression.onnx")
    reference = in_batches(session_of("expression", model, int8=False), "image", images)
    candidate = Candidate(
        "expression",
        model,
        [{"image": calibration[i : i + 64]} for i in range(0, len(calibration), 64)],
        lambda session: agreement(in_batches(session, "image", images), reference, targets),
        Gate().passes,
        {"image": calibration[:BATCH]},
    )
    samples = data.samples
    named = zip(samples.corpus[chosen].tolist(), samples.path[chosen].tolist(), strict=True)
    return candidate, list(named)


def voice(folder: Path, voices: Sequence[Path]) -> Candidate | None:
    """The voice network; None if it has no layer to quantise, as a forest."""
    model = onnx.load(folder / "voice.onnx")
    if not layers(model):
        return None
    features = load_voices(voices).features
    if len(features) <= CALIBRATION:
        raise ValueError(
            f"{len(features)} pieces of sound: {CALIBRATION} are to calibrate on, and more to judge by"
        )
    order = np.random.default_rng(SEED).permutation(len(features))
    calibration, judged_by = features[order[:CALIBRATION]], features[order[CALIBRATION:]]
    reference = in_batches(session_of("voice", model, int8=False), "features", judged_by)
    return Candidate(
        "voice",
        model,
        [{"features": calibration}],
        lambda session: agreement(in_batches(session, "features", judged_by), reference),
        Gate(labels=0.99).passes,
        {"features": calibration[:1]},
    )


def detector(folder: Path, scenes: Path) -> Candidate:
    """The face detector, with pictures of people and of none from a zip file."""
    model = onnx.load(folder / "detector.onnx")
    with zipfile.ZipFile(scenes) as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith(".jpg"))
        drawn = np.random.default_rng(SEED).permutation(len(names))[: 2 * SCENES]
        pictures = [decoded(archive.read(names[i])) for i in drawn]
    images = [picture for picture in pictures if picture is not None]
    if len(images) <= SCENES:
        raise ValueError(
            f"{scenes}: {len(images)} pictures; {SCENES} are to calibrate on, and more to judge by"
        )
    feeds = [{"image": detector_input(_square(image), 320)} for image in images[:SCENES]]
    held_out = images[SCENES:]
    float32 = BundleDetector(session_of("detector", model, int8=False))
    reference = [float32.detect(image) for image in held_out]

    def judge(session: Session) -> Sighted:
        found = BundleDetector(session)
        return sighted([found.detect(image) for image in held_out], reference)

    return Candidate(
        "detector",
        model,
        feeds,
        judge,
        DetectorGate().passes,
        {"image": detector_input(np.zeros((360, 640, 3), np.uint8), 320)},
    )


def _square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture with black below or beside it: calibration takes inputs of one size."""
    height, width = image.shape[:2]
    side = max(height, width)
    return np.pad(image, ((0, side - height), (0, side - width), (0, 0)))


def sighted(found: Sequence[tuple[Face, ...]], reference: Sequence[tuple[Face, ...]]) -> Sighted:
    """Hold the faces of pictures against those that the reference sees large enough to align."""
    asked = again = extra = 0
    shifts: list[float] = []
    for faces, others in zip(found, reference, strict=True):
        left = list(faces)
        for other in others:
            eyes = float(np.hypot(*(other.landmarks[0] - other.landmarks[1])))
            match = max(left, key=lambda face: intersection_over_union(face, other), default=None)
            is_match = match is not None and intersection_over_union(match, other) >= 0.5
            if match is not None and is_match:
                left = [face for face in left if face is not match]
            if eyes < MIN_EYES_PX:
                continue
            asked += 1
            if match is not None and is_match:
                again += 1
                moved = np.hypot(*(match.landmarks - other.landmarks).T)
                shifts.append(float(moved.mean()) / eyes)
        extra += sum(
            float(np.hypot(*(face.landmarks[0] - face.landmarks[1]))) >= MIN_EYES_PX
            for face in left
        )
    total = max(1, asked)
    return Sighted(asked, again / total, extra / total, float(np.mean(shifts)) if shifts else 1.0)


def add_int8(
    folder: Path, candidates: Sequence[Candidate], calibration: Sequence[tuple[str, str]]
) -> None:
    """Write the INT8 files and what is to be said of them into a bundle.

    Raises:
        ValueError: a network loses too much, or its graph breaks a rule.
    """
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    made: dict[str, bytes] = {}
    manifest["int8"] = {}
    for candidate in candidates:
        form, kept, found = quantise_within(candidate)
        if violations := lint(form):
            raise ValueError(f"{candidate.name}: {violations[0]}")
        faster = speedup(candidate, form)
        made[f"{candidate.name}.int8.onnx"] = form.SerializeToString()
        manifest["int8"][candidate.name] = {
            "layers": quantised_layers(form),
            "float32_layers": kept,
            "default": faster > WORTH_IT,
            "against_float32": {
                key: None if value is None else round(value, 5)
                for key, value in asdict(found).items()
            },
        }
        print(f"{candidate.name}: {faster:.2f} times as fast as float32", flush=True)
    for path in folder.glob("*.int8.onnx"):  # of a network that has no such form any more
        path.unlink()
    for name, content in made.items():
        (folder / name).write_bytes(content)
    with (folder / "calibration.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("corpus", "path"), *calibration])
    manifest["metrics"] = {}
    write_manifest(manifest, folder)
    write_samples(folder)
    write_manifest(manifest, folder)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="folder of a bundle, which gets the files")
    parser.add_argument(
        "--faces", type=Path, nargs="+", required=True, help="from training.prepare"
    )
    parser.add_argument(
        "--voices", type=Path, nargs="+", required=True, help="from training.prepare"
    )
    parser.add_argument(
        "--scenes", type=Path, required=True, help="zip of pictures with and without people"
    )
    args = parser.parse_args()
    try:
        faces, calibration = expression(args.bundle, args.faces)
        voices = voice(args.bundle, args.voices)
        candidates = [faces, detector(args.bundle, args.scenes), *([voices] if voices else [])]
        add_int8(args.bundle, candidates, calibration)
    except (OccamError, OSError, ValueError, zipfile.BadZipFile) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
