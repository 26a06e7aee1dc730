"""Corpora of acted speech: IEMOCAP, RAVDESS and EMO-DB. All are for testing by speaker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ..samples import Corpus, Sample
from .build import MALFORMED, Draft, files_below, number

IEMOCAP_SESSIONS: Final = tuple(f"Session{number}" for number in range(1, 6))
AUDIO: Final = (".wav", ".flac")

_IEMOCAP_TURN: Final = re.compile(
    r"\[[\d. -]+\]\s+(?P<turn>Ses(?P<session>0[1-5])[FM]_\w+_(?P<sex>[FM])\w*)"
    r"\s+(?P<code>\w+)\s+\[(?P<ratings>[^\]]*)\]\s*"
)
_RAVDESS_NAME: Final = re.compile(r"\d\d-01-(?P<code>\d\d)(-\d\d){3}-(?P<who>\d\d)")  # 02: sung
_EMODB_NAME: Final = re.compile(r"(?P<who>\d\d)[a-z]\d\d(?P<code>[A-Z])[a-z]?")


def read_iemocap(root: Path) -> Corpus:
    """IEMOCAP (Busso et al. 2008): dialogues of ten actors, by turn, as the raters agreed.

    Valence and activation, 1 to 5, become -1 to 1. A turn without a class here is lost even though
    it has them. The subject is the session and the sex of who speaks: "03F".
    """
    draft = Draft(
        "iemocap",
        "voice",
        root,
        "Session1/ to Session5/ with dialog/EmoEvaluation/*.txt and sentences/wav/",
    )
    if not any(draft.locate(name) for name in IEMOCAP_SESSIONS):
        draft.locate_or_raise(IEMOCAP_SESSIONS[0])
    for name in IEMOCAP_SESSIONS:
        session = draft.locate(name)
        tables = [] if session is None else sorted(session.glob("dialog/EmoEvaluation/[!.]*.txt"))
        if session is None or not tables:
            draft.leave_out(f"{name}/dialog/EmoEvaluation/*.txt", "missing")
            continue
        for table in tables:
            _read_evaluation(draft, table, session / "sentences" / "wav")
    return draft.corpus()


def _read_evaluation(draft: Draft, table: Path, audio: Path) -> None:
    lines = table.read_text(encoding="utf-8", errors="replace").splitlines()
    for line_number, line in enumerate(lines, start=1):
        if not line.startswith("["):  # a heading, or what one of the raters said
            continue
        turn = _IEMOCAP_TURN.fullmatch(line)
        try:
            ratings = [number(text) for text in turn["ratings"].split(",")] if turn else []
        except ValueError:
            ratings = []
        if turn is None or len(ratings) != 3:
            draft.leave_out(f"{table.name}, line {line_number}", MALFORMED)
            continue
        path = audio / turn["turn"].rpartition("_")[0] / f"{turn['turn']}.wav"
        emotion = draft.classify("iemocap", turn["code"], path)
        if emotion is not None:
            valence, arousal = (min(max((rating - 3) / 2, -1.0), 1.0) for rating in ratings[:2])
            draft.add(
                Sample(
                    path,
                    "train",
                    subject=turn["session"] + turn["sex"],
                    label=emotion.label,
                    valence_arousal=(valence, arousal),
                )
            )


def read_ravdess(root: Path) -> Corpus:
    """RAVDESS speech (Livingstone & Russo 2018), 24 actors; calm is lost: 1,248 of 1,440 utterances."""
    draft = Draft("ravdess", "voice", root, "Actor_01/03-01-01-01-01-01-01.wav, ... (or .flac)")
    return _read_by_name(draft, _RAVDESS_NAME)


def read_emodb(root: Path) -> Corpus:
    """EMO-DB (Burkhardt et al. 2005), 10 speakers; boredom is lost: 454 of 535 utterances."""
    draft = Draft("emodb", "voice", root, "wav/03a01Fa.wav, ... (or .flac)")
    return _read_by_name(draft, _EMODB_NAME)


def _read_by_name(draft: Draft, pattern: re.Pattern[str]) -> Corpus:
    """A corpus whose files' names say everything; the same name twice is the same utterance."""
    seen: set[str] = set()
    for path in files_below(draft.root, AUDIO):
        name = pattern.fullmatch(path.stem)
        if name is None:
            draft.leave_out(path, "not named like this corpus's speech")
        elif path.stem in seen:
            draft.leave_out(path, "there twice")
        else:
            seen.add(path.stem)
            emotion = draft.classify(draft.name, name["code"], path)
            if emotion is not None:
                draft.add(Sample(path, "train", subject=name["who"], label=emotion.label))
    return draft.corpus()
