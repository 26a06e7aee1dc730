"""Each network alone: every runtime, number format, batch and number of threads, taken by turns."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from occam_sdk.backends import BATCH, Network, Runtime, Session, devices, open_session
from occam_sdk.bundle import SPEECH, Bundle, load_bundle
from occam_sdk.errors import BackendError

DETECTOR_INPUT: Final = (1, 3, 192, 320)  # of a frame of 640x360 pixels
PRECISIONS: Final = ("int8", "fp32", "bf16", "fp16")
REQUIRED: Final = ("int8", "fp32")  # the others are left out where they are not what runs
PERCENTILES: Final = (50, 90, 95, 99)
UNTRAINED: Final = "untrained: speed only"
SEED: Final = 0

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Model:
    """A network to be measured.

    Attributes:
        name: of the bundle, or of the architecture.
        network: in all its number formats.
        trained: otherwise it is there for speed only.
        bundle: that it comes from.
    """

    name: str
    network: Network
    trained: bool = True
    bundle: Bundle | None = None

    def content(self, precision: str) -> bytes:
        """The file that is opened for this number format."""
        if precision == "int8" and self.network.int8 is not None:
            return self.network.int8
        return self.network.float32


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        backends: runtimes; each on every device that it sees.
        precisions: number formats; None is all of ``PRECISIONS`` that are really run.
        batches: faces that the expression network is given at once.
        threads: of the CPU; None leaves it to the runtime.
        rounds: turns of each variant.
        calls: timed calls of a turn, after one that is not.
    """

    backends: Sequence[str]
    precisions: Sequence[str] | None = None
    batches: Sequence[int] = (1, BATCH)
    threads: Sequence[int | None] = (1, None)
    rounds: int = 10
    calls: int = 10


@dataclass(frozen=True, eq=False)
class Variant:
    """A network on a runtime, ready to run, and the seconds that its calls took."""

    model: Model
    runtime: Runtime
    batch: int
    session: Session
    inputs: Mapping[str, Floats]
    seconds: list[float] = field(default_factory=list)

    def turn(self, calls: int) -> None:
        """Time this many calls; one before them wakes threads and caches up and does not count."""
        self.session.run(self.inputs)
        for _ in range(calls):
            started = time.perf_counter()
            self.session.run(self.inputs)
            self.seconds.append(time.perf_counter() - started)


def of_bundle(folder: Path) -> list[Model]:
    """The networks of a bundle."""
    bundle = load_bundle(folder)
    return [Model(bundle.name, bundle.network(name), bundle=bundle) for name in bundle.networks]


def untrained(architecture: str) -> Model:
    """An expression network of random weights, exported and quantised like a trained one.

    Raises:
        ImportError: PyTorch, onnx or ONNX Runtime is not installed.
        ValueError: no such architecture.
    """
    import onnx
    import torch

    from export.networks import expression_onnx
    from export.quantise import calibrate, layers, quantise
    from training.network import ARCHITECTURES, FaceNetwork

    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"--untrained: expected one of {', '.join(ARCHITECTURES)}, got {architecture!r}"
        )
    torch.manual_seed(SEED)
    network = FaceNetwork(architecture)
    side = network.size
    float32 = expression_onnx(network)
    model = onnx.load_from_string(float32)
    int8 = quantise(model, calibrate(model, [{"image": _normal(1, 1, side, side)}]))
    shapes = {"image": ((1, 1, side, side), (BATCH, 1, side, side), (BATCH, 1, side, side))}
    return Model(
        architecture,
        Network("expression", float32, int8.SerializeToString(), len(layers(model)), True, shapes),
        trained=False,
    )


def files(models: Sequence[Model]) -> list[dict[str, Any]]:
    """Size and hash of every file that is measured."""
    return [
        {
            "model": model.name,
            "network": model.network.name,
            "precision": precision,
            "trained": model.trained,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        for model in models
        for precision, content in (("fp32", model.network.float32), ("int8", model.network.int8))
        if content is not None
    ]


def variants(models: Sequence[Model], settings: Settings) -> tuple[list[Variant], list[str]]:
    """Everything that is to be measured, ready to run; and what was left out, and why."""
    opened: list[Variant] = []
    left_out: list[str] = []
    for backend in settings.backends:
        try:
            places = [name for name in devices(backend) if name != "intel:auto"]
        except BackendError as error:
            left_out.append(f"{backend}: {error}")
            continue
        for model in models:
            for runtime in _runtimes(backend, places, settings):
                found = _opened(model, runtime, required=settings.precisions is not None)
                if isinstance(found, str):
                    left_out.append(found)
                    continue
                batches = settings.batches if model.network.name == "expression" else (1,)
                opened += [
                    Variant(model, runtime, batch, found, _inputs(model.network, batch))
                    for batch in batches
                ]
    return opened, list(dict.fromkeys(left_out))


def _runtimes(backend: str, places: Sequence[str], settings: Settings) -> Iterator[Runtime]:
    for device in places:
        for precision in settings.precisions or PRECISIONS:
            for threads in settings.threads if device == "cpu" else (None,):
                yield Runtime(backend, device, precision, threads)


def _opened(model: Model, runtime: Runtime, *, required: bool) -> Session | str:
    """A session, or why there is none to measure."""
    name = f"{model.name}, {model.network.name}: {runtime.precision} on {runtime.backend}"
    try:
        session = open_session(model.network, runtime)
    except BackendError as error:
        return f"{name}: {error}"
    if runtime.precision == "int8" and model.network.int8 is None:
        return f"{name}: the bundle has no INT8 form of it"
    if required or runtime.precision in (*REQUIRED, *session.info.layers):
        return session
    return f"{name}: runs {session.info.precision} instead"


def _inputs(network: Network, batch: int) -> dict[str, Floats]:
    if network.name == "detector":
        return {"image": np.clip(128 + 60 * _normal(*DETECTOR_INPUT), 0, 255)}
    if network.name == "voice":
        return {"features": _normal(batch, *network.shapes["features"][0][1:])}
    if network.name == SPEECH:
        return {"samples": 0.1 * _normal(batch, network.shapes["samples"][1][1])}
    return {"image": _normal(batch, *network.shapes["image"][0][1:])}


def _normal(*shape: int) -> Floats:
    return np.random.default_rng(SEED).standard_normal(shape, np.float32)


def measure(opened: Sequence[Variant], settings: Settings) -> list[dict[str, Any]]:
    """Let the variants take turns, in another order each round, and say what each took."""
    rng = np.random.default_rng(SEED)
    for _ in range(settings.rounds):
        for place in rng.permutation(len(opened)):
            opened[place].turn(settings.calls)
    return with_ratios([_row(variant) for variant in opened])


def _row(variant: Variant) -> dict[str, Any]:
    info, runtime, model = variant.session.info, variant.runtime, variant.model
    content = model.content(runtime.precision)
    times = percentiles(variant.seconds)
    return {
        "model": model.name,
        "network": model.network.name,
        "trained": model.trained,
        "backend": runtime.backend,
        "runtime": info.backend,
        "device": runtime.device,
        "its_device": info.device,
        "asked": runtime.precision,
        "ran": info.precision,
        "layers": dict(info.layers),
        "notes": list(info.notes),
        "threads": runtime.threads,
        "batch": variant.batch,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        **times,
        "per_second": 1000 * variant.batch / times["mean_ms"],
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Of calls: how many, p50, p90, p95, p99 and mean, in milliseconds.

    Example:
        >>> percentiles([0.001, 0.003])["p50_ms"]
        2.0
    """
    values = np.percentile(1000 * np.array(seconds), PERCENTILES).tolist()
    named = {f"p{rank}_ms": value for rank, value in zip(PERCENTILES, values, strict=True)}
    return {"calls": len(seconds), **named, "mean_ms": 1000 * float(np.mean(seconds))}


def with_ratios(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same rows, and how many times as fast each is as float32 on the CPU, by median.

    What is compared has the same network, batch and threads; None where that was not measured.
    """

    def same(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return row["model"], row["network"], row["batch"], row["threads"]

    references = {
        (row["backend"], same(row)): row["p50_ms"]
        for row in rows
        if row["asked"] == "fp32" and row["device"] == "cpu"
    }

    def times(row: Mapping[str, Any], backend: str) -> float | None:
        reference = references.get((backend, same(row)))
        return None if reference is None else reference / row["p50_ms"]

    return [
        {
            **row,
            "times_openvino_fp32": times(row, "openvino"),
            "times_onnxruntime_fp32": times(row, "onnxruntime"),
        }
        for row in rows
    ]


def settings_json(settings: Settings) -> dict[str, Any]:
    """As plain JSON types."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(settings).items()}
