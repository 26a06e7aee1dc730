"""Small prepared corpora, made here: what ``training.prepare`` would leave of data that is not here."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from occam_sdk.bundle import EMBEDDING
from occam_sdk.labels import LABELS
from training.cache import REPORT, Samples, sha256_of
from training.clips import CHUNKS, Clips

from .bundles import TEMPLATE

SIZE = 64


def write_cache(folder: Path, media: str, **given: NDArray[np.generic]) -> Path:
    """A prepared corpus of N samples; what is not given is unknown, absent, or different for each."""
    count = len(given["label"])
    faces = np.asarray(given.pop("pixels", np.zeros((0, SIZE, SIZE), np.uint8)))
    voices = np.asarray(given.pop("features", np.zeros((0, 1582), np.float32)), np.float32)
    columns: dict[str, NDArray[np.generic]] = {
        "corpus": np.full(count, folder.name),
        "path": np.array([f"{folder.name}/{i:05d}" for i in range(count)]),
        "split": np.full(count, "train"),
        "subject": np.full(count, ""),
        "votes": np.zeros((count, 8), np.float32),
        "valence_arousal": np.full((count, 2), np.nan, np.float32),
        "digest": np.array([_digest(f"{folder.name}/{i}") for i in range(count)]),
        "found": np.ones(count, np.bool_),
        "faces": np.full(count, int(media == "face"), np.int64),
        "voices": np.full(count, int(media == "voice"), np.int64),
        "times_s": np.zeros(len(faces)),
        **given,
    }
    columns["label"] = np.asarray(columns["label"], np.int64)
    folder.mkdir(parents=True)
    np.save(folder / "faces.npy", faces)
    np.save(folder / "voices.npy", voices)
    np.savez(folder / "samples.npz", **columns)  # type: ignore[arg-type]
    report = {
        "corpus": folder.name, "media": media, "size": SIZE, "template": TEMPLATE,
        "samples": count, "used": count,
        "sha256": sha256_of(folder / "faces.npy", folder / "voices.npy", folder / "samples.npz"),
    }  # fmt: skip
    (folder / REPORT).write_text(json.dumps(report))
    return folder


def striped(label: NDArray[np.int64], seed: int = 0) -> NDArray[np.uint8]:
    """(N, 64, 64) stripes whose width is the class, with noise: what a network learns at once."""
    rng = np.random.default_rng(seed)
    columns = np.arange(SIZE)
    pictures = [128 + 100 * np.sin(columns * (c + 1) / 3)[None].repeat(SIZE, 0) for c in label]
    noisy = np.reshape(pictures, (-1, SIZE, SIZE)) + rng.normal(0, 5, (len(label), SIZE, SIZE))
    return np.asarray(noisy.clip(0, 255), np.uint8)


def face_cache(folder: Path, count: int = 84, valid: int = 14) -> Path:
    """Striped faces with labels and votes: some to learn from, some to choose on."""
    label = np.arange(count) % len(LABELS)
    votes = np.zeros((count, 8), np.float32)
    votes[np.arange(count), label] = 10
    split = np.where(np.arange(count) < count - valid, "train", "valid")
    return write_cache(folder, "face", label=label, votes=votes, split=split, pixels=striped(label))


def clip_cache(folder: Path, clips: int = 84, frames: int = 5, seed: int = 0) -> Path:
    """Clips of striped faces and of a voice that says its class, by six subjects in three splits."""
    rng = np.random.default_rng(seed)
    label = np.arange(clips) % len(LABELS)
    features = rng.normal(size=(clips, 1582)).astype(np.float32)
    features[np.arange(clips), label] += 30
    number = np.arange(clips) // len(LABELS)
    split = np.array(["train", "train", "valid", "test"])[number % 4]
    subject = np.array([f"{split[i]}-{(number[i] // 4) % 2}" for i in range(clips)])
    return write_cache(
        folder, "clip", label=label, split=split, subject=subject,
        faces=np.full(clips, frames), voices=np.ones(clips, np.int64), features=features,
        pixels=striped(np.repeat(label, frames)),
        times_s=np.tile(np.arange(frames) / 25, clips),
    )  # fmt: skip


def embedded_clips(
    count: int = 84,
    *,
    frames: int | NDArray[np.int64] = CHUNKS,
    pieces: int | NDArray[np.int64] = 1,
    signal: float = 1.0,
    seed: int = 0,
    **given: NDArray[np.generic],
) -> Clips:
    """Clips as a face network would have embedded them; frames and voices say their class.

    Args:
        count: of clips, by six subjects in three splits.
        frames: chosen ones of each clip; 0 for one without a face.
        pieces: of sound of each clip; 0 for one without a voice.
        signal: how much louder than the noise the class is; 0 leaves nothing to learn.
        seed: of the noise.
        given: columns of ``Samples`` in place of those made here.
    """
    rng = np.random.default_rng(seed)
    frames, pieces = np.broadcast_to(frames, count), np.broadcast_to(pieces, count)
    number = np.arange(count)
    label = number % len(LABELS)
    split = np.array(["train", "train", "valid", "test"])[number // len(LABELS) % 4]
    columns: dict[str, NDArray[np.generic]] = {
        "corpus": np.full(count, "made"),
        "path": np.array([f"{i:05d}" for i in number]),
        "split": split,
        "subject": np.array([f"{split[i]}-{i // 28 % 2}" for i in number]),
        "label": label,
        "votes": np.zeros((count, 8), np.float32),
        "valence_arousal": np.full((count, 2), np.nan, np.float32),
        "digest": np.array([_digest(f"made/{i}") for i in number]),
        "found": frames > 0,
        "faces": frames.astype(np.int64),
        "voices": pieces.astype(np.int64),
        **given,
    }
    chosen = np.arange(CHUNKS) < frames[:, None]
    embeddings = rng.normal(size=(count, CHUNKS, EMBEDDING)).astype(np.float32)
    embeddings[number, :, label] += signal * 8
    valence_arousal = rng.uniform(-1, 1, (count, CHUNKS, 2)).astype(np.float32)
    scores = rng.random((count, len(LABELS))) + signal * np.eye(len(LABELS))[label]
    scores[frames == 0] = np.nan
    features = rng.normal(size=(int(pieces.sum()), 1582)).astype(np.float32)
    features[np.arange(len(features)), label.repeat(pieces)] += signal * 30
    return Clips(
        name="made",
        samples=Samples(**columns),  # type: ignore[arg-type]
        embeddings=embeddings * chosen[..., None],
        valence_arousal=valence_arousal * chosen[..., None],
        chosen=chosen,
        frame_scores=(scores / scores.sum(1, keepdims=True)).astype(np.float32),
        voices=features,
        inputs={"clips": f"made of seed {seed}", "network": "none"},
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
