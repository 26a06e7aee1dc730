"""What the confidence of face, voice and both is worth: the bundle's temperatures, weights and own fusion."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from export.calibration import pairs
from occam_sdk.bundle import Bundle
from occam_sdk.fusion import fuse
from occam_sdk.scores import softmax
from occam_sdk.types import FrameScores, ModalityScores
from occam_sdk.video.aggregate import aggregate
from training.faces import LabelledFaces

from .accuracy_faces import run_expression
from .accuracy_figures import Floats, Row, calibration
from .accuracy_voices import NEVER_HEARD, Heard, joined


def calibrations(bundle: Bundle, data: LabelledFaces, heard: Mapping[str, Heard]) -> dict[str, Row]:
    """Of the face, of the voice, and of both fused.

    The face's scores are those of a clip of one frame. No corpus here has faces and voices of the same
    moment, so a voice is paired with a Test face of the same label, drawn with a seed among those that the
    detector finds: what such pairs say of real clips is a guess.
    """
    rows = data.test_rows()
    batch = data.batch(rows)
    label = batch.label.numpy()
    out = run_expression(bundle, batch.faces.numpy())
    face = clip_scores(bundle, out)
    known, usable = label >= 0, (label >= 0) & data.samples.found[rows]
    report = {"face": calibration(face[known], label[known])}
    strangers = joined([one for name, one in heard.items() if name != NEVER_HEARD])
    groups = {"speakers_never_heard": strangers}
    if NEVER_HEARD in heard:
        groups["corpus_never_heard"] = heard[NEVER_HEARD]
    for name, one in groups.items():
        voice = softmax(one.logits / np.float32(bundle.voice.temperature))
        report[f"voice_{name}"] = calibration(voice, one.label, one.speaker)
        own, faces = pairs(one.label, np.where(usable, label, -1))
        if len(own):
            fused = fused_scores(bundle, face[faces], voice[own])
            report[f"fused_{name}"] = calibration(fused, one.label[own], one.speaker[own])
    return report


def clip_scores(bundle: Bundle, out: Mapping[str, Floats]) -> Floats:
    """(N, 7) what the product says of N clips of one frame each, from the network's outputs."""
    scores = softmax(out["emotion"] / np.float32(bundle.face.temperature))
    valence_arousal = out["valence_arousal"].clip(-1, 1)
    pooled = []
    for i in range(len(scores)):
        one = slice(i, i + 1)
        frame = FrameScores(np.zeros(1), scores[one], valence_arousal[one], out["embedding"][one])
        judged = aggregate(frame, bundle.face)
        assert judged is not None  # a frame with finite scores is always chosen
        pooled.append(judged.scores)
    return np.stack(pooled)


def fused_scores(bundle: Bundle, face: Floats, voice: Floats) -> Floats:
    """(N, 7) by the product's own fusion."""
    both = []
    for face_scores, voice_scores in zip(face, voice, strict=True):
        fused = fuse(ModalityScores(face_scores), ModalityScores(voice_scores), bundle.fusion)
        assert fused.scores is not None  # there are both
        both.append(fused.scores)
    return np.stack(both)
