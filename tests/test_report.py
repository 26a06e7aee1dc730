"""The paper's tables as transcribed, and how they are shown beside what was measured here."""

from __future__ import annotations

import builtins
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from occam_sdk.labels import LABELS
from training import paper
from training.report import WIDTH, Curve, Judged, Row, Table, as_html, as_text, paper_table

from .shared import DATA

PAPER = DATA.parent / "paper" / "occams-razor-emotion-2018.txt"
STAND_IN = "AFEW-like stand-in (FER+ faces, RAVDESS voices): not AFEW"
NASTY = """<script src="http://a.b/c.js">x</script> & "it's" $\\alpha$"""
VOID = {"meta", "link", "br", "img", "use", "path"}

needs_paper = pytest.mark.skipif(not PAPER.is_file(), reason="../shared/paper is not there")


def table(number: int = 3, **changes: Any) -> Table:
    measured = {
        1: {"train": ("70",) * 8, "test": ("7",) * 8},
        2: {"Our (image)": ("–", "–", "67.6 ± 0.4", "80.6", "1.7")},
        3: {"av. pool. (50)": ("52.1 ± 0.6", "61.0 ± 0.5"), "MLP": ("33.0 ± 1.5", "42.0 ± 1.4")},
        4: {str(i): ("100.0 ± 10.6", "100.0 ± 10.5") for i in range(1, 8)},
    }
    return replace(paper_table(number, STAND_IN, measured[number]), **changes)


def judged(seeds: int = 3, name: str = "av. pool. (50)") -> Judged:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 7, 90)
    guesses = np.where(rng.random((seeds, 90)) < 0.6, label, rng.integers(0, 7, (seeds, 90)))
    return Judged(name, STAND_IN, label, guesses)


def curve(**changes: Any) -> Curve:
    series = {"train": [(1.0, 2.0), (2.0, 1.0)], "valid": [(1.0, 2.2), (2.0, 1.5)]}
    return replace(Curve("Learning curves", STAND_IN, "epoch", "loss", series), **changes)


class Page(HTMLParser):
    """Elements in order with their attributes, the text, and whether all that opens is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.shown = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.shown += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def cells_a_line(page: str) -> list[list[int]]:
    """How many columns each line of each table covers, spans counted."""
    widths = []
    for one in re.findall(r"<table.*?</table>", page, re.DOTALL):
        below: dict[int, int] = {}
        for i, line in enumerate(re.findall(r"<tr>(.*?)</tr>", one, re.DOTALL)):
            width = below.pop(i, 0)
            for attributes in re.findall(r"<t[hd]([^>]*)>", line):
                span = {name: int(n) for name, n in re.findall(r'(\w+span)="(\d+)"', attributes)}
                width += span.get("colspan", 1)
                for j in range(1, span.get("rowspan", 1)):
                    below[i + j] = below.get(i + j, 0) + span.get("colspan", 1)
            widths.append([width]) if i == 0 else widths[-1].append(width)
    return widths


# --- the paper


def test_table_1_adds_up() -> None:
    assert {split: sum(counts) for split, counts in paper.TABLE1.items()} == {
        "train": 773, "valid": 383, "test": 653,
    }  # fmt: skip
    assert all(len(counts) == len(LABELS) for counts in paper.TABLE1.values())


def test_no_name_is_in_a_table_twice() -> None:
    """Rows are found by it."""
    for rows in (paper.TABLE2, paper.TABLE3):
        assert len({row.name for row in rows}) == len(rows)
    assert [row.number for row in paper.TABLE4] == list(range(1, 8))


@needs_paper
def test_every_line_of_the_tables_is_in_the_paper_as_it_is_here() -> None:
    lines = re.sub(r"</?[bi]>", "", PAPER.read_text(encoding="utf-8")).splitlines()
    ours = {"train": "Train", "valid": "Val", "test": "Test"}
    expected = [["", *(f"{name[:2]}." for name in LABELS), "All"]]
    expected += [[ours[s], *map(str, (*n, sum(n)))] for s, n in paper.TABLE1.items()]
    expected += [["Model", *paper.COLUMNS[2]], ["", "Model", *paper.COLUMNS[3]]]
    expected += [[row.name, *row.cells] for row in paper.TABLE2]
    first = {row.modality: row for row in reversed(paper.TABLE3)}
    expected += [
        [row.modality if row is first[row.modality] else "", row.name, *row.cells]
        for row in paper.TABLE3
    ]
    expected += [["#", "Visual", "Audio", *paper.COLUMNS[4]]]
    expected += [[str(row.number), row.visual, row.audio, *row.cells] for row in paper.TABLE4]
    assert ["\t".join(line) for line in expected if "\t".join(line) not in lines] == []


@needs_paper
def test_every_figure_of_the_notes_is_in_the_papers_text() -> None:
    text = PAPER.read_text(encoding="utf-8").replace(" ", "")
    figures = [
        figure
        for notes in paper.NOTES.values()
        for note in notes
        for figure in re.findall(r"\d+\.\d+(?= %)", note)
    ]
    assert {"0.5", "0.6", "0.4", "1.5", "0.8", "60.64", "72.4"} == set(figures)
    for figure in set(figures) - {"0.5", "0.4", "72.4"}:
        assert f"{figure}%" in text
    assert "astdaround0.5%" in text
    assert "(resp.0.5%and0.4%forav.pool.andweightedav.pooling)" in text


def test_the_papers_tables_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        paper.TABLE1["test"] = (1,)  # type: ignore[index]
    with pytest.raises(AttributeError):
        paper.TABLE4[0].test = 99.0  # type: ignore[misc]


# --- the tables


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_table_has_all_lines_of_the_paper_and_ours_beside_them(number: int) -> None:
    filled = table(number)
    lengths = {1: 3, 2: 5, 3: 13, 4: 7}
    assert (len(filled.rows), filled.data) == (lengths[number], STAND_IN)
    assert all(len(row.paper) == len(filled.columns) for row in filled.rows)
    assert any(row.ours for row in filled.rows)


def test_our_notes_come_after_the_papers() -> None:
    filled = paper_table(3, STAND_IN, {}, ["Five seeds."])
    assert filled.notes == (*paper.NOTES[3], "Five seeds.")


def test_a_row_the_paper_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(
        ValueError, match=r"Table 3 has no row \['av. pool \(1\)'\], only \['no feat"
    ):
        paper_table(3, STAND_IN, {"av. pool (1)": ("1", "2")})


@pytest.mark.parametrize(
    ("row", "match"),
    [
        (Row("a", ("1",), ("2", "3")), "'a': expected 2 figures .* got 1"),
        (Row("a", ("1", "2"), ("3",)), "'a': expected 2 figures .* got 1"),
        (Row("a"), "'a': no figures at all"),
    ],
)
def test_a_row_that_does_not_fit_its_table_is_refused(row: Row, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Table(3, "t", "d", ("Accuracy", "Test"), (row,))


# --- text


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_text_fits_its_width_and_its_columns_are_aligned(number: int) -> None:
    lines = as_text([table(number)]).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert [line for line in lines if line != line.rstrip()] == []
    top, bottom = (i for i, line in enumerate(lines) if set(line) == {"-"})
    body = lines[top - 1 : top] + lines[top + 1 : bottom]
    assert max(map(len, body)) == len(lines[top])
    for line in body:  # two blanks or more end a cell: each ends where a column of heads does
        ends = {m.end() for m in re.finditer(r"\S+(?: \S+)*", line) if m.start() > 40}
        assert ends <= {m.end() for m in re.finditer(r"\S+", lines[top - 1])}


def test_text_with_the_two_side_by_side() -> None:
    rows = (
        Row("MLP", ("33.5", "42.1"), ("34.0 ± 1.2", "40.0"), "Audio"),
        Row("a new one", (), ("35.1 ± 0.3", "41.0")),
    )
    made = Table(3, "Accuracy.", "not AFEW", ("Accuracy", "Weig. Acc."), rows, ("Percent.",))
    assert as_text([made]).splitlines() == [
        "Table 3: Accuracy.",
        "here = not AFEW",
        "",
        "                      Accuracy     Weig. Acc.",
        "Model       paper         here   paper   here",
        "---------------------------------------------",
        "Audio",
        "  MLP        33.5   34.0 ± 1.2    42.1   40.0",
        "a new one           35.1 ± 0.3           41.0",
        "---------------------------------------------",
        "Percent.",
    ]


def test_text_of_a_table_too_wide_for_that() -> None:
    rows = (
        Row("Train", ("133", "74", "81", "288"), ("70", "1", "22", "93")),
        Row("Val", ("3",) * 4),
    )
    made = Table(1, "Clips.", "not AFEW", ("An.", "Di.", "Fe.", "All"), rows, head="Split")
    assert as_text([made, made]) == as_text([made]) + "\n" + as_text([made])
    assert as_text([made]).splitlines()[3:] == [
        "Split           An.   Di.   Fe.   All",
        "-------------------------------------",
        "Train   paper   133    74    81   288",
        "         here    70     1    22    93",
        "Val     paper     3     3     3     3",
        "-------------------------------------",
    ]


# --- figures of a model


def test_confusions_and_recalls_agree_with_counting_them() -> None:
    made = judged(seeds=4)
    slow = np.zeros((7, 7))
    for guess in made.guesses:
        for is_, taken_for in zip(made.label, guess, strict=True):
            slow[is_, taken_for] += 1 / 4
    np.testing.assert_allclose(made.counts, slow)
    np.testing.assert_allclose(made.recall.mean(axis=0), np.diag(slow) / slow.sum(axis=1))
    happy = made.spreads[3]
    assert happy is not None
    assert happy.mean == pytest.approx(made.recall[:, 3].mean())
    assert happy.std == pytest.approx(made.recall[:, 3].std(ddof=1))


def test_the_summary_gives_all_three_figures_over_seeds() -> None:
    label = np.repeat(np.arange(7), 2)
    half = np.where(np.arange(14) % 2 == 0, label, (label + 1) % 7)
    assert Judged("m", STAND_IN, label, np.array([label, half])).summary == (
        "14 samples, 2 seeds: accuracy 75.0 ± 35.4 %, UAR 75.0 ± 35.4 %, "
        "weighted by the counts of AFEW's test set 75.0 ± 35.4 %"
    )
    assert Judged("m", STAND_IN, label, half[None]).summary.startswith(
        "14 samples, 1 seed: accuracy 50.0 %"
    )


@pytest.mark.parametrize(
    ("label", "guesses", "match"),
    [
        (np.zeros(3, int), np.zeros(3, int), r"got \(3,\) and \(3,\)"),
        (np.zeros(3, int), np.zeros((2, 4), int), r"\(S, N\) guesses"),
        (np.zeros(3, int), np.zeros((0, 3), int), r"\(S, N\) guesses"),
        (np.zeros(0, int), np.zeros((2, 0), int), r"\(S, N\) guesses"),
        (np.zeros(3), np.zeros((2, 3), int), "integers from 0 to 6"),
        (np.zeros(3, int), np.full((2, 3), 7), "integers from 0 to 6"),
        (np.full(3, -1), np.zeros((2, 3), int), "integers from 0 to 6"),
    ],
)
def test_judged_refuses(label: Any, guesses: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Judged("model", STAND_IN, label, guesses)


@pytest.mark.parametrize("series", [{}, {"train": []}])
def test_a_curve_without_points_is_refused(series: Any) -> None:
    with pytest.raises(ValueError, match="a point in each"):
        curve(series=series)


# --- the page, as far as it needs no matplotlib


def test_tables_are_shown_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    there = builtins.__import__

    def absent(name: str, *args: Any, **options: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return there(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    page = Page(as_html([table()], header={"Seeds": "50"}))
    assert page.all("svg") == []
    with pytest.raises(ImportError, match=r'pip install -e "\.\[train\]"'):
        as_html([], [judged()])


def test_every_line_of_a_table_has_the_same_number_of_cells() -> None:
    html = as_html([table(number) for number in (1, 2, 3, 4)])
    widths = cells_a_line(html)
    assert len(widths) == 4
    assert [set(lines) for lines in widths] == [{10}, {7}, {5}, {5}]


def test_heads_say_what_they_are_heads_of() -> None:
    page = Page(as_html([table(1), table(3)]))
    scopes = {attributes.get("scope") for attributes in page.all("th")}
    assert scopes == {"col", "row", "colgroup", "rowgroup"}
    assert len(page.all("caption")) == len(page.all("table")) == 2


def test_every_figure_of_a_table_is_on_the_page_on_its_own_side() -> None:
    filled = table()
    html = as_html([filled])
    for side in ("paper", "here"):
        shown = re.findall(rf'<td class="{side}">([^<]*)</td>', html)
        cells = [getattr(row, {"paper": "paper", "here": "ours"}[side]) for row in filled.rows]
        expected = [cell for line in cells for cell in line or ("", "")]
        assert [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in shown] == expected


def test_a_mean_is_not_parted_from_its_sign_and_std() -> None:
    assert "52.1 ±\N{NO-BREAK SPACE}0.6" in as_html([table()])


# --- the page with plots


@pytest.fixture
def html() -> str:
    pytest.importorskip("matplotlib", reason="the extra 'train' is not installed")
    tables = [table(number) for number in (1, 2, 3, 4)]
    return as_html(tables, [judged(), judged(1)], [curve(), curve()], {"Seeds": "50"})


def test_the_page_needs_nothing_but_itself(html: str) -> None:
    page = Page(html)
    assert "http" not in html
    assert "@import" not in html
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href"):
                assert value.startswith("#")
    assert {where[0] for where in re.findall(r"url\((.)", html)} <= {"#"}


def test_ids_are_there_once_and_all_that_is_referred_to_is_there(html: str) -> None:
    ids = [attributes["id"] for _, attributes in Page(html).elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', html)) <= set(ids)


def test_the_same_figures_make_the_same_page(html: str) -> None:
    import matplotlib as mpl

    tables = [table(number) for number in (1, 2, 3, 4)]
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30, "svg.hashsalt": None}):
        again = as_html(tables, [judged(), judged(1)], [curve(), curve()], {"Seeds": "50"})
        assert mpl.rcParams["font.size"] == 30
    assert again == html


def test_it_fits_a_phone_and_both_modes(html: str) -> None:
    page = Page(html)
    meta = {attributes.get("name"): attributes.get("content") for attributes in page.all("meta")}
    assert meta["viewport"] == "width=device-width, initial-scale=1"
    assert meta["color-scheme"] == "light dark"
    assert "prefers-color-scheme: dark" in html
    assert page.all("html")[0]["lang"] == "en"
    # what a plot writes has the page's own colour
    assert "currentColor" in html
    plots = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert not re.search(r"#0{6}|#f{6}|black|white|#010203", plots)


def test_every_plot_can_be_read_without_seeing_it(html: str) -> None:
    plots = Page(html).all("svg")
    assert len(plots) == 4
    assert all(plot["role"] == "img" and STAND_IN in plot["aria-label"] for plot in plots)
    first = judged()
    happy = f"Happy {first.spreads[3]}"
    assert f"mean ± std over 3 seeds: Angry {first.spreads[0]}" in plots[0]["aria-label"]
    assert happy in plots[0]["aria-label"]
    assert "seeds" not in plots[1]["aria-label"]
    assert "train from 2 to 1, valid from 2.2 to 1.5" in plots[2]["aria-label"]


def test_every_table_and_plot_says_what_data_it_is_of(html: str) -> None:
    """Four tables of the paper, two confusion matrices, two bar plots, two curves."""
    captions = re.findall(r"<(caption|figcaption)>(.*?)</\1>", html, re.DOTALL)
    assert len(captions) == 6 + 4 == html.count("<table") + html.count("<svg")
    assert all(STAND_IN in caption for _, caption in captions)


def test_a_confusion_matrix_has_its_percentages_and_counts(html: str) -> None:
    matrices = re.findall(r'<table class="confusion">.*?</table>', html, re.DOTALL)
    assert len(matrices) == 2
    for matrix, made in zip(matrices, (judged(), judged(1)), strict=True):
        cells = re.findall(r"<td([^>]*)>(\d+)<small>([\d.]+)</small></td>", matrix)
        assert len(cells) == 49
        counts = np.array([float(count) for _, _, count in cells]).reshape(7, 7)
        np.testing.assert_allclose(counts, made.counts, atol=0.05)
        percent = np.array([float(part) for _, part, _ in cells]).reshape(7, 7)
        rows = made.counts / made.counts.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(percent, 100 * rows, atol=0.5)
        right = np.array(["right" in attributes for attributes, _, _ in cells]).reshape(7, 7)
        np.testing.assert_array_equal(right, np.eye(7, dtype=bool))


def test_a_class_without_examples_is_shown_as_not_known() -> None:
    pytest.importorskip("matplotlib", reason="the extra 'train' is not installed")
    made = judged()
    keep = made.label != 6
    page = as_html([], [replace(made, label=made.label[keep], guesses=made.guesses[:, keep])])
    assert len(re.findall(r"<td[^>]*>–</td>", page)) == 7
    assert "Surprise –" in Page(page).all("svg")[0]["aria-label"]
    assert "nan" not in page.replace("Dominant", "")


def test_what_comes_from_outside_is_escaped_everywhere() -> None:
    pytest.importorskip("matplotlib", reason="the extra 'train' is not installed")
    row = Row(NASTY, (NASTY,), (NASTY,), NASTY)
    every = Table(3, NASTY, NASTY, (NASTY,), (row,), (NASTY,), NASTY)
    wide = replace(every, columns=(NASTY,) * 4, rows=(Row(NASTY, (NASTY,) * 4, (NASTY,) * 4),))
    plot = Curve(NASTY, NASTY, NASTY, NASTY, {NASTY: [(0, 1), (1, 0)]})
    made = replace(judged(name=NASTY), data=NASTY)
    html = as_html([every, wide], [made], [plot], {NASTY: NASTY})
    page = Page(html)
    assert page.all("script") == []
    assert page.shown.count(NASTY) == 9 + 17 + 3 + 5 + 2  # of each argument in turn
    assert html.count("<script") == 0


def test_a_page_of_nothing_is_a_page() -> None:
    assert Page(as_html([])).all("h1") == [{}]
