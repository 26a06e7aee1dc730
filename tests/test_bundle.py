"""A bundle loads when it is complete; anything else is a BundleError that names the file."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from occam_sdk.bundle import MANIFEST, MAX_MANIFEST_BYTES, MAX_MEMBERS, load_bundle
from occam_sdk.errors import BundleError, OccamError
from occam_sdk.labels import LABELS

from .bundles import (
    NETWORKS,
    TEMPLATE,
    drop_field,
    entry,
    make_heads,
    make_manifest,
    npz,
    put_file,
    read_manifest,
    set_field,
    write_bundle,
    write_manifest,
)

REMEDY = re.compile(r"(get|install|name|do not use) ")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def _refused(folder: Path, names: str) -> str:
    """The message of the error that loading raises, which names this file and says what to do."""
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    message = str(caught.value)
    assert str(folder / names) in message
    assert REMEDY.search(message.replace(str(folder), ""))
    return message


# ---- what loads


def test_a_complete_bundle_loads_with_everything_that_its_manifest_says(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert (bundle.name, bundle.path) == ("test-bundle", folder)
    assert (bundle.face.input_size, bundle.face.chunks) == (48, 16)
    assert (bundle.face.mean, bundle.face.std, bundle.face.temperature) == (0.5, 0.25, 1.5)
    assert bundle.face.template.dtype == np.float32
    np.testing.assert_allclose(bundle.face.template, TEMPLATE, rtol=1e-6)
    assert (bundle.voice.feature_set, bundle.voice.temperature) == ("IS10_paraling_compat", 2.0)
    assert (bundle.fusion.face, bundle.fusion.voice) == (0.65, 0.35)
    assert (bundle.trained_on, bundle.metrics) == (("nothing",), {"accuracy": 0.14})
    assert {part: terms.commercial_ok for part, terms in bundle.licences.items()} == {
        "code": "yes",
        "weights": "yes",
        "data": "yes",
    }


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("members", [1, 50, MAX_MEMBERS])
def test_heads_are_read_with_and_without_frame_weights(
    tmp_path: Path, members: int, weighted: bool
) -> None:
    expected = make_heads(seed=3, members=members, weighted=weighted)
    heads = load_bundle(write_bundle(tmp_path, {"heads.npz": npz(expected)})).face.heads
    assert (heads.frame_weight is not None) == (heads.frame_bias is not None) == weighted
    for name, array in expected.items():
        np.testing.assert_array_equal(getattr(heads, name), array)


def test_a_network_comes_in_every_form_that_the_bundle_has(folder: Path) -> None:
    put_file(folder, "voice.int8.onnx", b"the INT8 form")
    set_field(folder, "int8", {"voice": {"layers": 3, "default": True, "more": "is no error"}})
    bundle = load_bundle(folder)
    network = bundle.network("voice")
    assert (network.name, network.float32) == ("voice", b"the network voice.onnx")
    assert (network.int8, network.int8_layers, network.prefers_int8) == (b"the INT8 form", 3, True)
    assert network.shapes == {"features": ((1, 1582), (1, 1582), (16, 1582))}
    network = bundle.network("expression")
    assert (network.int8, network.int8_layers, network.prefers_int8) == (None, 0, False)
    assert network.shapes["image"] == ((1, 1, 48, 48), (16, 1, 48, 48), (16, 1, 48, 48))


def test_a_bundle_may_have_a_network_to_hear_with(folder: Path) -> None:
    assert load_bundle(folder).networks == ("detector", "expression", "voice")
    set_field(folder, "voice.feature_set", "GE2E")
    assert "lacks 'speech.onnx'" in _refused(folder, MANIFEST)
    put_file(folder, "speech.onnx", b"the network to hear with")
    bundle = load_bundle(folder)
    assert bundle.networks == ("detector", "expression", "voice", "speech")
    assert bundle.voice.feature_count == 256
    network = bundle.network("speech")
    assert (network.float32, network.int8) == (b"the network to hear with", None)
    assert network.shapes == {"samples": ((1, 16_000), (1, 96_000), (1, 120_000))}
    assert bundle.network("voice").shapes == {"features": ((1, 256), (1, 256), (16, 256))}


def test_an_unknown_feature_set_is_refused(folder: Path) -> None:
    set_field(folder, "voice.feature_set", "eGeMAPS")
    message = _refused(folder, MANIFEST)
    assert "eGeMAPS" in message
    assert "has GE2E, IS10_paraling_compat" in message


@pytest.mark.parametrize("int8", [None, {}])
def test_a_bundle_may_be_float32_alone(folder: Path, int8: dict[str, Any] | None) -> None:
    if int8 is not None:
        set_field(folder, "int8", int8)
    bundle = load_bundle(folder)
    assert bundle.int8 == {}
    assert all(bundle.network(name.removesuffix(".onnx")).int8 is None for name in NETWORKS)


def test_an_int8_form_may_be_there_and_not_be_the_default(folder: Path) -> None:
    put_file(folder, "voice.int8.onnx", b"the INT8 form")
    set_field(folder, "int8", {"voice": {"layers": 1, "default": False}})
    assert not load_bundle(folder).network("voice").prefers_int8


def test_an_int8_file_that_changes_after_loading_is_not_read(folder: Path) -> None:
    put_file(folder, "voice.int8.onnx", b"the INT8 form")
    set_field(folder, "int8", {"voice": {"layers": 1, "default": True}})
    bundle = load_bundle(folder)
    (folder / "voice.int8.onnx").write_bytes(b"the INT8 FORM")
    with pytest.raises(BundleError, match=r"voice\.int8\.onnx: its SHA-256"):
        bundle.network("voice")


def test_a_bundle_knows_which_files_it_has(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert bundle.has("voice.onnx")
    assert not bundle.has("samples.npz")


def test_whole_numbers_do_for_fractions(folder: Path) -> None:
    set_field(folder, "fusion", {"face": 1, "voice": 0})
    assert load_bundle(folder).fusion.face == 1.0


def test_a_file_is_read_by_its_name(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert bundle.read("voice.onnx") == b"the network voice.onnx"
    with pytest.raises(BundleError, match=r"names no file 'other\.onnx'"):
        bundle.read("other.onnx")


def test_a_file_that_changes_after_loading_is_not_read(folder: Path) -> None:
    bundle = load_bundle(folder)
    (folder / "voice.onnx").write_bytes(b"the network VOICE.onnx")
    with pytest.raises(BundleError, match=r"voice\.onnx: its SHA-256"):
        bundle.read("voice.onnx")


def test_a_bundle_error_is_an_occam_error_and_a_value_error(tmp_path: Path) -> None:
    with pytest.raises(OccamError):
        load_bundle(tmp_path)
    with pytest.raises(ValueError, match="not found"):
        load_bundle(tmp_path)


# ---- files


@pytest.mark.parametrize("name", [*NETWORKS, "heads.npz"])
def test_one_changed_byte_is_noticed(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert "SHA-256" in _refused(folder, name)


@pytest.mark.parametrize("name", [*NETWORKS, "heads.npz"])
def test_a_cut_file_is_noticed(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    assert f"{len(content) - 1} bytes instead of {len(content)}" in _refused(folder, name)


@pytest.mark.parametrize("name", [*NETWORKS, "heads.npz"])
def test_a_missing_file_is_noticed(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert "missing" in _refused(folder, name)


@pytest.mark.parametrize("name", [*NETWORKS, "heads.npz"])
def test_a_file_that_the_manifest_does_not_list_is_noticed(folder: Path, name: str) -> None:
    manifest = read_manifest(folder)
    del manifest["files"][name]
    write_manifest(folder, manifest)
    assert f"lacks '{name}'" in _refused(folder, MANIFEST)


def test_a_folder_in_place_of_a_file_is_noticed(folder: Path) -> None:
    (folder / "voice.onnx").unlink()
    (folder / "voice.onnx").mkdir()
    assert "missing" in _refused(folder, "voice.onnx")


@pytest.mark.parametrize("told", [None, [], "abc", {"size": 3}, {"sha256": "abc"}])
def test_every_file_needs_a_size_and_a_hash(folder: Path, told: object) -> None:
    manifest = read_manifest(folder)
    manifest["files"]["voice.onnx"] = told
    write_manifest(folder, manifest)
    assert "'voice.onnx' needs a size and a sha256" in _refused(folder, MANIFEST)


@pytest.mark.parametrize(("key", "value"), [("size", "22"), ("size", None), ("sha256", 7)])
def test_a_size_or_hash_of_another_type_never_fits(folder: Path, key: str, value: object) -> None:
    manifest = read_manifest(folder)
    manifest["files"]["voice.onnx"][key] = value
    write_manifest(folder, manifest)
    _refused(folder, "voice.onnx")


@pytest.mark.parametrize(
    "name",
    [
        *("../x", "..", ".", "", "sub/x", "./x", "{absolute}", "sub\\x", "..\\x", "C:x"),
        *("x\0", "\ud800", "x" * 5000, " x", "x\n", ".hidden", "-x"),
    ],
)
def test_a_name_that_could_lead_out_of_the_folder_is_refused(
    folder: Path, tmp_path: Path, name: str
) -> None:
    secret = tmp_path / "x"
    secret.write_bytes(b"secret")
    (folder / "sub").mkdir()
    (folder / "sub" / "x").write_bytes(b"secret")
    manifest = read_manifest(folder)
    manifest["files"][name.replace("{absolute}", str(secret))] = entry(b"secret")
    write_manifest(folder, manifest)
    assert "may lead out" in _refused(folder, MANIFEST)


@pytest.mark.parametrize("target", ["../secret", "voice.onnx", "nowhere"])
def test_a_link_is_refused_wherever_it_leads(folder: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "secret").write_bytes((folder / "voice.onnx").read_bytes())
    (folder / "voice.onnx").unlink()
    (folder / "voice.onnx").symlink_to(target)
    assert "may lead out" in _refused(folder, MANIFEST)


def test_the_bundles_own_folder_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert load_bundle(link).name == "test-bundle"


# ---- manifest


def _leaves(node: dict[str, Any], prefix: str = "") -> list[str]:
    fields = []
    for key, value in node.items():
        fields.append(prefix + key)
        if isinstance(value, dict) and key not in ("files", "metrics"):
            fields += _leaves(value, f"{prefix}{key}.")
    return fields


@pytest.mark.parametrize("field", _leaves(make_manifest()))
def test_every_field_of_the_manifest_is_needed(folder: Path, field: str) -> None:
    drop_field(folder, field)
    message = _refused(folder, MANIFEST)
    assert re.search(rf"'{field}(\..*)?' is missing", message)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format_version", "1"),
        ("format_version", 1.0),
        ("format_version", True),
        ("name", None),
        ("name", 3),
        ("labels", "Angry"),
        ("labels", list(LABELS)[::-1]),
        ("labels", list(LABELS)[:-1]),
        ("labels", [*LABELS, "Contempt"]),
        ("files", []),
        ("face", []),
        ("face.input_size", 48.0),
        ("face.input_size", True),
        ("face.input_size", 0),
        ("face.input_size", 100_000),
        ("face.colour", "bgr"),
        ("face.mean", "0.5"),
        ("face.mean", None),
        ("face.mean", float("nan")),
        ("face.mean", 10**400),
        ("face.std", 0),
        ("face.std", -1.0),
        ("face.std", True),
        ("face.std", float("inf")),
        ("face.chunks", 0),
        ("face.chunks", 16.0),
        ("face.chunks", 2**64),
        ("face.temperature", 0.0),
        ("face.temperature", 1e-60),
        ("face.template", {}),
        ("face.template", []),
        ("face.template", TEMPLATE[:4]),
        ("face.template", [*TEMPLATE, [0.5, 0.5]]),
        ("face.template", [0.1] * 10),
        ("face.template", [[0.5, 0.5]] * 5),
        ("face.template", [[0.5, 0.5, 0.5]] * 5),
        ("face.template", [[0.5], *TEMPLATE[1:]]),
        ("face.template", [[0.5, "0.5"], *TEMPLATE[1:]]),
        ("face.template", [[0.5, None], *TEMPLATE[1:]]),
        ("face.template", [[0.5, {}], *TEMPLATE[1:]]),
        ("face.template", [[0.5, float("nan")], *TEMPLATE[1:]]),
        ("face.template", [[0.5, 1e300], *TEMPLATE[1:]]),
        ("face.template", [[0.5, 10**400], *TEMPLATE[1:]]),
        ("voice.feature_set", None),
        ("voice.temperature", -2),
        ("fusion.face", "0.65"),
        ("fusion", {"face": 0.65, "voice": 0.36}),
        ("fusion", {"face": 0.65, "voice": 0.35, "mean": "harmonic"}),
        ("fusion", {"face": 1.5, "voice": -0.5}),
        ("fusion", {"face": float("nan"), "voice": 0.35}),
        ("trained_on", "nothing"),
        ("metrics", []),
        ("licences.data.commercial_ok", "maybe"),
        ("licences.data.commercial_ok", True),
        ("licences.code.name", 1),
        ("licences.weights.terms", None),
    ],
)
def test_a_field_of_another_type_or_range_is_refused(
    folder: Path, field: str, value: object
) -> None:
    set_field(folder, field, value)
    assert field.split(".")[0] in _refused(folder, MANIFEST)


@pytest.mark.parametrize(
    ("int8", "says"),
    [
        ([], "'int8' must be of type dict"),
        (None, "'int8' must be of type dict"),
        ({"nose": {"layers": 1, "default": True}}, "may name detector, expression, voice"),
        ({"expression": {"layers": 1, "default": True}}, "lacks 'expression.int8.onnx'"),
        ({"voice": None}, "'int8.voice.layers' is missing"),
        ({"voice": {"default": True}}, "'int8.voice.layers' is missing"),
        ({"voice": {"layers": 1}}, "'int8.voice.default' is missing"),
        ({"voice": {"layers": 0, "default": True}}, "must be one at least, got 0"),
        ({"voice": {"layers": -1, "default": True}}, "must be one at least, got -1"),
        ({"voice": {"layers": True, "default": True}}, "'int8.voice.layers' must be of type int"),
        ({"voice": {"layers": 1.0, "default": True}}, "'int8.voice.layers' must be of type int"),
        ({"voice": {"layers": "1", "default": True}}, "'int8.voice.layers' must be of type int"),
        ({"voice": {"layers": 1, "default": 1}}, "'int8.voice.default' must be of type bool"),
        ({"voice": {"layers": 1, "default": "no"}}, "'int8.voice.default' must be of type bool"),
    ],
)
def test_what_is_said_of_int8_forms_is_checked(folder: Path, int8: object, says: str) -> None:
    put_file(folder, "voice.int8.onnx", b"the INT8 form")
    set_field(folder, "int8", int8)
    assert says in _refused(folder, MANIFEST)


def test_a_bundle_of_a_later_format_says_to_install_its_own_sdk(folder: Path) -> None:
    set_field(folder, "format_version", 2)
    assert "install the occam-sdk that the bundle was made for" in _refused(folder, MANIFEST)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"\x89PNG\r\n", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"manifest"', "must be a JSON object"),
        (b"{}", "'format_version' is missing"),
        (b" " * MAX_MANIFEST_BYTES + b"{}", "larger than"),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else "",
)
def test_a_manifest_that_is_no_manifest_is_refused(folder: Path, text: bytes, says: str) -> None:
    (folder / MANIFEST).write_bytes(text)
    assert says in _refused(folder, MANIFEST)


@pytest.mark.parametrize(
    "kind", ["no folder", "an empty folder", "a file", "a folder in its place"]
)
def test_without_a_manifest_the_error_says_what_to_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bundle"
    if kind == "a file":
        path.write_bytes(b"{}")
    elif kind == "an empty folder":
        path.mkdir()
    elif kind == "a folder in its place":
        (path / MANIFEST).mkdir(parents=True)
    assert "name the folder of a bundle" in _refused(path, MANIFEST)


# ---- heads.npz


class _Bomb:
    """Unpickling it would leave a trace."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._trace),)


@pytest.mark.parametrize("kind", ["a pickled array", "one more pickled array", "a pickle"])
def test_a_pickle_is_refused_and_never_run(folder: Path, tmp_path: Path, kind: str) -> None:
    trace = tmp_path / "trace"
    bomb = np.array([_Bomb(trace)], object)
    content = {
        "a pickled array": lambda: npz(make_heads() | {"emotion_weight": bomb}),
        "one more pickled array": lambda: npz(make_heads() | {"more": bomb}),
        "a pickle": lambda: pickle.dumps(_Bomb(trace)),
    }[kind]()
    put_file(folder, "heads.npz", content)
    assert "without pickles" in _refused(folder, "heads.npz")
    assert not trace.exists()
    pickle.loads(pickle.dumps(_Bomb(trace)))  # the trap itself works
    assert trace.exists()


def _truncated_member() -> bytes:
    content = bytearray(npz(make_heads()))
    content[200:300] = bytes(100)
    return bytes(content)


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((7, 512), np.float32))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"PK\x03\x04 no archive", id="no archive"),
        pytest.param(_truncated_member(), id="damaged archive"),
        pytest.param(_npy(), id="one array, not several"),
        pytest.param(json.dumps({}).encode(), id="JSON"),
    ],
)
def test_heads_that_are_no_archive_are_refused(folder: Path, content: bytes) -> None:
    put_file(folder, "heads.npz", content)
    assert "not an .npz without pickles" in _refused(folder, "heads.npz")


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("emotion_weight", None),
        ("emotion_weight", np.zeros((), np.float32)),
        ("emotion_weight", np.zeros((7, 512), np.float32)),
        ("emotion_weight", np.zeros((0, 7, 512), np.float32)),
        ("emotion_weight", np.zeros((MAX_MEMBERS + 1, 7, 512), np.float32)),
        ("emotion_weight", np.zeros((1, 3, 7, 512), np.float32)),
        ("emotion_weight", np.zeros((3, 512, 7), np.float32)),
        ("emotion_weight", np.zeros((3, 7, 128), np.float32)),
        ("emotion_weight", np.zeros((3, 7, 512), np.float64)),
        ("emotion_weight", np.full((3, 7, 512), np.nan, np.float32)),
        ("emotion_bias", None),
        ("emotion_bias", np.zeros((7,), np.float32)),
        ("emotion_bias", np.zeros((1, 7), np.float32)),
        ("emotion_bias", np.zeros((4, 7), np.float32)),
        ("emotion_bias", np.zeros((3, 8), np.float32)),
        ("emotion_bias", np.zeros((3, 7, 1), np.float32)),
        ("emotion_bias", np.full((3, 7), -np.inf, np.float32)),
        ("valence_arousal_weight", None),
        ("valence_arousal_weight", np.zeros((1, 512), np.float32)),
        ("valence_arousal_weight", np.zeros((3, 2, 512), np.float32)),
        ("valence_arousal_bias", None),
        ("valence_arousal_bias", np.zeros((), np.float32)),
        ("valence_arousal_bias", np.zeros((3, 2), np.float32)),
        ("frame_weight", None),
        ("frame_weight", np.zeros((2,), np.float32)),
        ("frame_weight", np.zeros((2, 2), np.float32)),
        ("frame_weight", np.zeros((3, 1), np.float32)),
        ("frame_weight", np.zeros((3, 2), np.float16)),
        ("frame_weight", np.full((3, 2), np.inf, np.float32)),
        ("frame_bias", None),
        ("frame_bias", np.zeros((), np.float32)),
        ("frame_bias", np.zeros((1,), np.float32)),
        ("frame_bias", np.zeros((3, 1), np.float32)),
        ("frame_bias", np.full((3,), np.nan, np.float32)),
    ],
)
def test_heads_of_another_shape_or_incomplete_are_refused(
    folder: Path, name: str, array: np.ndarray[Any, Any] | None
) -> None:
    heads = make_heads(members=3, weighted=True)
    del heads[name]
    put_file(folder, "heads.npz", npz(heads if array is None else heads | {name: array}))
    message = _refused(folder, "heads.npz")
    told = "got nothing" if array is None else f"got {array.shape} {array.dtype}"
    assert f"{name}: expected (" in message
    assert told in message


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (0, "emotion_weight: expected (k, 7, 512) float32 of k from 1 to 1024 classifiers"),
        (1, "emotion_bias: expected (1, 7) float32"),
        (2, "emotion_bias: expected (2, 7) float32"),
    ],
)
def test_the_weights_say_how_many_classifiers_there_are(
    folder: Path, members: int, expected: str
) -> None:
    heads = make_heads(members=3)
    heads["emotion_weight"] = np.zeros((members, 7, 512), np.float32)
    put_file(folder, "heads.npz", npz(heads))
    assert expected in _refused(folder, "heads.npz")
