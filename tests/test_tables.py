"""The command that prints the paper's tables with ours beside them, on small clips made here."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
pytest.importorskip("sklearn", reason="the extra 'train' is not installed")
pytest.importorskip("matplotlib", reason="the extra 'train' is not installed")

from training import paper, tables  # noqa: E402
from training.network import ARCHITECTURES, cost  # noqa: E402

from .caches import face_cache, striped, write_cache  # noqa: E402

ROOT = Path(__file__).parents[1]
FEW = ("--seeds", "2", "--ensemble", "2", "--folds", "2")
COUNT, FRAMES = 56, 2


def clips_cache(
    folder: Path,
    *,
    frames: int = FRAMES,
    pieces: int = 1,
    unlabelled: str = "",
    gaps: bool = False,
) -> Path:
    """Clips by twelve subjects in three splits; with ``gaps`` some lack a face, a voice, or both."""
    rng = np.random.default_rng(0)
    number = np.arange(COUNT)
    label = number % 7
    split = np.array(["train", "train", "valid", "test"])[number // 7 % 4]
    faces, voices = np.full(COUNT, frames), np.full(COUNT, pieces)
    if gaps:
        faces[number % 5 == 0] = 0
        voices[number % 3 == 0] = 0
        voices[number % 11 == 1] = 3
    features = rng.normal(size=(int(voices.sum()), 1582)).astype(np.float32)
    features[np.arange(len(features)), label.repeat(voices)] += 30
    return write_cache(
        folder, "clip", label=np.where(split == unlabelled, -1, label), split=split,
        subject=np.array([f"{split[i]}-{i % 2}" for i in number]), faces=faces, voices=voices,
        features=features, pixels=striped(label.repeat(faces)),
        times_s=np.zeros(int(faces.sum())),
    )  # fmt: skip


def voices_cache(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    label = np.arange(28) % 7
    features = rng.normal(size=(28, 1582)).astype(np.float32)
    features[np.arange(28), label] += 30
    return write_cache(folder, "voice", label=label, features=features)


def printed(*options: object) -> str:
    """What the command prints."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(sys, "argv", ["tables", *map(str, options)])
        tables.main()
    return out.getvalue()


def cells(text: str, row: str) -> list[str]:
    """The figures of the line that begins with ``row``, without blanks and ±."""
    line = next(line for line in text.splitlines() if line.strip().startswith(row))
    return re.split(r"\s{2,}", line.strip())[1:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in with gaps, a corpus of faces and one of voices."""
    folder = tmp_path_factory.mktemp("tables")
    clips_cache(folder / "standin", gaps=True)
    voices_cache(folder / "emodb")
    face_cache(folder / "ferplus")
    return folder


@pytest.fixture(scope="module")
def everything(folder: Path) -> str:
    """All tables, and the page."""
    return printed(
        "--clips", folder / "standin", "--pretrain", folder / "emodb", "--faces", folder / "ferplus",
        "--out", folder / "out", "--html", folder / "pages" / "tables.html", *FEW,
    )  # fmt: skip


# All of them


def test_all_four_tables_are_printed_and_say_that_it_is_not_afew(everything: str) -> None:
    for number in (1, 2, 3, 4):
        start = everything.index(f"Table {number}: ")
        title = everything[start : start + 300]
        assert " ".join(title.split()).startswith(f"Table {number}: {paper.CAPTIONS[number]}")
        if number != 2:  # which is of corpora of faces, each under its name
            assert "here = an AFEW-like stand-in" in title
            assert "not AFEW" in title


def test_table_1_has_our_counts_below_the_papers(everything: str) -> None:
    table = everything[everything.index("Table 1: ") : everything.index("Table 2: ")]
    assert cells(table, "Train") == ["paper", *map(str, paper.TABLE1["train"]), "773"]
    ours = [line.split() for line in table.splitlines() if line.strip().startswith("here ")]
    assert ["here", *["4"] * 7, "28"] in ours
    assert ["here", *["2"] * 7, "14"] in ours
    assert f"Of {COUNT} clips here, 12 show no face and 17 have no voice." in table


def test_table_2_has_the_papers_models_and_what_ours_cost(everything: str) -> None:
    table = everything[everything.index("Table 2: ") : everything.index("Table 3: ")]
    for row in paper.TABLE2:
        assert cells(table, row.name) == ["paper", *row.cells]
    for name in ARCHITECTURES:
        parameters, operations = cost(name)
        costs = [f"{operations / 1e6:.0f}", f"{parameters / 1e6:.2f}"]
        assert cells(table, f"{name} ")[-2:] == costs
    assert re.search(r"ferplus valid, 7 classes: \d+\.\d % of 14 faces\s+\(.* Wilson\)", table)
    assert re.search(  # where its lines break depends on the bundle's folder
        r"Valid of an AFEW-like .*not AFEW, mean of the frames' scores: \d+\.\d % of 14",
        " ".join(table.split()),
    )


def test_table_3_has_mean_and_spread_of_ours_beside_the_papers(everything: str) -> None:
    table = everything[everything.index("Table 3: ") : everything.index("Table 4: ")]
    for row in paper.TABLE3:
        figures = cells(table, row.name)
        assert figures[0] == row.cells[0]
        trained = row.name in tables.TABLE3 and not re.search(r"\((4|50)\)", row.name)
        assert bool(re.search(r"\d+\.\d ± \d+\.\d", " ".join(figures))) == trained, row.name
    assert "over 2 seeds" in table


def test_table_4_has_the_submissions_that_few_heads_are_enough_for(everything: str) -> None:
    start = everything.index("Table 4: ")
    table = everything[start : everything.index("Besides: ", start)]
    for row in paper.TABLE4:
        figures = cells(table, f"{row.number}  ")
        enough = row.number not in (6, 7)  # 50 and 4 heads
        assert bool(re.search(r"\d+\.\d ± \d+\.\d", " ".join(figures))) == enough, row.number
        assert row.cells[0] in figures
    weights = dict(re.findall(r"^(\d): visual .*?: (\d\.\d\d)$", table.replace("\n  ", " "), re.M))
    assert set(weights) == {"1", "2", "3", "4", "5"}
    assert weights["2"] == "0.50"  # the paper names it


def test_the_papers_findings_are_put_to_the_test(everything: str) -> None:
    start = everything.index("Besides: The paper's findings, on the test part.")
    table = everything[start:]
    for finding in ("aggregating features helps", "pre-training the MLP helps"):
        assert any(
            verdict in " ".join(cells(table, finding))
            for verdict in ("holds", "is not decided", "does not hold", "is the other way")
        )
    assert "4 heads are better than 1" not in table  # two were trained


def test_the_page_holds_the_same_and_needs_nothing_else(everything: str, folder: Path) -> None:
    page = (folder / "pages" / "tables.html").read_text(encoding="utf-8")
    assert str(folder / "pages" / "tables.html") in everything
    for number in (1, 2, 3, 4):
        assert f"<strong>Table {number}.</strong>" in page
    assert "not AFEW" in page
    assert page.count("<svg") >= 4  # recalls, ensembles
    assert not re.search(r"<(script|link|img|iframe|object)\b|@import|\bsrc=", page)
    assert set(re.findall(r'href="(.)', page)) <= {"#"}
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    assert str(folder) not in page


def test_every_figure_of_table_3_is_on_the_page(everything: str, folder: Path) -> None:
    page = (folder / "pages" / "tables.html").read_text(encoding="utf-8")
    table = everything[everything.index("Table 3: ") : everything.index("Table 4: ")]
    bare = re.sub(r"<[^>]*>", "", page)
    for mean, std in re.findall(r"(\d+\.\d) ± (\d+\.\d)", table):
        assert re.search(rf"{re.escape(mean)}\s*±\s*{re.escape(std)}", bare)


# Again, or only some of them


def test_a_second_run_trains_nothing_and_prints_the_same(everything: str, folder: Path) -> None:
    seeds = sorted((folder / "out").glob("seed-*.npz"))
    assert [path.name for path in seeds] == ["seed-000.npz", "seed-001.npz"]
    before = [path.stat().st_mtime_ns for path in seeds]
    again = printed(
        "--clips", folder / "standin", "--pretrain", folder / "emodb", "--out", folder / "out",
        "--table", "3", *FEW,
    )  # fmt: skip
    assert [path.stat().st_mtime_ns for path in seeds] == before
    table = everything[everything.index("Table 3: ") : everything.index("Besides: ")]
    assert table.strip() in again
    for number in (1, 2, 4):
        assert f"Table {number}: " not in again


def test_table_2_alone_needs_no_clips(folder: Path) -> None:
    text = printed("--table", "2", "--faces", folder / "ferplus", "--out", folder / "none")
    assert text.startswith("Table 2: ")
    assert "ferplus valid, 7 classes" in text
    assert not (folder / "none").exists()


def test_table_1_alone_trains_nothing(folder: Path) -> None:
    text = printed("--table", "1", "--clips", folder / "standin", "--out", folder / "none")
    assert text.count("Table ") == 1
    assert not (folder / "none").exists()


# Corpora as they are


def test_afew_as_it_is_downloaded_has_no_labels_of_test(tmp_path: Path) -> None:
    clips = clips_cache(tmp_path / "afew", unlabelled="test")
    text = printed("--clips", clips, "--out", tmp_path / "out", *FEW)
    assert "here = AFEW\n" in text
    assert "stand-in" not in text
    assert "There are no labels of test here." in text
    assert "The paper's findings, on the valid part." in text
    table = text[text.index("Table 4: ") :]
    second = cells(table, "2  ")
    assert second[-4] == paper.TABLE4[1].cells[0]
    assert re.fullmatch(r"\d+\.\d ± \d+\.\d", second[-3])
    assert second[-2:] == [paper.TABLE4[1].cells[1], paper.NONE]


@pytest.mark.parametrize(
    ("frames", "pieces", "there", "absent"),
    [
        (0, 1, ["MLP", "Random Forest"], ["av. pool. (1)", "LSTM 128 hidden units"]),
        (FRAMES, 0, ["av. pool. (1)", "LSTM 128 hidden units"], ["MLP", "Random Forest"]),
    ],
    ids=["no clip shows a face", "no clip has a voice"],
)
def test_clips_of_one_modality_fill_the_rows_of_that_one(
    frames: int, pieces: int, there: list[str], absent: list[str], tmp_path: Path
) -> None:
    clips = clips_cache(tmp_path / "films", frames=frames, pieces=pieces)
    html = tmp_path / "page.html"
    text = printed(
        "--clips", clips, "--out", tmp_path / "out", "--html", html, "--table", "1", "3", "4",
        "--seeds", "1", "--ensemble", "2", "--folds", "2",
    )  # fmt: skip
    table = text[text.index("Table 3: ") :]
    for name in there:
        assert len(cells(table, name)) == 4, name
    for name in absent:
        assert len(cells(table, name)) == 2, name
    assert "Table 4: " in text
    assert "not AFEW" not in text  # it is neither AFEW nor the stand-in
    assert "here = films" in text
    assert "<strong>Table 3.</strong>" in html.read_text(encoding="utf-8")


def test_without_cross_validation_its_columns_are_empty(tmp_path: Path) -> None:
    clips = clips_cache(tmp_path / "films", pieces=0)
    text = printed(
        "--clips", clips, "--out", tmp_path / "out", "--table", "3",
        "--seeds", "1", "--ensemble", "1", "--folds", "0",
    )  # fmt: skip
    besides = text[text.index("Besides: ") :]
    assert cells(besides, "av. pool. (1)").count(paper.NONE) == 2


# Mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--table", "3"], "Tables 1, 3 and 4 need --clips"),
        (["--table", "5", "--clips", "{standin}"], "invalid choice"),
        (["--clips", "{nothing}"], "python -m training.prepare"),
        (["--clips", "{emodb}"], "emodb: holds voices, not clips"),
        (["--clips", "{standin}", "--network", "{nothing}"], "neither a bundle"),
        (["--clips", "{standin}", "--pretrain", "{nothing}"], "python -m training.prepare"),
        (["--clips", "{standin}", "--seeds", "0"], "expected 1 seed"),
        (["--clips", "{standin}", "--folds", "1"], "2 folds or more"),
        (["--clips", "{standin}", "--folds", "9"], "expected from 2 to"),
        (["--table", "2", "--faces", "{nothing}"], "python -m training.prepare"),
        (["--table", "2", "--runs", "{nothing}"], "no run of training.face"),
    ],
)
def test_a_mistake_is_named_and_shows_no_traceback(
    options: list[str],
    message: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [option.replace("{", f"{folder}/").rstrip("}") for option in options]
    monkeypatch.setattr(sys, "argv", ["tables", *given, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as exit_:
        tables.main()
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out/seed*"))


def test_figures_of_other_clips_are_not_mixed_in(
    everything: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = clips_cache(tmp_path / "standin")
    with pytest.raises(SystemExit) as exit_:
        printed(
            "--clips", clips, "--pretrain", folder / "emodb", "--out", folder / "out",
            "--table", "3", *FEW,
        )  # fmt: skip
    assert exit_.value.code == 2
    assert "other settings (data)" in capsys.readouterr().err


def test_the_module_runs_as_a_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "training.tables", "--out", str(tmp_path / "out")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "need --clips" in done.stderr
    assert "Traceback" not in done.stderr
