"""Voices, each judged by a network that has never heard the speaker, or never the corpus.

The shipped network has heard every speaker, so the training is repeated without those who are then judged,
and each of those networks goes through ONNX and the runtime like the shipped one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from export.networks import voice_onnx
from occam_sdk.backends import open_session
from occam_sdk.labels import LABELS
from training.voice import AnyVoice, Trainer, Voices, cross_corpus, cross_validate

from .accuracy_figures import Floats, Ints, Names, Row, judged

PROTOCOLS: Final = {"ravdess": "ravdess_six_folds_by_actor", "emodb": "emodb_one_speaker_out"}
NEVER_HEARD: Final = "voices_of_a_corpus_never_heard"
EMODB_WOMEN: Final = frozenset({"08", "09", "13", "14", "16"})


def _ravdess_sex(actor: str) -> str:
    return "female" if int(actor) % 2 == 0 else "male"


def _emodb_sex(speaker: str) -> str:
    return "female" if speaker in EMODB_WOMEN else "male"


SEX: Final[Mapping[str, Callable[[str], str]]] = {"ravdess": _ravdess_sex, "emodb": _emodb_sex}
"""Of a speaker, as the makers of each corpus say: RAVDESS's even actors are women."""


@dataclass(frozen=True, eq=False)
class Heard:
    """What strangers to N utterances say of them.

    Attributes:
        label: (N,) over ``LABELS``.
        logits: (N, 7) float32.
        speaker: (N,) str.
    """

    label: Ints
    logits: Floats
    speaker: Names

    @property
    def guess(self) -> Ints:
        """(N,) over ``LABELS``."""
        return np.asarray(self.logits.argmax(1))


def by_strangers(voices: Voices, trainer: Trainer) -> dict[str, Heard]:
    """Every corpus by networks that never heard the speaker; all of them by ones that never heard the corpus.

    Args:
        voices: utterances of one or more corpora.
        trainer: makes a network of voices, as the shipped one was made.
    """
    heard: dict[str, Heard] = {}
    corpora = np.unique(voices.corpus).tolist()
    for corpus in corpora:
        own = voices[voices.corpus == corpus]
        logits = cross_validate(voices, corpus, trainer, through_runtime)
        heard[protocol(corpus)] = Heard(own.label, logits, _named(own))
    if len(corpora) > 1:
        rows, logits = cross_corpus(voices, trainer, through_runtime)
        heard[NEVER_HEARD] = Heard(voices.label[rows], logits, _named(voices)[rows])
    return heard


def like_shipped(recipe: Trainer, architecture: str | None) -> Trainer:
    """The recipe, refused if what it makes is no network like that of the bundle; None is not checked.

    Raises:
        ValueError: when called: it is another one.
    """

    def train(voices: Voices) -> AnyVoice:
        network = recipe(voices)
        if architecture not in (None, network.architecture):
            raise ValueError(
                f"the bundle's voice is {architecture}, this recipe makes {network.architecture}; "
                "name the run that it was made by as --voice-run, and voices that were prepared with "
                "its --voice-features"
            )
        return network

    return train


def protocol(corpus: str) -> str:
    """Name of the row of a corpus whose speakers were never heard."""
    return PROTOCOLS.get(corpus, f"{corpus}_speakers_never_heard")


def joined(parts: list[Heard]) -> Heard:
    """One after another."""
    return Heard(
        np.concatenate([part.label for part in parts]),
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.speaker for part in parts]),
    )


def _named(voices: Voices) -> Names:
    """Speakers under names that no other corpus has."""
    return np.char.add(np.char.add(voices.corpus, "/"), voices.speaker)


def through_runtime(network: AnyVoice, features: Floats) -> Floats:
    """Logits of a network that went through ONNX, as the product computes them."""
    return open_session(voice_onnx(network)).run({"features": features})["emotion"]


def voice_figures(heard: Mapping[str, Heard]) -> dict[str, Row]:
    """Accuracy, UAR, recalls of each protocol, intervals by drawing speakers."""
    return {name: judged(one.label, one.guess, LABELS, one.speaker) for name, one in heard.items()}


def subgroups(heard: Mapping[str, Heard]) -> dict[str, dict[str, Row]]:
    """By corpus and sex of the speaker, where the corpus tells."""
    report: dict[str, dict[str, Row]] = {}
    for corpus, sex_of in SEX.items():
        one = heard.get(protocol(corpus))
        if one is None:
            continue
        sex = np.array([sex_of(str(who).rpartition("/")[2]) for who in one.speaker])
        report[corpus] = {}
        for group in sorted(set(sex.tolist())):
            own = sex == group
            report[corpus][group] = {
                "speakers": len(np.unique(one.speaker[own])),
                **judged(one.label[own], one.guess[own], LABELS, one.speaker[own]),
            }
    return report
