"""Whether a live source is ever waited for: a clip's pictures pushed in real time, on one core.

    python -m benchmarks.live ../shared/data/clips/pyfeat_pexels.mp4 --seconds 60

Pushes pictures and sound into ``Recognizer.stream`` as a camera would bring them, in a process that may use
one core, and says how long each call took, how many pictures were dropped, and how far updates were behind.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from occam_sdk import OccamError, Recognizer, StreamUpdate
from occam_sdk.audio.decode import AudioFile
from occam_sdk.types import RATE_HZ
from occam_sdk.video.decode import VideoFile

from .host import host

SHOWN_S: Final = 20.0  # of the clip, over and over


def push(clip: Path, seconds: float, rate_hz: float, side: int) -> dict[str, Any]:
    """Milliseconds of the calls, updates, dropped pictures, and how far behind the updates were."""
    images = []
    for frame in VideoFile(clip):
        if frame.time_s > SHOWN_S:
            break
        scale = side / max(frame.image.shape[:2])
        images.append(cv2.resize(frame.image, None, fx=scale, fy=scale).astype(np.uint8))
    sounds = [piece.samples for piece in AudioFile(clip)]
    sound = np.concatenate(sounds) if sounds else np.zeros(RATE_HZ, np.float32)
    taken: list[float] = []
    updates: list[StreamUpdate] = []
    step = round(RATE_HZ / rate_hz)
    with Recognizer() as recognizer:
        recognizer.warmup()
        with recognizer.stream(on_update=updates.append) as stream:
            begun = time.monotonic()
            for number, image in enumerate(itertools.cycle(images)):
                due_s = number / rate_hz
                if due_s >= seconds:
                    break
                time.sleep(max(0.0, begun + due_s - time.monotonic()))
                started = time.perf_counter()
                stream.push_frame(image, due_s)
                middle = time.perf_counter()
                at = number * step % max(1, len(sound) - step)
                stream.push_audio(sound[at : at + step], due_s)
                taken += [middle - started, time.perf_counter() - middle]
            stream.end()
            stream.wait(10)
    lag = [update.lag_s for update in updates if update.lag_s]
    return {
        "pictures": number,
        "size": images[0].shape[1::-1],
        "call_ms": {
            name: round(1e3 * float(np.percentile(taken, rank)), 2)
            for name, rank in (("median", 50), ("p99", 99), ("most", 100))
        },
        "updates": len(updates),
        "longest_wait_s": round(float(np.diff([0.0, *(u.time_s for u in updates)]).max()), 2),
        "dropped": sum(update.dropped for update in updates),
        "lag_ms": {
            name: round(1e3 * float(np.percentile(lag, rank)))
            for name, rank in (("median", 50), ("p99", 99))
        },
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=30, help="pictures a second")
    parser.add_argument("--side", type=int, default=640, help="pixels of a picture's longer side")
    parser.add_argument("--cores", type=int, default=1, help="that this process may use")
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    allowed = sorted(os.sched_getaffinity(0))
    if not 1 <= args.cores <= len(allowed):
        parser.error(f"--cores: {args.cores} of the {len(allowed)} that there are")
    os.sched_setaffinity(0, allowed[: args.cores])
    try:
        found = {"host": host(), "cores": args.cores, "rate_hz": args.rate}
        found |= push(args.clip, args.seconds, args.rate, args.side)
    except (OccamError, OSError, ValueError) as error:
        parser.error(str(error))
    text = json.dumps(found, indent=1)
    print(text)
    if args.json is not None:
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
