"""The bundles of the repository: what their cards and the README say of them, and what they do."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import occam_sdk
from export.lint import lint
from occam_sdk.bundle import DEFAULT_BUNDLE, Bundle, load_bundle

ROOT = Path(__file__).parents[1]
BUNDLES = [DEFAULT_BUNDLE, *sorted(path.parent for path in ROOT.glob("bundles/*/manifest.json"))]
FIGURES = (
    "fer2013_test",
    "ferplus_test",
    "ravdess_six_folds_by_actor",
    "emodb_one_speaker_out",
)

every_bundle = pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: folder.name)


def shown(bundle: Bundle) -> list[str]:
    """How a table shows the figures that were measured on the files of a bundle."""
    rows = [bundle.metrics[name] for name in FIGURES]
    return [f"| {row['count']} | {100 * row['accuracy']:.1f} (" for row in rows]


@every_bundle
def test_a_model_card_shows_the_figures_of_its_manifest(folder: Path) -> None:
    bundle = load_bundle(folder)
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.startswith(f"# Model card: {bundle.name}\n")
    assert all(figure in card for figure in shown(bundle))


def test_the_readme_shows_the_figures_of_the_default_bundle() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(figure in readme for figure in shown(load_bundle()))


@every_bundle
def test_its_int8_files_are_clean(folder: Path) -> None:
    paths = sorted(folder.glob("*.int8.onnx"))
    assert len(paths) == 3
    assert [lint(onnx.load(path)) for path in paths] == [[]] * 3


@every_bundle
def test_it_judges_a_clip_in_int8(folder: Path) -> None:
    with occam_sdk.Recognizer(folder, backend="openvino", precision="int8") as recognizer:
        result = recognizer.predict(occam_sdk.demo_clip())
        assert recognizer.info.expression.layers["int8"] > 0
    assert (result.status, result.label) == ("ok", "Happy")
    assert result.face is not None
    assert result.face.label == "Happy"
    assert result.voice is not None
