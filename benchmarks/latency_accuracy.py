"""Accuracy beside speed: that very file on that very runtime, on FER2013's and FER+'s Test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from occam_sdk.backends import in_batches
from occam_sdk.video.expression import grey_input

from .latency_networks import SEED, Variant

Key = tuple[str, str, str, str]
KEY: Final = ("model", "backend", "device", "asked")  # threads and batch change no answer


def measure(
    opened: Sequence[Variant], folders: Sequence[Path], limit: int | None
) -> tuple[dict[Key, dict[str, Any]], list[str]]:
    """Accuracy of every expression network on every runtime, and whose was left out, and why.

    Args:
        opened: what is measured.
        folders: faces from ``training.prepare``.
        limit: this many of Test's faces, drawn with a seed; None takes them all.

    Raises:
        ImportError: PyTorch is not installed.
        ValueError: the folders hold no such faces.
    """
    from training.faces import LabelledFaces

    data = LabelledFaces(folders)
    rows = data.test_rows()
    if len(rows) == 0:
        raise ValueError("--faces: none of the folders has faces of a Test part")
    if limit is not None:
        rows = np.sort(np.random.default_rng(SEED).permutation(rows)[:limit])
    batch = data.batch(rows)
    faces, label, votes = batch.faces.numpy(), batch.label.numpy(), batch.votes.numpy()
    known, voted = label >= 0, votes.sum(1) > 0
    found: dict[Key, dict[str, Any]] = {}
    left_out: list[str] = []
    for variant in opened:
        model = variant.model
        key = (
            model.name,
            variant.runtime.backend,
            variant.runtime.device,
            variant.runtime.precision,
        )
        if model.network.name != "expression" or model.bundle is None or key in found:
            continue
        settings = model.bundle.face
        if settings.input_size != data.size:
            left_out.append(
                f"{model.name}: accuracy: takes faces of {settings.input_size} pixels, --faces has "
                f"{data.size}"
            )
            continue
        images = grey_input(faces, settings.mean, settings.std)
        outputs = in_batches(variant.session, "image", images)
        said = {name: outputs[name].argmax(1) for name in ("emotion", "ferplus")}
        found[key] = {
            "fer2013": _share(said["emotion"][known] == label[known]),
            "ferplus": _share(said["ferplus"][voted] == votes[voted].argmax(1)),
            "faces": len(rows),
            "source": "measured in this run",
        }
    return found, list(dict.fromkeys(left_out))


def _share(right: np.ndarray[Any, np.dtype[np.bool_]]) -> float | None:
    return float(right.mean()) if len(right) else None


def beside(
    rows: Sequence[Mapping[str, Any]],
    measured: Mapping[Key, Mapping[str, Any]],
    manifests: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The same rows with their accuracy: measured, or what the manifest says of this file, or None.

    Args:
        rows: of ``latency_networks.measure``.
        measured: of ``measure``.
        manifests: the metrics of each bundle, by its name.
    """
    done = []
    for row in rows:
        model, backend, device, asked = (row[name] for name in KEY)
        accuracy = measured.get((model, backend, device, asked))
        metrics = manifests.get(model, {})
        if accuracy is None and metrics.get("expression_sha256") == row["sha256"]:
            accuracy = {
                "fer2013": metrics["fer2013_test"]["accuracy"],
                "ferplus": metrics["ferplus_test"]["accuracy"],
                "faces": metrics["fer2013_test"]["count"],
                "source": "the bundle's manifest, of this file",
            }
        done.append({**row, "accuracy": accuracy if row["network"] == "expression" else None})
    return done
