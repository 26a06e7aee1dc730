"""What the shipped bundle says of every clip in a folder: label, scores, status, seconds.

python -m benchmarks.clips ../shared/data/clips
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from occam_sdk import OccamError, Recognizer
from occam_sdk.labels import LABELS


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    clips = sorted(path for path in parser.parse_args().folder.iterdir() if path.is_file())
    print(f"{'clip':30} {'label':9} {'status':11} {'faces':>9} {'V':>6} {'A':>6} {'s':>5}  scores")
    with Recognizer() as recognizer:
        recognizer.warmup()
        for clip in clips:
            started = time.perf_counter()
            try:
                result = recognizer.predict(clip)
            except OccamError as error:
                print(f"{clip.name:30} {error}")
                continue
            seconds = time.perf_counter() - started
            seen = sum(row.face is not None for row in result.timeline)
            scores = [] if result.scores is None else result.scores.tolist()
            named = " ".join(
                f"{name[:2]} {100 * score:.0f}" for name, score in zip(LABELS, scores, strict=False)
            )
            mood = [f"{v:+.2f}" if v is not None else "–" for v in (result.valence, result.arousal)]
            print(
                f"{clip.name:30} {result.label or '–':9} {result.status:11} "
                f"{seen:>4}/{len(result.timeline):<4} {mood[0]:>6} {mood[1]:>6} {seconds:5.1f}  {named}"
            )


if __name__ == "__main__":
    main()
