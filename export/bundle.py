"""Put a bundle together: networks, heads, clip, model card, and the manifest with every hash.

    python -m export.bundle --faces runs/ferplus runs/diffusionfer --face-run runs/face2 \
        --voices runs/ravdess runs/emodb --voice-run runs/voice --out sdk/occam_sdk/models

    python -m benchmarks.accuracy --faces runs/ferplus runs/diffusionfer --voices runs/ravdess runs/emodb \
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
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from occam_sdk.bundle import DEFAULT_BUNDLE, FORMAT_VERSION, MANIFEST, load_bundle
from occam_sdk.labels import LABELS
from training.cache import load_cache
from training.clips import CHUNKS, open_network
from training.compose import Composition
from training.compose import load as load_composition
from training.faces import LabelledFaces
from training.judge import load_network, load_statistics, predict
from training.metrics import accuracy, recalls
from training.observe import FEATURE_SET
from training.voice import cross_corpus, fit_temperature, load_recipe, load_voice, load_voices

from .networks import expression_onnx, voice_onnx

ABOUT: Final = Path(__file__).parent / "about.json"
TAUS: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
FUSION: Final = {"face": 0.65, "voice": 0.35}  # the paper's first submission [Table 4]


@dataclass(frozen=True)
class Sources:
    """What a bundle is made of.

    Attributes:
        faces: prepared corpora that the face network has learnt and chosen on.
        face_run: of ``training.face``.
        voices, voice_run: prepared corpora and run of ``training.voice``; or
        composition: of ``training.compose``, which brings heads, voice and fusion weight.
    """

    faces: tuple[Path, ...]
    face_run: Path
    voices: tuple[Path, ...] = ()
    voice_run: Path | None = None
    composition: Path | None = None


def build(sources: Sources, out: Path, about: Path = ABOUT) -> None:
    """Export the networks, fit what lies between them, then write the manifest.

    Args:
        sources: runs and the data to fit temperatures on.
        out: gets the bundle; the detector that ships is copied there if it has none.
        about: JSON with name, trained_on and licences: what the makers of the models say of them.

    Raises:
        ValueError: heads that were trained on another network than the one of the face run, faces of
            another size than it takes, or nothing to fit a temperature on.
    """
    measured, face = load_statistics(sources.face_run), load_network(sources.face_run)
    data = LabelledFaces(sources.faces)
    if data.size != (size := face.architecture.size):
        raise ValueError(
            f"faces of {data.size} pixels, the network of {sources.face_run} takes {size}; "
            f"prepare them with --size {size}"
        )
    batch = data.batch(data.valid_rows())
    known = batch.label >= 0
    if not known.any():
        raise ValueError("no labelled face of Valid to fit the temperature on")
    label = batch.label[known].numpy()
    logits = predict(face, batch.faces[known], measured)["emotion"].numpy()
    shift = rare_class_shift(label, logits, np.array(measured.prior))
    face.emotion.bias.data += torch.from_numpy(shift)
    temperature = round(fit_temperature(label, logits + shift), 4)
    heads: dict[str, Any] = {
        f"{name}_{part}": getattr(getattr(face, name), part).detach().numpy()
        for name in ("emotion", "valence_arousal")
        for part in ("weight", "bias")
    }
    for name in ("emotion_weight", "emotion_bias"):
        heads[name] = heads[name][np.newaxis]  # an ensemble of one
    if sources.composition is not None:
        composition = _composed(sources.composition, sources.face_run)
        # The product divides by the frames' temperature; the heads have one of their own.
        scale = np.float32(temperature / composition.face_temperature)
        heads |= composition.heads
        heads |= {name: scale * heads[name] for name in ("emotion_weight", "emotion_bias")}
        voice, voice_temperature = composition.voice, composition.voice_temperature
        fusion = {
            "face": round(composition.face_weight, 4),
            "voice": round(1 - composition.face_weight, 4),
        }
    else:
        assert sources.voice_run is not None
        voice, fusion = load_voice(sources.voice_run / "voice.pt"), FUSION
        recipe, heard = load_recipe(sources.voice_run / "voice.pt"), load_voices(sources.voices)
        if len(np.unique(heard.corpus)) < 2:
            raise ValueError(
                "the voice's temperature is fitted on one corpus by what was learnt from the others: "
                "give two corpora of voices or more"
            )
        voice_temperature = fit_temperature(*cross_corpus(heard, recipe))

    out.mkdir(parents=True, exist_ok=True)
    for name in ("detector.onnx", "LICENSE-CenterFace"):
        if not (out / name).is_file():
            shutil.copy(DEFAULT_BUNDLE / name, out / name)
    (out / "expression.onnx").write_bytes(expression_onnx(face))
    (out / "voice.onnx").write_bytes(voice_onnx(voice))
    np.savez(out / "heads.npz", **heads)
    said = json.loads(about.read_text(encoding="utf-8"))
    settings = json.loads((sources.face_run / "settings.json").read_text())
    report = load_cache(sources.faces[0]).report
    manifest = {
        "format_version": FORMAT_VERSION,
        "name": said["name"],
        "labels": list(LABELS),
        "face": {
            "architecture": settings["architecture"],
            "input_size": face.architecture.size,
            "colour": "grey",
            "mean": round(measured.mean, 6),
            "std": round(measured.std, 6),
            "template": report["template"],
            "chunks": CHUNKS,
            "temperature": temperature,
        },
        "voice": {
            "architecture": voice.architecture,
            "feature_set": FEATURE_SET,
            "temperature": round(voice_temperature, 4),
        },
        "fusion": fusion,
        "trained_on": said["trained_on"],
        "metrics": {},
        "licences": said["licences"],
    }
    write_manifest(manifest, out)


def _composed(folder: Path, face_run: Path) -> Composition:
    """A row of Table 4 from ``training.compose``, if its heads belong to this face run's network."""
    composition = load_composition(folder)
    learnt_on = json.loads((folder / "settings.json").read_text())["data"]["network"]
    if learnt_on != open_network(face_run).key:
        raise ValueError(
            f"{folder}: its heads were trained on another network than {face_run}'s; "
            f"train them again with python -m training.compose --network {face_run}"
        )
    return composition


def rare_class_shift(
    label: NDArray[np.int64], logits: NDArray[np.float32], prior: NDArray[np.float64]
) -> NDArray[np.float32]:
    """What is added to the bias of each class: -tau log(prior), the logit adjustment of Menon et al.

    Half of it is in the training loss; tau is the rest that pays on Valid, where accuracy and UAR
    together are highest.
    """

    def worth(tau: float) -> float:
        guess = (logits - tau * np.log(prior)).argmax(1)
        return accuracy(label, guess) + float(np.nanmean(recalls(label, guess, len(LABELS))))

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


def add_metrics(measured: Path, out: Path) -> None:
    """Put the figures of ``benchmarks.accuracy`` into the manifest of the bundle ``out``.

    Raises:
        ValueError: they were measured on another network.
    """
    manifest = json.loads((out / MANIFEST).read_text())
    metrics = json.loads(measured.read_text())
    if metrics.get("expression_sha256") != manifest["files"]["expression.onnx"]["sha256"]:
        raise ValueError(f"{measured}: was measured on another expression.onnx; measure again")
    manifest["metrics"] = metrics
    write_manifest(manifest, out)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    parser.add_argument(
        "--metrics", type=Path, help="from benchmarks.accuracy: only update the manifest"
    )
    parser.add_argument("--faces", type=Path, nargs="+", help="from training.prepare")
    parser.add_argument("--face-run", type=Path, help="of training.face")
    parser.add_argument("--voices", type=Path, nargs="+", help="from training.prepare")
    parser.add_argument("--voice-run", type=Path, help="of training.voice")
    parser.add_argument(
        "--composition", type=Path, help="of training.compose: heads, voice, fusion"
    )
    parser.add_argument(
        "--about", type=Path, default=ABOUT, help="JSON: name, trained_on, licences"
    )
    args = parser.parse_args()
    if args.metrics is not None:
        try:
            add_metrics(args.metrics, args.out)
        except (FileNotFoundError, ValueError) as error:
            parser.error(str(error))
        return
    alone = args.voices and args.voice_run
    if not (args.faces and args.face_run) or bool(alone) == bool(args.composition):
        parser.error(
            "give --faces and --face-run, and then either --voices and --voice-run or --composition"
        )
    sources = Sources(
        tuple(args.faces), args.face_run, tuple(args.voices or ()), args.voice_run, args.composition
    )
    try:
        build(sources, args.out, args.about)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
