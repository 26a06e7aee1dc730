r"""How right the shipped bundle is: its ONNX files in the form that runs by default, INT8, on OpenVINO.

    python -m benchmarks.accuracy --faces runs/ferplus runs/diffusionfer --voices runs/ravdess runs/emodb \
        --json runs/accuracy.json --update README.md sdk/occam_sdk/models/MODEL_CARD.md

The faces were found and aligned by the product's own code (``training.prepare``); a face that was
not found is judged by its plain crop, and once more counted as wrong. A network that has heard every
speaker cannot be measured on them: for the voice the training is repeated without the speakers that
are then judged, and each of those networks goes through ONNX and the runtime like the shipped one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from export.bundle import measured_file
from export.networks import voice_onnx
from occam_sdk.backends import Runtime, open_session
from occam_sdk.bundle import MANIFEST, Bundle, load_bundle
from occam_sdk.labels import LABELS
from occam_sdk.scores import softmax
from occam_sdk.video.expression import grey_input
from training.faces import LabelledFaces
from training.metrics import calibration_error, ccc, recalls, wilson
from training.voice import (
    AnyVoice,
    Recipe,
    cross_corpus,
    cross_validate,
    figures,
    load_voices,
)

BATCH: Final = 128
BUNDLE: Final = Path(__file__).parents[1] / "sdk" / "occam_sdk" / "models"
Floats = NDArray[np.float32]


def measure(bundle: Bundle, faces: Sequence[Path], voices: Sequence[Path]) -> dict[str, Any]:
    """Every figure, as plain JSON types."""
    return {
        "expression_sha256": bundle.files[_measured(bundle)]["sha256"],
        **face_figures(bundle, faces),
        **voice_figures(voices),
    }


def _measured(bundle: Bundle) -> str:
    return measured_file(json.loads((bundle.path / MANIFEST).read_text(encoding="utf-8")))


def face_figures(bundle: Bundle, folders: Sequence[Path]) -> dict[str, Any]:
    """FER2013 and FER+ Test, whole and twin-free; valence-arousal on held-out synthetic faces."""
    data = LabelledFaces(folders)
    test, synthetic = data.test_rows(), data.test_rows(synthetic=True)
    report: dict[str, Any] = {}
    for name, rows in (("test", test), ("test_twin_free", test[~data.twin[test]])):
        batch = data.batch(rows)
        out = run_expression(bundle, batch.faces.numpy())
        found, label = data.samples.found[rows], batch.label.numpy()
        known = label >= 0
        report[f"fer2013_{name}"] = emotion_figures(
            label[known], softmax(out["emotion"][known] / bundle.face.temperature), found[known]
        )
        votes = batch.votes.numpy()
        voted = votes.sum(1) > 0
        right = votes[voted].argmax(1) == out["ferplus"][voted].argmax(1)
        report[f"ferplus_{name}"] = rate(right)
    batch = data.batch(synthetic)
    out = run_expression(bundle, batch.faces.numpy())
    target, guess = batch.valence_arousal.numpy(), np.clip(out["valence_arousal"], -1, 1)
    report["diffusionfer_held_out"] = {
        "count": len(target),
        "ccc_valence": round(ccc(target[:, 0], guess[:, 0]), 4),
        "ccc_arousal": round(ccc(target[:, 1], guess[:, 1]), 4),
    }
    return report


def run_expression(bundle: Bundle, grey: NDArray[np.uint8]) -> dict[str, Floats]:
    """The shipped network's outputs for (N, S, S) uint8 grey aligned faces."""
    precision = "int8" if _measured(bundle).endswith("int8.onnx") else "fp32"
    session = open_session(
        bundle.network("expression"), Runtime("openvino", "cpu", precision, strict=True)
    )
    parts = [
        session.run({"image": grey_input(grey[i : i + BATCH], bundle.face.mean, bundle.face.std)})
        for i in range(0, len(grey), BATCH)
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
        "count": len(right),
        "accuracy": round(value, 4),
        "accuracy_95": [round(low, 4), round(high, 4)],
    }


def voice_figures(folders: Sequence[Path]) -> dict[str, Any]:
    """RAVDESS in six folds by actor, EMO-DB one speaker out, and each corpus by the other."""
    voices, recipe = load_voices(folders), Recipe()
    report: dict[str, Any] = {}
    for corpus, protocol in (("ravdess", "six_folds_by_actor"), ("emodb", "one_speaker_out")):
        label = voices.label[voices.corpus == corpus]
        logits = cross_validate(voices, corpus, recipe, through_runtime)
        report[f"{corpus}_{protocol}"] = voice_row(label, logits)
    report["voices_of_a_corpus_never_heard"] = voice_row(*cross_corpus(voices, recipe))
    return report


def voice_row(label: NDArray[np.int64], logits: Floats) -> dict[str, Any]:
    """Accuracy with its 95 % interval, UAR, recall of each class."""
    return {**figures(label, logits), **rate(label == logits.argmax(1))}


def through_runtime(network: AnyVoice, features: Floats) -> Floats:
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


def markdown(report: dict[str, Any]) -> dict[str, str]:
    """The tables of README and model card, under the names of their blocks."""
    rows = [
        ("FER2013 Test, 7 classes", "fer2013_test"),
        ("the same without the twins of training faces", "fer2013_test_twin_free"),
        ("FER+ Test, 8 classes, majority vote", "ferplus_test"),
        ("the same without twins", "ferplus_test_twin_free"),
        ("RAVDESS, 7 classes, speakers never heard", "ravdess_six_folds_by_actor"),
        ("EMO-DB cut to 2 s, 6 classes, speakers never heard", "emodb_one_speaker_out"),
        ("voices of a corpus never heard", "voices_of_a_corpus_never_heard"),
    ]
    figures = ["| what was judged | how many | accuracy, % (95 %) | UAR, % |", "|---|---|---|---|"]
    recalls = [f"| | {' | '.join(LABELS)} |", "|---" * (len(LABELS) + 1) + "|"]
    for title, name in rows:
        row = report[name]
        low, high = (_percent(bound) for bound in row["accuracy_95"])
        uar = _percent(row["uar"]) if "uar" in row else "–"
        accuracy = f"{_percent(row['accuracy'])} ({low} to {high})"
        figures.append(f"| {title} | {row['count']} | {accuracy} | {uar} |")
        if "recall" in row:
            cells = [_percent(row["recall"][n]) if n in row["recall"] else "–" for n in LABELS]
            recalls.append(f"| {title} | {' | '.join(cells)} |")
    test, synthetic = report["fer2013_test"], report["diffusionfer_held_out"]
    confusion = [f"| truth ↓ said → | {' | '.join(LABELS)} |", "|---" * (len(LABELS) + 1) + "|"]
    for label, counts in zip(LABELS, test["confusion_rows_are_truth"], strict=True):
        confusion.append(f"| {label} | {' | '.join(map(str, counts))} |")
    more = [
        f"- Faces found by the detector on FER2013 Test: {_percent(test['faces_found'])} %; the rest was",
        "  judged by the plain crop. Counted as wrong instead, the accuracy is "
        f"{_percent(test['accuracy_if_not_found_is_wrong'])} %.",
        "- Calibration, expected error over 15 bins on FER2013 Test: "
        f"{_percent(test['expected_calibration_error'])} %.",
        f"- Valence and arousal: CCC {synthetic['ccc_valence']:.2f} and {synthetic['ccc_arousal']:.2f} "
        f"on {synthetic['count']} held-out pictures of DiffusionFER-S.",
    ]
    blocks = {"figures": figures, "recalls": recalls, "confusion": confusion, "more": more}
    return {name: "\n".join(lines) for name, lines in blocks.items()}


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def update_blocks(text: str, blocks: dict[str, str]) -> str:
    """The same Markdown with what stands between ``<!-- name -->`` and ``<!-- /name -->`` made new."""
    for name, block in blocks.items():
        first, last = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if first in text:
            before, rest = text.split(first)
            text = f"{before}{first}{block}\n{last}{rest.split(last)[1]}"
    return text


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="by default this checkout's")
    parser.add_argument(
        "--faces", type=Path, nargs="+", required=True, help="from training.prepare"
    )
    parser.add_argument(
        "--voices", type=Path, nargs="+", required=True, help="from training.prepare"
    )
    parser.add_argument("--json", type=Path, help="write every figure there")
    parser.add_argument("--update", type=Path, nargs="*", default=[], help="Markdown with figures")
    args = parser.parse_args()
    report = measure(load_bundle(args.bundle), args.faces, args.voices)
    print_report(report)
    for document in args.update:
        text = document.read_text(encoding="utf-8")
        document.write_text(update_blocks(text, markdown(report)), encoding="utf-8")
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
