r"""How other packages do on the same clip and the same faces, in the same run: ratios, not milliseconds.

    python -m venv peers && peers/bin/pip install fer openvino av && peers/bin/pip install --no-deps .
    PYTHONPATH=. peers/bin/python -m benchmarks.compare --video ../shared/data/clips/pyfeat_pexels.mp4 \
        --faces runs/ferplus --pictures ../shared/data/ferplus.zip --json runs/compare.json

An environment of its own, for fer brings another OpenCV, an older NumPy and TensorFlow, 7 GB in all.

Every package judges the same decoded pictures, by turns. What is not installed, or would have to download
its weights first, is left out and named; nothing is ever downloaded. Ours is there twice: as a clip, by
``predict``, which looks at every other frame and follows the faces in between, and picture by picture, by
``predict_image``, as the others work. A package without a face detector is given our faces, found on its own
time. On FER2013's and FER+'s Test ours sees the faces as ``training.prepare`` aligned them, the others the
original 48x48 pictures, and all answer with their seven classes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import statistics
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from occam_sdk import Frame, OccamError, Recognizer, demo_clip
from occam_sdk.backends import BATCH, open_session
from occam_sdk.bundle import load_bundle
from occam_sdk.labels import FERPLUS_LABELS, LABELS
from occam_sdk.machine import versions
from occam_sdk.video.decode import VideoFile
from occam_sdk.video.expression import ExpressionNetwork
from occam_sdk.video.faces import CenterFace

from .compare_peers import PEERS, Entry, Image, Peer, Seen, opened
from .host import described, host

FORMAT: Final = "occam-sdk compare"
OURS: Final = "occam-sdk"
STILLS: Final = "occam-sdk, stills"
SEED: Final = 0


def on_clip(
    clip: Path, peers: Mapping[str, tuple[Entry, Peer]], frames: int, rounds: int
) -> list[dict[str, Any]]:
    """Time, faces and labels of everybody on the same pictures; ours first.

    Args:
        clip: its first ``frames`` pictures are judged, decoded beforehand.
        peers: of ``opened``.
        frames: how many.
        rounds: timed turns of each, after one that does not count.

    Raises:
        MediaError: the clip is none.
        ValueError: it has less than two pictures.
    """
    pictures = list(itertools.islice(iter(VideoFile(clip)), frames))
    if len(pictures) < 2:
        raise ValueError(f"{clip.name}: has {len(pictures)} pictures, two are needed")
    recognizer = Recognizer()
    recognizer.warmup()
    ways: dict[str, Callable[[], list[_Look]]] = {
        OURS: lambda: _our_clip(recognizer, pictures),
        STILLS: lambda: [_ours(recognizer, frame) for frame in pictures],
    }
    for name, (_, peer) in peers.items():
        ways[name] = partial(_theirs, peer, pictures)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    looks: dict[str, list[_Look]] = {}
    for number in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            looks[name] = way()
            if number:
                taken[name].append((time.perf_counter() - started) / len(pictures))
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    return [
        {
            "name": name,
            "frames": len(pictures),
            "s_per_frame": medians[name],
            "times_ours": medians[name] / medians[OURS],
            "times_our_stills": medians[name] / medians[STILLS],
            "faces": sum(look.faces for look in looks[name]),
            "frames_with_face": sum(look.faces > 0 for look in looks[name]),
            "same_label": _agreement(looks[name], looks[STILLS]),
            "note": peers[name][0].note if name in peers else "",
        }
        for name in ways
    ]


@dataclass(frozen=True)
class _Look:
    """How many faces somebody saw in a picture, and the label of the largest."""

    faces: int
    label: str | None


def _theirs(peer: Peer, pictures: Sequence[Frame]) -> list[_Look]:
    return [_largest(peer.faces(frame.image)) for frame in pictures]


def _largest(faces: Sequence[Seen]) -> _Look:
    return _Look(len(faces), max(faces, key=lambda face: face.area).label if faces else None)


def _ours(recognizer: Recognizer, frame: Frame) -> _Look:
    faces = recognizer.predict_image(frame.image)
    return _Look(len(faces), LABELS[int(faces[0].scores.argmax())] if faces else None)


def _our_clip(recognizer: Recognizer, pictures: Sequence[Frame]) -> list[_Look]:
    """The main face alone: that is what a clip's timeline is of."""
    rows = recognizer.predict(iter(pictures)).timeline
    found = [None if row.face is None else int(row.face.scores.argmax()) for row in rows]
    return [_Look(0, None) if best is None else _Look(1, LABELS[best]) for best in found]


def _agreement(looks: Sequence[_Look], ours: Sequence[_Look]) -> float | None:
    """The share of pictures in which both saw a face on which the largest one has the same label."""
    both = [(a.label, b.label) for a, b in zip(looks, ours, strict=True) if a.faces and b.faces]
    return statistics.fmean(a == b for a, b in both) if both else None


def on_faces(
    peers: Mapping[str, tuple[Entry, Peer]], prepared: Sequence[Path], pictures: Path, limit: int
) -> list[dict[str, Any]]:
    """Accuracy of everybody on the same faces of FER2013's and FER+'s Test, over the seven classes.

    Args:
        peers: of ``opened``.
        prepared: FER+ from ``training.prepare``.
        pictures: zip file of the same pictures.
        limit: how many, drawn with a seed.

    Raises:
        ImportError: PyTorch is not installed.
        OSError, ValueError, zipfile.BadZipFile: the faces or their pictures are not there.
    """
    from training.faces import LabelledFaces

    data, bundle = LabelledFaces(prepared), load_bundle()
    if data.size != bundle.face.input_size:
        raise ValueError(
            f"--faces: of {data.size} pixels, the bundle takes {bundle.face.input_size}"
        )
    rows = np.sort(np.random.default_rng(SEED).permutation(data.test_rows())[:limit])
    if len(rows) == 0:
        raise ValueError("--faces: has no faces of a Test part")
    with zipfile.ZipFile(pictures) as archive:
        named = {name.rpartition("/")[2]: name for name in archive.namelist()}
        paths = [named.get(Path(path).name) for path in data.samples.path[rows]]
        images = [
            cv2.imdecode(np.frombuffer(archive.read(path), np.uint8), cv2.IMREAD_COLOR)
            for path in paths
            if path is not None
        ]
    if len(images) < len(rows) or any(image is None for image in images):
        raise ValueError(f"{pictures}: lacks pictures of --faces; name the zip they were made of")
    batch = data.batch(rows)
    network = ExpressionNetwork(open_session(bundle.network("expression")), bundle.face)
    crops = np.repeat(batch.faces.numpy()[..., None], 3, axis=-1)
    said: dict[str, list[str | None]] = {
        OURS: [
            LABELS[best]
            for start in range(0, len(crops), BATCH)
            for best in _best(network, crops[start : start + BATCH])
        ]
    }
    for name, (_, peer) in peers.items():
        said[name] = [peer.face(np.asarray(image, np.uint8)).label for image in images]
    label, votes = batch.label.numpy(), batch.votes.numpy()
    majority = [FERPLUS_LABELS[best] for best in votes.argmax(1).tolist()]
    voted = [
        total > 0 and name in LABELS for total, name in zip(votes.sum(1), majority, strict=True)
    ]
    return [
        {
            "name": name,
            "faces": len(rows),
            "fer2013": _right(
                [(s, LABELS[t]) for s, t in zip(labels, label.tolist(), strict=True) if t >= 0]
            ),
            "ferplus_of_seven": _right(
                [(s, t) for s, t, v in zip(labels, majority, voted, strict=True) if v]
            ),
        }
        for name, labels in said.items()
    ]


def _best(network: ExpressionNetwork, crops: Image) -> list[int]:
    found: list[int] = network.score(crops, np.zeros(len(crops))).scores.argmax(1).tolist()
    return found


def _right(pairs: Sequence[tuple[str | None, str]]) -> float | None:
    return statistics.fmean(said == truth for said, truth in pairs) if pairs else None


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The report, as plain JSON types.

    Raises:
        ImportError, OccamError, OSError, ValueError, zipfile.BadZipFile: what was asked for is not there.
    """
    if (args.faces is None) != (args.pictures is None):
        raise ValueError("--faces and --pictures go together")
    detector = CenterFace(open_session(load_bundle().network("detector")))
    with _quiet():
        peers, left_out = opened(PEERS, detector)
        report = {
            "format": FORMAT,
            "host": host(),
            "versions": versions(tuple(peers)),
            "clip": args.video.name,
            "on_clip": on_clip(args.video, peers, args.frames, args.rounds),
            "left_out": left_out,
        }
        if args.faces is not None:
            report["on_faces"] = on_faces(peers, args.faces, args.pictures, args.faces_limit)
    return report


@contextmanager
def _quiet() -> Iterator[None]:
    """Other packages' log lines are not ours to print."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def as_text(report: Mapping[str, Any]) -> str:
    """Ratios first; ours is 1."""
    facts, rows = described(report["host"]), report["on_clip"]
    lines = [
        f"{report['clip']}, {rows[0]['frames']} pictures, on {facts['CPU']}, {facts['cores']}",
        f"{'':20}{'time, × ours':>14}{'× our stills':>14}{'faces':>7}{'frames with':>13}{'label':>8}",
    ]
    for row in rows:
        name = f"{row['name']} {report['versions'].get(row['name'], '')}"
        same = "–" if row["same_label"] is None else f"{100 * row['same_label']:.0f} %"
        lines.append(
            f"{name:20}{row['times_ours']:14.2f}{row['times_our_stills']:14.2f}{row['faces']:7}"
            f"{row['frames_with_face']:13}{same:>8}"
        )
    lines += [f"  {row['name']}: {row['note']}" for row in rows if row["note"]]
    lines.append(
        f"  1.00 is {1000 * rows[0]['s_per_frame']:.1f} ms a picture in this run; ours as a clip tells the "
        "main face alone; label: as our stills say of the largest face"
    )
    judged = report.get("on_faces", ())
    if judged:
        lines += [
            f"accuracy on {judged[0]['faces']} faces of Test, seven classes",
            f"{'':20}{'FER2013':>14}{'FER+ majority':>14}",
        ]
    for row in judged:
        shown = (
            "–" if row[name] is None else f"{100 * row[name]:.1f} %"
            for name in ("fer2013", "ferplus_of_seven")
        )
        lines.append(f"{row['name']:20}" + "".join(f"{share:>14}" for share in shown))
    lines += [f"left out: {name}: {why}" for name, why in report["left_out"].items()]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--video", type=Path, default=demo_clip(), help="by default the 3 s demo clip")
    add("--frames", type=int, default=200, help="of the clip, at most")
    add("--rounds", type=int, default=5, help="timed turns of each package")
    add("--faces", type=Path, nargs="+", help="FER+ from training.prepare, for accuracy")
    add("--pictures", type=Path, help="zip file of the same pictures, for the other packages")
    add("--faces-limit", type=int, default=1000, help="this many of Test's faces")
    add("--json", type=Path, help="write everything there")
    args = parser.parse_args(arguments)
    if min(args.frames, args.rounds, args.faces_limit) < 1:
        parser.error("--frames, --rounds and --faces-limit: one at least")
    try:
        report = measure(args)
        if args.json is not None:
            args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    except (ImportError, OccamError, OSError, ValueError, zipfile.BadZipFile) as error:
        parser.error(str(error))
    print(as_text(report), end="")


if __name__ == "__main__":
    main()
