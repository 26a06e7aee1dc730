"""Whether memory grows with a clip's length: one clip, joined to itself, and the process's size on the way.

    python -m benchmarks.memory ../shared/data/clips/pyfeat_pexels.mp4 --minutes 10
    python -m benchmarks.memory ../shared/data/clips/pyfeat_pexels.mp4 --minutes 60 --segment 10
    python -m benchmarks.memory ../shared/data/clips/pyfeat_pexels.mp4 --minutes 60 --stream

The clip's packets are copied behind one another into a temporary file, sound and all, and judged as one clip,
in segments, or as a stream; at the end stands how far the last picture's time lies from the end that the
file states.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av

from occam_sdk import ClipResult, OccamError, Recognizer
from occam_sdk.media import probe

MARKS_S: Final = (20, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 900, 1800, 3600)


def join(clip: Path, times: int, out: Path) -> None:
    """Write a clip that plays ``clip`` so many times over; nothing is encoded anew."""
    with av.open(str(out), "w") as target, av.open(str(clip)) as first:
        streams = {
            stream.index: target.add_stream_from_template(stream)
            for stream in (*first.streams.video[:1], *first.streams.audio[:1])
        }
        start_s = Fraction(0)
        for _ in range(times):
            end_s = Fraction(0)
            with av.open(str(clip)) as source:
                for packet in source.demux([source.streams[index] for index in streams]):
                    if packet.dts is None or packet.pts is None:
                        continue
                    index, base = packet.stream.index, packet.time_base
                    end_s = max(end_s, (packet.pts + (packet.duration or 1)) * base)
                    packet.pts += round(start_s / base)
                    packet.dts += round(start_s / base)
                    packet.stream, packet.time_base = streams[index], base
                    target.mux(packet)
            start_s += end_s  # of the longest stream: all begin again together


def resident_mb(field: str) -> float:
    """``VmRSS`` or ``VmHWM`` (the most so far) of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(field))


def measure(clip: Path, *, streamed: bool, segment_s: float | None = None) -> dict[str, Any]:
    """Resident memory while the clip is judged, by the time in it, and the time of its last picture."""
    curve: list[dict[str, float]] = []
    left = list(MARKS_S)
    last = (-1, 0.0)  # index and time of the last picture so far

    def look(time_s: float) -> None:
        if left and time_s >= left[0]:
            left.pop(0)
            curve.append({"time_s": round(time_s, 1), "rss_mb": round(resident_mb("VmRSS"), 1)})
            print(f"{time_s:7.0f} s   {curve[-1]['rss_mb']:6.1f} MB", flush=True)

    with Recognizer() as recognizer:
        opened = resident_mb("VmRSS")
        print(f"networks loaded: {opened:.1f} MB", flush=True)
        if streamed:
            for update in recognizer.stream(clip):
                look(update.time_s)
                last = _last(update.result, last)
        elif segment_s is not None:
            for segment in recognizer.segments(clip, segment_s):
                look(segment.end_s)
                last = _last(segment.result, last)
        else:
            last = _last(recognizer.predict(clip, progress=look), last)
        curve.append({"time_s": round(last[1], 1), "rss_mb": round(resident_mb("VmRSS"), 1)})
        print(f"    end    {curve[-1]['rss_mb']:6.1f} MB", flush=True)
    stated_s = probe(clip).duration_s or 0.0
    return {
        "networks_loaded_mb": round(opened, 1),
        "curve": curve,
        "peak_mb": round(resident_mb("VmHWM"), 1),
        "frames": last[0] + 1,
        "last_s": round(last[1], 3),
        "before_the_stated_end_s": round(stated_s - last[1], 3),
    }


def _last(result: ClipResult, before: tuple[int, float]) -> tuple[int, float]:
    """Index and time of the last picture: the rest of a clip may hold none, only sound."""
    return (result.timeline[-1].index, result.timeline[-1].time_s) if result.timeline else before


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--stream", action="store_true", help="judge it window by window")
    way.add_argument("--segment", type=float, metavar="SECONDS", help="judge it in segments")
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    try:
        duration_s = probe(args.clip).duration_s
        if not duration_s:
            parser.error(f"{args.clip}: does not say how long it is")
        with tempfile.TemporaryDirectory() as folder:
            long = Path(folder) / "long.mkv"  # which takes streams of any kind
            join(args.clip, max(1, round(60 * args.minutes / duration_s)), long)
            found = measure(long, streamed=args.stream, segment_s=args.segment)
    except (OccamError, OSError, ValueError) as error:
        parser.error(str(error))
    print(
        f"peak {found['peak_mb']:.1f} MB, {found['frames']} frames, the last at {found['last_s']:.3f} s, "
        f"{found['before_the_stated_end_s']:.3f} s before the stated end"
    )
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
