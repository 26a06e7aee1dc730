"""Checkpoints to ONNX, and runs to a bundle; needs the extras ``train`` and ``export``."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
pytest.importorskip("sklearn", reason="the extra 'train' is not installed")
pytest.importorskip("onnx", reason="the extra 'export' is not installed")

from export import bundle as export  # noqa: E402
from export.calibration import fit_face  # noqa: E402
from export.manifest import put  # noqa: E402
from export.networks import FACE_OUTPUTS, expression_onnx  # noqa: E402
from occam_sdk import Recognizer  # noqa: E402
from occam_sdk.audio.classifier import VoiceClassifier  # noqa: E402
from occam_sdk.backends import open_session  # noqa: E402
from occam_sdk.bundle import Bundle, load_bundle  # noqa: E402
from occam_sdk.fusion import fuse  # noqa: E402
from occam_sdk.labels import LABELS  # noqa: E402
from occam_sdk.types import FrameScores  # noqa: E402
from occam_sdk.video.aggregate import aggregate  # noqa: E402
from occam_sdk.video.expression import ExpressionNetwork  # noqa: E402
from training import compose, face, judge, voice  # noqa: E402
from training.cache import load_cache  # noqa: E402
from training.clips import load_clips  # noqa: E402
from training.faces import LabelledFaces  # noqa: E402
from training.network import ARCHITECTURES, FaceNetwork  # noqa: E402

from .caches import clip_cache, face_cache, write_cache  # noqa: E402

ROOT = Path(__file__).parents[1]
ROW = compose.Settings(visual="average + weighted*2", audio="mlp + forest")


# ONNX


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_onnx_says_what_the_checkpoint_says(name: str) -> None:
    torch.manual_seed(0)
    network, size = FaceNetwork(name), ARCHITECTURES[name].size
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.uniform_(-0.2, 0.2)
                part.running_var.uniform_(0.5, 2)
    content = expression_onnx(network)
    assert str(ROOT).encode() not in content
    session = open_session(content)
    for count in (1, 5):  # any batch size
        pictures = torch.randn(count, 1, size, size)
        got = session.run({"image": pictures.numpy()})
        with torch.no_grad():
            wanted = network.eval()(pictures)
        assert set(got) == set(FACE_OUTPUTS)
        for output in FACE_OUTPUTS:
            np.testing.assert_allclose(got[output], wanted[output].numpy(), rtol=1e-4, atol=1e-5)


def test_exporting_leaves_the_network_as_it_was() -> None:
    network = FaceNetwork().train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    expression_onnx(network)
    assert network.training
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


# A bundle of a composition


@dataclasses.dataclass(frozen=True, eq=False)
class Project:
    """Caches, a face run of one epoch and a voice run, the bundle of both, a row composed on its
    network, and the bundle of that row."""

    faces: Path
    clips: Path
    face_run: Path
    voices: tuple[Path, Path]
    voice_run: Path
    base: Path
    row: Path
    scores: np.ndarray
    out: Path
    bundle: Bundle


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("project")
    faces, clips = face_cache(folder / "striped"), clip_cache(folder / "films", frames=3)
    face.train([faces], folder / "face", face.Settings(epochs=1, batch=35, average_decay=0.5))
    voices = utterances(folder / "ravdess", 0), utterances(folder / "emodb", 1)
    recipe = voice.Recipe("mlp", mlp=voice.Settings(epochs=5))
    (folder / "voice").mkdir()
    heard = voice.load_voices(voices)
    voice.save_voice(folder / "voice" / "voice.pt", recipe(heard), recipe)
    (folder / "voice" / "settings.json").write_text(json.dumps({"data": heard.sha256}))
    sources = export.Sources((faces,), folder / "face", voices, folder / "voice")
    export.build(sources, folder / "base")
    embedded = load_clips(clips, folder / "base")
    composition, scores = compose.compose(embedded, None, ROW)
    row = folder / "row"
    row.mkdir()
    (row / "settings.json").write_text(json.dumps({"data": embedded.inputs}))
    compose.save(composition, row)
    export.recompose(folder / "base", row, folder / "bundle", export.ABOUT)
    bundle = load_bundle(folder / "bundle")
    return Project(
        faces, clips, folder / "face", voices, folder / "voice", folder / "base", row, scores,
        folder / "bundle", bundle,
    )  # fmt: skip


def seen(bundle: Bundle, faces: np.ndarray) -> FrameScores:
    """What the product's expression network says of grey faces."""
    network = ExpressionNetwork(open_session(bundle.read("expression.onnx")), bundle.face)
    return network.score(faces[..., None].repeat(3, -1), np.arange(len(faces)) / 25)


def test_the_bundle_says_of_clips_what_training_said(project: Project) -> None:
    """Faces and voices of every clip through the product's own networks, aggregation and fusion."""
    cache, bundle = load_cache(project.clips), project.bundle
    frames = seen(bundle, np.asarray(cache.faces))
    speaker = VoiceClassifier(open_session(bundle.read("voice.onnx")), bundle.voice)
    last = np.cumsum(cache.samples.faces)
    for clip, wanted in enumerate(project.scores):
        own = slice(last[clip] - cache.samples.faces[clip], last[clip])
        columns = (frames.times_s, frames.scores, frames.valence_arousal, frames.embeddings)
        shown = aggregate(FrameScores(*(column[own] for column in columns)), bundle.face)
        heard = speaker.score(cache.voices[clip : clip + 1], (0.0,))
        got = fuse(shown, heard, bundle.fusion).scores
        np.testing.assert_allclose(got, wanted, atol=2e-3)


def test_a_bundle_of_a_composition_has_its_heads_and_weights(project: Project) -> None:
    composition, bundle = compose.load(project.row), project.bundle
    heads = bundle.face.heads
    np.testing.assert_allclose(
        heads.emotion_weight / bundle.face.temperature,
        composition.heads["emotion_weight"] / composition.face_temperature,
        rtol=1e-5,
    )
    assert heads.frame_weight is not None
    np.testing.assert_array_equal(heads.frame_weight, composition.heads["frame_weight"])
    network = judge.load_network(project.face_run)
    np.testing.assert_array_equal(
        heads.valence_arousal_weight, network.valence_arousal.weight.detach().numpy()
    )
    assert bundle.fusion.face == pytest.approx(composition.face_weight, abs=1e-4)
    assert bundle.voice.temperature == pytest.approx(composition.voice_temperature, abs=1e-4)
    manifest = json.loads((project.out / "manifest.json").read_text())
    assert manifest["face"]["architecture"] == "resnet-lite"
    assert manifest["voice"]["architecture"] == "mean of mlp-1582-64-7 and random-forest"


def test_the_bundle_is_complete_and_runs(project: Project) -> None:
    with Recognizer(project.out) as recognizer:
        assert recognizer.info.model == json.loads(export.ABOUT.read_text())["name"]
    assert {"detector.onnx", "LICENSE-YuNet"} <= {path.name for path in project.out.iterdir()}


def test_a_bundle_hears_what_its_voice_has_learnt(project: Project) -> None:
    """The base learnt the encoder's features, the clips of the composition were openSMILE's."""
    base = load_bundle(project.base)
    assert (base.voice.feature_set, base.has("speech.onnx")) == ("GE2E", True)
    assert (project.base / "LICENSE-Resemblyzer").is_file()
    assert project.bundle.voice.feature_set == "IS10_paraling_compat"
    assert not project.bundle.has("speech.onnx")


def test_an_encoder_that_nothing_hears_with_does_not_stay(project: Project, tmp_path: Path) -> None:
    (tmp_path / "speech.onnx").write_bytes(b"of the bundle that was here before")
    export.recompose(project.base, project.row, tmp_path, export.ABOUT)
    assert not load_bundle(tmp_path).has("speech.onnx")


def test_a_bundle_that_is_made_again_is_the_same(project: Project, tmp_path: Path) -> None:
    export.recompose(project.base, project.row, tmp_path, export.ABOUT)
    for name in ("heads.npz", "expression.onnx", "voice.onnx"):
        assert (tmp_path / name).read_bytes() == (project.out / name).read_bytes(), name


def test_heads_of_another_network_are_refused_with_the_remedy(
    project: Project, tmp_path: Path
) -> None:
    """Another network is one that picks other frames, too: its temperature is part of it."""
    other = tmp_path / "other"
    shutil.copytree(project.base, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["face"]["temperature"] *= 1.5
    export.write_manifest(manifest, other)
    with pytest.raises(ValueError, match=r"another network .* training\.compose --network .*other"):
        export.recompose(other, project.row, tmp_path / "out", export.ABOUT)
    assert not (tmp_path / "out").exists()


def test_a_bundle_is_not_made_over_the_one_it_starts_from(project: Project) -> None:
    with pytest.raises(ValueError, match="name another folder"):
        export.recompose(project.base, project.row, project.base, export.ABOUT)


def test_a_composition_that_was_not_finished_is_refused(project: Project, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"training\.compose"):
        export.recompose(project.base, tmp_path, tmp_path / "out", export.ABOUT)


def test_faces_or_voices_that_the_runs_have_not_learnt_are_refused(
    project: Project, tmp_path: Path
) -> None:
    other = face_cache(tmp_path / "striped", count=91)
    sources = export.Sources((other,), project.face_run, project.voices, project.voice_run)
    with pytest.raises(ValueError, match="other faces"):
        export.build(sources, tmp_path / "out")
    sources = export.Sources(
        (project.faces,), project.face_run, project.voices[:1], project.voice_run
    )
    with pytest.raises(ValueError, match="other voices"):
        export.build(sources, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_put_into_a_bundle_is_in_its_manifest(
    project: Project, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(project.base, tmp_path / "bundle"))
    put(b"another one", bundle / "LICENSE-YuNet")
    assert load_bundle(bundle).files["LICENSE-YuNet"]["size"] == 11
    put(b"alone", tmp_path / "alone.onnx")
    assert (tmp_path / "alone.onnx").read_bytes() == b"alone"


def test_what_is_said_of_a_bundle_must_be_complete(project: Project, tmp_path: Path) -> None:
    for text in ("no JSON", '{"name": "x"}', "[]"):
        (tmp_path / "about.json").write_text(text)
        with pytest.raises(ValueError, match=r"about\.json: expected JSON with name"):
            export.recompose(project.base, project.row, tmp_path / "out", tmp_path / "about.json")
    assert not (tmp_path / "out").exists()


# A bundle of a face run and a voice run


def utterances(folder: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    label = np.arange(42) % 7
    features = rng.normal(size=(42, 256)).astype(np.float32)
    features[np.arange(42), label] += 20
    speaker = np.array([f"{i // 7}" for i in range(42)])
    return write_cache(folder, "voice", label=label, features=features, subject=speaker)


def test_a_bundle_of_single_faces_and_voices_says_what_the_runs_say(
    project: Project,
) -> None:
    bundle = load_bundle(project.base)
    assert 0 < bundle.fusion.face < 1  # fitted, see test_calibration
    assert bundle.fusion.face + bundle.fusion.voice == pytest.approx(1)
    assert len(bundle.face.heads.emotion_weight) == 1
    assert bundle.face.heads.frame_weight is None
    faces = np.asarray(load_cache(project.faces).faces)
    measured = judge.load_statistics(project.face_run)
    network = judge.load_network(project.face_run)
    out = judge.predict(network, torch.from_numpy(faces), measured)
    heads, own = bundle.face.heads, network.emotion.weight.detach().numpy()
    scale = (heads.emotion_weight[0] * own).sum(1) / (own**2).sum(1)
    np.testing.assert_allclose(heads.emotion_weight[0], scale[:, None] * own, rtol=1e-4, atol=1e-6)
    shift = heads.emotion_bias[0] - scale * network.emotion.bias.detach().numpy()
    # Fitted to Valid, each class's faces as heavy as half a logit adjustment makes them in training.
    data = LabelledFaces([project.faces])
    valid = data.batch(data.valid_rows())
    logits = judge.predict(network, valid.faces, measured)["emotion"].numpy()
    fitted = fit_face(valid.label.numpy(), logits, np.array(measured.prior) ** -0.5)
    np.testing.assert_allclose((scale, shift), fitted, rtol=1e-3, atol=1e-3)
    assert np.abs(scale - 1).max() > 0.01
    frames = seen(bundle, faces)
    assert bundle.face.temperature == 1
    wanted = torch.softmax(out["emotion"] * torch.from_numpy(scale) + torch.from_numpy(shift), 1)
    np.testing.assert_allclose(frames.scores, wanted.numpy(), atol=1e-3)
    one = FrameScores(*(getattr(frames, f.name)[:1] for f in dataclasses.fields(frames)))
    shown = aggregate(one, bundle.face)  # a clip of one frame says what the frame says
    assert shown is not None
    np.testing.assert_allclose(shown.scores, frames.scores[0], atol=1e-5)
    heard = voice.load_voices([project.voices[0]])
    speaker = VoiceClassifier(open_session(bundle.read("voice.onnx")), bundle.voice)
    logits = voice.logits_of(voice.load_voice(project.voice_run / "voice.pt"), heard.features[:3])
    for piece in range(3):
        got = speaker.score(heard.features[piece : piece + 1], (0.0,)).scores
        rows = torch.from_numpy(logits[piece] / bundle.voice.temperature)
        np.testing.assert_allclose(got, rows.softmax(0).numpy(), rtol=1e-3, atol=1e-5)


def test_the_temperature_of_one_corpus_is_fitted_to_speakers_never_heard(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = []
    monkeypatch.setattr(export, "cross_corpus", lambda *_: pytest.fail("there is no other corpus"))
    cross_validate = export.cross_validate

    def spy(*given: object) -> np.ndarray:
        judged.append(given[1])
        return cross_validate(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(export, "cross_validate", spy)
    recipe = voice.Recipe("mlp", mlp=voice.Settings(epochs=5))
    heard = voice.load_voices(project.voices[:1])
    ((label, logits),) = export._never_heard(heard, recipe)
    assert logits.shape == (len(heard.label), 7)
    assert label.tolist() == heard.label.tolist()
    assert judged == ["ravdess"]


# The command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--about: say in a JSON file"),
        (["--about", "a.json"], "give --faces, --face-run"),
        (["--about", "a.json", "--faces", "f"], "give --faces, --face-run"),
        (["--about", "a.json", "--base", "b"], "or --base and --composition"),
        (["--about", "a.json", "--base", "b", "--composition", "c", "--faces", "f"], "give --faces"),
        (["--about", "a.json", "--base", "b", "--composition", "c"], "c: no composition"),
        (
            ["--about", "a.json", "--faces", "f", "--face-run", "r", "--voices", "v", "--voice-run", "w"],
            "statistics.json",
        ),
        (["--metrics", "nothing.json"], "manifest.json"),
    ],
)  # fmt: skip
def test_the_command_names_a_mistake_and_shows_no_traceback(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["bundle", "--out", str(tmp_path), *options])
    with pytest.raises(SystemExit) as exit_:
        export.main()
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_figures_are_entered_if_they_are_of_the_shipped_network(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "bundle"
    out.mkdir()
    for path in project.out.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    sha256 = json.loads((out / "manifest.json").read_text())["files"]["expression.onnx"]["sha256"]
    measured = tmp_path / "accuracy.json"
    argv = ["bundle", "--metrics", str(measured), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", argv)
    for other in ({"expression_sha256": "0" * 64}, {}):
        measured.write_text(json.dumps(other))
        with pytest.raises(SystemExit):
            export.main()
        assert "measured on another expression.onnx" in capsys.readouterr().err
    (out / "MODEL_CARD.md").write_text("written since")
    measured.write_text(json.dumps({"expression_sha256": sha256, "accuracy": 0.5}))
    export.main()
    bundle = load_bundle(out)
    assert bundle.metrics["accuracy"] == 0.5
    assert bundle.read("MODEL_CARD.md") == b"written since"


def test_the_classes_are_the_products(project: Project) -> None:
    manifest = json.loads((project.out / "manifest.json").read_text())
    assert manifest["labels"] == list(LABELS)
    assert manifest["face"]["template"] == load_cache(project.faces).report["template"]
