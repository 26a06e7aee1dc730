"""The accuracy report as text, as Markdown for README and model card, and held against another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from occam_sdk.labels import FERPLUS_LABELS, LABELS
from training import plots

from .accuracy_conditions import CONDITIONS
from .accuracy_faces import GIVEN, PLAIN, SHIPPED

Report = Mapping[str, Any]
ROWS: Final = {
    "fer2013_test": "FER2013 Test, 7 classes",
    "fer2013_test_twin_free": "the same without the twins of training faces",
    "ferplus_test": "FER+ Test, 8 classes, largest vote",
    "ferplus_test_twin_free": "the same without twins",
    "ferplus_test_as_published": "FER+ Test as its authors count: over half agree",
    "ferplus_test_twin_free_as_published": "the same without twins",
    "ravdess_six_folds_by_actor": "RAVDESS, 7 classes, speakers never heard",
    "emodb_one_speaker_out": "EMO-DB cut to 2 s, 6 classes, speakers never heard",
    "voices_of_a_corpus_never_heard": "voices of a corpus never heard",
}
HOW: Final = {
    GIVEN: "found and aligned; a plain crop where no face was found",
    PLAIN: "plain crop, without detector and alignment",
    SHIPPED: "as shipped: detector, alignment; no face found is wrong",
}
SCORES_OF: Final = {
    "face": "face, FER2013 Test",
    "voice_speakers_never_heard": "voice, speakers never heard",
    "voice_corpus_never_heard": "voice, corpus never heard",
    "fused_speakers_never_heard": "both fused, speakers never heard",
    "fused_corpus_never_heard": "both fused, corpus never heard",
}
CORPORA: Final = {"ravdess": "RAVDESS", "emodb": "EMO-DB"}
TURNED_TITLES: Final = {
    "near_frontal": "looks at the camera, or nearly",
    "turned": "turned away",
    "strongly_turned": "strongly turned away",
    "not_found": "not found",
}
DRAWN: Final = (
    "fer2013_test",
    "ferplus_test",
    "ravdess_six_folds_by_actor",
    "emodb_one_speaker_out",
)
NONE: Final = "–"


def print_report(report: Report, inside: str = "") -> None:
    """One line a test, and one for its recalls."""
    for name, row in report.items():
        title = f"{inside}{name}"
        if not isinstance(row, dict):
            print(f"{title}: {row}")
        elif all(isinstance(value, dict) for value in row.values()):
            print_report(row, f"{title}, ")
        else:
            print(f"{title}: " + ", ".join(_told(row)))
            if "recall" in row:
                recall = (f"{key} {_percent(value)}" for key, value in row["recall"].items())
                print("    recall: " + ", ".join(recall))


def _told(row: Mapping[str, Any]) -> Iterator[str]:
    for key, value in row.items():
        if key.endswith("_95") or isinstance(value, (dict, list)):
            continue
        interval = row.get(f"{key}_95")
        ends = f" ({interval[0]:.4g} to {interval[1]:.4g})" if interval else ""
        yield f"{key} {value:.4g}{ends}" if isinstance(value, (int, float)) else f"{key} {value}"


def compared(old: Report, new: Report) -> list[str]:
    """A line for each number that both reports have and that changed, sorted by name."""
    before, after = dict(_scalars(old)), dict(_scalars(new))
    return [
        f"{name}: {before[name]:g} -> {after[name]:g} ({after[name] - before[name]:+.4g})"
        for name in sorted(before.keys() & after.keys())
        if before[name] != after[name]
    ]


def _scalars(report: Report, inside: str = "") -> Iterator[tuple[str, float]]:
    for name, value in report.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{inside}{name}.")
        elif isinstance(value, (int, float)):
            yield f"{inside}{name}", value


def draw(report: Report, folder: Path) -> list[Path]:
    """A confusion matrix of each test as PNG.

    Raises:
        ImportError: matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name in DRAWN:
        if name not in report:
            continue
        row = report[name]
        names = FERPLUS_LABELS if name.startswith("ferplus") else LABELS
        counts = np.array(row["confusion_rows_are_truth"])
        there = [c for c in range(len(names)) if counts[c].any()]  # EMO-DB has no surprise
        path = folder / f"confusion_{name}.png"
        title = f"{ROWS[name]}\n{row['count']} judged, UAR {_percent(row['uar'])} %"
        plots.confusion(path, title, [names[c] for c in there], names, counts[there])
        drawn.append(path)
    return drawn


def markdown(report: Report) -> dict[str, str]:
    """The tables of README and model card, under the names of their blocks; what was measured, no more."""
    blocks = {
        "figures": _figures(report),
        "recalls": _recalls(report),
        "confusion": _confusion(report["fer2013_test"]),
        "more": _more(report),
        "calibration": _calibration(report["calibration"]),
        "subgroups": _subgroups(report["subgroups"]),
    }
    if "side_by_side" in report:
        blocks["side_by_side"] = _side_by_side(report["side_by_side"])
        blocks["conditions"] = _conditions(report["conditions"], report["turned"])
    return {name: "\n".join(lines) for name, lines in blocks.items()}


def _figures(report: Report) -> list[str]:
    rows = [(ROWS[name], report[name]) for name in ROWS if name in report]
    return _table(
        ("what was judged", "how many", "accuracy, % (95 %)", "UAR, % (95 %)"),
        [(title, row["count"], _with_ends(row, "accuracy"), _with_ends(row, "uar")) for title, row in rows],
    )  # fmt: skip


def _recalls(report: Report) -> list[str]:
    names = [*LABELS, *(name for name in FERPLUS_LABELS if name not in LABELS)]
    rows = [(ROWS[name], report[name]["recall"]) for name in ROWS if name in report]
    return _table(
        ("", *names), [(title, *_cells(recall, names)) for title, recall in rows]
    )  # fmt: skip


def _confusion(row: Mapping[str, Any]) -> list[str]:
    counts = row["confusion_rows_are_truth"]
    return _table(
        ("truth ↓ said →", *LABELS),
        [(label, *said) for label, said in zip(LABELS, counts, strict=True)],
    )


def _more(report: Report) -> list[str]:
    test = report["fer2013_test"]
    lines = [
        f"- Faces found by the detector on FER2013 Test: {_percent(test['faces_found'])} %; the rest was",
        "  judged by the plain crop. Counted as wrong instead, the accuracy is "
        f"{_percent(test['accuracy_if_not_found_is_wrong'])} %.",
        "- Calibration, expected error over 15 bins on FER2013 Test: "
        f"{_percent(test['expected_calibration_error'])} %.",
    ]
    if "diffusionfer_held_out" in report:
        synthetic = report["diffusionfer_held_out"]
        lines.append(
            f"- Valence and arousal: CCC {synthetic['ccc_valence']:.2f} and {synthetic['ccc_arousal']:.2f} "
            f"on {synthetic['count']} held-out pictures of DiffusionFER-S."
        )
    return lines


def _side_by_side(tests: Mapping[str, Mapping[str, Any]]) -> list[str]:
    header = (
        "what was judged",
        "how",
        "how many",
        "accuracy, % (95 %)",
        "UAR, % (95 %)",
        "worst recall, %",
    )
    return _table(
        header,
        [
            (
                ROWS[test], HOW[how], row["count"], _with_ends(row, "accuracy"), _with_ends(row, "uar"),
                f"{row['worst_class']} {_percent(row['worst_recall'])}",
            )
            for test, ways in tests.items()
            for how, row in ways.items()
        ],
    )  # fmt: skip


def _calibration(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    header = (
        "scores of",
        "how many",
        "accuracy, %",
        "mean confidence, %",
        "expected error over 15 bins, % (95 %)",
    )
    return _table(
        header,
        [
            (
                title, rows[name]["count"], _percent(rows[name]["accuracy"]),
                _percent(rows[name]["mean_confidence"]),
                _with_ends(rows[name], "expected_calibration_error"),
            )
            for name, title in SCORES_OF.items()
            if name in rows
        ],
    )  # fmt: skip


def _subgroups(corpora: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return _table(
        ("who is heard", "speakers", "how many", "UAR, % (95 %)", *LABELS),
        [
            (
                f"{CORPORA[corpus]}, {sex}", row["speakers"], row["count"], _with_ends(row, "uar"),
                *_cells(row["recall"], LABELS),
            )
            for corpus, groups in corpora.items()
            for sex, row in groups.items()
        ],
    )  # fmt: skip


def _conditions(
    conditions: Mapping[str, Mapping[str, Any]], turned: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    titles = {"as_stored": "as stored"} | {name: one.title for name, one in CONDITIONS.items()}
    altered = [
        (
            titles[name], _percent(row["faces_found"]), _with_ends(row, "accuracy"),
            _percent(row["accuracy_where_found"]), _with_ends(row, "uar"),
        )
        for name, row in conditions.items()
    ]  # fmt: skip
    profiles = [
        (title, turned[name]["count"], *(_with_ends(turned[name], key) for key in ("accuracy", "uar")))
        for name, title in TURNED_TITLES.items()
    ]  # fmt: skip
    return [
        *_table(
            ("the picture", "faces found, %", "accuracy, % (95 %)", "of the found, %", "UAR, % (95 %)"),
            altered,
        ),
        "",
        *_table(("the face", "how many", "accuracy, % (95 %)", "UAR, % (95 %)"), profiles),
    ]  # fmt: skip


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |".replace("|  |", "| |"), "|---" * len(header) + "|"]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def _cells(recall: Mapping[str, float], names: Sequence[str]) -> list[str]:
    return [_percent(recall.get(name)) for name in names]


def _with_ends(row: Mapping[str, Any], key: str) -> str:
    if key not in row:
        return NONE
    low, high = (_percent(end) for end in row[f"{key}_95"])
    return f"{_percent(row[key])} ({low} to {high})"


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f}"


def update_blocks(text: str, blocks: Mapping[str, str]) -> str:
    """The same Markdown with what stands between ``<!-- name -->`` and ``<!-- /name -->`` made new."""
    for name, block in blocks.items():
        first, last = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if first in text:
            before, rest = text.split(first)
            text = f"{before}{first}{block}\n{last}{rest.split(last)[1]}"
    return text
