"""What would make the whole path faster, tried: each way against the shipped one, taken by turns.

    python -m benchmarks.faster ../shared/data/clips/pyfeat_pexels.mp4

Ways: the detector on smaller pictures; a detector that costs nothing (its faces are known beforehand: the
bound for a better one); one CPU thread. All of them decode, look and score in turn: what threads bring says
``benchmarks.overlap``. Beside the frames a second stands what it costs: the share of frames with a face, and
how far the scores of the clip move.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occam_sdk import ClipResult, Face, OccamError, Recognizer
from occam_sdk.backends import open_session
from occam_sdk.bundle import load_bundle
from occam_sdk.video.decode import VideoFile
from occam_sdk.video.faces import LONG_SIDE, BundleDetector, FaceDetector

Way = Callable[[Path], ClipResult]


class KnownFaces:
    """A detector of no cost: the faces of each picture it is shown were found before."""

    def __init__(self, clip: Path, detector: FaceDetector) -> None:
        self._known = {_key(frame.image): detector.detect(frame.image) for frame in VideoFile(clip)}

    def detect(self, image: NDArray[np.uint8]) -> tuple[Face, ...]:
        """As the detector said."""
        return self._known[_key(image)]


def _key(image: NDArray[np.uint8]) -> int:
    return hash(image[::16, ::16].tobytes())


def ways(clip: Path) -> dict[str, Way]:
    """Every way to judge the clip's pictures, by name; the first is the shipped one."""
    bundle = load_bundle()

    def detector(long_side: int) -> FaceDetector:
        network = bundle.network("detector")
        return BundleDetector(open_session(network), open_session(network), long_side=long_side)

    shipped = Recognizer()
    smaller = {side: Recognizer(detector=detector(side)) for side in (256, 192)}
    known = Recognizer(detector=KnownFaces(clip, detector(LONG_SIDE)))
    alone = Recognizer(threads=1)
    return {
        "as shipped": lambda clip: shipped.predict(iter(VideoFile(clip))),
        "detector on 256 px": lambda clip: smaller[256].predict(iter(VideoFile(clip))),
        "detector on 192 px": lambda clip: smaller[192].predict(iter(VideoFile(clip))),
        "detector of no cost": lambda clip: known.predict(iter(VideoFile(clip))),
        "one CPU thread": lambda clip: alone.predict(iter(VideoFile(clip))),
    }


def measure(clip: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Frames a second of each way (median, least, most), and what it costs."""
    chosen = ways(clip)
    taken: dict[str, list[float]] = {name: [] for name in chosen}
    results: dict[str, ClipResult] = {}
    for number, (name, way) in itertools.product(range(rounds + 1), chosen.items()):
        started = time.perf_counter()
        results[name] = way(clip)
        if number:  # the first round is warm-up
            taken[name].append(time.perf_counter() - started)
    first = next(iter(chosen))
    reference = results[first]
    found: dict[str, dict[str, float]] = {}
    for name, result in results.items():
        frames = len(result.timeline)
        if frames == 0 or result.scores is None or reference.scores is None:
            raise ValueError(f"{clip}: has no face to follow; name a clip with one")
        rates = [frames / seconds for seconds in taken[name]]
        found[name] = {
            "fps": statistics.median(rates),
            "fps_least": min(rates),
            "fps_most": max(rates),
            "times_shipped": statistics.median(rates) / statistics.median(
                [frames / seconds for seconds in taken[first]]
            ),
            "frames_with_face": sum(row.face is not None for row in result.timeline) / frames,
            "scores_moved": float(np.abs(result.scores - reference.scores).max()),
        }  # fmt: skip
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there")
    args: Any = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds: one at least")
    try:
        found = measure(args.clip, args.rounds)
    except (OccamError, OSError, ValueError) as error:
        parser.error(str(error))
    print(
        f"{'way':32} {'FPS':>5} {'(least to most)':>16} {'× shipped':>9} {'faces':>6} scores moved"
    )
    for name, row in found.items():
        spread = f"({row['fps_least']:.0f} to {row['fps_most']:.0f})"
        print(
            f"{name:32} {row['fps']:5.0f} {spread:>16} {row['times_shipped']:9.2f} "
            f"{100 * row['frames_with_face']:5.0f}% {row['scores_moved']:.3f}"
        )
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
