"""A model bundle: a folder with ``manifest.json`` and the files it names, each checked by its hash.

A bundle is input from a stranger: it holds ONNX, JSON and ``.npz`` without pickles, so that loading
one can run no code, and no name in it may lead out of its folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from .backends import BATCH, Network, Shapes
from .errors import BundleError
from .labels import LABELS

FORMAT_VERSION: Final = 1
DEFAULT_BUNDLE: Final = Path(__file__).parent / "models"
MANIFEST: Final = "manifest.json"
MAX_MANIFEST_BYTES: Final = 1 << 20
MAX_CHUNKS: Final = 1024
MAX_MEMBERS: Final = 1024
EMBEDDING: Final = 512
NETWORKS: Final = ("detector", "expression", "voice")
SPEECH: Final = "speech"  # the network that some bundles hear with
SPEECH_FEATURES: Final = "GE2E"
FEATURE_SETS: Final[Mapping[str, int]] = {SPEECH_FEATURES: 256, "IS10_paraling_compat": 1582}
"""What a piece of sound becomes, and how many features that is: the states of a speaker encoder in the
bundle, or openSMILE's functionals, which are the paper's [2.2]."""
SPEECH_SAMPLES: Final = (16_000, 96_000, 120_000)  # shortest, usual and longest piece of sound
DETECTOR_SIDES: Final = (32, 320, 1920)  # smallest, usual and largest side of what is searched
_FILE_NAME: Final = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
_MAX_NUMBER: Final = float(np.finfo(np.float32).max)

T = TypeVar("T")


@dataclass(frozen=True)
class Licence:
    """Terms of a part of the bundle: its name, what it asks, whether commercial use is allowed."""

    name: str
    terms: str
    commercial_ok: Literal["yes", "no", "unknown"]


@dataclass(frozen=True, eq=False)
class LinearHeads:
    """What turns the embeddings of a clip's frames into an answer.

    Emotion is judged by an ensemble of k linear classifiers from different initialisations, whose
    scores are averaged [2.4]. Each may weigh the frames by a sigmoid regressor of its own on valence
    and arousal [2.1]; of zeros, it is average pooling, so both kinds go into one ensemble. Valence and
    arousal have one head, on the mean embedding: the regressors are learned for emotion alone.

    Attributes:
        emotion_weight, emotion_bias: (k, 7, 512) and (k, 7) float32, 1 <= k <= ``MAX_MEMBERS``, to
            logits over ``LABELS``.
        valence_arousal_weight, valence_arousal_bias: (2, 512) and (2,) float32.
        frame_weight, frame_bias: (k, 2) and (k,) float32, of the frame weights sigmoid(weight .
            (valence, arousal) + bias), or None: all frames weigh the same for every classifier.
    """

    emotion_weight: NDArray[np.float32]
    emotion_bias: NDArray[np.float32]
    valence_arousal_weight: NDArray[np.float32]
    valence_arousal_bias: NDArray[np.float32]
    frame_weight: NDArray[np.float32] | None = None
    frame_bias: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class FaceModel:
    """How faces are to be cut and scored.

    Attributes:
        input_size: side of an aligned face, pixels.
        mean, std: of the grey value in [0, 1], taken out before the network.
        template: (5, 2) float32, where the landmarks lie, in fractions of the side.
        chunks: n of the frame selection.
        temperature: logits are divided by it, those of every classifier of ``heads`` too.
        heads: for the pooled embeddings.
    """

    input_size: int
    mean: float
    std: float
    template: NDArray[np.float32]
    chunks: int
    temperature: float
    heads: LinearHeads


@dataclass(frozen=True)
class VoiceModel:
    """How a voice is to be scored: a key of ``FEATURE_SETS`` and the temperature of the logits."""

    feature_set: str
    temperature: float

    @property
    def feature_count(self) -> int:
        """Of the features that the voice network takes."""
        return FEATURE_SETS[self.feature_set]


@dataclass(frozen=True)
class FusionModel:
    """The late fusion [2.3] when both modalities are there.

    Attributes:
        face, voice: weights of the scores; they sum to 1.
        temperature: of the weighted mean. The mean of two scores says less than it knows: where both
            agree, it is no surer than one of them. Below 1 makes up for that.
        mean: "arithmetic" is the paper's; "geometric" is that of the scores' logarithms: what one
            modality rules out the other cannot bring back.
    """

    face: float
    voice: float
    temperature: float = 1.0
    mean: Literal["arithmetic", "geometric"] = "arithmetic"


@dataclass(frozen=True)
class Int8Form:
    """What the manifest says of a network's INT8 file.

    Attributes:
        layers: convolutions and matrix products that it quantises.
        default: whether it is the form that runs unless said otherwise.
    """

    layers: int
    default: bool


@dataclass(frozen=True, eq=False)
class Bundle:
    """A checked bundle.

    Attributes:
        name: of the model, as in ``recognizer.info``.
        path: its folder.
        face, voice, fusion: settings of the stages.
        int8: of the networks that also have an INT8 form, by name.
        trained_on, metrics: what its makers say of it, as in the manifest.
        licences: under "code", "weights" and "data".
        files: "size" and "sha256" of each, by name.
    """

    name: str
    path: Path
    face: FaceModel
    voice: VoiceModel
    fusion: FusionModel
    int8: Mapping[str, Int8Form]
    trained_on: tuple[str, ...]
    metrics: Mapping[str, Any]
    licences: Mapping[str, Licence]
    files: Mapping[str, Mapping[str, Any]]

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of its networks: ``NETWORKS``, and ``SPEECH`` if it hears with that."""
        hears = self.voice.feature_set == SPEECH_FEATURES
        return (*NETWORKS, SPEECH) if hears else NETWORKS

    def has(self, name: str) -> bool:
        """Whether the manifest names this file."""
        return name in self.files

    def read(self, name: str) -> bytes:
        """The bytes of one of the bundle's files.

        Raises:
            BundleError: the bundle has no such file, or its bytes are not those of the manifest.
        """
        if name not in self.files:
            raise BundleError(f"{self.path}: the manifest names no file {name!r}")
        return _read_checked(self.path, name, self.files[name])

    def network(self, name: str) -> Network:
        """One of ``networks``, in every precision that there is.

        Raises:
            BundleError: a file has changed since the bundle was loaded.
        """
        form = self.int8.get(name)
        return Network(
            name=name,
            float32=self.read(f"{name}.onnx"),
            int8=None if form is None else self.read(f"{name}.int8.onnx"),
            int8_layers=0 if form is None else form.layers,
            prefers_int8=form is not None and form.default,
            never_int8=name == SPEECH,
            shapes=self._shapes(name),
        )

    def _shapes(self, name: str) -> Shapes:
        if name == "detector":
            small, usual, large = ((1, 3, side, side) for side in DETECTOR_SIDES)
            return {"image": (small, usual, large)}
        if name == "expression":
            side = self.face.input_size
            return {"image": ((1, 1, side, side), (BATCH, 1, side, side), (BATCH, 1, side, side))}
        if name == SPEECH:
            shortest, usual_length, longest = SPEECH_SAMPLES
            return {"samples": ((1, shortest), (1, usual_length), (1, longest))}
        features = self.voice.feature_count
        return {"features": ((1, features), (1, features), (BATCH, features))}


def load_bundle(path: Path = DEFAULT_BUNDLE) -> Bundle:
    """Read and check a bundle: manifest, size and hash of every file.

    Raises:
        BundleError: what is wrong, which file, and what to do about it.

    Example:
        >>> load_bundle().face.chunks
        16
    """
    manifest = _read_manifest(path)
    fields = _Fields(path / MANIFEST, manifest)
    version = fields.get("format_version", int)
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path / MANIFEST}: format version {version}, this occam-sdk reads {FORMAT_VERSION}; "
            "install the occam-sdk that the bundle was made for"
        )
    labels = fields.get("labels", list)
    if tuple(labels) != LABELS:
        raise fields.error("labels", f"must be {list(LABELS)}, got {labels}")
    files = fields.get("files", dict)
    for name in files:
        _read_checked(path, name, fields.at("files", name))
    bundle = Bundle(
        name=fields.get("name", str),
        path=path,
        face=_face_model(path, fields, files),
        voice=_voice_model(path, fields),
        fusion=_fusion_model(fields),
        int8=_int8_forms(fields, files),
        trained_on=tuple(map(str, fields.get("trained_on", list))),
        metrics=fields.get("metrics", dict),
        licences={part: _licence(fields, part) for part in ("code", "weights", "data")},
        files=files,
    )
    for needed in bundle.networks:
        if f"{needed}.onnx" not in files:
            raise fields.error("files", f"lacks {f'{needed}.onnx'!r}")
    return bundle


class _Fields:
    """Typed access to a manifest; an error names the file and the field."""

    def __init__(self, source: Path, manifest: Mapping[str, Any]) -> None:
        self._source = source
        self._manifest = manifest

    def at(self, *keys: str) -> Any:
        node: Any = self._manifest
        for key in keys:
            if not isinstance(node, dict) or key not in node:
                raise self.error(".".join(keys), "is missing")
            node = node[key]
        return node

    def has(self, field: str) -> bool:
        return field in self._manifest

    def get(self, field: str, kind: type[T]) -> T:
        value = self.at(*field.split("."))
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(field, f"must be of type {kind.__name__}, got {value!r}")
        return value

    def number(self, field: str) -> float:
        value = self.at(*field.split("."))
        if not _is_number(value):
            raise self.error(field, f"must be a finite number, got {value!r}")
        return float(value)

    def positive(self, field: str) -> float:
        value = self.number(field)
        if np.float32(value) <= 0:
            raise self.error(field, f"must be above zero, got {value}")
        return value

    def error(self, field: str, what: str) -> BundleError:
        return BundleError(f"{self._source}: {field!r} {what}; get a complete copy of the bundle")


def _is_number(value: object) -> bool:
    """Whether this is a number, no truth value, that float32 can hold."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(cast(float, value)) <= _MAX_NUMBER  # False for NaN


def _read_manifest(path: Path) -> dict[str, Any]:
    source = path / MANIFEST
    if not source.is_file():
        raise BundleError(
            f"{source}: not found; name the folder of a bundle, with its manifest.json"
        )
    if source.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"{source}: larger than {MAX_MANIFEST_BYTES} bytes, so no manifest; "
            "get a complete copy of the bundle"
        )
    try:
        manifest = json.loads(source.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{source}: not valid JSON ({error}); get a complete copy") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"{source}: must be a JSON object; get a complete copy of the bundle")
    return manifest


def _read_checked(path: Path, name: str, entry: Any) -> bytes:
    source = path / name
    if not _FILE_NAME.fullmatch(name) or source.is_symlink():
        raise BundleError(
            f"{path / MANIFEST}: {name!r} is no plain file of the bundle and may lead out of it; "
            "do not use it"
        )
    if not source.is_file():
        raise BundleError(f"{source}: missing; get a complete copy of the bundle")
    if not isinstance(entry, dict) or not {"size", "sha256"} <= entry.keys():
        raise BundleError(
            f"{path / MANIFEST}: {name!r} needs a size and a sha256; get a complete copy"
        )
    if source.stat().st_size != entry["size"]:
        raise BundleError(
            f"{source}: {source.stat().st_size} bytes instead of {entry['size']}; "
            "it was cut or changed, get a fresh copy of the bundle"
        )
    content = source.read_bytes()
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise BundleError(
            f"{source}: its SHA-256 is not the manifest's; "
            "it was changed, get a fresh copy of the bundle"
        )
    return content


def _face_model(path: Path, fields: _Fields, files: Mapping[str, Any]) -> FaceModel:
    size, chunks = fields.get("face.input_size", int), fields.get("face.chunks", int)
    if not 1 <= size <= 1024 or not 1 <= chunks <= MAX_CHUNKS:
        raise fields.error(
            "face", f"needs an input_size from 1 to 1024 and 1 to {MAX_CHUNKS} chunks"
        )
    if fields.get("face.colour", str) != "grey":
        raise fields.error("face.colour", "must be 'grey'")
    if "heads.npz" not in files:
        raise fields.error("files", "lacks 'heads.npz'")
    return FaceModel(
        input_size=size,
        mean=fields.number("face.mean"),
        std=fields.positive("face.std"),
        template=_template(fields),
        chunks=chunks,
        temperature=fields.positive("face.temperature"),
        heads=_heads(path / "heads.npz", _read_checked(path, "heads.npz", files["heads.npz"])),
    )


def _template(fields: _Fields) -> NDArray[np.float32]:
    points = fields.get("face.template", list)
    pairs = [p for p in points if isinstance(p, list) and len(p) == 2 and all(map(_is_number, p))]
    if len(points) != 5 or len(pairs) != 5 or pairs.count(pairs[0]) == 5:
        raise fields.error("face.template", f"must be five [x, y] points that differ, got {points}")
    return np.array(pairs, np.float32)


def _heads(source: Path, content: bytes) -> LinearHeads:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except Exception as error:  # a damaged archive raises anything: zlib.error, EOFError, TypeError
        raise BundleError(
            f"{source}: not an .npz without pickles ({error}); get a complete copy of the bundle"
        ) from error
    weight = arrays.get("emotion_weight")
    members = len(weight) if weight is not None and weight.ndim == 3 else 0
    if not 1 <= members <= MAX_MEMBERS:
        raise BundleError(
            f"{source}: emotion_weight: expected (k, {len(LABELS)}, {EMBEDDING}) float32 of k from 1 "
            f"to {MAX_MEMBERS} classifiers, got {_describe(weight)}; get a complete copy of the bundle"
        )
    shapes: dict[str, tuple[int, ...]] = {
        "emotion_weight": (members, len(LABELS), EMBEDDING),
        "emotion_bias": (members, len(LABELS)),
        "valence_arousal_weight": (2, EMBEDDING),
        "valence_arousal_bias": (2,),
    }
    if arrays.keys() & {"frame_weight", "frame_bias"}:
        shapes |= {"frame_weight": (members, 2), "frame_bias": (members,)}
    for name, shape in shapes.items():
        array = arrays.get(name)
        if (
            array is None
            or array.shape != shape
            or array.dtype != np.float32
            or not np.isfinite(array).all()
        ):
            raise BundleError(
                f"{source}: {name}: expected {shape} float32 of finite numbers, got "
                f"{_describe(array)}; get a complete copy of the bundle"
            )
    return LinearHeads(**{name: arrays[name] for name in shapes})


def _describe(array: NDArray[Any] | None) -> str:
    return "nothing" if array is None else f"{array.shape} {array.dtype}"


def _voice_model(path: Path, fields: _Fields) -> VoiceModel:
    feature_set = fields.get("voice.feature_set", str)
    if feature_set not in FEATURE_SETS:
        raise BundleError(
            f"{path / MANIFEST}: voice.feature_set {feature_set!r} is unknown, this occam-sdk has "
            f"{', '.join(FEATURE_SETS)}; install the one that the bundle was made for"
        )
    return VoiceModel(feature_set, fields.positive("voice.temperature"))


def _fusion_model(fields: _Fields) -> FusionModel:
    face, voice = fields.number("fusion.face"), fields.number("fusion.voice")
    if min(face, voice) < 0 or not math.isclose(face + voice, 1, abs_tol=1e-6):
        raise fields.error("fusion", f"needs two weights that sum to 1, got {face} and {voice}")
    given = fields.get("fusion", dict)  # bundles made before have neither of these
    mean = given.get("mean", "arithmetic")
    if mean not in ("arithmetic", "geometric"):
        raise fields.error("fusion.mean", f"must be 'arithmetic' or 'geometric', got {mean!r}")
    temperature = fields.positive("fusion.temperature") if "temperature" in given else 1.0
    return FusionModel(face, voice, temperature, mean)


def _int8_forms(fields: _Fields, files: Mapping[str, Any]) -> dict[str, Int8Form]:
    """None of them is needed: a bundle may be float32 alone."""
    forms: dict[str, Int8Form] = {}
    for name in fields.get("int8", dict) if fields.has("int8") else ():
        if name not in NETWORKS:
            raise fields.error("int8", f"may name {', '.join(NETWORKS)}, got {name!r}")
        layers = fields.get(f"int8.{name}.layers", int)
        if layers < 1:
            raise fields.error(f"int8.{name}.layers", f"must be one at least, got {layers}")
        if f"{name}.int8.onnx" not in files:
            raise fields.error("files", f"lacks {f'{name}.int8.onnx'!r}")
        forms[name] = Int8Form(layers, fields.get(f"int8.{name}.default", bool))
    return forms


def _licence(fields: _Fields, part: str) -> Licence:
    commercial_ok = fields.get(f"licences.{part}.commercial_ok", str)
    if commercial_ok not in ("yes", "no", "unknown"):
        raise fields.error(f"licences.{part}.commercial_ok", "must be 'yes', 'no' or 'unknown'")
    return Licence(
        name=fields.get(f"licences.{part}.name", str),
        terms=fields.get(f"licences.{part}.terms", str),
        commercial_ok=cast(Literal["yes", "no", "unknown"], commercial_ok),
    )
