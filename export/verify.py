r"""Proof that a bundle says the same on every runtime and in every precision, on real faces.

    python -m export.verify sdk/occam_sdk/models --faces runs/ferplus runs/diffusionfer --json verify.json

The reference is PyTorch, with the weights of ``expression.onnx``; without PyTorch it is ONNX Runtime in
float32. Every runtime that is installed is held against it on Test: logits, labels, accuracy, CCC, time and
the precision that each layer really ran in. The INT8 files are linted, and detector and voice are held
against the samples in the bundle, as ``occam verify`` does. Exit code 1 past a tolerance.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from occam_sdk.backends import BATCH, Runtime, Session, in_batches, open_session
from occam_sdk.bundle import Bundle, load_bundle
from occam_sdk.errors import BackendError, OccamError
from occam_sdk.verify import Check, every_runtime
from occam_sdk.verify import verify as verify_samples
from occam_sdk.video.expression import grey_input
from training.faces import LabelledFaces

from .agreement import Agreement, Outputs, Targets, accuracies, agreement
from .lint import lint

CALLS: Final = 40
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Tolerance:
    """What a form may differ from the reference by.

    Attributes:
        max_delta: of any logit.
        labels: least share of faces with the same label, for both heads.
        accuracy, ccc: that may be lost.
    """

    max_delta: float
    labels: float
    accuracy: float
    ccc: float

    def failure(self, found: Agreement) -> str:
        """What is past it, in words; "" if nothing is."""
        past = []
        if not found.max_delta <= self.max_delta:
            past.append(f"a logit differs by {found.max_delta:.3g}, allowed are {self.max_delta:g}")
        past += [
            f"{100 * share:.2f} % same labels, asked are {100 * self.labels:g} %"
            for share in (found.labels, found.labels_of_eight)
            if share is not None and not share >= self.labels
        ]
        past += [
            f"accuracy {100 * loss:+.2f} points, allowed are {-100 * self.accuracy:g}"
            for loss in (found.accuracy, found.accuracy_of_eight)
            if loss is not None and not loss >= -self.accuracy
        ]
        if found.ccc is not None and not found.ccc >= -self.ccc:
            past.append(f"CCC {found.ccc:+.4f}, allowed are {-self.ccc:g}")
        return "; ".join(past)


TOLERANCES: Final = {
    "fp32": Tolerance(max_delta=0.005, labels=0.999, accuracy=0.001, ccc=0.001),
    "int8": Tolerance(max_delta=1.0, labels=0.99, accuracy=0.003, ccc=0.01),
}


@dataclass(frozen=True)
class Row:
    """The expression network on one runtime, held against the reference.

    Attributes:
        backend, device, precision: what was asked for.
        ran: the number of layers in each format, as read back; None if it did not open.
        found: how far it agrees.
        figures: accuracy over the "seven" and the "eight" classes.
        face_ms, batch_face_ms: median time of one face, and of a face in a batch of 16.
        note: what was asked for and is not what ran.
        failure: what is past the tolerance; "" if nothing is.
    """

    backend: str
    device: str
    precision: str
    ran: dict[str, int] | None = None
    found: Agreement | None = None
    figures: dict[str, float] | None = None
    face_ms: float | None = None
    batch_face_ms: float | None = None
    note: str = ""
    failure: str = ""


def verify_faces(
    bundle: Bundle, folders: Sequence[Path], limit: int | None = None
) -> Iterator[Row]:
    """Every runtime on the Test faces of prepared corpora; the first row is the reference.

    Args:
        bundle: whose expression network is verified.
        folders: from ``training.prepare``.
        limit: take so many faces at most, drawn with a seed.

    Raises:
        ValueError: faces of another size than the network takes, or none of Test.
    """
    data = LabelledFaces(folders)
    if data.size != bundle.face.input_size:
        raise ValueError(
            f"faces of {data.size} pixels, the network takes {bundle.face.input_size}; "
            f"prepare them with --size {bundle.face.input_size}"
        )
    rows = np.concatenate([data.test_rows(), data.test_rows(synthetic=True)])
    if len(rows) == 0:
        raise ValueError("no faces of Test to verify on")
    if limit is not None and limit < len(rows):
        rows = np.sort(np.random.default_rng(0).choice(rows, limit, replace=False))
    batch = data.batch(rows)
    images = grey_input(batch.faces.numpy(), bundle.face.mean, bundle.face.std)
    targets = Targets(batch.label.numpy(), batch.votes.numpy(), batch.valence_arousal.numpy())
    reference, name = _reference(bundle, images)
    yield Row(name, "cpu", "fp32", found=agreement(reference, reference, targets))
    for runtime in every_runtime():
        if runtime.precision == "int8" and "expression" not in bundle.int8:
            continue
        yield _row(bundle, runtime, images, reference, targets)


def _reference(bundle: Bundle, images: Floats) -> tuple[Outputs, str]:
    try:
        import torch
    except ImportError:
        runtime = Runtime("onnxruntime", "cpu", "fp32")
        session = open_session(bundle.network("expression"), runtime)
        return in_batches(session, "image", images), "onnxruntime (reference)"
    from training.judge import load_network

    network = load_network(bundle.path)
    with torch.no_grad():
        parts = [
            network(torch.from_numpy(part))
            for part in np.array_split(images, -(-len(images) // 256))
        ]
    outputs = {key: torch.cat([part[key] for part in parts]).numpy() for key in parts[0]}
    return outputs, f"torch {torch.__version__} (reference)"


def _row(
    bundle: Bundle, runtime: Runtime, images: Floats, reference: Outputs, targets: Targets
) -> Row:
    asked = (runtime.backend, runtime.device, runtime.precision)
    try:
        session = open_session(bundle.network("expression"), runtime)
        outputs = in_batches(session, "image", images)
    except BackendError as error:
        return Row(*asked, failure=str(error))
    found = agreement(outputs, reference, targets)
    return Row(
        *asked,
        ran=dict(session.info.layers),
        found=found,
        figures=accuracies(outputs, targets),
        face_ms=_median_ms(session, images[:1]),
        batch_face_ms=_median_ms(session, images[:BATCH]) / len(images[:BATCH]),
        note="; ".join(session.info.notes),
        failure=TOLERANCES[runtime.precision].failure(found),
    )


def _median_ms(session: Session, images: Floats) -> float:
    taken = []
    for _ in range(CALLS):
        started = time.perf_counter()
        session.run({"image": images})
        taken.append(time.perf_counter() - started)
    return 1e3 * statistics.median(taken[CALLS // 4 :])


def violations(bundle: Bundle) -> list[str]:
    """Of the rules for INT8 graphs, in every INT8 file of the bundle."""
    found = []
    for name in bundle.int8:
        model = onnx.load_from_string(bundle.read(f"{name}.int8.onnx"))
        found += [
            f"{name}.int8.onnx: {entry.node}: {entry.rule}: {entry.what}" for entry in lint(model)
        ]
    return found


def table_of(rows: Sequence[Row]) -> Table:
    """A row for each runtime, as ``rich`` prints it."""
    table = Table(
        box=None, header_style="dim", title="expression, on real faces", title_justify="left"
    )
    for title in ("runtime", "asked", "runs"):
        table.add_column(title)
    for title in (
        "max Δlogit", "same of 7", "same of 8", "Δacc of 7", "Δacc of 8", "ΔCCC", "ms", "ms in 16", "",
    ):  # fmt: skip
        table.add_column(title, justify="right")
    for row in rows:
        found = row.found
        cells = ["–"] * 6
        if found is not None:
            cells = [
                f"{found.max_delta:.5f}",
                _number(found.labels, 100, "{:.2f} %"),
                _number(found.labels_of_eight, 100, "{:.2f} %"),
                _number(found.accuracy, 100, "{:+.2f}"),
                _number(found.accuracy_of_eight, 100, "{:+.2f}"),
                _number(found.ccc, 1, "{:+.4f}"),
            ]
        table.add_row(
            f"{row.backend} {row.device}",
            row.precision,
            "–" if row.ran is None else " + ".join(f"{n} {name}" for name, n in row.ran.items()),
            *cells,
            _number(row.face_ms, 1, "{:.2f}"),
            _number(row.batch_face_ms, 1, "{:.2f}"),
            "[red]failed[/red]" if row.failure else "[green]right[/green]",
        )
    return table


def _number(value: float | None, factor: float, form: str) -> str:
    return "–" if value is None else form.format(factor * value)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="folder of a bundle")
    parser.add_argument(
        "--faces",
        type=Path,
        nargs="+",
        help="from training.prepare; without, the bundle's samples alone",
    )
    parser.add_argument("--limit", type=int, help="faces of Test, at most")
    parser.add_argument("--json", type=Path, help="write everything there")
    args = parser.parse_args()
    if args.limit is not None and args.limit < 1:
        parser.error("--limit: one face at least")
    out = Console(width=160 if not sys.stdout.isatty() else None)
    try:
        bundle = load_bundle(args.bundle)
        broken = violations(bundle)
        rows = list(verify_faces(bundle, args.faces, args.limit)) if args.faces else []
        checks = list(verify_samples(bundle))
    except (OccamError, OSError, ValueError) as error:
        parser.error(str(error))
    if rows:
        count = rows[0].found.count if rows[0].found else 0
        out.print(table_of(rows))
        out.print(f"{count} faces of Test; differences from the first row")
    failures = broken + _failures(rows) + _failures(checks)
    for check in checks:
        ran = "nothing" if check.info is None else check.info.precision
        delta = "" if check.max_delta is None else f", max Δ {check.max_delta:.4f}"
        what = f"{check.network} on {check.backend} {check.device}, {check.precision}, runs {ran}{delta}"
        out.print(f"samples: {what}: {'failed' if check.failure else 'right'}", soft_wrap=True)
    notes = [row.note for row in rows] + [check.note for check in checks]
    for note in dict.fromkeys(filter(None, notes)):
        out.print(f"note: {note}", soft_wrap=True)
    for failure in failures:
        out.print(f"[red]{failure}[/red]", soft_wrap=True)
    if args.json is not None:
        found = {
            "sha256": {name: form["sha256"] for name, form in bundle.files.items()},
            "faces": [asdict(row) for row in rows],
            "samples": [check.to_dict() for check in checks],
            "lint": broken,
            "failures": failures,
        }
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(1 if failures else 0)


def _failures(parts: Sequence[Row] | Sequence[Check]) -> list[str]:
    return [
        f"{part.backend}, {part.device}, {part.precision}: {part.failure}"
        for part in parts
        if part.failure
    ]


if __name__ == "__main__":
    main()
