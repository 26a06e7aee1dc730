r"""The face detector of a run as ONNX: batch norm folded, any size, opset 18.

    python -m export.detector --run runs/detector --out sdk/occam_sdk/models/detector.onnx

A bundle's manifest gets its hash; then ``python -m export.int8`` makes its INT8 form, and the samples, anew.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from occam_sdk.errors import OccamError
from training.detector.__main__ import load_detector

from .manifest import put
from .networks import detector_onnx


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="of training.detector")
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    args = parser.parse_args()
    try:
        content = detector_onnx(load_detector(args.run))
        put(content, args.out)
    except (OSError, OccamError) as error:
        parser.error(str(error))
    print(f"{args.out}: {len(content) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
