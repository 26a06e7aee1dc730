"""The voice models on small data made here: perceptron, forest, their mean; needs the extra ``train``."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
ensemble = pytest.importorskip("sklearn.ensemble", reason="the extra 'train' is not installed")

from occam_sdk.labels import LABELS  # noqa: E402
from training import forest, voice  # noqa: E402

from .caches import SIZE, write_cache  # noqa: E402

QUICK = voice.Settings(epochs=1)
SMALL = forest.Settings(n_estimators=3)


def voices(seed: int = 0) -> voice.Voices:
    """Twelve speakers of RAVDESS and four of EMO-DB, classes that a line can tell apart."""
    rng = np.random.default_rng(seed)
    label = np.tile(np.arange(7), 16)
    features = rng.normal(size=(len(label), 1582)).astype(np.float32)
    features[np.arange(len(label)), label] += 30
    speaker = np.repeat([f"{s:02d}" for s in range(16)], 7)
    return voice.Voices(features, label, np.repeat(["ravdess", "emodb"], [84, 28]), speaker)


def a_forest(
    x: np.ndarray, label: np.ndarray, **settings: object
) -> ensemble.RandomForestClassifier:
    """As scikit-learn has it; all features are looked at, so that few trees find what there is."""
    settings = {"n_estimators": 5, "max_features": None, "random_state": 0, **settings}
    return ensemble.RandomForestClassifier(**settings).fit(x, label)


def shares(network: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    return np.exp(voice.logits_of(network, x))


def softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).softmax(1).numpy()


# Who is heard, and who is judged


@pytest.mark.parametrize(("corpus", "folds"), [("ravdess", 6), ("emodb", 4)])
def test_no_speaker_is_both_heard_and_judged(corpus: str, folds: int) -> None:
    """Twelve speakers make six folds, four are left out one at a time."""
    data = voices()
    judged: list[set[str]] = []

    def trainer(heard: voice.Voices) -> set[str]:
        return set(heard.speaker.tolist())

    def predictor(heard: set[str], features: np.ndarray) -> np.ndarray:
        rows = [int(np.flatnonzero((data.features == row).all(1))[0]) for row in features]
        speakers = set(data.speaker[rows].tolist())
        assert not speakers & heard
        judged.append(speakers)
        return np.zeros((len(features), 7), np.float32)

    logits = voice.cross_validate(data, corpus, trainer, predictor)  # type: ignore[arg-type]
    assert len(judged) == folds
    assert np.isfinite(logits).all()
    assert set().union(*judged) == set(data.speaker[data.corpus == corpus].tolist())


@pytest.mark.parametrize(("speakers", "folds"), [(1, 1), (10, 10), (11, 6), (24, 6)])
def test_many_speakers_are_grouped_and_few_are_not(speakers: int, folds: int) -> None:
    name = np.array([f"{s:02d}" for s in range(speakers)])
    one_each = voice.Voices(
        np.zeros((speakers, 1582), np.float32),
        np.zeros(speakers, np.int64),
        np.full(speakers, "any"),
        name,
    )
    masks = list(voice.speaker_folds(one_each, "any"))
    assert len(masks) == folds
    assert (np.sum(masks, axis=0) == 1).all()


# The perceptron


def test_what_a_line_can_tell_apart_is_learnt_and_repeats_with_its_seed() -> None:
    data, settings = voices(), voice.Settings(epochs=30)
    one, other = voice.train(data, settings), voice.train(data, settings)
    assert voice.figures(data.label, voice.logits_of(one, data.features))["accuracy"] > 0.9
    np.testing.assert_array_equal(
        voice.logits_of(one, data.features), voice.logits_of(other, data.features)
    )


def test_fine_tuning_starts_from_the_layers_but_standardises_by_the_new_voices() -> None:
    data = voices()
    louder = dataclasses.replace(data, features=3 * data.features + 5)
    first = voice.train(data, voice.Settings(epochs=30))
    still = voice.train(louder, dataclasses.replace(voice.FINE_TUNING, epochs=1, rate=1e-12), first)
    for one, other in zip(first.parameters(), still.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    mean = torch.from_numpy(louder.features).mean(0)
    torch.testing.assert_close(still.mean, mean, rtol=1e-4, atol=1e-4)
    assert voice.figures(data.label, voice.logits_of(still, louder.features))["accuracy"] > 0.9


def test_fine_tuning_leaves_the_network_it_starts_from_as_it_was() -> None:
    data = voices()
    first = voice.train(data, QUICK)
    before = {name: value.clone() for name, value in first.state_dict().items()}
    voice.train(data, voice.FINE_TUNING, first)
    for name, value in first.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_the_recipe_that_ships_fine_tunes_what_it_pretrained() -> None:
    recipe = voice.Recipe(pretrain="ravdess")
    quick = dataclasses.replace(
        recipe,
        mlp=dataclasses.replace(recipe.mlp, epochs=1),
        fine_tuning=dataclasses.replace(recipe.fine_tuning, epochs=1),
    )
    assert quick(voices()).architecture == "mlp-1582-64-7"


@pytest.mark.parametrize(
    "settings", [voice.Settings(epochs=3), voice.FOR_STATES], ids=["paper", "states"]
)
def test_the_number_of_threads_does_not_matter(settings: voice.Settings) -> None:
    data, before = voices(), torch.get_num_threads()
    networks = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            networks.append(voice.train(data, settings))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    one, other = (network.state_dict() for network in networks)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0)


def test_the_fitted_temperature_is_the_one_that_was_put_in() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 7)).astype(np.float32)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    label = (chances.cumsum(1) < rng.random((len(logits), 1))).sum(1)
    assert voice.fit_temperature((label, 3 * logits)) == pytest.approx(3, rel=0.05)
    both = voice.fit_temperature((label, 3 * logits), (label[:200], logits[:200]))
    assert 1.3 < both < 2.7  # as much for the few as for the many


def test_far_from_what_was_learnt_less_is_said_and_the_same() -> None:
    data = voices()
    settings = dataclasses.replace(QUICK, epochs=5)
    sure = voice.train(data, settings)
    modest = voice.train(data, dataclasses.replace(settings, doubt=0.5))
    x = data.features
    far = sure.mean.numpy() + 6 * (x - sure.mean.numpy())
    for features, least, most in ((x, 1.2, 1.25), (far, 4.0, 4.5)):  # sqrt(1 + 0.5), sqrt(1 + 18)
        one, other = (voice.logits_of(network, features) for network in (sure, modest))
        np.testing.assert_array_equal(one.argmax(1), other.argmax(1))
        assert least < np.median(one / other) < most


def test_doubt_is_kept_with_the_network(tmp_path: Path) -> None:
    data = voices()
    model = voice.train(data, dataclasses.replace(QUICK, doubt=0.5))
    voice.save_voice(tmp_path / "voice.pt", model)
    back = voice.load_voice(tmp_path / "voice.pt")
    np.testing.assert_array_equal(
        voice.logits_of(back, data.features), voice.logits_of(model, data.features)
    )
    saved = torch.load(tmp_path / "voice.pt", weights_only=True)
    del saved["model"]["state"]["doubt"]  # as of a run that was made before
    torch.save(saved, tmp_path / "voice.pt")
    before = voice.train(data, QUICK)
    np.testing.assert_array_equal(
        voice.logits_of(voice.load_voice(tmp_path / "voice.pt"), data.features),
        voice.logits_of(before, data.features),
    )
    pytest.importorskip("onnx", reason="the extra 'export' is not installed")
    from export.networks import voice_onnx
    from occam_sdk.backends import open_session

    endless = np.full((1, 1582), np.finfo(np.float32).max, np.float32)
    rows = np.concatenate([data.features[:5], endless])
    got = open_session(voice_onnx(model)).run({"features": rows})["emotion"]
    np.testing.assert_allclose(got, voice.logits_of(model, rows), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(got[-1], 0)  # nothing is known of it


# The forest


def test_the_forest_network_says_what_scikit_learn_says() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 1582)).astype(np.float32)
    label = (x[:, :7] + rng.normal(0, 0.5, (300, 7))).argmax(1)
    grown = a_forest(x, label, n_estimators=20, max_features="sqrt", class_weight="balanced")
    unheard = rng.normal(0, 2, size=(200, 1582)).astype(np.float32)
    network = forest.network_of(grown)
    assert network.depth == max(tree.get_depth() for tree in grown.estimators_)
    for rows in (x, unheard, unheard[:1]):
        wanted = np.maximum(grown.predict_proba(rows), forest.FLOOR)
        np.testing.assert_allclose(shares(network, rows), wanted, rtol=1e-5)


def test_at_a_threshold_and_next_to_it_the_forest_decides_as_scikit_learn() -> None:
    """Some thresholds are made to lie half way between two neighbouring float32."""
    rng = np.random.default_rng(2)
    base = np.float32([1000, 5000, -3000, 20000])
    x = np.zeros((200, 1582), np.float32)
    x[:, :4] = np.where(rng.random((200, 4)) < 0.5, base, np.nextafter(base, np.float32(np.inf)))
    x[:, 4:8] = rng.normal(size=(200, 4)).astype(np.float32)
    label = (x[:, :4] > base).sum(1) + (x[:, 4] > x[:, 5])
    grown = a_forest(x, label)
    network = forest.network_of(grown)
    asked = {
        (feature, threshold)
        for tree in (estimator.tree_ for estimator in grown.estimators_)
        for feature, threshold in zip(tree.feature, tree.threshold, strict=True)
        if feature >= 0
    }
    between = [t for _, t in asked if float(np.float32(t)) != t]
    assert len(between) > 20
    rows = []
    for feature, threshold in asked:
        nearest = np.float32(threshold)
        for value in (
            nearest,
            np.nextafter(nearest, np.float32(-np.inf)),
            np.nextafter(nearest, np.float32(np.inf)),
        ):
            for start in x[:3]:
                row = start.copy()
                row[feature] = value
                rows.append(row)
    wanted = np.maximum(grown.predict_proba(np.array(rows)), forest.FLOOR)
    got = shares(network, np.array(rows))[:, grown.classes_]
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("threshold", "kept"),
    [
        (0.5, 0.5),
        (0.1, float(np.nextafter(np.float32(0.1), np.float32(0)))),  # float32(0.1) > 0.1
        (-0.1, float(np.float32(-0.1))),  # float32(-0.1) < -0.1
        (1e-60, 0.0),
        (-1e-60, float(np.nextafter(np.float32(0), np.float32(-1)))),
    ],
)
def test_a_threshold_is_the_greatest_float32_that_is_not_above(
    threshold: float, kept: float
) -> None:
    assert forest.rounded_down(np.array([threshold])).tolist() == [kept]


def test_classes_that_were_never_heard_have_their_own_columns_at_the_floor() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 1582)).astype(np.float32)
    label = np.array([1, 4, 5])[x[:, :3].argmax(1)]  # EMO-DB lacks one class too
    grown = a_forest(x, label)
    got = shares(forest.network_of(grown), x)
    np.testing.assert_allclose(
        got[:, [1, 4, 5]], np.maximum(grown.predict_proba(x), forest.FLOOR), rtol=1e-5
    )
    np.testing.assert_allclose(got[:, [0, 2, 3, 6]], forest.FLOOR, rtol=1e-5)


def test_a_forest_that_heard_one_class_says_so() -> None:
    network = forest.train(np.ones((5, 1582), np.float32), np.full(5, 3), SMALL)
    assert network.depth == 0
    assert shares(network, np.zeros((2, 1582), np.float32)).argmax(1).tolist() == [3, 3]


def test_a_forest_is_learnt_and_repeats_with_its_seed() -> None:
    data, settings = voices(), forest.Settings(max_features="sqrt")
    one, other = (forest.train(data.features, data.label, settings) for _ in range(2))
    assert voice.figures(data.label, voice.logits_of(one, data.features))["accuracy"] > 0.9
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=0, atol=0)


def test_without_scikit_learn_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(ImportError, match="pip install"):
        forest.train(np.ones((5, 1582), np.float32), np.arange(5), SMALL)


# Their mean, and every kind on disk and in the product's runtime


@pytest.fixture(scope="module")
def models() -> dict[str, voice.AnyVoice]:
    """One of each kind, on voices without Surprise."""
    data = voices()
    data = data[data.label != LABELS.index("Surprise")]
    recipe = voice.Recipe(mlp=QUICK, forest=SMALL)
    return {
        kind: dataclasses.replace(recipe, model=kind)(data)  # type: ignore[arg-type]
        for kind in ("mlp", "forest", "mlp+forest")
    }


def test_the_mean_is_of_scores_not_of_logits(models: dict[str, voice.AnyVoice]) -> None:
    x = voices().features
    mlp, trees = (softmax(voice.logits_of(models[kind], x)) for kind in ("mlp", "forest"))
    both = softmax(voice.logits_of(models["mlp+forest"], x))
    np.testing.assert_allclose(both, (mlp + trees) / 2, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("mlp", "mlp-1582-64-7"),
        ("forest", "random-forest"),
        ("mlp+forest", "mean of mlp-1582-64-7 and random-forest"),
    ],
)
def test_a_model_comes_back_from_disk_as_it_was(
    kind: str, architecture: str, models: dict[str, voice.AnyVoice], tmp_path: Path
) -> None:
    model, x = models[kind], voices().features
    voice.save_voice(tmp_path / "voice.pt", model, voice.Recipe())
    back = voice.load_voice(tmp_path / "voice.pt")
    assert back.architecture == model.architecture == architecture
    assert not back.training
    np.testing.assert_array_equal(voice.logits_of(back, x), voice.logits_of(model, x))


def test_the_hidden_layer_comes_back_as_wide_as_it_was(tmp_path: Path) -> None:
    recipe = voice.Recipe(mlp=voice.Settings(hidden=5, epochs=1))
    voice.save_voice(tmp_path / "voice.pt", recipe(voices()), recipe)
    assert voice.load_voice(tmp_path / "voice.pt").architecture == "mlp-1582-5-7"


@pytest.mark.parametrize("kind", ["mlp", "forest", "mlp+forest"])
def test_the_runtime_says_what_the_model_says(kind: str, models: dict[str, voice.AnyVoice]) -> None:
    pytest.importorskip("onnx", reason="the extra 'export' is not installed")
    from export.networks import voice_onnx
    from occam_sdk.backends import open_session

    model, data = models[kind], voices()
    edges = np.zeros((8, 1582), np.float32)
    tiny, huge = np.finfo(np.float32).tiny, np.finfo(np.float32).max
    edges[:] = np.float32([0, -0.0, tiny, -tiny, tiny / 4, -tiny / 4, huge, -huge])[:, None]
    session = open_session(voice_onnx(model))
    for rows in (data.features, data.features[:1], edges):
        got = session.run({"features": rows})["emotion"]
        assert got.shape == (len(rows), 7)
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, voice.logits_of(model, rows), rtol=1e-4, atol=1e-4)


def test_the_runtime_decides_at_a_threshold_as_scikit_learn_does() -> None:
    pytest.importorskip("onnx", reason="the extra 'export' is not installed")
    from export.networks import voice_onnx
    from occam_sdk.backends import open_session

    data = voices()
    grown = a_forest(data.features, data.label)
    network = forest.network_of(grown)
    inner = (network.left != torch.arange(len(network.left))).nonzero().flatten().tolist()
    rows = data.features[np.arange(len(inner)) % len(data.label)].copy()
    rows[np.arange(len(inner)), network.feature[inner]] = network.threshold[inner]
    got = open_session(voice_onnx(network)).run({"features": rows})["emotion"]
    wanted = np.log(np.maximum(grown.predict_proba(rows), forest.FLOOR))
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


# The command


def test_a_pretrained_model_ends_on_the_other_voices(monkeypatch: pytest.MonkeyPatch) -> None:
    """One corpus first; where only one is there, there is nothing to fine-tune on."""
    heard: list[tuple[list[str], int, bool]] = []
    train = voice.train

    def recording(
        data: voice.Voices, settings: voice.Settings, start: voice.VoiceNetwork | None = None
    ) -> voice.VoiceNetwork:
        heard.append((np.unique(data.corpus).tolist(), settings.epochs, start is not None))
        return train(data, dataclasses.replace(settings, epochs=1), start)

    monkeypatch.setattr(voice, "train", recording)
    first, then = 3, 2
    data = voices()
    recipe = voice.Recipe(
        pretrain="emodb", mlp=voice.Settings(epochs=first), fine_tuning=voice.Settings(epochs=then)
    )
    for part, wanted in (
        (data, [(["emodb"], first, False), (["ravdess"], then, True)]),
        (data[data.corpus == "emodb"], [(["emodb"], first, False)]),
        (data[data.corpus == "ravdess"], [(["ravdess"], first, False)]),
    ):
        heard.clear()
        recipe(part)
        assert heard == wanted


def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *options: str) -> Path:
    """Run it on the small voices, with few epochs and trees."""
    quick = voice.Recipe
    monkeypatch.setattr(
        voice, "Recipe", lambda *given: quick(*given, mlp=QUICK, fine_tuning=QUICK, forest=SMALL)
    )
    monkeypatch.setattr(voice, "load_voices", lambda _: voices())
    run = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", ["voice", "--voices", "-", "--out", str(run), *options])
    voice.main()
    monkeypatch.setattr(voice, "Recipe", quick)
    return run


def test_the_command_leaves_a_model_that_knows_its_recipe_and_a_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = command(monkeypatch, tmp_path, "--model", "mlp+forest", "--pretrain", "ravdess")
    recipe = voice.load_recipe(run / "voice.pt")
    assert recipe == voice.Recipe("mlp+forest", "ravdess", QUICK, QUICK, SMALL)
    report = json.loads((run / "report.json").read_text())
    assert set(report) == {"recipe", "ravdess", "emodb", "cross_corpus"}
    assert report["recipe"] == dataclasses.asdict(recipe)
    assert 0 <= report["emodb"]["uar"] <= 1
    x = voices().features
    np.testing.assert_allclose(
        voice.logits_of(voice.load_voice(run / "voice.pt"), x),
        voice.logits_of(recipe(voices()), x),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pretrain", "afew"), "expected one of emodb, ravdess, got 'afew'"),
        (("--pretrain", "emodb", "--model", "forest"), "a forest cannot be fine-tuned"),
    ],
)
def test_what_cannot_be_pretrained_is_refused(
    options: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        command(monkeypatch, tmp_path, *options)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# What is learnt from


def utterances(folder: Path, **columns: np.ndarray) -> Path:
    label = np.arange(28) % 7
    features = np.random.default_rng(0).normal(size=(28, 1582))
    return write_cache(folder, "voice", label=label, features=features, **columns)


def test_only_the_train_part_is_learnt_from(tmp_path: Path) -> None:
    split = np.array(["train", "valid", "test", "train"] * 7)
    assert len(voice.load_voices([utterances(tmp_path / "own", split=split)]).label) == 14


def test_a_speaker_whom_nobody_knows_is_a_speaker_of_their_own(tmp_path: Path) -> None:
    heard = voice.load_voices([utterances(tmp_path / "own")])
    assert len(set(heard.speaker.tolist())) == 28
    held_out = list(voice.speaker_folds(heard, "own"))
    assert len(held_out) == voice.FOLDS
    assert np.sum(held_out, axis=0).tolist() == [1] * 28


def test_a_corpus_without_voices_is_refused(tmp_path: Path) -> None:
    faces = write_cache(
        tmp_path / "faces", "face", label=np.array([1]), pixels=np.zeros((1, SIZE, SIZE), np.uint8)
    )
    for folders in ([faces], [utterances(tmp_path / "own"), faces]):
        with pytest.raises(ValueError, match="faces: no labelled voice in its Train part"):
            voice.load_voices(folders)
