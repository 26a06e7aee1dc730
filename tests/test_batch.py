"""Many files into one table: by the command, by the function, and through every interruption."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from occam_sdk import (
    LABELS,
    BackendError,
    BackendWarning,
    BatchSettings,
    OccamError,
    Recognizer,
    demo_clip,
    judge_files,
)
from occam_sdk.backends import Runtime

from . import clips

ONE = BatchSettings(workers=1)
ODD_NAME = os.fsdecode(b'a, "b"\n caf\xe9.MP4')  # Latin-1: no UTF-8
SHOWN_NAME = 'a, "b"\n caf\\xe9.MP4'


def grey(path: Path) -> Path:
    """A clip that takes no time: three frames without a face."""
    return clips.write_clip(path, images=[np.full((96, 96, 3), 9, np.uint8)] * 3)


def demos(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        shutil.copy(demo_clip(), folder / f"{number}.mp4")
    return folder


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "occam_sdk", "batch", *map(str, arguments)]


def occam_batch(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, timeout=300
    )


def start(*arguments: object) -> subprocess.Popen[str]:
    """The command in a process group of its own, which hears Ctrl-C: what a shell starts behind does not."""
    return subprocess.Popen(
        ["env", "--default-signal=INT", *command(*arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def rows_of(table: Path) -> list[dict[str, Any]]:
    with table.open(encoding="utf-8") as file:
        return [json.loads(line, parse_constant=pytest.fail) for line in file]


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not what():
        assert time.monotonic() < until
        time.sleep(0.005)


def workers_of(parent: int) -> set[int]:
    """The processes that judge for this one."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may just have ended
            above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if above == parent and b"spawn_main" in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
    return found


# What a table says


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("clips")
    (place / "b" / ".git").mkdir(parents=True)
    shutil.copy(demo_clip(), place / "a.mp4")
    shutil.copy(demo_clip(), place / "b" / ".git" / "hidden.mp4")
    shutil.copy(demo_clip(), place / ".hidden.mp4")
    (place / "b" / "broken.mp4").write_text("this is no film\n" * 100)
    clips.write_clip(place / "b" / "voice.wav", sound=clips.speech_like(2), sound_codec="pcm_s16le")
    (place / "c.mkv").symlink_to("nowhere.mkv")
    grey(place / "grey.mp4").rename(place / ODD_NAME)
    (place / "notes.txt").write_text("no clip")
    return place


@pytest.fixture(scope="module")
def done(folder: Path) -> subprocess.CompletedProcess[str]:
    """The command on that folder; its table is beside the folder."""
    return occam_batch(folder, "--out", folder.with_suffix(".jsonl"), "--workers", 2)


def test_failed_files_are_listed_at_the_end_and_the_exit_code_says_so(
    folder: Path, done: subprocess.CompletedProcess[str]
) -> None:
    assert done.returncode == 1
    assert done.stdout.startswith(f"{folder.with_suffix('.jsonl')}: 3 files judged, 2 failed (")
    assert done.stdout.endswith(" files a minute)\n")
    link, broken, left_out = done.stderr.splitlines()
    assert link.startswith("failed: c.mkv: no such file")
    assert broken.startswith("failed: b/broken.mp4: not a clip that can be played")
    assert left_out == "left out: 1 file not named as clips are"


def test_rows_are_in_order_and_say_what_predict_says(
    folder: Path, done: subprocess.CompletedProcess[str]
) -> None:
    rows = rows_of(folder.with_suffix(".jsonl"))
    names = [SHOWN_NAME, "a.mp4", "c.mkv", "b/broken.mp4", "b/voice.wav"]
    assert [row["path"] for row in rows] == names
    files = [ODD_NAME, *names[1:]]
    with Recognizer(threads=1) as recognizer:
        for file, row in zip(files, rows, strict=True):
            if row["error"] is not None:
                assert row["status"] is row["label"] is row["frames"] is row["Happy"] is None
                continue
            result = recognizer.predict(folder / file)
            assert (row["label"], row["status"]) == (result.label, result.status)
            if result.scores is None:
                assert all(row[label] is None for label in LABELS)
            else:
                scores = [row[label] for label in LABELS]
                np.testing.assert_allclose(scores, result.scores, atol=1e-6)
            assert row["face_label"] == (result.face and result.face.label)
            assert row["voice_label"] == (result.voice and result.voice.label)
            assert (row["face_weight"], row["voice_weight"]) == pytest.approx(
                (result.weights.face, result.weights.voice), abs=1e-6
            )
            assert row["valence"] == pytest.approx(result.valence, abs=1e-6)
            assert row["duration_s"] == pytest.approx(result.duration_s, abs=1e-6)
            assert row["frames"] == len(result.timeline)
            assert row["frames_with_face"] == sum(r.face is not None for r in result.timeline)
            assert (row["notes"] or "") == "; ".join(result.notes)
            assert row["truncated"] is False
    assert sum(row["status"] == "ok" for row in rows) == 1


def test_nothing_but_the_table_is_left(
    folder: Path, done: subprocess.CompletedProcess[str]
) -> None:
    assert folder.with_suffix(".jsonl").is_file()
    assert not [path for path in folder.parent.iterdir() if path.suffix in (".partial", ".new")]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_every_kind_of_table_reads_back_the_same(
    suffix: str, folder: Path, tmp_path: Path, done: subprocess.CompletedProcess[str]
) -> None:
    expected = rows_of(folder.with_suffix(".jsonl"))
    table = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        pq = pytest.importorskip("pyarrow.parquet", reason="the extra 'parquet' is not installed")
        judge_files(folder, table, ONE)
        read = pq.read_table(table)
        types = {str(read.schema.field(name).type) for name in LABELS}
        assert types == {"double"}
        assert str(read.schema.field("truncated").type) == "bool"
        assert read.to_pylist() == expected
    else:
        judge_files(folder, table, ONE)
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        shown = {None: "", True: "true", False: "false"}
        assert rows == [
            {
                name: shown[value] if value is None or isinstance(value, bool) else str(value)
                for name, value in row.items()
            }
            for row in expected
        ]
    again = judge_files(folder, table, ONE)
    assert (again.judged, again.taken_over, len(again.failed)) == (0, 3, 2)


# Again, and on from an interruption


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two clips that were judged; the table is ``rows.jsonl`` beside them."""
    place = tmp_path / "clips"
    place.mkdir()
    grey(place / "1.mp4")
    grey(place / "2.mp4")
    judge_files(place, tmp_path / "rows.jsonl", ONE)
    return place


def mark(table: Path) -> None:
    """Note in every row that it was there before."""
    rows = [row | {"notes": "kept"} for row in rows_of(table)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_complete_table_is_left_alone_and_only_news_are_judged(two: Path) -> None:
    table = two.parent / "rows.jsonl"
    mark(table)
    before = table.stat().st_ino
    done = occam_batch(two, "--out", table)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{table}: 0 files judged, 2 judged before\n"
    assert table.stat().st_ino == before

    grey(two / "0.mp4")
    os.utime(two / "2.mp4", (1, 1))
    told: list[tuple[int, int]] = []
    summary = judge_files(two, table, ONE, progress=lambda *counts: told.append(counts))
    assert (summary.judged, summary.taken_over, summary.failed) == (2, 1, ())
    assert told == [(1, 3), (2, 3), (3, 3)]
    kept = {row["path"]: row["notes"] == "kept" for row in rows_of(table)}
    assert kept == {"0.mp4": False, "1.mp4": True, "2.mp4": False}

    (two / "0.mp4").unlink()
    done = occam_batch(two, "--out", table)
    assert "no longer there: 1 file" in done.stderr
    assert [row["path"] for row in rows_of(table)] == ["1.mp4", "2.mp4"]


def test_names_begin_as_given_where_several_are_given(two: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    grey(other / "1.mp4")
    single = (two / "2.mp4").rename(two / "no-suffix")
    table = tmp_path / "all.jsonl"
    summary = judge_files([two, other, single, two], table, ONE)
    assert (summary.judged, summary.not_clips) == (3, 2)
    assert [row["path"] for row in rows_of(table)] == [
        str(two / "1.mp4"), str(other / "1.mp4"), str(single),
    ]  # fmt: skip


def test_killed_in_the_middle_nothing_is_lost_nothing_twice_nothing_half(tmp_path: Path) -> None:
    folder, table = demos(tmp_path / "clips", 6), tmp_path / "rows.jsonl"
    journal = tmp_path / "rows.jsonl.partial"
    arguments = (folder, "--out", table, "--workers", 2)
    batch = start(*arguments)
    wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 2)
    os.killpg(batch.pid, signal.SIGSTOP)
    second = occam_batch(*arguments)
    os.killpg(batch.pid, signal.SIGKILL)
    batch.communicate()
    assert second.returncode == 2
    assert "another batch is writing this table" in second.stderr
    assert not table.exists()

    mark(journal)
    finished = {row["path"] for row in rows_of(journal)}
    assert 2 <= len(finished) < 6
    with journal.open("a") as file:
        file.write('{"path": "5.mp4", "label": "Ha')  # a torn line
    done = occam_batch(*arguments)
    assert done.returncode == 0, done.stderr
    assert f": {6 - len(finished)} file" in done.stdout
    assert f" judged, {len(finished)} judged before (" in done.stdout
    rows = rows_of(table)
    assert [row["path"] for row in rows] == [f"{number}.mp4" for number in range(6)]
    assert {row["path"] for row in rows if row["notes"] == "kept"} == finished
    assert {row["label"] for row in rows} == {"Happy"}
    assert not journal.exists()


def test_ctrl_c_stops_with_130_and_the_same_command_goes_on(tmp_path: Path) -> None:
    folder, table = demos(tmp_path / "clips", 6), tmp_path / "rows.csv"
    journal = tmp_path / "rows.csv.partial"
    batch = start(folder, "--out", table, "--workers", 1)
    wait_for(lambda: journal.exists() and b"\n" in journal.read_bytes())
    workers = workers_of(batch.pid)
    os.killpg(batch.pid, signal.SIGINT)  # as a terminal does it
    stdout, stderr = batch.communicate(timeout=60)
    assert batch.returncode == 130
    count = len(rows_of(journal))
    assert re.fullmatch(
        r"occam: stopped at \d of 6 files; the same command goes on from there\n", stderr
    )
    assert stdout == ""
    assert not table.exists()
    assert len(workers) == 1
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    summary = judge_files(folder, table, ONE)
    assert (summary.judged, summary.taken_over) == (6 - count, count)


def test_workers_end_when_the_batch_is_killed_alone(tmp_path: Path) -> None:
    folder, journal = demos(tmp_path / "clips", 3), tmp_path / "rows.csv.partial"
    batch = start(folder, "--out", tmp_path / "rows.csv", "--workers", 1)
    wait_for(lambda: journal.exists() and b"\n" in journal.read_bytes())
    (worker,) = workers_of(batch.pid)
    batch.kill()
    batch.communicate()
    wait_for(lambda: not Path(f"/proc/{worker}").exists())


# A process that dies


@pytest.fixture
def killer() -> Iterator[threading.Event]:
    """While the event is set, every process that judges for this one is killed."""
    at_work, end = threading.Event(), threading.Event()

    def kill() -> None:
        while not end.is_set():
            if at_work.is_set():
                for pid in workers_of(os.getpid()):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    yield at_work
    end.set()
    thread.join()


def test_a_file_whose_process_dies_is_tried_again_then_failed_and_the_rest_goes_on(
    tmp_path: Path, killer: threading.Event
) -> None:
    folder = demos(tmp_path / "clips", 3)

    def tell(done: int, total: int) -> None:
        if done == 1:
            killer.set()
        else:
            killer.clear()

    summary = judge_files(folder, tmp_path / "rows.jsonl", ONE, progress=tell)
    assert summary.judged == 2
    ((name, reason),) = summary.failed
    assert reason == "the process that judged it was killed (SIGKILL), and so did a second one"
    rows = {row["path"]: row for row in rows_of(tmp_path / "rows.jsonl")}
    assert rows[name]["error"] == reason
    assert [row["label"] for row in rows.values()].count("Happy") == 2

    summary = judge_files(folder, tmp_path / "rows.jsonl", ONE)  # failed files are tried again
    assert (summary.judged, summary.taken_over, summary.failed) == (1, 2, ())


def test_processes_that_die_at_once_are_no_endless_work(
    tmp_path: Path, killer: threading.Event
) -> None:
    folder = demos(tmp_path / "clips", 2)
    killer.set()
    with pytest.raises(
        BackendError, match=r"was killed \(SIGKILL\); if memory is short, take fewer"
    ):
        judge_files(folder, tmp_path / "rows.jsonl", ONE)
    assert list(tmp_path.iterdir()) == [folder]


# A user's mistakes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--out", "rows.txt"], "rows.txt: expected a name that ends with one of .parquet, .csv"),
        (["--out", "missing/rows.csv"], "missing: no such folder; make it first"),
        (["--out", "rows.csv", "--workers", "0"], "workers: expected one at least"),
        (["--out", "rows.csv", "--device", "cuda:7", "--strict"], "(refused: strict)"),
        ([], "Missing option '--out'"),
    ],
)
def test_a_bad_option_ends_with_2_and_leaves_nothing(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey(tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    done = occam_batch(".", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_what_cannot_be_begun_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    grey(tmp_path / "clip.mp4")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "other.jsonl").write_text("{}\n")
    (tmp_path / "taken.csv.partial").write_text("a user's own file\n")
    for path, out, says in (
        ("nowhere", "rows.csv", "nowhere: no such file or folder"),
        ("empty", "rows.csv", "empty: no clip in it; looked for names that end with"),
        (".", "empty", "expected a name that ends with"),
        (".", "/proc/rows.csv", "cannot be written"),
        (".", "other.csv", "other.csv: is no table of this version of occam batch"),
        (".", "other.jsonl", "other.jsonl: is no table of this version of occam batch"),
        (".", "taken.csv", "taken.csv.partial: is not what this version of occam batch leaves"),
    ):
        with pytest.raises((ValueError, OSError), match=says):
            judge_files(path, out, ONE)
    assert (tmp_path / "taken.csv.partial").read_text() == "a user's own file\n"
    assert not (tmp_path / "rows.csv.partial").exists()


def test_a_table_of_other_settings_or_other_files_is_refused(two: Path) -> None:
    table = two.parent / "rows.jsonl"
    before = table.read_bytes()
    settings = BatchSettings(runtime=Runtime(precision="fp32", threads=1))
    with pytest.raises(ValueError, match=r"begun with other settings \(.*auto auto auto.*fp32"):
        judge_files(two, table, settings)
    with pytest.raises(ValueError, match=r"other settings .* faces from 24 px"):
        judge_files(two, table, BatchSettings(min_face_px=24))
    other = two.parent / "other"
    other.mkdir()
    grey(other / "9.mp4")
    with pytest.raises(ValueError, match="has the results of other files"):
        judge_files(other, table, ONE)
    assert table.read_bytes() == before
    assert sorted(path.name for path in two.parent.iterdir()) == ["clips", "other", "rows.jsonl"]


def test_parquet_without_pyarrow_names_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occam_sdk._batch_rows.has_module", lambda name: name != "pyarrow")
    with pytest.raises(OccamError, match=r'pip install "occam-sdk\[parquet\]"'):
        judge_files(grey(tmp_path / "clip.mp4"), tmp_path / "rows.parquet", ONE)


def test_what_runs_instead_is_said_once_and_not_by_every_process(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    grey(folder / "1.mp4")
    grey(folder / "2.mp4")
    settings = BatchSettings(runtime=Runtime(device="cuda:7", threads=1), workers=2)
    with pytest.warns(BackendWarning, match="device 'cuda:7' is not available") as warned:
        assert judge_files(folder, tmp_path / "rows.csv", settings).judged == 2
    assert len(warned) == 1


# On a cluster

CLUSTER = """
import sys
from ray.cluster_utils import Cluster

machine = {"num_cpus": 1, "object_store_memory": 100 << 20}
cluster = Cluster(initialize_head=True, head_node_args=machine | {"include_dashboard": False})
cluster.add_node(**machine)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


def actors_of(cluster: int) -> set[int]:
    """The processes that judge on a cluster: below it are Ray's own, and below those its workers."""
    above, actors = {}, set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may just have ended
            above[int(folder.name)] = int(
                (folder / "stat").read_text().rpartition(")")[2].split()[1]
            )
            if b"MapWorker" in (folder / "cmdline").read_bytes():
                actors.add(int(folder.name))
    return {pid for pid in actors if above.get(above[pid]) == cluster}


@pytest.mark.slow
def test_a_cluster_of_two_judges_the_same_through_kills_of_all_kinds(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    folder, table = demos(tmp_path / "clips", 6), tmp_path / "rows.jsonl"
    (folder / "broken.mp4").write_text("this is no film\n" * 100)
    journal = tmp_path / "rows.jsonl.partial"
    cluster = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert cluster.stdout is not None
        arguments = (folder, "--out", table, "--ray", cluster.stdout.readline().strip())
        batch = start(*arguments)
        wait_for(lambda: journal.exists() and b"\n" in journal.read_bytes())
        assert len(actors_of(cluster.pid)) == 2
        os.killpg(batch.pid, signal.SIGKILL)
        batch.communicate()
        mark(journal)
        finished = {row["path"] for row in rows_of(journal) if row["error"] is None}

        lines = journal.read_bytes().count(b"\n")
        batch = start(*arguments)
        wait_for(lambda: journal.read_bytes().count(b"\n") > lines)
        for pid in actors_of(cluster.pid):
            os.kill(pid, signal.SIGKILL)
        stdout, stderr = batch.communicate(timeout=300)
    finally:
        cluster.communicate()
    assert batch.returncode == 1, stderr
    assert "failed: broken.mp4: not a clip" in stderr
    assert "Traceback" not in stderr
    (line,) = stdout.splitlines()
    assert ", 1 failed" in line
    rows = rows_of(table)
    assert {row["path"] for row in rows if row["notes"] == "kept"} >= finished
    judge_files(folder, tmp_path / "here.jsonl", ONE)
    here = rows_of(tmp_path / "here.jsonl")
    assert [row | {"notes": None} for row in rows] == here
    assert not journal.exists()


@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1:9", "auto", "nonsense"])
def test_a_cluster_that_is_not_there_is_a_message(address: str, two: Path) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    done = occam_batch(two, "--out", two.parent / "rows.csv", "--ray", address)
    assert done.returncode == 2
    assert f"ray {address}: cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in two.parent.iterdir()) == ["clips", "rows.jsonl"]


def test_ray_where_it_is_not_installed_names_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occam_sdk._batch_ray.has_module", lambda name: name != "ray")
    with pytest.raises(OccamError, match=r'pip install "occam-sdk\[ray\]"'):
        judge_files(grey(tmp_path / "clip.mp4"), tmp_path / "rows.csv", BatchSettings(ray="local"))
