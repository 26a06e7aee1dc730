"""The manifest of a bundle: every file of the folder with its size and hash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from occam_sdk.bundle import MANIFEST, load_bundle


def write_manifest(manifest: dict[str, Any], out: Path) -> None:
    """Hash every file of the folder and write ``manifest.json``; then read the bundle as a user would."""
    names = sorted(path.name for path in out.iterdir() if path.is_file() and path.name != MANIFEST)
    manifest["files"] = {
        name: {
            "size": (out / name).stat().st_size,
            "sha256": hashlib.sha256((out / name).read_bytes()).hexdigest(),
        }
        for name in names
    }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    bundle = load_bundle(out)
    print(
        f"{out}: {bundle.name}, {sum(f['size'] for f in manifest['files'].values()) / 1e6:.1f} MB"
    )


def put(content: bytes, path: Path) -> None:
    """Write a file; if it lies in a bundle, the manifest gets its hash, and the bundle can be loaded."""
    path.write_bytes(content)
    known = path.parent / MANIFEST
    if known.is_file():
        write_manifest(json.loads(known.read_text(encoding="utf-8")), path.parent)
