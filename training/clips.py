"""Clips as the temporal heads take them: n chosen frames each, embedded by a face network [2.1].

The network is a bundle's (``expression.onnx``, by the product's own runtime) or that of a run of
``training.face``. Embedding costs minutes and is kept beside the clips, under the network's hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from occam_sdk import _core
from occam_sdk.backends import open_session
from occam_sdk.bundle import EMBEDDING, MANIFEST, load_bundle
from occam_sdk.labels import LABELS
from occam_sdk.scores import softmax
from occam_sdk.video.expression import ExpressionNetwork

from .cache import Cache, Samples, load_cache

CHUNKS: Final = 16  # n [2.1]
BATCH: Final = 128
Floats = NDArray[np.float32]
Scorer = Callable[[NDArray[np.uint8]], tuple[Floats, Floats, Floats]]
"""(N, S, S) grey faces to scores (N, 7), valence-arousal (N, 2) and embeddings (N, 512)."""


@dataclass(frozen=True)
class Network:
    """A face network: what identifies it, its input size, its architecture, and a way to open it."""

    key: str
    size: int
    architecture: str
    open: Callable[[], Scorer]


@dataclass(frozen=True, eq=False)
class Clips:
    """N clips with n = 16 chosen frames each, fewer in a clip that has fewer.

    Attributes:
        name: of the corpus.
        samples: label, split, subject of each.
        embeddings: (N, n, 512) float32, zeros where there is no frame.
        valence_arousal: (N, n, 2) float32 in [-1, 1].
        chosen: (N, n) bool, where there is a frame; a clip without a face has none.
        frame_scores: (N, 7) float32, the mean of all frames' scores; NaN without a face.
        voices: (V, F) float32, pieces of sound; ``samples.voices`` says how many are whose.
        inputs: hashes of what they are made of.
    """

    name: str
    samples: Samples
    embeddings: Floats
    valence_arousal: Floats
    chosen: NDArray[np.bool_]
    frame_scores: Floats
    voices: Floats
    inputs: dict[str, str]

    def __len__(self) -> int:
        return len(self.samples)


def load_clips(folder: Path, network: Path) -> Clips:
    """Clips of a prepared corpus, embedded, at once if it was done before.

    Args:
        folder: from ``training.prepare`` or ``training.standin``.
        network: folder of a bundle or of a run of ``training.face``.

    Raises:
        FileNotFoundError: one of the folders is not what it should be.
        ValueError: no clips in it, or faces of another size than the network takes.
    """
    cache = load_cache(folder)
    cache.must_hold("clip")
    opened = open_network(network)
    check_size(cache, opened, network)
    inputs = {"clips": cache.sha256, "network": opened.key}
    kept = folder / f"embedded-{hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]}.npz"
    if not kept.is_file():
        print(f"{folder}: embedding {len(cache.faces)} faces by {network}", flush=True)
        partial = kept.with_suffix(".partial.npz")
        np.savez(partial, **_embed(cache, opened.open()))
        partial.replace(kept)
    with np.load(kept, allow_pickle=False) as file:
        columns = {name: file[name] for name in file.files}
    return Clips(
        name=str(cache.report["corpus"]),
        samples=cache.samples,
        voices=cache.voices,
        inputs=inputs,
        **columns,
    )


def check_size(cache: Cache, opened: Network, network: Path) -> None:
    """Raise ValueError if the network takes faces of another size than the cache holds."""
    if cache.faces.shape[1] != opened.size:
        raise ValueError(
            f"{cache.folder}: faces of {cache.faces.shape[1]} pixels, the network of {network} takes "
            f"{opened.size}; prepare them with --size {opened.size}"
        )


def open_network(network: Path) -> Network:
    """The face network of a bundle or of a run.

    Raises:
        FileNotFoundError: the folder is neither.
    """
    if (network / MANIFEST).is_file():
        bundle = load_bundle(network)
        content = bundle.read("expression.onnx")

        def of_bundle() -> Scorer:
            expression = ExpressionNetwork(open_session(content), bundle.face)

            def score(faces: NDArray[np.uint8]) -> tuple[Floats, Floats, Floats]:
                crops = np.repeat(faces[..., None], 3, axis=-1)
                frames = expression.score(crops, np.arange(len(faces), dtype=np.float64))
                return frames.scores, frames.valence_arousal, frames.embeddings

            return score

        manifest = json.loads((network / MANIFEST).read_text(encoding="utf-8"))
        name = str(manifest["face"].get("architecture", "unknown"))
        used = [bundle.face.mean, bundle.face.std, bundle.face.temperature]
        key = hashlib.sha256(content + json.dumps(used).encode()).hexdigest()
        return Network(key, bundle.face.input_size, name, of_bundle)
    if (network / "checkpoint.pt").is_file():
        import torch

        from .judge import load_network, load_statistics, predict

        trained, measured = load_network(network), load_statistics(network)
        settings = json.loads((network / "settings.json").read_text())
        digest = hashlib.sha256(json.dumps([measured.mean, measured.std]).encode())
        for tensor in trained.state_dict().values():
            digest.update(tensor.numpy().tobytes())

        def of_run() -> Scorer:
            def score(faces: NDArray[np.uint8]) -> tuple[Floats, Floats, Floats]:
                out = predict(trained, torch.from_numpy(faces), measured)
                logits, valence_arousal = out["emotion"].numpy(), out["valence_arousal"].numpy()
                return softmax(logits), np.clip(valence_arousal, -1, 1), out["embedding"].numpy()

            return score

        return Network(digest.hexdigest(), trained.size, settings["architecture"], of_run)
    raise FileNotFoundError(
        f"{network}: neither a bundle ({MANIFEST}) nor a run of training.face (checkpoint.pt)"
    )


def _embed(cache: Cache, score: Scorer) -> dict[str, Any]:
    """Columns of ``Clips``: the product's own selection over the scores of all frames."""
    count = len(cache.samples)
    columns: dict[str, Any] = {
        "embeddings": np.zeros((count, CHUNKS, EMBEDDING), np.float32),
        "valence_arousal": np.zeros((count, CHUNKS, 2), np.float32),
        "chosen": np.zeros((count, CHUNKS), np.bool_),
        "frame_scores": np.full((count, len(LABELS)), np.nan, np.float32),
    }
    last = np.cumsum(cache.samples.faces)
    for clip in range(count):
        faces = cache.faces[last[clip] - cache.samples.faces[clip] : last[clip]]
        if not len(faces):
            continue
        parts = [score(np.asarray(faces[i : i + BATCH])) for i in range(0, len(faces), BATCH)]
        scores, valence_arousal, embeddings = (
            np.concatenate(values) for values in zip(*parts, strict=True)
        )
        frames = _core.select_frames(scores, CHUNKS)
        columns["embeddings"][clip, : len(frames)] = embeddings[frames]
        columns["valence_arousal"][clip, : len(frames)] = valence_arousal[frames]
        columns["chosen"][clip, : len(frames)] = True
        columns["frame_scores"][clip] = scores.mean(0)
        if clip % 200 == 199:
            print(f"{clip + 1} of {count} clips", flush=True)
    return columns
