r"""Ours beside other packages, on the same pictures in the same process, taken by turns.

    pip install fer==25.10.3 "opencv-python-headless<5" "setuptools<81"
    python -m benchmarks.compare ../shared/data/clips/pyfeat_pexels.mp4 \
        --faces ../shared/data/ferplus.zip --limit 500

Every package finds the faces itself and runs by its own defaults. Times are told as ratios, which travel
from machine to machine better than seconds do (those are in the JSON). The reference is our judgement of
each frame by itself, as the peers judge; a second row of ours is the clip as one, which follows faces
from frame to frame where they lie close together (not with few ``--frames``).

Labelled faces are FER2013's Test pictures, enlarged for all alike since the peers' detectors look for
larger faces than 48 x 48 pixels; a face that is not found counts as wrong. They come in two forms, as
they are and with a border: what cuts a face off at its chin costs one detector much and another little.
Nothing is downloaded: a peer that lacks its weights is listed with the reason, and so is one that is not
installed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from occam_sdk import Frame, MediaError, OccamError, Recognizer
from occam_sdk.video.decode import VideoFile

from .compare_faces import accuracies, evenly, read_faces
from .compare_peers import PEERS, Image, Judge, Peer, no_network
from .host import host

ALONE: Final = "occam-sdk, frame by frame"
AS_CLIP: Final = "occam-sdk, the clip as one"

Said = list[str | None]
Way = Callable[[Sequence[Frame]], Said]


def one_by_one(judge: Judge) -> Way:
    """The way of a package that judges pictures."""
    return lambda frames: [judge(frame.image) for frame in frames]


def ours(recognizer: Recognizer) -> tuple[Judge, Way]:
    """The largest face of a picture, and the main face of the frames as a clip."""

    def judge(image: Image) -> str | None:
        faces = recognizer.predict_image(image)
        return faces[0].label if faces else None

    def as_clip(frames: Sequence[Frame]) -> Said:
        timeline = recognizer.predict(frames).timeline
        return [None if row.face is None else row.face.label for row in timeline]

    return judge, as_clip


def usable(peers: Iterable[Peer]) -> tuple[list[Peer], dict[str, str]]:
    """The peers that can judge, and of the others by name why they cannot."""
    refused: dict[str, str] = {}
    ready: list[Peer] = []
    for peer in peers:
        if why := peer.why_not():
            refused[peer.name] = f"{why}; to have it: {peer.install}"
        else:
            ready.append(peer)
    return ready, refused


def read_frames(clip: Path, most: int | None) -> list[Frame]:
    """Evenly spaced frames of the clip; all of them by default. They are all held in memory."""
    wanted = None if most is None else set(evenly(sum(1 for _ in VideoFile(clip)), most))
    frames = [frame for frame in VideoFile(clip) if wanted is None or frame.index in wanted]
    if len(frames) < 2:
        raise MediaError(f"{clip}: has {len(frames)} frames, a clip needs two; name another")
    return frames


def measure(ways: Mapping[str, Way], frames: Sequence[Frame], rounds: int) -> dict[str, Any]:
    """Of each way by name, its time in terms of the first one's, and what it says beside that one."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    said: dict[str, Said] = {}
    for number, (name, way) in itertools.product(range(rounds + 1), ways.items()):
        started = time.perf_counter()
        said[name] = way(frames)
        if number:  # the first round is warm-up
            taken[name].append((time.perf_counter() - started) / len(frames))
    first = next(iter(ways))
    return {
        name: {
            **ratios(taken[name], taken[first]),
            "seconds_per_frame": taken[name],
            **beside(said[name], said[first]),
        }
        for name in ways
    }


def ratios(theirs: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """How many times as long they take: of the medians, and the least and most of a round."""
    each = [one / other for one, other in zip(theirs, reference, strict=True)]
    return {
        "times_ours": statistics.median(theirs) / statistics.median(reference),
        "times_ours_least": min(each),
        "times_ours_most": max(each),
    }


def beside(said: Said, reference: Said) -> dict[str, float | None]:
    """Share of pictures with a face; of those where both found one, share with the same label."""
    pairs = zip(said, reference, strict=True)
    same = [one == other for one, other in pairs if one is not None and other is not None]
    return {
        "with_face": sum(label is not None for label in said) / len(said),
        "agree": sum(same) / len(same) if same else None,
    }


def compare(
    clip: Path, frames: int | None, rounds: int, archive: Path | None, limit: int
) -> dict[str, Any]:
    """Every figure, as plain JSON types.

    Raises:
        OccamError, OSError, ValueError, zipfile.BadZipFile: clip or archive cannot be used.
    """
    pictures = read_frames(clip, frames)
    faces = [] if archive is None else read_faces(archive, limit)
    with Recognizer() as recognizer, no_network():
        recognizer.warmup()
        peers, refused = usable(peer() for peer in PEERS)
        alone, as_clip = ours(recognizer)
        judges = {ALONE: alone, **{peer.name: peer.judge for peer in peers}}
        ways = {name: one_by_one(judge) for name, judge in judges.items()} | {AS_CLIP: as_clip}
        return {
            "host": host(),
            "peers": {peer.name: _version(peer) for peer in peers},
            "refused": refused,
            "clip": clip.name,
            "frames": len(pictures),
            "rounds": rounds,
            "on_clip": measure(ways, pictures, rounds),
            "faces": len(faces),
            "on_faces": accuracies(judges, faces) if faces else {},
        }


def _version(peer: Peer) -> str | None:
    try:
        return version(peer.package)
    except PackageNotFoundError:
        return None


def print_report(report: Mapping[str, Any]) -> None:
    """The tables, and who is not in them."""
    print(f"{report['clip']}, {report['frames']} frames, {report['rounds']} rounds")
    print(f"{'':30} {'time, × ours':>12} {'(least to most)':>18} {'face':>6} {'agrees':>6}")
    for name, row in report["on_clip"].items():
        spread = f"({row['times_ours_least']:.2f} to {row['times_ours_most']:.2f})"
        print(
            f"{name:30} {row['times_ours']:12.2f} {spread:>18} {_percent(row['with_face']):>6} "
            f"{_percent(row['agree']):>6}"
        )
    for form, rows in report["on_faces"].items():
        print(f"\nright of {report['faces']} faces of FER2013 Test, {form}")
        print(f"{'':30} {'of all':>6} {'found':>6} {'of found':>8} {'of found by all':>15}")
        for name, row in rows.items():
            print(
                f"{name:30} {_percent(row['accuracy']):>6} {_percent(row['with_face']):>6} "
                f"{_percent(row['accuracy_where_found']):>8} "
                f"{_percent(row['accuracy_where_all_found']):>15}"
            )
    if report["refused"]:
        print("\nnot compared:")
    for name, why in report["refused"].items():
        print(f"  {name}: {why}")


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}%"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, help="at most so many, evenly spaced")
    parser.add_argument("--faces", type=Path, help="FER+ archive with FER2013's labels")
    parser.add_argument("--limit", type=int, default=500, help="labelled faces at most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args(arguments)
    for option, least in (("frames", 2), ("limit", 1), ("rounds", 1)):
        value = getattr(args, option)
        if value is not None and value < least:
            parser.error(f"--{option}: {least} at least")
    try:
        report = compare(args.clip, args.frames, args.rounds, args.faces, args.limit)
        if args.json is not None:
            args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    except (OccamError, OSError, ValueError, zipfile.BadZipFile) as error:
        parser.error(str(error))
    print_report(report)


if __name__ == "__main__":
    main()
