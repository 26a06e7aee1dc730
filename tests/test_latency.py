"""The latency report: what is timed, how it is summed up, shown and compared. Nothing here is timed."""

from __future__ import annotations

import copy
import functools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import latency, latency_path
from benchmarks.host import PowerMeter, commit, described, host
from benchmarks.latency_accuracy import beside
from benchmarks.latency_networks import (
    Model,
    Settings,
    files,
    measure,
    percentiles,
    variants,
    with_ratios,
)
from benchmarks.latency_page import comparison_page, report_page
from benchmarks.latency_path import in_a_new_process
from benchmarks.latency_report import as_text, compared, network_table, read_report, tables
from benchmarks.latency_stages import STAGES, Stages, Stopwatch
from occam_sdk import Recognizer, demo_clip
from occam_sdk.backends import Network
from occam_sdk.bundle import load_bundle
from occam_sdk.labels import LABELS
from occam_sdk.video.decode import VideoFile

from .clips import speech_like, write_clip

FRAMES = 12
VOID = {"meta", "rect", "line"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report of a short clip and the shipped bundle, by the command line."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("latency")
    images = [frame.image for frame in islice(VideoFile(demo_clip()), FRAMES)]
    clip = write_clip(folder / "short.mp4", images=images, sound=speech_like(1.5), sound_hz=16_000)
    settings = "--rounds 1 --calls 2 --batch 1 2 --threads 1 --precision int8 fp32"
    files = ["--json", str(folder / "a.json"), "--html", str(folder / "a.html")]
    once = functools.cache(lambda: in_a_new_process(load_bundle(), "auto", demo_clip()))
    with pytest.MonkeyPatch.context() as patch:  # one new process instead of four
        patch.setattr(latency_path, "in_a_new_process", lambda *_: once())
        latency.main(["--video", str(clip), *settings.split(), *files])
    return folder


@pytest.fixture(scope="module")
def report(written: Path) -> dict[str, Any]:
    return read_report(written / "a.json")


def small_network() -> Network:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from .networks import SIDE
    from .networks import small_network as make

    shape = (1, 3, SIDE, SIDE)
    return replace(make(), shapes={"image": (shape, shape, shape)})


def test_percentiles_are_numpys_in_milliseconds() -> None:
    seconds = np.random.default_rng(0).uniform(0.001, 0.1, 137)
    found = percentiles(seconds.tolist())
    assert found["calls"] == 137
    for rank in (50, 90, 95, 99):
        assert found[f"p{rank}_ms"] == pytest.approx(1000 * np.percentile(seconds, rank))
    assert found["mean_ms"] == pytest.approx(1000 * seconds.mean())


def test_a_stage_inside_another_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 3.0, 7.0])
    monkeypatch.setattr("benchmarks.latency_stages.time.perf_counter", lambda: next(clock))
    watch = Stopwatch()
    with watch.stage("outer"), watch.stage("inner", 2):
        pass
    assert watch.seconds == {"outer": 1.0 + 4.0, "inner": 2.0}
    assert watch.counts == {"outer": 1, "inner": 2}


def test_each_counts_the_items_and_gives_them_on() -> None:
    watch = Stopwatch()
    assert list(watch.each("numbers", iter([3, 1, 2]))) == [3, 1, 2]
    assert watch.counts["numbers"] == 3


def test_the_composed_stages_are_the_recognizers_own_path() -> None:
    """The same scores, and every frame, face and batch is counted."""
    watch = Stopwatch()
    judged = Stages(load_bundle()).judge(demo_clip(), watch)
    with Recognizer() as recognizer:
        result = recognizer.predict(demo_clip())
    assert result.scores is not None
    assert judged.scores is not None
    np.testing.assert_array_equal(judged.scores, result.scores)
    frames = len(result.timeline)
    assert judged.frames == watch.counts["decoding pictures"] == watch.counts["following"] == frames
    assert judged.faces == watch.counts["alignment"] == watch.counts["expression: in and out"]
    assert watch.counts["expression: network"] == -(-judged.faces // 16)
    assert watch.counts["detector: in and out"] < frames
    assert set(watch.seconds) <= set(STAGES)


def test_a_turn_is_one_call_more_than_is_timed() -> None:
    model = Model("small", small_network())
    settings = Settings(("openvino",), ("fp32",), threads=(1,), rounds=3, calls=4)
    opened, left_out = variants([model], settings)
    assert left_out == []
    ran = []
    run = opened[0].session.run
    opened[0].session.run = lambda inputs: ran.append(1) or run(inputs)  # type: ignore
    (row,) = measure(opened, settings)
    assert row["calls"] == 12
    assert len(ran) == 15
    assert row["times_openvino_fp32"] == 1
    assert row["times_onnxruntime_fp32"] is None


def test_formats_that_are_not_really_run_are_left_out_unless_asked_for() -> None:
    model = Model("small", small_network())
    settings = Settings(("onnxruntime",), threads=(1,))
    opened, left_out = variants([model], settings)
    asked = [variant.runtime.precision for variant in opened]
    assert asked == ["int8", "fp32"]
    assert [line for line in left_out if "bf16 on onnxruntime: runs fp32 instead" in line]
    opened, left_out = variants([model], Settings(("onnxruntime",), ("bf16",), threads=(1,)))
    assert left_out == []
    (row,) = measure(opened, Settings((), rounds=1, calls=1))
    assert (row["asked"], row["ran"]) == ("bf16", "fp32")
    shown = network_table([{**row, "accuracy": None}])
    assert "fp32 (!)" in shown.rows[0]
    assert "bf16 was asked for" in shown.notes[0]


def test_a_bundle_without_int8_says_so() -> None:
    network = small_network()
    model = Model("plain", replace(network, int8=None))
    opened, left_out = variants([model], Settings(("openvino",), ("int8", "fp32"), threads=(1,)))
    assert len(opened) == 1
    assert left_out == ["plain, small: int8 on openvino: the bundle has no INT8 form of it"]
    assert [file["precision"] for file in files([model])] == ["fp32"]


def test_ratios_are_to_float32_of_the_same_batch_and_threads() -> None:
    def row(backend: str, asked: str, batch: int, p50_ms: float) -> dict[str, Any]:
        return {
            "model": "m", "network": "n", "backend": backend, "device": "cpu", "asked": asked,
            "batch": batch, "threads": None, "p50_ms": p50_ms,
        }  # fmt: skip

    rows = with_ratios(
        [
            row("openvino", "fp32", 1, 4.0),
            row("openvino", "int8", 1, 2.0),
            row("onnxruntime", "fp32", 1, 8.0),
            row("onnxruntime", "fp32", 16, 80.0),
        ]
    )
    assert [r["times_openvino_fp32"] for r in rows] == [1.0, 2.0, 0.5, None]
    assert [r["times_onnxruntime_fp32"] for r in rows] == [2.0, 4.0, 1.0, 1.0]


def test_accuracy_is_the_manifests_only_for_the_very_file() -> None:
    row = {
        "model": "m", "backend": "openvino", "device": "cpu", "asked": "int8", "sha256": "a" * 64,
        "network": "expression",
    }  # fmt: skip
    metrics = {
        "expression_sha256": "a" * 64,
        "fer2013_test": {"accuracy": 0.7, "count": 10},
        "ferplus_test": {"accuracy": 0.8, "count": 10},
    }
    (found,) = beside([row], {}, {"m": metrics})
    assert (found["accuracy"]["fer2013"], found["accuracy"]["ferplus"]) == (0.7, 0.8)
    (found,) = beside([{**row, "sha256": "b" * 64}], {}, {"m": metrics})
    assert found["accuracy"] is None
    measured = {("m", "openvino", "cpu", "int8"): {"fer2013": 0.6, "ferplus": 0.5}}
    (found,) = beside([row], measured, {"m": metrics})
    assert found["accuracy"]["fer2013"] == 0.6


def test_the_host_has_no_names_or_paths() -> None:
    facts = host()
    told = json.dumps(facts)
    assert str(Path.home()) not in told
    assert str(Path(__file__).parents[1]) not in told
    assert facts["cores"] is None or facts["cores"] >= 1
    assert {"CPU", "cores", "system", "versions", "measured"} <= set(described(facts))
    assert commit() is None or re.fullmatch(r"[0-9a-f]{12}( dirty)?", commit() or "")


def test_power_is_sampled_where_there_are_sensors() -> None:
    samples = iter([{"VDD_IN": 4000.0}, {"VDD_IN": 5000.0}])
    with PowerMeter(lambda: next(samples, {"VDD_IN": 5000.0})) as meter:
        pass
    assert meter.rails["VDD_IN"]["max_mw"] == 5000.0
    with PowerMeter(dict) as meter:
        pass
    assert meter.rails == {}


def test_the_report_is_complete(report: dict[str, Any]) -> None:
    bundle = load_bundle()
    assert report["settings"]["clip"] == "short.mp4"
    rows = report["networks"]
    combinations = {(r["network"], r["backend"], r["asked"], r["batch"]) for r in rows}
    assert len(combinations) == len(rows)
    assert {row["batch"] for row in rows if row["network"] == "expression"} == {1, 2}
    assert {row["backend"] for row in rows} >= {"openvino", "onnxruntime"}
    for row in rows:
        assert row["calls"] == 2
        assert row["p50_ms"] <= row["p90_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["per_second"] == pytest.approx(1000 * row["batch"] / row["mean_ms"])
        assert sum(row["layers"].values()) > 0
    hashes = {(f["network"], f["precision"]): f["sha256"] for f in report["models"]}
    for row in rows:
        assert row["sha256"] == hashes[row["network"], row["asked"]]
    (stages,) = report["stages"]
    assert [stage["stage"] for stage in stages["stages"]] == list(STAGES)
    assert sum(stage["share"] for stage in stages["stages"]) == pytest.approx(1)
    assert [path["asked"] for path in report["paths"]] == ["auto", "fp32"]
    for path in report["paths"]:
        assert path["model"] == bundle.name
        assert path["frames"] == path["frames_with_face"] == FRAMES
        assert path["peak_bytes"] > 50e6
        assert path["fps"] == pytest.approx(1000 * FRAMES / path["p50_ms"])
        assert set(path["start"]) == {
            "interpreter_s", "import_s", "open_s", "first_result_s", "total_s",
        }  # fmt: skip


def test_the_text_has_every_row(report: dict[str, Any]) -> None:
    text = as_text(tables(report))
    for row in report["networks"]:
        assert f"{row['p50_ms']:.2f}" in text or f"{row['p50_ms']:.3f}" in text
    assert all(stage in text for stage in STAGES)
    assert all(f["sha256"][:12] in text for f in report["models"])
    assert "expression, 1 face at once" in text
    assert "expression, 2 faces at once" in text


class _Balanced(HTMLParser):
    """Raises where a tag is closed that is not the last one opened; keeps what is linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_is_whole_and_needs_nothing_else(written: Path, report: dict[str, Any]) -> None:
    page = (written / "a.html").read_text(encoding="utf-8")
    parser = _Balanced()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    assert parser.links == []
    assert re.search(r"https?://|url\(|@import|<script", page) is None
    assert "prefers-color-scheme: dark" in page
    assert page.count("<rect") == len(report["networks"]) + len(STAGES)


def test_the_page_escapes_what_a_bundle_says(report: dict[str, Any]) -> None:
    strange = copy.deepcopy(report)
    strange["networks"][0]["notes"] = ["<script>alert(1)</script>"]
    strange["host"]["cpu"] = "<b>"
    assert "<script" not in report_page(strange)
    assert "<b>" not in report_page(strange)


def test_a_comparison_has_the_ratios_and_what_differs(report: dict[str, Any]) -> None:
    other = copy.deepcopy(report)
    for row in other["networks"]:
        row["p50_ms"] *= 2
    other["host"]["cpu"] = "Another CPU"
    other["models"][0]["sha256"] = "0" * 64
    other["networks"].pop()
    machines, networks, rest = compared(report, other)
    assert ("CPU", described(report["host"])["CPU"], "Another CPU") in machines.rows
    assert len(networks.rows) == len(other["networks"])
    assert {row[-2] for row in networks.rows} == {"2.00"}
    assert {row[-1] for row in networks.rows} == {"1.00"}
    assert networks.notes[0].endswith("1 rows.")
    assert "another file in b" in networks.notes[1]
    assert {row[-1] for row in rest.rows} == {"1.00"}
    assert "Another CPU" in comparison_page(report, other)


def test_compare_on_the_command_line(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = str(written / "a.json")
    latency.main(["--compare", same, same, "--html", str(tmp_path / "c.html")])
    printed = capsys.readouterr().out
    assert "b / a" in printed
    assert "1.00" in printed
    assert "b / a" in (tmp_path / "c.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no json", "is no JSON"),
        ('{"format": "something"}', "is no report of benchmarks.latency"),
        ("[1]", "is no report of benchmarks.latency"),
        ('{"format": "occam-sdk latency", "version": 99}', "version 99"),
        ('{"format": "occam-sdk latency", "version": 1, "host": {}}', "has no models"),
    ],
)
def test_what_is_no_report_is_refused(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(SystemExit) as stopped:
        latency.main(["--compare", str(path), str(path)])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rounds", "0"], "expected one at least"),
        (["--threads", "none"], "expected one at least"),
        (["--bundle", "nowhere"], "not found"),
        (["--compare", "a.json", "b.json"], "No such file"),
        (["--video", "nowhere.mp4"], "nowhere.mp4"),
    ],
)
def test_mistakes_are_told_in_a_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        latency.main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    nowhere = replace(load_bundle(), path=tmp_path / "nowhere")
    with pytest.raises(RuntimeError, match=r"did not judge demo\.mp4: .*BundleError"):
        in_a_new_process(nowhere, "auto", demo_clip())


@pytest.mark.slow
def test_an_untrained_network_is_marked() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from benchmarks.latency_networks import untrained

    model = untrained("resnet-lite")
    assert not model.trained
    opened, _ = variants([model], Settings(("openvino",), ("int8",), batches=(1,), threads=(1,)))
    (row,) = measure(opened, Settings((), rounds=1, calls=1))
    assert row["layers"]["int8"] > 0
    assert "untrained: speed only" in network_table([{**row, "accuracy": None}]).title
    with pytest.raises(ValueError, match="expected one of resnet18"):
        untrained("vgg")


def test_accuracy_is_that_of_the_file_on_the_runtime(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    from benchmarks.latency_accuracy import measure as accuracy
    from benchmarks.latency_networks import of_bundle

    from .caches import write_cache

    side, rng = load_bundle().face.input_size, np.random.default_rng(0)
    folder = write_cache(
        tmp_path / "faces",
        "face",
        pixels=rng.integers(0, 256, (14, side, side), np.uint8),
        label=np.arange(14) % len(LABELS),
        split=np.array(["test"] * 14),
    )
    models = of_bundle(load_bundle().path)
    settings = Settings(("openvino", "onnxruntime"), ("fp32",), batches=(1, 2), threads=(1,))
    opened, _ = variants(models, settings)
    found, left_out = accuracy(opened, [folder], 8)
    assert left_out == []
    assert len(found) == 2
    first, second = found.values()
    assert first["fer2013"] == second["fer2013"]
    assert first["faces"] == 8
    assert 0 <= first["fer2013"] <= 1
