"""A corpus in words, for whoever has to decide whether it is the one they meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from occam_sdk.labels import FERPLUS_LABELS, LABELS

from ..samples import Corpus, LeftOut, Sample

_NAMES_SHOWN: Final = 3


def summary(corpus: Corpus) -> str:
    """Several lines: samples by split and class, what was lost, what was left out and why."""
    return "\n".join(_lines(corpus))


def reasons(left_out: Iterable[LeftOut]) -> list[str]:
    """One line a reason, the most frequent first: "missing: 4 (a.png, b.png, c.png, ...)"."""
    named: dict[str, list[str]] = {}
    for item in left_out:
        named.setdefault(item.reason, []).append(item.what)
    lines = []
    for reason, names in sorted(named.items(), key=lambda item: -len(item[1])):
        shown = [*names[:_NAMES_SHOWN], *(["..."] if len(names) > _NAMES_SHOWN else [])]
        lines.append(f"{reason}: {len(names):,} ({', '.join(shown)})")
    return lines


def _lines(corpus: Corpus) -> Iterator[str]:
    subjects = {sample.subject for sample in corpus.samples} - {None}
    yield f"{corpus.name}: {len(corpus.samples):,} {corpus.media}s" + (
        f", {len(subjects):,} subjects" if subjects else ""
    )
    for split in ("train", "valid", "test"):
        classes = Counter(_class_name(s) for s in corpus.samples if s.split == split)
        if classes:
            yield f"  {split} {classes.total():,}: {_counted(classes)}"
    rated = sum(sample.valence_arousal is not None for sample in corpus.samples)
    if rated:
        yield f"  with valence and arousal: {rated:,}"
    if corpus.lost:
        yield f"  lost: {_counted(Counter(corpus.lost))}"
    if corpus.left_out:
        yield f"  left out: {len(corpus.left_out):,}"
        for line in reasons(corpus.left_out):
            yield f"    {line}"


def _class_name(sample: Sample) -> str:
    if sample.label is not None:
        return LABELS[sample.label]
    if sample.votes is not None:
        return f"{FERPLUS_LABELS[sample.votes.index(max(sample.votes))]} by votes alone"
    return "no class"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())
