r"""How fast occam-sdk is on this machine: each network, each stage, the whole path, beside accuracy.

    python -m benchmarks.latency --video ../shared/data/clips/pyfeat_pexels.mp4 --untrained resnet18 \
        --faces runs/ferplus runs/diffusionfer --json runs/latency.json --html runs/latency.html
    python -m benchmarks.latency --compare before.json after.json

Networks are timed on every runtime that is installed, in every number format that it really runs. What is
compared takes turns: each turn is one call that does not count and ``--calls`` that do, and the order
changes from round to round, so that what else runs on the machine meets all alike. Stages and whole path
are timed on a clip, peak memory and cold start in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from occam_sdk import OccamError, demo_clip
from occam_sdk.backends import BACKENDS, BATCH, installed
from occam_sdk.bundle import DEFAULT_BUNDLE, load_bundle
from occam_sdk.media import probe

from . import latency_accuracy, latency_networks, latency_path, latency_stages
from .host import PowerMeter, host
from .latency_networks import PRECISIONS, Settings
from .latency_page import comparison_page, report_page
from .latency_report import FORMAT, VERSION, as_text, compared, read_report, tables

ALL: Final = "all"  # threads, left to the runtime


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The report, as plain JSON types.

    Raises:
        ImportError, OccamError, OSError, RuntimeError, ValueError: what was asked for cannot be had.
    """
    bundles = [load_bundle(folder) for folder in args.bundle]
    names = [bundle.name for bundle in bundles] + args.untrained
    if len(set(names)) < len(names):
        raise ValueError(f"two models of one name among {', '.join(names)}; leave one out")
    settings = Settings(
        backends=tuple(args.backends or installed()),
        precisions=None if args.precision is None else tuple(args.precision),
        batches=tuple(args.batch),
        threads=tuple(args.threads),
        rounds=args.rounds,
        calls=args.calls,
    )
    probe(args.video)  # what does not play is told before anything is measured
    about = host()
    models = [model for folder in args.bundle for model in latency_networks.of_bundle(folder)]
    models += map(latency_networks.untrained, args.untrained)
    with PowerMeter() as power:
        _tell("the whole path")
        paths = latency_path.measure(bundles, args.video, settings.rounds)
        _tell("stages")
        stages = [latency_stages.measure(b, args.video, settings.rounds) for b in bundles]
        _tell("networks")
        opened, left_out = latency_networks.variants(models, settings)
        if not opened:
            raise ValueError(f"nothing to measure: {'; '.join(left_out)}")
        rows = latency_networks.measure(opened, settings)
    accuracies: dict[Any, Any] = {}
    if args.faces:
        _tell("accuracy")
        accuracies, unjudged = latency_accuracy.measure(opened, args.faces, args.faces_limit)
        left_out += unjudged
    return {
        "format": FORMAT,
        "version": VERSION,
        "host": about,
        "power": power.rails,
        "settings": {**latency_networks.settings_json(settings), "clip": args.video.name},
        "models": latency_networks.files(models),
        "networks": latency_accuracy.beside(rows, accuracies, {b.name: b.metrics for b in bundles}),
        "left_out": left_out,
        "stages": stages,
        "paths": paths,
    }


def _tell(what: str) -> None:
    print(f"measuring {what} ...", file=sys.stderr, flush=True)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected one at least, got {text!r}")
    return int(text)


def _threads(text: str) -> int | None:
    return None if text == ALL else _count(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--bundle",
        type=Path,
        nargs="+",
        default=[DEFAULT_BUNDLE],
        help="by default the shipped one",
    )
    add("--untrained", nargs="+", default=[], metavar="ARCHITECTURE",
        help="also an expression network of random weights, for speed only: resnet18")  # fmt: skip
    add("--video", type=Path, default=demo_clip(), help="by default the 3 s demo clip")
    add("--backends", nargs="+", choices=BACKENDS, help="by default all that are installed")
    add("--precision", nargs="+", choices=PRECISIONS, help="by default all that are really run")
    add("--batch", type=_count, nargs="+", default=[1, BATCH], help="faces at once; 1 and 16")
    add("--threads", type=_threads, nargs="+", default=[1, None], metavar="N",
        help=f"of the CPU; by default 1 and {ALL}")  # fmt: skip
    add("--rounds", type=_count, default=10, help="turns of each variant, and runs of the clip")
    add("--calls", type=_count, default=10, help="timed calls of a network in a turn")
    add("--faces", type=Path, nargs="+", help="from training.prepare, for accuracy beside speed")
    add("--faces-limit", type=_count, help="this many faces of Test, drawn with a seed")
    add("--json", type=Path, help="write everything there")
    add("--html", type=Path, help="write one page there")
    add(
        "--compare", type=Path, nargs=2, metavar=("A", "B"), help="two files of --json: b against a"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = _parser()
    args = parser.parse_args(arguments)
    try:
        if args.compare is not None:
            a, b = map(read_report, args.compare)
            shown, page = compared(a, b), comparison_page(a, b)
        else:
            report = measure(args)
            shown, page = tables(report), report_page(report)
            if args.json is not None:
                args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        if args.html is not None:
            args.html.write_text(page, encoding="utf-8")
    except ImportError as error:
        parser.error(f"{error}; install what it needs: pip install '.[train,export]'")
    except (OccamError, OSError, RuntimeError, ValueError) as error:
        parser.error(str(error))
    print(as_text(shown), end="")


if __name__ == "__main__":
    main()
