r"""Put a bundle together: networks, heads, clip, model card, and the manifest with every hash.

    python -m export.bundle --faces runs/ferplus runs/diffusionfer --face-run runs/face \
        --voices runs/ravdess runs/emodb --voice-run runs/voice --out sdk/occam_sdk/models

    python -m benchmarks.accuracy --faces runs/ferplus runs/diffusionfer --voices runs/ravdess runs/emodb \
        --json runs/accuracy.json
    python -m export.bundle --metrics runs/accuracy.json --out sdk/occam_sdk/models

The first command makes a bundle in float32, to which ``export.int8`` adds its INT8 files. The last one
writes the figures that were measured on the finished files into the manifest. ``detector.onnx``
(export.detector), ``demo.mp4`` (export.demo) and ``MODEL_CARD.md`` lie in the folder before.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from occam_sdk.bundle import (
    DEFAULT_BUNDLE,
    FEATURE_SETS,
    FORMAT_VERSION,
    MANIFEST,
    NETWORKS,
    SPEECH,
    SPEECH_FEATURES,
)
from occam_sdk.errors import BundleError
from occam_sdk.labels import LABELS
from occam_sdk.scores import softmax
from occam_sdk.verify import SAMPLES
from training.cache import load_cache
from training.clips import CHUNKS, open_network
from training.compose import load as load_composition
from training.faces import LabelledFaces
from training.judge import load_network, load_statistics, predict
from training.voice import (
    AnyVoice,
    Recipe,
    Voices,
    cross_corpus,
    cross_validate,
    fit_temperature,
    load_recipe,
    load_voice,
    load_voices,
)

from .calibration import Judged, fit_face, fit_fusion
from .manifest import write_manifest
from .networks import expression_onnx, voice_onnx
from .samples import write_samples

ABOUT: Final = Path(__file__).parent / "about.json"
SHIPPED: Final = Path(__file__).parents[1] / "sdk" / "occam_sdk" / "models"
THEIRS: Final = ("detector.onnx", "LICENSE-YuNet")
HEARS: Final = (f"{SPEECH}.onnx", "LICENSE-Resemblyzer")
MADE_OF_NETWORKS: Final = (
    *(f"{name}.int8.onnx" for name in NETWORKS), "calibration.csv", SAMPLES,
)  # fmt: skip


@dataclass(frozen=True)
class Sources:
    """What a bundle is made of.

    Attributes:
        faces: prepared corpora that the face network has learnt and chosen on.
        face_run: of ``training.face``.
        voices: prepared corpora that the voice has learnt.
        voice_run: of ``training.voice``.
    """

    faces: tuple[Path, ...]
    face_run: Path
    voices: tuple[Path, ...]
    voice_run: Path


def build(sources: Sources, out: Path, about: Path = ABOUT) -> None:
    """Export the networks, fit what lies between them, then write the manifest.

    Args:
        sources: runs and the data to fit temperatures on.
        out: gets the bundle; the detector that ships is copied there if it has none.
        about: JSON with name, trained_on and licences: what the makers of the models say of them.

    Raises:
        ValueError: faces of another size than the network takes, or nothing to fit a temperature on.
    """
    measured, face = load_statistics(sources.face_run), load_network(sources.face_run)
    said = _said(about)
    data = LabelledFaces(sources.faces)
    settings = json.loads((sources.face_run / "settings.json").read_text())
    if settings["data"] != data.inputs:
        raise ValueError(
            f"{sources.face_run}: has learnt and chosen on other faces ({', '.join(settings['data'])}); "
            "give just those as --faces, or the temperature would be fitted to what it knows by heart"
        )
    if data.size != face.size:
        raise ValueError(
            f"faces of {data.size} pixels, the network of {sources.face_run} takes {face.size}; "
            f"prepare them with --size {face.size}"
        )
    batch = data.batch(data.valid_rows())
    known = batch.label >= 0
    if not known.any():
        raise ValueError("no labelled face of Valid to fit the temperature on")
    label = batch.label[known].numpy()
    logits = predict(face, batch.faces[known], measured)["emotion"].numpy()
    # What the network has learnt to say is of classes whose prior is raised to a power: so it is here.
    scale, shift = fit_face(label, logits, np.array(measured.prior) ** -settings["adjustment"])
    face.emotion.weight.data *= torch.from_numpy(scale)[:, None]
    face.emotion.bias.data *= torch.from_numpy(scale)
    face.emotion.bias.data += torch.from_numpy(shift)
    print(f"face: logits times {scale.round(2).tolist()}, and {shift.round(2).tolist()}")
    heads: dict[str, Any] = {
        f"{name}_{part}": getattr(getattr(face, name), part).detach().numpy()
        for name in ("emotion", "valence_arousal")
        for part in ("weight", "bias")
    }
    for name in ("emotion_weight", "emotion_bias"):
        heads[name] = heads[name][np.newaxis]  # an ensemble of one
    voice = load_voice(sources.voice_run / "voice.pt")
    heard = load_voices(sources.voices)
    if json.loads((sources.voice_run / "settings.json").read_text())["data"] != heard.sha256:
        raise ValueError(
            f"{sources.voice_run}: has learnt from other voices; give just those as --voices"
        )
    groups = _never_heard(heard, load_recipe(sources.voice_run / "voice.pt"))
    voice_temperature = fit_temperature(*groups)
    fusion = fit_fusion(
        Judged(label, softmax(logits * scale + shift)),
        tuple(
            Judged(known, softmax(said / np.float32(voice_temperature))) for known, said in groups
        ),
    )
    print(f"fusion fitted on Valid faces and voices never heard: {fusion}")

    out.mkdir(parents=True, exist_ok=True)
    feature_set = _feature_set(voice)
    for name in THEIRS:
        if not (out / name).is_file():
            shutil.copy(DEFAULT_BUNDLE / name, out / name)
    _take_hearing(feature_set, out)
    for name in MADE_OF_NETWORKS:  # they belong to networks that are no longer there
        (out / name).unlink(missing_ok=True)
    (out / "expression.onnx").write_bytes(expression_onnx(face))
    (out / "voice.onnx").write_bytes(voice_onnx(voice))
    np.savez(out / "heads.npz", **heads)
    report = load_cache(sources.faces[0]).report
    manifest = {
        "format_version": FORMAT_VERSION,
        "name": said["name"],
        "labels": list(LABELS),
        "face": {
            "architecture": settings["architecture"],
            "input_size": face.size,
            "colour": "grey",
            "mean": round(measured.mean, 6),
            "std": round(measured.std, 6),
            "template": report["template"],
            "chunks": CHUNKS,
            "temperature": 1.0,
        },
        "voice": {
            "architecture": voice.architecture,
            "feature_set": feature_set,
            "temperature": round(voice_temperature, 4),
        },
        "fusion": asdict(fusion),
        "trained_on": said["trained_on"],
        "metrics": {},
        "licences": said["licences"],
    }
    write_manifest(manifest, out)


def recompose(base: Path, composition: Path, out: Path, about: Path) -> None:
    """A bundle with the face network of another one and the heads, voice and fusion of a composition.

    Args:
        base: bundle that the clips of the composition were embedded with.
        composition: folder from ``training.compose``.
        out: gets the new bundle.
        about: JSON as for ``build``.

    Raises:
        ValueError: the heads were trained on another network than that of ``base``, or ``out`` is it.
    """
    if out.resolve() == base.resolve():
        raise ValueError(f"{out}: is the bundle to start from; name another folder")
    composed = load_composition(composition)
    learnt_on = json.loads((composition / "settings.json").read_text())["data"]["network"]
    if learnt_on != open_network(base).key:
        raise ValueError(
            f"{composition}: its heads were trained on another network than that of {base}; "
            f"train them again with python -m training.compose --network {base}"
        )
    manifest = json.loads((base / MANIFEST).read_text(encoding="utf-8"))
    said = _said(about)
    with np.load(base / "heads.npz", allow_pickle=False) as file:
        heads = {name: file[name] for name in ("valence_arousal_weight", "valence_arousal_bias")}
    heads |= composed.heads
    # The product divides all logits by the frames' temperature; the heads have one of their own.
    scale = np.float32(manifest["face"]["temperature"] / composed.face_temperature)
    heads |= {name: scale * heads[name] for name in ("emotion_weight", "emotion_bias")}
    out.mkdir(parents=True, exist_ok=True)
    manifest["int8"] = {
        name: form for name, form in manifest.get("int8", {}).items() if name != "voice"
    }
    int8 = [f"{name}.int8.onnx" for name in manifest["int8"]]
    feature_set = _feature_set(composed.voice)
    taken = ("expression.onnx", *THEIRS, "calibration.csv", *int8)
    for name in taken:
        if (base / name).is_file():
            shutil.copy(base / name, out / name)
    _take_hearing(feature_set, out)  # what the clips were prepared with
    (out / "voice.onnx").write_bytes(voice_onnx(composed.voice))
    np.savez(out / "heads.npz", **heads)
    manifest["voice"] |= {
        "architecture": composed.voice.architecture,
        "feature_set": feature_set,
        "temperature": round(composed.voice_temperature, 4),
    }
    face_weight = round(composed.face_weight, 4)
    manifest |= {
        "fusion": {"face": face_weight, "voice": round(1 - face_weight, 4)},
        "metrics": {},
        **said,
    }
    write_manifest(manifest, out)
    write_samples(out)
    write_manifest(manifest, out)


def _said(about: Path) -> dict[str, Any]:
    """What the makers say of a bundle.

    Raises:
        ValueError: it is no JSON, or lacks something.
    """
    try:
        said = json.loads(about.read_text(encoding="utf-8"))
        return {key: said[key] for key in ("name", "trained_on", "licences")}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{about}: expected JSON with name, trained_on and licences, in the form of {ABOUT.name} "
            f"({error!r})"
        ) from error


def _take_hearing(feature_set: str, out: Path) -> None:
    """The encoder that ships, if the voice has learnt from it and ``out`` has none; else none at all."""
    for name in HEARS:
        if feature_set != SPEECH_FEATURES:
            (out / name).unlink(missing_ok=True)
        elif not (out / name).is_file():
            shutil.copy(DEFAULT_BUNDLE / name, out / name)


def _feature_set(voice: AnyVoice) -> str:
    """What a voice network has learnt from, which the number of its features tells.

    Raises:
        ValueError: no bundle hears so many features.
    """
    for name, count in FEATURE_SETS.items():
        if count == voice.features:
            return name
    known = " or ".join(f"{count} ({name})" for name, count in FEATURE_SETS.items())
    raise ValueError(f"a voice network on {voice.features} features: a bundle hears {known}")


def _never_heard(
    voices: Voices, recipe: Recipe
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Labels and logits of voices that the judging network has not heard.

    First those of which it has heard the corpus, but not the speaker; then, where there are several
    corpora, those of which it has not heard the corpus either.
    """
    corpora = np.unique(voices.corpus).tolist()
    apart = [
        (voices.label[voices.corpus == corpus], cross_validate(voices, corpus, recipe))
        for corpus in corpora
    ]
    groups = [(np.concatenate([g[0] for g in apart]), np.concatenate([g[1] for g in apart]))]
    if len(corpora) > 1:
        rows, logits = cross_corpus(voices, recipe)
        groups.append((voices.label[rows], logits))
    return groups


def measured_file(manifest: Mapping[str, Any]) -> str:
    """Name of the expression network's file that runs by default, and that figures are of."""
    form = manifest.get("int8", {}).get("expression", {"default": False})
    return "expression.int8.onnx" if form["default"] else "expression.onnx"


def add_metrics(measured: Path, out: Path) -> None:
    """Put the figures of ``benchmarks.accuracy`` into the manifest of the bundle ``out``.

    Raises:
        ValueError: they were measured on another network.
    """
    manifest = json.loads((out / MANIFEST).read_text())
    metrics = json.loads(measured.read_text())
    name = measured_file(manifest)
    if metrics.get("expression_sha256") != manifest["files"][name]["sha256"]:
        raise ValueError(f"{measured}: was measured on another {name}; measure again")
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
    parser.add_argument("--base", type=Path, help="bundle whose face network is taken over")
    parser.add_argument(
        "--composition", type=Path, help="of training.compose: heads, voice and fusion for --base"
    )
    parser.add_argument(
        "--about", type=Path, help="JSON with name, trained_on and licences of the new bundle"
    )
    args = parser.parse_args()
    runs = (args.faces, args.face_run, args.voices, args.voice_run)
    composed = (args.base, args.composition)
    if args.metrics is None:
        if args.about is None and args.out.resolve() != SHIPPED.resolve():
            parser.error(
                "--about: say in a JSON file what the bundle is called, what it was trained on and on "
                "which terms; export/about.json, of the bundle that ships, shows the form"
            )
        if not (all(runs) and not any(composed)) and not (all(composed) and not any(runs)):
            parser.error(
                "give --faces, --face-run, --voices and --voice-run, or --base and --composition"
            )
    about = args.about or ABOUT
    try:
        if args.metrics is not None:
            add_metrics(args.metrics, args.out)
        elif args.base is not None:
            recompose(args.base, args.composition, args.out, about)
        else:
            faces, voices = tuple(args.faces), tuple(args.voices)
            build(Sources(faces, args.face_run, voices, args.voice_run), args.out, about)
    except (BundleError, OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
