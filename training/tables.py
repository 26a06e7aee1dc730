r"""The paper's Tables 1 to 4, from whatever data there is, next to the paper's own figures.

    python -m training.tables --clips runs/standin --pretrain runs/emodb \
        --faces runs/ferplus --out runs/tables --html runs/tables.html

``--clips`` is AFEW where you have it; ``runs/standin`` is not AFEW, and every table says so. ``--table 3``
prints that one and what belongs to it. Every figure is the mean and the standard deviation over seeds [2.5].
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from occam_sdk.bundle import DEFAULT_BUNDLE
from occam_sdk.labels import LABELS

from . import experiments, paper
from .board import TABLE4, Board, data_of, known_subjects, weighted
from .cache import Cache, load_cache
from .clips import BATCH, Clips, Network, check_size, load_clips, open_network
from .ensemble import guesses
from .findings import findings
from .metrics import accuracy, wilson
from .network import ARCHITECTURES, cost
from .report import Curve, Judged, Row, Table, as_html, as_text, paper_table
from .runs import add_settings, commit, settings_of
from .voice import load_voices

TABLE3: Final = {
    "no feat. aggregation": "frames",
    "av. pool. (1)": "average",
    "av. pool. (4)": "average*4",
    "av. pool. (50)": "average*50",
    "weig. av. pool (1)": "weighted",
    "weig. av. pool (4)": "weighted*4",
    "weig. av. pool (50)": "weighted*50",
    "av. pool (2) + weig. av. pool (2)": "average*2 + weighted*2",
    "LSTM 128 hidden units": "lstm",
    "MLP": "mlp",
    "MLP (pre-trained)": "tuned",
    "Random Forest": "forest",
}
"""Rows of Table 3 and what is run for each; the paper lacks one of them."""


def table1(clips: Clips) -> Table:
    """How many clips there are."""
    label, split = clips.samples.label, clips.samples.split
    counts = {}
    for name in paper.TABLE1:
        own = label[(split == name) & (label >= 0)]
        classes = np.bincount(own, minlength=len(LABELS)).tolist()
        cells = (*map(str, classes), str(len(own)))
        counts[name] = cells if len(own) else ("–",) * len(cells)
    faceless = int((~clips.chosen.any(1)).sum())
    mute = int((clips.samples.voices == 0).sum())
    note = f"Of {len(clips)} clips here, {faceless} show no face and {mute} have no voice."
    return paper_table(1, data_of(clips), counts, [note])


def table2(clips: Clips | None, faces: Sequence[Path], network: Path) -> Table:
    """What the networks cost, and how right the given one is, corpus by corpus.

    A corpus of faces is judged on its Test part, or on Valid if it has no Test; clips by the mean of
    their frames' scores, on Valid.
    """
    opened = open_network(network)
    columns = paper.COLUMNS[2]
    judged = dict.fromkeys(columns[:3], "–")
    notes = [
        "Here FLOP are multiply-adds as torch.utils.flop_counter counts them, Param is with all heads.",
        "Of a corpus that the network has learnt from, copies of training faces in Test count as well.",
    ]
    for folder in faces:
        cache = load_cache(folder)
        cache.must_hold("face")
        check_size(cache, opened, network)
        part, right = _judged_stills(cache, opened)
        low, high = wilson(float(right.mean()), len(right))
        name = {"rafdb": "RAF", "sfew": "SFEW"}.get(str(cache.report["corpus"]), folder.name)
        if name in judged:
            judged[name] = f"{100 * right.mean():.1f}"
        notes.append(
            f"{name} {part}, 7 classes: {100 * right.mean():.1f} % of {len(right)} faces "
            f"({100 * low:.1f} to {100 * high:.1f}, Wilson)."
        )
    if clips is not None and (clips.chosen.any(1) & (clips.samples.split == "valid")).any():
        valid = (clips.samples.split == "valid") & (clips.samples.label >= 0)
        right = guesses(clips.frame_scores[valid], -1) == clips.samples.label[valid]
        if clips.name == "afew":
            judged["AFEW"] = f"{100 * right.mean():.1f}"
        notes.append(
            f"Valid of {data_of(clips)}, mean of the frames' scores: {100 * right.mean():.1f} % of "
            f"{len(right)} clips."
        )
    rows = [Row(row.name, row.cells) for row in paper.TABLE2]
    others = [name for name in ARCHITECTURES if name != opened.architecture]
    rows += [Row(name, (), ("–", "–", "–", *_cost_m(name))) for name in others]
    own = f"{opened.architecture} ({network.name})"
    rows.append(Row(own, (), (*judged.values(), *_cost_m(opened.architecture))))
    return Table(
        2, paper.CAPTIONS[2], "the networks of training/network.py", columns, tuple(rows),
        (*paper.NOTES[2], *notes),
    )  # fmt: skip


def _cost_m(architecture: str) -> tuple[str, str]:
    """Multiply-adds and parameters in millions; unknown of a network that is not from here."""
    if architecture not in ARCHITECTURES:
        return "–", "–"
    parameters, operations = cost(architecture)
    return f"{operations / 1e6:.0f}", f"{parameters / 1e6:.2f}"


def _judged_stills(cache: Cache, opened: Network) -> tuple[str, NDArray[np.bool_]]:
    """Which part of a corpus of faces was judged, and for each of its faces whether it was right."""
    labelled = cache.samples.label >= 0
    part = "test" if (labelled & (cache.samples.split == "test")).any() else "valid"
    rows = np.flatnonzero(labelled & (cache.samples.split == part))
    if not len(rows):
        raise ValueError(f"{cache.folder}: has no labelled Test or Valid part to judge")
    score = opened.open()
    batches = np.array_split(rows, -(-len(rows) // BATCH))
    guess = [score(np.asarray(cache.faces[some]))[0].argmax(1) for some in batches]
    return part, np.concatenate(guess) == cache.samples.label[rows]


def table3(board: Board) -> Table:
    """Either modality by itself, on Valid."""
    ours = {}
    for name, mix in TABLE3.items():
        if name in {row.name for row in paper.TABLE3} and board.has(mix):
            scores = board.scores(mix)
            ours[name] = (
                board.figure(scores, "valid", accuracy), board.figure(scores, "valid", weighted),
            )  # fmt: skip
    notes = [_seeds_note(board), _interval_note(board, "valid")]
    if "frames" in board.results.kinds:
        notes.append(
            "no feat. aggregation learns nothing here, so that it has no spread over seeds."
        )
    return paper_table(3, data_of(board.clips), ours, notes)


def table3_more(board: Board) -> Table:
    """The same models on Test and by cross-validation, and what they cost."""
    rows = []
    for name, mix in TABLE3.items():
        if not board.has(mix):
            continue
        scores = board.scores(mix)
        cells = [board.figure(scores, "test", accuracy)]
        if board.has(mix, "folds"):
            folds = board.scores(mix, "folds")
            cells += [
                board.figure(folds, "folds", accuracy),
                board.figure(folds, "folds", weighted),
            ]
        else:
            cells += ["–", "–"]
        rows.append(Row(name, (), tuple(cells)))
    people = known_subjects(board.clips, board.rows["folds"])
    apart = "with no subject in two folds" if people else "by clips: nobody is known by name"
    seconds = ", ".join(
        f"{kind} {board.results.seconds['train', kind]:.1f} for {scores.shape[1]}"
        for (way, kind), scores in board.results.scores.items()
        if way == "train" and kind != "frames"
    )
    return Table(
        None, "The models of Table 3 on Test, and by cross-validation over Train and Valid.",
        data_of(board.clips), ("Test", "CV", "CV Weig."), tuple(rows),
        (
            f"CV: cross-validation {apart}; each seed has folds of its own.",
            f"Seconds to train, mean over seeds, while the machine may have done other things: {seconds}.",
        ),
    )  # fmt: skip


def table4(board: Board) -> Table:
    """Both modalities fused."""
    ours, notes = {}, [_seeds_note(board), _interval_note(board, "test")]
    for number, row in TABLE4.items():
        if not board.can_fuse(row):
            continue
        scores, weights = board.fused(row)
        ours[number] = (
            board.figure(scores, "valid", weighted), board.figure(scores, "test", accuracy),
        )  # fmt: skip
        audio = board.with_what_there_is(row).audio
        notes.append(
            f"{number}: visual {row.visual}, audio {audio}, weight of the visual part {row.weight}: "
            f"{np.mean(weights):.2f}"
        )
    return paper_table(4, data_of(board.clips), ours, notes)


def ensemble_curve(board: Board, part: str = "valid") -> Curve:
    """Accuracy over the number of heads."""
    most = board.results.scores["train", "average"].shape[1]
    sizes = sorted({size for size in (1, 2, 4, 8, 16, 32, most) if size <= most})
    label = board.clips.samples.label[board.rows[part]]

    def points(kind: str) -> list[tuple[float, float]]:
        found = []
        for size in sizes:
            guess = board.guesses(board.scores(f"{kind}*{size}"), part)
            found.append((float(size), 100 * float(np.mean(guess == label))))
        return found

    return Curve(
        "Ensembles of heads", f"{part} of {data_of(board.clips)}", "heads", "accuracy, %",
        {"average": points("average"), "weighted": points("weighted")},
    )  # fmt: skip


def learning_curves(run: Path) -> list[Curve]:
    """Loss and Valid figures of a run of training.face over its epochs.

    Raises:
        FileNotFoundError: there is no log in that folder.
    """
    if not (run / "log.jsonl").is_file():
        raise FileNotFoundError(f"{run}: no run of training.face, it has no log.jsonl")
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    names = {"accuracy": "7 classes", "uar": "7 classes, UAR", "ferplus_accuracy": "8 classes"}
    series = {
        shown: [(float(row["epoch"]), 100 * row[name]) for row in rows if name in row]
        for name, shown in names.items()
    }
    shown = {name: points for name, points in series.items() if points}
    loss = {"training": [(float(row["epoch"]), row["loss"]) for row in rows]}
    data = f"the run {run.name}"
    curves = [Curve(f"Loss of {run.name}", data, "epoch", "loss", loss)]
    if shown:
        curves.append(Curve(f"Valid figures of {run.name}", data, "epoch", "%", shown))
    return curves


def _seeds_note(board: Board) -> str:
    seeds = len(next(iter(board.results.scores.values())))
    return f"Here: mean ± standard deviation over {seeds} seeds (ddof 1)."


def _interval_note(board: Board, part: str) -> str:
    count = len(board.rows[part])
    if not count:
        return f"There are no labels of {part} here."
    low, high = wilson(0.5, count)
    return (
        f"{count} clips leave ± {50 * (high - low):.1f} points (95 %, Wilson, at an accuracy of 50 %) "
        "around any figure, whatever the spread over seeds."
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, help="prepared clips: runs/afew or runs/standin")
    parser.add_argument("--pretrain", type=Path, help="prepared voices that the MLP learns first")
    parser.add_argument(
        "--faces", type=Path, nargs="*", default=[], help="prepared faces, for Table 2"
    )
    parser.add_argument(
        "--network", type=Path, default=DEFAULT_BUNDLE,
        help="a bundle or a run of training.face; by default the bundle that ships",
    )  # fmt: skip
    parser.add_argument(
        "--runs", type=Path, nargs="*", default=[], help="of training.face, for learning curves"
    )
    parser.add_argument("--table", type=int, nargs="*", choices=(1, 2, 3, 4), default=[1, 2, 3, 4])
    parser.add_argument("--out", type=Path, help="folder that keeps every seed, for Tables 3 and 4")
    parser.add_argument("--html", type=Path, help="write the same as a page with plots")
    add_settings(parser, experiments.Settings)
    args = parser.parse_args()
    if args.clips is None and set(args.table) - {2}:
        parser.error("Tables 1, 3 and 4 need --clips: AFEW, or the stand-in of training.standin")
    if args.out is None and {3, 4} & set(args.table):
        parser.error(
            "Tables 3 and 4 need --out, a folder that keeps what was trained for every seed"
        )
    try:
        tables, judged, curves = _all(args)
        print(as_text(tables))
        if args.html is not None:
            page = as_html(tables, judged, curves, _header(args))
            args.html.parent.mkdir(parents=True, exist_ok=True)
            args.html.write_text(page, encoding="utf-8")
            print(args.html)
    except (ImportError, OSError, ValueError) as error:
        parser.error(str(error))


def _all(args: argparse.Namespace) -> tuple[list[Table], list[Judged], list[Curve]]:
    clips = load_clips(args.clips, args.network) if args.clips is not None else None
    tables: list[Table] = []
    judged: list[Judged] = []
    curves = [curve for run in args.runs for curve in learning_curves(run)]
    if clips is not None and 1 in args.table:
        tables.append(table1(clips))
    if 2 in args.table:
        tables.append(table2(clips, args.faces, args.network))
    if clips is not None and {3, 4} & set(args.table):
        first = load_voices([args.pretrain]) if args.pretrain is not None else None
        settings = settings_of(args, experiments.Settings)
        board = Board(clips, experiments.run(clips, first, settings, args.out))
        part = "test" if len(board.rows["test"]) else "valid"
        if 3 in args.table:
            tables += [table3(board), table3_more(board)]
        if 4 in args.table:
            tables.append(table4(board))
        tables.append(findings(board, part))
        judged += [
            board.judged(name, board.scores(TABLE3[name]), part)
            for name in ("av. pool. (1)", "MLP", "MLP (pre-trained)", "Random Forest")
            if board.has(TABLE3[name])
        ]
        if board.can_fuse(TABLE4["3"]):
            judged.append(board.judged("Submission 3", board.fused(TABLE4["3"])[0], part))
        if "average" in board.results.kinds:
            curves.append(ensemble_curve(board))
    return tables, judged, curves


def _header(args: argparse.Namespace) -> dict[str, str]:
    """What was run, on top of the page."""
    opened = open_network(args.network)
    network = f"{opened.architecture}, {opened.key[:16]}"
    header = {"network": network, "commit": commit(), "seeds": str(args.seeds)}
    if args.clips is not None:
        header["clips"] = f"{args.clips.name}, {load_cache(args.clips).sha256[:16]}"
    return header


if __name__ == "__main__":
    main()
