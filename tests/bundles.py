"""Small bundles for tests: complete and consistent, with networks of any bytes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occam_sdk.bundle import EMBEDDING, FORMAT_VERSION, MANIFEST
from occam_sdk.labels import LABELS

NETWORKS = ("detector.onnx", "expression.onnx", "voice.onnx")
TEMPLATE = [[0.31, 0.46], [0.69, 0.46], [0.5, 0.64], [0.35, 0.82], [0.65, 0.82]]

Arrays = dict[str, NDArray[Any]]


def make_heads(seed: int = 0, *, members: int = 1, weighted: bool = False) -> Arrays:
    """The arrays of heads.npz, small random numbers; ``weighted`` adds the frames' regressors."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "emotion_weight": (members, len(LABELS), EMBEDDING),
        "emotion_bias": (members, len(LABELS)),
        "valence_arousal_weight": (2, EMBEDDING),
        "valence_arousal_bias": (2,),
    }
    if weighted:
        shapes |= {"frame_weight": (members, 2), "frame_bias": (members,)}
    return {
        name: np.asarray(rng.normal(0, 0.05, shape), np.float32) for name, shape in shapes.items()
    }


def with_more(content: bytes, output: str, change: NDArray[np.float32]) -> bytes:
    """A network that adds ``change`` to one of its outputs; needs onnx of the extra ``test``."""
    from onnx import helper, load_from_string, numpy_helper

    model = load_from_string(content)
    graph, before = model.graph, f"{output} before"
    for node in graph.node:
        names = [before if name == output else name for name in node.output]
        del node.output[:]
        node.output.extend(names)
    graph.initializer.append(numpy_helper.from_array(change, "change"))
    graph.node.append(helper.make_node("Add", [before, "change"], [output]))
    return bytes(model.SerializeToString())


def npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of an .npz of these arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def write_bundle(folder: Path, files: Mapping[str, bytes] | None = None) -> Path:
    """Write a bundle that loads; ``files`` replaces or adds some. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {name: f"the network {name}".encode() for name in NETWORKS}
    contents["heads.npz"] = npz(make_heads())
    write_manifest(folder, make_manifest())
    for name, content in (contents | dict(files or {})).items():
        put_file(folder, name, content)
    return folder


def put_file(folder: Path, name: str, content: bytes) -> None:
    """Write a file of the bundle and enter its size and hash in the manifest."""
    (folder / name).write_bytes(content)
    manifest = read_manifest(folder)
    manifest["files"][name] = entry(content)
    write_manifest(folder, manifest)


def entry(content: bytes) -> dict[str, Any]:
    """What the manifest says of a file with this content."""
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def set_field(folder: Path, field: str, value: object) -> None:
    """Change one field of the manifest, as "face.chunks"."""
    manifest = read_manifest(folder)
    *parents, last = field.split(".")
    node = manifest
    for parent in parents:
        node = node[parent]
    node[last] = value
    write_manifest(folder, manifest)


def drop_field(folder: Path, field: str) -> None:
    """Remove one field of the manifest."""
    manifest = read_manifest(folder)
    *parents, last = field.split(".")
    node = manifest
    for parent in parents:
        node = node[parent]
    del node[last]
    write_manifest(folder, manifest)


def drop_file(folder: Path, name: str) -> None:
    """Let the manifest no longer name this file."""
    manifest = read_manifest(folder)
    del manifest["files"][name]
    write_manifest(folder, manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, unchecked."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replace the manifest."""
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def make_manifest() -> dict[str, Any]:
    """A manifest that lists no files yet."""
    terms = {"name": "MIT", "terms": "keep the notice", "commercial_ok": "yes"}
    return {
        "format_version": FORMAT_VERSION,
        "name": "test-bundle",
        "labels": list(LABELS),
        "files": {},
        "face": {
            "input_size": 48,
            "colour": "grey",
            "mean": 0.5,
            "std": 0.25,
            "template": TEMPLATE,
            "chunks": 16,
            "temperature": 1.5,
        },
        "voice": {"feature_set": "IS10_paraling_compat", "temperature": 2.0},
        "fusion": {"face": 0.65, "voice": 0.35},
        "trained_on": ["nothing"],
        "metrics": {"accuracy": 0.14},
        "licences": {part: dict(terms) for part in ("code", "weights", "data")},
    }
