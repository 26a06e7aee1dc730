"""How right the shipped bundle is: its ONNX files, run by the product's own runtime.

    python -m benchmarks.accuracy --faces runs/faces.npz --voices runs/voices.npz --json runs/accuracy.json

The faces were found and aligned by the product's own code (``training.prepare_faces``); a face that was
not found is judged by its plain crop, and once more counted as wrong. A network that has heard every
speaker cannot be measured on them: for the voice the training is repeated without the speakers that
are then judged, and each of those networks goes through ONNX and the runtime like the shipped one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from export.networks import voice_onnx
from occam_sdk.backends import open_session
from occam_sdk.bundle import Bundle, load_bundle
from occam_sdk.labels import LABELS
from occam_sdk.scores import softmax
from occam_sdk.video.expression import network_input
from training.metrics import calibration_error, ccc, recalls, wilson
from training.voice import (
    Settings,
    VoiceNetwork,
    cross_corpus,
    cross_validate,
    figures,
    load_voices,
)

BATCH: Final = 128
BUNDLE: Final = Path(__file__).parents[1] / "sdk" / "occam_sdk" / "models"
Floats = NDArray[np.float32]


def measure(bundle: Bundle, faces: Path, voices: Path) -> dict[str, Any]:
    """Every figure, as plain JSON types."""
    return {
        "expression_sha256": hashlib.sha256(bundle.read("expression.onnx")).hexdigest(),
        **face_figures(bundle, faces),
        **voice_figures(voices),
    }


def face_figures(bundle: Bundle, path: Path) -> dict[str, Any]:
    """FER2013 and FER+ Test, whole and twin-free; valence-arousal on held-out synthetic faces."""
    with np.load(path, allow_pickle=False) as file:
        data = {name: file[name] for name in file.files}
    test = (data["split"] == "test") & ~data["synthetic"]
    synthetic = (data["split"] == "test") & data["synthetic"]
    report: dict[str, Any] = {}
    for name, rows in (("test", test), ("test_twin_free", test & ~data["twin"])):
        out = run_expression(bundle, data["faces"][rows])
        found, label = data["found"][rows], data["label"][rows]
        known = label >= 0
        report[f"fer2013_{name}"] = emotion_figures(
            label[known], softmax(out["emotion"][known] / bundle.face.temperature), found[known]
        )
        votes = data["votes"][rows]
        voted = votes.sum(1) > 0
        right = votes[voted].argmax(1) == out["ferplus"][voted].argmax(1)
        report[f"ferplus_{name}"] = rate(right)
    out = run_expression(bundle, data["faces"][synthetic])
    target, guess = data["valence_arousal"][synthetic], np.clip(out["valence_arousal"], -1, 1)
    report["diffusionfer_held_out"] = {
        "faces": len(target),
        "ccc_valence": round(ccc(target[:, 0], guess[:, 0]), 4),
        "ccc_arousal": round(ccc(target[:, 1], guess[:, 1]), 4),
    }
    return report


def run_expression(bundle: Bundle, grey: NDArray[np.uint8]) -> dict[str, Floats]:
    """The shipped network's outputs for (N, S, S) uint8 grey aligned faces."""
    session = open_session(bundle.read("expression.onnx"))
    crops = np.repeat(grey[..., None], 3, axis=-1)
    parts = [
        session.run(
            {"image": network_input(crops[i : i + BATCH], bundle.face.mean, bundle.face.std)}
        )
        for i in range(0, len(crops), BATCH)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def emotion_figures(
    label: NDArray[np.int64], scores: Floats, found: NDArray[np.bool_]
) -> dict[str, Any]:
    """Accuracy with its 95 % interval, UAR, recall of each class, calibration, confusion counts."""
    guess = scores.argmax(1)
    recall = recalls(label, guess, len(LABELS))
    confusion = np.zeros((len(LABELS), len(LABELS)), int)
    np.add.at(confusion, (label, guess), 1)
    return {
        **rate(label == guess),
        "uar": round(float(recall.mean()), 4),
        "recall": {name: round(float(r), 4) for name, r in zip(LABELS, recall, strict=True)},
        "expected_calibration_error": round(calibration_error(scores, label), 4),
        "faces_found": round(float(found.mean()), 4),
        "accuracy_if_not_found_is_wrong": round(float(((label == guess) & found).mean()), 4),
        "confusion_rows_are_truth": confusion.tolist(),
    }


def rate(right: NDArray[np.bool_]) -> dict[str, Any]:
    """Accuracy, its Wilson interval, and over how many."""
    value = float(right.mean())
    low, high = wilson(value, len(right))
    return {
        "faces": len(right),
        "accuracy": round(value, 4),
        "accuracy_95": [round(low, 4), round(high, 4)],
    }


def voice_figures(path: Path) -> dict[str, Any]:
    """RAVDESS in six folds by actor, EMO-DB one speaker out, and each corpus by the other."""
    voices, settings = load_voices(path), Settings()
    report: dict[str, Any] = {}
    for corpus, protocol in (("ravdess", "six_folds_by_actor"), ("emodb", "one_speaker_out")):
        label = voices.label[voices.corpus == corpus]
        logits = cross_validate(voices, corpus, settings, through_runtime)
        report[f"{corpus}_{protocol}"] = figures(label, logits)
    report["voices_of_a_corpus_never_heard"] = figures(*cross_corpus(voices, settings))
    return report


def through_runtime(network: VoiceNetwork, features: Floats) -> Floats:
    """Logits of a network that went through ONNX, as the product computes them."""
    return open_session(voice_onnx(network)).run({"features": features})["emotion"]


def print_report(report: dict[str, Any]) -> None:
    """One line a test, and one for its recalls."""
    for name, row in report.items():
        if isinstance(row, str):
            print(f"{name}: {row}")
            continue
        plain = {key: value for key, value in row.items() if not isinstance(value, (dict, list))}
        print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in plain.items()))
        if "recall" in row:
            print(
                "    recall: " + ", ".join(f"{k} {100 * v:.1f}" for k, v in row["recall"].items())
            )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="by default this checkout's")
    parser.add_argument("--faces", type=Path, required=True, help="from training.prepare_faces")
    parser.add_argument("--voices", type=Path, required=True, help="from training.prepare_voices")
    parser.add_argument("--json", type=Path, help="write every figure there")
    args = parser.parse_args()
    report = measure(load_bundle(args.bundle), args.faces, args.voices)
    print_report(report)
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
