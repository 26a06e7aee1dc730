r"""How right the shipped bundle is: its files in the form that runs by default, INT8, on OpenVINO.

    python -m benchmarks.accuracy --faces runs/ferplus runs/diffusionfer --voices runs/ravdess runs/emodb \
        --pictures ferplus=../shared/data/ferplus.zip --json runs/accuracy.json --plots runs/accuracy \
        --update README.md sdk/occam_sdk/models/MODEL_CARD.md
    python -m benchmarks.accuracy ... --bundle other --compare runs/accuracy.json

The prepared faces were found and aligned by the product's own code (``training.prepare``); a face that was
not found is judged by its plain crop, and once more counted as wrong. With ``--pictures`` the stored
pictures go through ``Recognizer.predict_image`` as well: as they are, and made dark, small, blurred,
covered or turned. A network that has heard every speaker cannot be measured on them: for the voice the
training is repeated without the speakers that are then judged (``accuracy_voices``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from export.bundle import measured_file
from occam_sdk import Recognizer
from occam_sdk.bundle import MANIFEST, Bundle, load_bundle
from occam_sdk.errors import OccamError
from occam_sdk.labels import LABELS
from training.faces import LabelledFaces
from training.prepare import named_places
from training.voice import Recipe, load_recipe, load_voices

from .accuracy_calibration import calibrations
from .accuracy_conditions import by_turning, conditions
from .accuracy_faces import (
    Answers,
    Pictures,
    as_shipped,
    face_figures,
    prepared_faces,
    read_pictures,
    side_by_side,
)
from .accuracy_report import compared, draw, markdown, print_report, update_blocks
from .accuracy_voices import by_strangers, like_shipped, subgroups, voice_figures

BUNDLE: Final = Path(__file__).parents[1] / "sdk" / "occam_sdk" / "models"


@dataclass(frozen=True)
class Sources:
    """What a bundle is measured on.

    Attributes:
        faces, voices: folders from ``training.prepare``.
        pictures: folder or zip file of the corpora whose stored pictures are shown to the product.
        recipe: how the bundle's voice network was made.
    """

    faces: tuple[Path, ...]
    voices: tuple[Path, ...]
    pictures: Mapping[str, Path]
    recipe: Recipe


def measure(bundle: Bundle, sources: Sources) -> dict[str, Any]:
    """Every figure, as plain JSON types.

    Raises:
        OSError, ValueError: the data is not there, or not what the bundle can be measured on.
    """
    manifest = json.loads((bundle.path / MANIFEST).read_text(encoding="utf-8"))
    print("faces as prepared", flush=True)
    data = prepared_faces(bundle, sources.faces)
    if others := set(data.samples.corpus[data.test_rows()].tolist()) - {"ferplus"}:
        raise ValueError(
            f"--faces: {', '.join(sorted(others))} has faces of a Test part, and the figures are named "
            "after FER+ and FER2013: leave it out"
        )
    report: dict[str, Any] = {
        "expression_sha256": bundle.files[measured_file(manifest)]["sha256"],
        **face_figures(bundle, data),
    }
    print("voices, by networks trained without them", flush=True)
    trainer = like_shipped(sources.recipe, manifest["voice"].get("architecture"))
    heard = by_strangers(load_voices(sources.voices), trainer)
    report |= voice_figures(heard)
    report["calibration"] = calibrations(bundle, data, heard)
    report["subgroups"] = subgroups(heard)
    if sources.pictures:
        print("pictures through the product's own door", flush=True)
        below = sources.faces[0].parent / "unpacked"
        pictures = read_pictures(data, sources.pictures, below)
        label = data.label[pictures.rows]
        with Recognizer(bundle.path, backend="openvino", device="cpu", strict=True) as recognizer:
            stored = as_shipped(recognizer, bundle, pictures.images)
            report["found_as_prepared"] = found_as_prepared(data, pictures, stored)
            report["side_by_side"] = side_by_side(bundle, data, pictures, stored)
            report["conditions"] = conditions(recognizer, bundle, pictures, label, stored)
        report["turned"] = by_turning(label, stored, LABELS)
    return report


def found_as_prepared(data: LabelledFaces, pictures: Pictures, shipped: Answers) -> float:
    """The part of the pictures in which the bundle's detector agrees with the one that prepared them.

    Less than 1 says that the faces were prepared by another detector than the bundle's: what is said of
    them is then not quite what the product does.
    """
    same = float((data.samples.found[pictures.rows] == shipped.found).mean())
    if same < 1:
        print(
            f"{100 * (1 - same):.1f} % of the pictures were found by one of two detectors alone: --faces "
            "was prepared by another than the bundle's; prepare it again for figures of this bundle"
        )
    return round(same, 4)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--bundle", type=Path, default=BUNDLE, help="by default this checkout's")
    add("--faces", type=Path, nargs="+", required=True, help="from training.prepare")
    add("--voices", type=Path, nargs="+", required=True, help="from training.prepare")
    add("--voice-run", type=Path, help="of training.voice, if it was not made by its defaults")
    add("--pictures", nargs="+", default=[], metavar="NAME=PLACE",
        help="stored pictures of a corpus of --faces, as for training.prepare")  # fmt: skip
    add("--json", type=Path, help="write every figure there")
    add("--plots", type=Path, metavar="DIR", help="write confusion matrices there, as PNG")
    add("--compare", type=Path, metavar="JSON", help="of another bundle: print what changed")
    add("--update", type=Path, nargs="*", default=[], help="Markdown with figures")
    args = parser.parse_args(arguments)
    named = named_places(parser, args.pictures)
    if args.update and not named:
        parser.error("--update: the documents also show what --pictures measures; give both")
    for document in args.update:
        if not document.is_file():
            parser.error(
                f"--update: {document}: no such file; write it, with the blocks to fill in"
            )
    try:
        other = json.loads(args.compare.read_text(encoding="utf-8")) if args.compare else None
        sources = Sources(
            tuple(args.faces),
            tuple(args.voices),
            dict(named),
            load_recipe(args.voice_run / "voice.pt") if args.voice_run else Recipe(),
        )
        report = measure(load_bundle(args.bundle), sources)
    except (OccamError, OSError, ValueError) as error:
        parser.error(str(error))
    print_report(report)
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if args.plots is not None:
        draw(report, args.plots)
    for document in args.update:
        text = document.read_text(encoding="utf-8")
        document.write_text(update_blocks(text, markdown(report)), encoding="utf-8")
    if other is not None:
        print("\n".join(compared(other, report)) or "nothing changed")


if __name__ == "__main__":
    main()
