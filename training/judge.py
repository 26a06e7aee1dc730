"""What a face network says of labelled faces, and how right it is; networks of runs and of bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from occam_sdk.labels import FERPLUS_LABELS, LABELS

from .faces import LabelledFaces, Statistics
from .fit import Settings
from .metrics import accuracy, ccc, recalls
from .network import FaceNetwork
from .shipped import bundle_network, bundle_scale, is_bundle

SEVEN_OF_EIGHT: Final = [FERPLUS_LABELS.index(name) for name in LABELS]
"""Where the seven classes are among the eight."""


@torch.no_grad()
def predict(network: FaceNetwork, faces: Tensor, measured: Statistics) -> dict[str, Tensor]:
    """The network's outputs for (N, S, S) uint8 faces, in float32 without augmentation."""
    network.eval()
    device = next(network.parameters()).device
    parts = [
        network((part.to(device)[:, None].float() / 255 - measured.mean) / measured.std)
        for part in torch.split(faces, 256)
    ]
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}


def evaluate(
    network: FaceNetwork,
    data: LabelledFaces,
    rows: NDArray[np.int64],
    measured: Statistics,
    settings: Settings,
) -> dict[str, Any]:
    """Accuracy, UAR and recalls, accuracy over eight classes, CCC, as far as there are targets.

    "worth" is what an epoch is chosen by: the mean of accuracy and UAR over the seven classes, and the
    mean of that and the accuracy over the eight, as far as they are learnt; if neither is, the mean CCC.
    "accuracy_by_eight" is that of the eight-class head read as seven: what a network pre-trained on
    other annotations is worth before it is transferred.
    """
    batch = data.batch(rows)
    out = {name: value.numpy() for name, value in predict(network, batch.faces, measured).items()}
    known = (batch.label >= 0).numpy()
    voted = (batch.votes.sum(1) > 0).numpy()
    rated = ~batch.valence_arousal.isnan().any(1).numpy()
    result: dict[str, Any] = {}
    worth: list[float] = []
    if known.any():
        label, guess = batch.label.numpy()[known], out["emotion"][known].argmax(1)
        recall = recalls(label, guess, len(LABELS))
        result["accuracy"], result["uar"] = accuracy(label, guess), float(np.nanmean(recall))
        named = zip(LABELS, recall, strict=True)
        result["recall"] = {name: round(float(r), 4) for name, r in named if np.isfinite(r)}
        result["accuracy_by_eight"] = accuracy(
            label, out["ferplus"][known][:, SEVEN_OF_EIGHT].argmax(1)
        )
        worth += [(result["accuracy"] + result["uar"]) / 2] * (settings.emotion_weight > 0)
    if voted.any():
        label, guess = batch.votes.numpy()[voted].argmax(1), out["ferplus"][voted].argmax(1)
        result["ferplus_accuracy"] = accuracy(label, guess)
        worth += [result["ferplus_accuracy"]] * (settings.ferplus_weight > 0)
    if rated.any():
        target, guess = batch.valence_arousal.numpy()[rated], out["valence_arousal"][rated]
        result["ccc_valence"] = ccc(target[:, 0], guess[:, 0])
        result["ccc_arousal"] = ccc(target[:, 1], guess[:, 1])
        worth = worth or [(result["ccc_valence"] + result["ccc_arousal"]) / 2]
    if not worth:
        raise ValueError("the faces to choose on have none of the targets that are learnt")
    return {**result, "worth": sum(worth) / len(worth)}


def load_network(folder: Path) -> FaceNetwork:
    """The averaged network of a run's best epoch, or that of a bundle."""
    if is_bundle(folder):
        return bundle_network(folder)
    saved = torch.load(folder / "checkpoint.pt", weights_only=True, map_location="cpu")
    settings = json.loads((folder / "settings.json").read_text())
    network = FaceNetwork(settings["architecture"], size=settings.get("size"))
    network.load_state_dict(saved["best"]["network"])
    return network.eval()


def load_scale(folder: Path) -> tuple[float, float]:
    """Grey mean and spread in [0, 1] that the network of a run or of a bundle knows."""
    if is_bundle(folder):
        return bundle_scale(folder)
    measured = load_statistics(folder)
    return measured.mean, measured.std


def load_statistics(run: Path) -> Statistics:
    """Of the faces that a run has learnt from."""
    saved = json.loads((run / "statistics.json").read_text())
    return Statistics(saved["mean"], saved["std"], tuple(saved["prior"]))
