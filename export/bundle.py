"""Put a bundle together: networks, heads, clip, model card, and the manifest with every hash.

    python -m export.bundle --faces runs/faces.npz --face-run runs/face2 \
        --voices runs/voices.npz --voice-run runs/voice --out sdk/occam_sdk/models

    python -m benchmarks.accuracy --faces runs/faces.npz --voices runs/voices.npz \
        --json runs/accuracy.json --update README.md sdk/occam_sdk/models/MODEL_CARD.md
    python -m export.bundle --metrics runs/accuracy.json --out sdk/occam_sdk/models

The second form writes the figures that were measured on the finished files into the manifest.
``detector.onnx`` (export.detector), ``demo.mp4`` (export.demo) and ``MODEL_CARD.md`` lie in the folder
before.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from occam_sdk.audio.features import FEATURE_COUNT
from occam_sdk.bundle import FORMAT_VERSION, MANIFEST, load_bundle
from occam_sdk.labels import LABELS
from training.face import Statistics, load_faces, load_network, predict, split_mask
from training.metrics import accuracy, recalls
from training.prepare_faces import SIZE, TEMPLATE
from training.prepare_voices import FEATURE_SET
from training.voice import Settings as VoiceSettings
from training.voice import VoiceNetwork, cross_corpus, fit_temperature, load_voices

from .networks import expression_onnx, voice_onnx

NAME: Final = "occam-lite-1"
TAUS: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
CHUNKS: Final = 16  # n [2.1]
FUSION: Final = {"face": 0.65, "voice": 0.35}  # the paper's first submission [Table 4]
TRAINED_ON: Final = (
    "FER+ votes and FER2013 labels, Train (28,561 photographs less twins of Valid and Test)",
    "DiffusionFER-S (four fifths of 1,285 synthetic faces)",
    "RAVDESS speech (1,248 utterances, 24 actors) and EMO-DB cut to 2 s (454 utterances, 10 speakers)",
)
LICENCES: Final = {
    "code": {
        "name": "MIT",
        "terms": "occam-sdk; openSMILE, installed by the extra 'audio', allows research and private use only",
        "commercial_ok": "yes",
    },
    "weights": {
        "name": "CC BY-NC-SA 4.0 (expression, voice), MIT (detector: CenterFace, Star Clouds)",
        "terms": "research and other non-commercial use: the terms of the training data pass on",
        "commercial_ok": "no",
    },
    "data": {
        "name": "FER2013 and FER+ (research; votes MIT), DiffusionFER-S (CC0), RAVDESS (CC BY-NC-SA 4.0), "
        "EMO-DB (CC0), WIDER FACE (detector; research)",
        "terms": "not part of the bundle; pictures of FER2013 were collected from the web",
        "commercial_ok": "no",
    },
}


def build(faces: Path, face_run: Path, voices: Path, voice_run: Path, out: Path) -> None:
    """Export both networks and fit their temperatures, then write the manifest."""
    measured = Statistics(**json.loads((face_run / "statistics.json").read_text()))
    face = load_network(face_run)
    valid = load_faces(faces, split_mask(faces, "valid", synthetic=False))
    known = valid.label >= 0
    label = valid.label[known].numpy()
    logits = predict(face, valid.faces[known], measured)["emotion"].numpy()
    shift = rare_class_shift(label, logits, np.array(measured.prior))
    face.emotion.bias.data += torch.from_numpy(shift)
    voice = VoiceNetwork(torch.zeros(FEATURE_COUNT), torch.ones(FEATURE_COUNT), VoiceSettings())
    voice.load_state_dict(torch.load(voice_run / "voice.pt", weights_only=True))
    (out / "expression.onnx").write_bytes(expression_onnx(face))
    (out / "voice.onnx").write_bytes(voice_onnx(voice))
    heads = {
        f"{name}_{part}": getattr(getattr(face, name), part).detach().numpy()
        for name in ("emotion", "valence_arousal")
        for part in ("weight", "bias")
    }
    np.savez(out / "heads.npz", **heads)

    corpora = load_voices(voices)
    manifest = {
        "format_version": FORMAT_VERSION,
        "name": NAME,
        "labels": list(LABELS),
        "face": {
            "architecture": "resnet18-lite",
            "input_size": SIZE,
            "colour": "grey",
            "mean": round(measured.mean, 6),
            "std": round(measured.std, 6),
            "template": TEMPLATE,
            "chunks": CHUNKS,
            "temperature": round(fit_temperature(label, logits + shift), 4),
        },
        "voice": {
            "architecture": "mlp-1582-64-7",
            "feature_set": FEATURE_SET,
            "temperature": round(fit_temperature(*cross_corpus(corpora, VoiceSettings())), 4),
        },
        "fusion": FUSION,
        "trained_on": list(TRAINED_ON),
        "metrics": {},
        "licences": LICENCES,
    }
    write_manifest(manifest, out)


def rare_class_shift(
    label: NDArray[np.int64], logits: NDArray[np.float32], prior: NDArray[np.float64]
) -> NDArray[np.float32]:
    """What is added to the bias of each class: -tau log(prior), the logit adjustment of Menon et al.

    Half of it is in the training loss; tau is the rest that pays on Valid, where accuracy and UAR
    together are highest.
    """

    def worth(tau: float) -> float:
        guess = (logits - tau * np.log(prior)).argmax(1)
        return accuracy(label, guess) + float(recalls(label, guess, len(LABELS)).mean())

    best = max(TAUS, key=worth)
    print(f"logit adjustment chosen on Valid: {best}")
    return (-best * np.log(prior)).astype(np.float32)


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


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    parser.add_argument(
        "--metrics", type=Path, help="from benchmarks.accuracy: only update the manifest"
    )
    for name in ("faces", "face-run", "voices", "voice-run"):
        parser.add_argument(f"--{name}", type=Path)
    args = parser.parse_args()
    if args.metrics is not None:
        manifest = json.loads((args.out / MANIFEST).read_text())
        metrics = json.loads(args.metrics.read_text())
        if metrics["expression_sha256"] != manifest["files"]["expression.onnx"]["sha256"]:
            parser.error(f"{args.metrics}: was measured on another expression.onnx; measure again")
        manifest["metrics"] = metrics
        write_manifest(manifest, args.out)
        return
    given = (args.faces, args.face_run, args.voices, args.voice_run)
    if None in given:
        parser.error("--faces, --face-run, --voices and --voice-run go together")
    build(*given, args.out)


if __name__ == "__main__":
    main()
