r"""The bundle's face detector beside YuNet and CenterFace: what they find, how long they take.

    python -m benchmarks.detector --labels runs/scenes --clips ../shared/data/clips \
        --yunet face_detection_yunet_2023mar.onnx --centerface centerface.onnx \
        --json runs/detector.json --plots runs/detector

YuNet with a longer side of 640 pixels is the reference: what it scores 0.6 is a face; from 0.3 on it is
neither right nor wrong to find. The pictures are those that the network was neither trained nor chosen on
(``test`` of ``training.detector``), and frames of clips, of which it has seen none.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from occam_sdk import Face, OccamError
from occam_sdk.backends import Runtime, open_session
from occam_sdk.bundle import Bundle, load_bundle
from occam_sdk.labels import LABELS
from occam_sdk.pipeline import STILL_LONG_SIDE
from occam_sdk.types import intersection_over_union
from occam_sdk.video.align import align_face
from occam_sdk.video.decode import VideoFile
from occam_sdk.video.expression import ExpressionNetwork
from occam_sdk.video.faces import BundleDetector, FaceDetector, YuNet
from occam_sdk.video.follow import follow
from training.detector.judge import SAME, SIZES, Tally
from training.detector.label import Labels, decoded, load
from training.detector.pictures import read, split
from training.detector.teachers import CenterFace

from .accuracy import BUNDLE
from .accuracy_report import update_blocks
from .compare import beside
from .host import host

SURE, SEEN = 0.6, 0.3  # YuNet's scores of a face, and of what may be one
EVERY: Final = 25  # frames of a clip: one is shown
SPEED_SIZE: Final = (256, 320)
CALLS, ROUNDS = 40, 9
ASKED: Final = "recall 97 % at 32 px, 0.05 false faces a picture without people, landmarks 4 %"
SHEET: Final = (4, 3)  # pictures across and down
CELL: Final = 320  # pixels of each
Image = NDArray[np.uint8]
Detectors = Mapping[str, FaceDetector]


def found(detectors: Detectors, reference: FaceDetector, images: Sequence[Image]) -> dict[str, Any]:
    """Figures of every detector against the reference, which gives all that it may have seen."""
    tallies = {name: Tally() for name in detectors}
    for image in images:
        seen = reference.detect(image)
        box = np.array([face.box_xyxy for face in seen], np.float32).reshape(-1, 4)
        landmarks = np.array([face.landmarks for face in seen], np.float32).reshape(-1, 5, 2)
        certain = np.array([face.confidence >= SURE for face in seen], bool)
        for name, detector in detectors.items():
            tallies[name].add(detector.detect(image), box, landmarks, certain)
    return {name: {"pictures": len(images), **tally.figures()} for name, tally in tallies.items()}


def false_faces(detectors: Detectors, images: Sequence[Image]) -> dict[str, dict[str, float]]:
    """Faces that each sees a picture without people: "all" of them, and those from "24" pixels on."""
    said, count = {}, max(1, len(images))
    for name, detector in detectors.items():
        seen = [face for image in images for face in detector.detect(image)]
        large = [face for face in seen if math.sqrt(face.area) >= SIZES[0]]
        said[name] = {"all": len(seen) / count, str(SIZES[0]): len(large) / count}
    return said


def agreement(
    bundle: Bundle, detectors: Detectors, reference: FaceDetector, images: Sequence[Image]
) -> dict[str, dict[str, float | None]]:
    """Of pictures in which both see a face, how many get the same label with either's alignment."""
    session = open_session(bundle.network("expression"), Runtime("openvino", "cpu"))
    network, face = ExpressionNetwork(session, bundle.face), bundle.face

    def label(image: Image, seen: Face) -> str:
        crop = align_face(image, seen.landmarks, face.template, face.input_size)
        return LABELS[int(network.score(crop[None], np.zeros(1)).scores[0].argmax())]

    found: dict[str, dict[str, float | None]] = {}
    expected = [
        None if (seen := _largest(reference.detect(image))) is None else label(image, seen)
        for image in images
    ]
    for name, detector in detectors.items():
        said = [
            None if (seen := _largest(detector.detect(image))) is None else label(image, seen)
            for image in images
        ]
        found[name] = {"pictures": len(images), **beside(said, expected)}
    return found


def jitter(detector: FaceDetector, clips: Sequence[Path]) -> dict[str, float]:
    """How much landmarks tremble: mean |second difference| over the eyes' distance, by way of looking.

    "every frame" looks at each, "as shipped" at every other, ``video.follow`` carries the rest between.
    "apart" is how far the two ways' landmarks lie apart.
    """
    tremble: dict[str, list[float]] = {"every frame": [], "as shipped": []}
    apart: list[float] = []
    for clip in clips:
        each = [_largest(detector.detect(frame.image)) for frame in VideoFile(clip)]
        carried = [_largest(faces) for _, faces in follow(iter(VideoFile(clip)), detector.detect)]
        for name, faces in (("every frame", each), ("as shipped", carried)):
            for one, two, three in zip(faces, faces[1:], faces[2:], strict=False):
                if one and two and three and _same(one, two) and _same(two, three):
                    bend = one.landmarks - 2 * two.landmarks + three.landmarks
                    tremble[name].append(float(np.linalg.norm(bend, axis=1).mean()) / _eyes(two))
        apart += [
            float(np.linalg.norm(a.landmarks - b.landmarks, axis=1).mean()) / _eyes(a)
            for a, b in zip(each, carried, strict=True)
            if a and b and _same(a, b)
        ]
    return {
        **{name: float(np.mean(x)) for name, x in tremble.items()},
        "apart": float(np.mean(apart)),
    }


def speed(calls: Mapping[str, Callable[[], object]]) -> dict[str, dict[str, float]]:
    """Median milliseconds of each, taken by turns, with the fastest and slowest round's median."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(CALLS):
            call()
    rng = np.random.default_rng(0)
    for _ in range(ROUNDS):
        for name in rng.permutation(list(calls)).tolist():
            times = []
            for _ in range(CALLS):
                started = time.perf_counter()
                calls[name]()
                times.append(time.perf_counter() - started)
            taken[name].append(1e3 * statistics.median(times))
    return {
        name: {"ms": statistics.median(x), "least": min(x), "most": max(x)}
        for name, x in taken.items()
    }


def sheet(detector: FaceDetector, images: Sequence[Image]) -> Image:
    """Pictures side by side with boxes, scores and landmarks drawn."""
    across, down = SHEET
    page = np.full((down * CELL, across * CELL, 3), 32, np.uint8)
    step = max(1, len(images) // (across * down))
    for number, image in enumerate(images[::step][: across * down]):
        scale = CELL / max(image.shape[:2])
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for face in detector.detect(image):
            left, top, right, bottom = (int(x * scale) for x in face.box_xyxy)
            cv2.rectangle(small, (left, top), (right, bottom), (80, 220, 80), 1)
            for x, y in (face.landmarks * scale).astype(int).tolist():
                cv2.circle(small, (x, y), 1, (60, 60, 255), -1)
        row, column = divmod(number, across)
        height, width = small.shape[:2]
        page[row * CELL : row * CELL + height, column * CELL : column * CELL + width] = small
    return page


def _largest(faces: Sequence[Face]) -> Face | None:
    return max(faces, key=lambda face: face.area, default=None)


def _same(one: Face, other: Face) -> bool:
    """Whether it is one person: the largest face of a picture may be another's in the next."""
    return intersection_over_union(one, other) >= SAME and _eyes(one) > 0


def _eyes(face: Face) -> float:
    return float(np.linalg.norm(face.landmarks[0] - face.landmarks[1]))


def clip_frames(clips: Sequence[Path]) -> list[Image]:
    """One of ``EVERY`` frames of each clip."""
    return [frame.image for clip in clips for frame in VideoFile(clip) if frame.index % EVERY == 0]


def held_out(labels: Labels) -> tuple[list[Image], list[Image]]:
    """Pictures of Test with people and without, scenes alone."""
    rows = split(labels, "test")
    rows = rows[labels.archive[rows] == 0]
    empty = labels.without_people[rows]
    return read(labels, rows[~empty]), read(labels, rows[empty])


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Every figure as plain JSON types; draws what ``--plots`` asks for."""
    bundle = load_bundle(args.bundle)
    sessions = [
        open_session(bundle.network("detector"), Runtime("openvino", "cpu")) for _ in (1, 2)
    ]
    still, frame = BundleDetector(*sessions, long_side=STILL_LONG_SIDE), BundleDetector(*sessions)
    detectors: Detectors = {
        "bundle's, 640 px": still,
        "bundle's, 320 px": frame,
        "CenterFace, 640 px": CenterFace(args.centerface, 640),
        "CenterFace, 320 px": CenterFace(args.centerface, 320),
        "YuNet, 512 px": YuNet(args.yunet, 512, SURE),
        "YuNet, 320 px": YuNet(args.yunet, 320, SURE),
    }
    reference, large = YuNet(args.yunet, 640, SEEN), YuNet(args.yunet, 640, SURE)
    compared: Detectors = {
        "bundle's": still,
        "CenterFace": detectors["CenterFace, 320 px"],
        "YuNet, 320 px": detectors["YuNet, 320 px"],
    }
    with_people, without = held_out(load(args.labels))
    clips = sorted(path for path in args.clips.iterdir() if path.suffix in (".mp4", ".mpg"))
    frames = clip_frames(clips)
    report: dict[str, Any] = {
        "detector_sha256": bundle.files["detector.int8.onnx"]["sha256"],
        "host": host(),
        "scenes": found(detectors, reference, with_people),
        "clips": found(detectors, reference, frames),
        "false_without_people": {
            "pictures": len(without),
            **false_faces({**detectors, "YuNet, 640 px": large}, without),
        },
        "same_label_on_clip_frames": agreement(bundle, compared, large, frames),
        "jitter": jitter(frame, clips),
    }
    if args.pictures:
        archive, _, folder = str(args.pictures).partition(":")
        with zipfile.ZipFile(archive) as file:
            names = sorted(
                n for n in file.namelist() if n.startswith(folder) and n.endswith(".png")
            )
            stored = [decoded(file.read(name)) for name in names]
        images = [image for image in stored if image is not None]
        report["same_label_on_faces"] = agreement(bundle, compared, large, images)
    image = np.asarray(cv2.resize(with_people[0], SPEED_SIZE[::-1]), np.uint8)
    forms = {
        f"bundle's, {name}": BundleDetector(
            *(
                open_session(bundle.network("detector"), Runtime("openvino", "cpu", precision))
                for _ in (1, 2)
            )
        )
        for name, precision in (("INT8", "int8"), ("float32", "fp32"))
    }
    timed: Detectors = {
        **forms,
        "CenterFace, float32": CenterFace(args.centerface, 320, threads=None),
        "YuNet, float32 in OpenCV": YuNet(args.yunet, 320, SURE),
    }
    report["speed"] = speed(
        {name: partial(detector.detect, image) for name, detector in timed.items()}
    )
    if args.plots is not None:
        args.plots.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(args.plots / "faces.jpg"), sheet(still, with_people))
    return report


def markdown(report: Mapping[str, Any]) -> dict[str, str]:
    """The tables, by the name of their block."""
    rows = [
        "| | "
        + " | ".join(f"recall ≥ {size} px" for size in SIZES)
        + " | false a picture | overlap ≥ 32 px | landmarks ≥ 32 px (median) |",
        "|---" * 7 + "|",
    ]
    for where in ("scenes", "clips"):
        for name, row in report[where].items():
            recalls = " | ".join(_percent(row[f"recall_{size}"]) for size in SIZES)
            rows.append(
                f"| {where} ({row['pictures']}): {name} | {recalls} | {row['false_24']:.2f} | "
                f"{_percent(row['overlap_32'])} | {_percent(row['landmarks_32'])} "
                f"({_percent(row['landmarks_median_32'])}) |"
            )
    empty = dict(report["false_without_people"])
    count = empty.pop("pictures")
    false = [
        f"| a picture without people ({count}) | false faces | ≥ {SIZES[0]} px |",
        "|---|---|---|",
        *(
            f"| {name} | {row['all']:.3f} | {row[str(SIZES[0])]:.3f} |"
            for name, row in empty.items()
        ),
    ]
    fast = report["speed"]
    fastest = fast["bundle's, INT8"]["ms"]
    quick = ["| 256x320 | ms | against the first |", "|---|---|---|"]
    quick += [
        f"| {name} | {row['ms']:.2f} ({row['least']:.2f} to {row['most']:.2f}) | {row['ms'] / fastest:.2f} |"
        for name, row in fast.items()
    ]
    same = [
        "| label with this alignment and with that of YuNet, 640 px | found | the same |",
        "|---|---|---|",
    ]
    for where in ("clip_frames", "faces"):
        for name, row in report.get(f"same_label_on_{where}", {}).items():
            same.append(
                f"| {where.replace('_', ' ')} ({row['pictures']}): {name} | {_percent(row['with_face'])} "
                f"| {_percent(row['agree'])} |"
            )
    trembling = ["| landmarks tremble by | of the distance between the eyes |", "|---|---|"]
    trembling += [f"| {name} | {_percent(value)} |" for name, value in report["jitter"].items()]
    return {
        "detector same": "\n".join(same),
        "detector jitter": "\n".join(trembling),
        "detector found": "\n".join(rows),
        "detector false": "\n".join(false),
        "detector speed": "\n".join(quick),
    }


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--bundle", type=Path, default=BUNDLE, help="by default this checkout's")
    add("--labels", type=Path, required=True, help="of training.detector.label; scenes first")
    add("--clips", type=Path, required=True, help="folder of clips")
    add("--yunet", type=Path, required=True, help="face_detection_yunet_2023mar.onnx")
    add("--centerface", type=Path, required=True, help="centerface.onnx as published")
    add(
        "--pictures",
        metavar="ZIP:FOLDER",
        help="single faces: labels by our alignment against YuNet's",
    )
    add("--json", type=Path, help="write every figure there")
    add(
        "--plots",
        type=Path,
        metavar="DIR",
        help="draw faces found there, as JPEG: not yours to publish",
    )
    add("--update", type=Path, nargs="*", default=[], help="Markdown with figures")
    args = parser.parse_args()
    try:
        report = measure(args)
    except (OccamError, OSError, ValueError) as error:
        parser.error(str(error))
    tables = markdown(report)
    print("\n\n".join(tables.values()), f"\nasked: {ASKED}")
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for document in args.update:
        text = document.read_text(encoding="utf-8")
        document.write_text(update_blocks(text, tables), encoding="utf-8")


if __name__ == "__main__":
    main()
