"""A result in other programs' forms: CSV, pandas, WebVTT, ELAN."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occam_sdk import LABELS, BackendError, ClipResult, ModalityScores, Recognizer, demo_clip
from occam_sdk.formats import COLUMNS, to_csv, to_eaf, to_pandas, to_webvtt
from occam_sdk.stretches import Stretch, courses

from .browser import PROGRAM, browser
from .results import nothing, of_several, one_hot, result_of
from .test_cli import occam

# Of EAFv3.0.xsd what we write: each element's children in their order, its attributes, and those it may have.
EAF_3_0: dict[str, tuple[list[str], list[str], list[str]]] = {
    "ANNOTATION_DOCUMENT": (
        ["HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "LOCALE", "LANGUAGE", "CONSTRAINT",
         "CONTROLLED_VOCABULARY"],
        ["AUTHOR", "DATE", "VERSION"],
        ["FORMAT", "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation"],
    ),
    "HEADER": (["MEDIA_DESCRIPTOR", "PROPERTY"], [], ["MEDIA_FILE", "TIME_UNITS"]),
    "MEDIA_DESCRIPTOR": ([], ["MEDIA_URL", "MIME_TYPE"], ["RELATIVE_MEDIA_URL", "TIME_ORIGIN"]),
    "PROPERTY": ([], [], ["NAME"]),
    "TIME_ORDER": (["TIME_SLOT"], [], []),
    "TIME_SLOT": ([], ["TIME_SLOT_ID"], ["TIME_VALUE"]),
    "TIER": (
        ["ANNOTATION"],
        ["TIER_ID", "LINGUISTIC_TYPE_REF"],
        ["PARTICIPANT", "ANNOTATOR", "PARENT_REF"],
    ),
    "ANNOTATION": (["ALIGNABLE_ANNOTATION", "REF_ANNOTATION"], [], []),
    "ALIGNABLE_ANNOTATION": (
        ["ANNOTATION_VALUE"], ["ANNOTATION_ID", "TIME_SLOT_REF1", "TIME_SLOT_REF2"], [],
    ),
    "REF_ANNOTATION": (["ANNOTATION_VALUE"], ["ANNOTATION_ID", "ANNOTATION_REF"], []),
    "ANNOTATION_VALUE": ([], [], []),
    "LINGUISTIC_TYPE": (
        [],
        ["LINGUISTIC_TYPE_ID"],
        ["TIME_ALIGNABLE", "CONSTRAINTS", "GRAPHIC_REFERENCES", "CONTROLLED_VOCABULARY_REF"],
    ),
    "LANGUAGE": ([], ["LANG_ID"], ["LANG_DEF", "LANG_LABEL"]),
    "CONSTRAINT": ([], ["STEREOTYPE"], ["DESCRIPTION"]),
    "CONTROLLED_VOCABULARY": (["DESCRIPTION", "CV_ENTRY_ML"], ["CV_ID"], []),
    "DESCRIPTION": ([], ["LANG_REF"], []),
    "CV_ENTRY_ML": (["CVE_VALUE"], ["CVE_ID"], []),
    "CVE_VALUE": ([], ["LANG_REF"], ["DESCRIPTION"]),
}  # fmt: skip

CUE = re.compile(r"(\d\d+):([0-5]\d):([0-5]\d)\.(\d{3}) --> (\d\d+):([0-5]\d):([0-5]\d)\.(\d{3})")


@pytest.fixture(scope="module")
def demo() -> ClipResult:
    with Recognizer() as recognizer:
        return recognizer.predict(demo_clip())


def regular(count: int) -> list[float]:
    return [index / 25 for index in range(count)]


def cues(text: str) -> list[tuple[int, int, str]]:
    """(start, end, text) of each cue, in milliseconds; fails on what is no WebVTT."""
    assert text.startswith("WEBVTT\n\n")
    assert text.endswith("\n")
    found = []
    for block in text.strip().split("\n\n")[1:]:
        if block.startswith("NOTE "):
            assert "-->" not in block
            continue
        timing, payload = block.split("\n")
        match = CUE.fullmatch(timing)
        assert match, timing
        assert not set("&<") & set(payload)
        assert "-->" not in payload
        start, end = (
            int(h) * 3_600_000 + int(m) * 60_000 + int(s) * 1000 + int(ms)
            for h, m, s, ms in (match.groups()[:4], match.groups()[4:])
        )
        found.append((start, end, payload))
    return found


class Eaf:
    """A document that was opened again; every reference in it must lead somewhere."""

    def __init__(self, text: str) -> None:
        self.root = ElementTree.fromstring(text.encode())
        self.slots = {
            slot.attrib["TIME_SLOT_ID"]: int(slot.attrib["TIME_VALUE"])
            for slot in self.root.iterfind("TIME_ORDER/TIME_SLOT")
        }
        self.tiers = {tier.attrib["TIER_ID"]: tier for tier in self.root.iterfind("TIER")}

    def spans(self, tier: str) -> list[tuple[int, int, str | None]]:
        return [
            (
                self.slots[each.attrib["TIME_SLOT_REF1"]],
                self.slots[each.attrib["TIME_SLOT_REF2"]],
                each.findtext("ANNOTATION_VALUE"),
            )
            for each in self.tiers[tier].iterfind("ANNOTATION/ALIGNABLE_ANNOTATION")
        ]

    def check(self) -> None:
        self._check_schema(self.root)
        assert {"AUTHOR", "DATE", "FORMAT", "VERSION"} <= self.root.attrib.keys()
        assert self.root.attrib["FORMAT"] == "3.0"
        times = list(self.slots.values())
        assert times == sorted(times)
        assert all(time >= 0 for time in times)
        annotations = [next(iter(each)) for each in self.root.iterfind("TIER/ANNOTATION")]
        names = [each.attrib["ANNOTATION_ID"] for each in annotations]
        assert len(set(names)) == len(names)
        used = [
            each.attrib[side]
            for each in annotations
            for side in ("TIME_SLOT_REF1", "TIME_SLOT_REF2")
            if side in each.attrib
        ]
        assert sorted(used) == sorted(self.slots)  # each once
        types = {
            kind.attrib["LINGUISTIC_TYPE_ID"] for kind in self.root.iterfind("LINGUISTIC_TYPE")
        }
        for tier in self.tiers.values():
            assert tier.attrib["LINGUISTIC_TYPE_REF"] in types
            assert tier.attrib.get("PARENT_REF", "face") in self.tiers
            spans = self.spans(tier.attrib["TIER_ID"])
            assert all(start < end for start, end, _ in spans)
            assert all(one[1] <= other[0] for one, other in pairwise(spans))
        for each in annotations:
            assert each.attrib.get("ANNOTATION_REF", names[0]) in names

    def _check_schema(self, element: ElementTree.Element) -> None:
        """Elements in the schema's order, with the attributes that it asks for and no others."""
        children, needed, allowed = EAF_3_0[element.tag]
        order = [child.tag for child in element]
        assert order == sorted(order, key=children.index), element.tag
        assert set(needed) <= element.attrib.keys() <= {*needed, *allowed}, element.tag
        for child in element:
            self._check_schema(child)


# Stretches


def stretches(result: ClipResult) -> tuple[Stretch, ...]:
    """Of the main face."""
    return courses(result)[0].stretches


def test_a_stretch_lasts_as_long_as_the_label_stays() -> None:
    found = stretches(result_of(regular(100), ["Sad"] * 50 + ["Happy"] * 50))
    assert [stretch.label for stretch in found] == ["Sad", "Happy"]
    assert found[0].end_s == found[1].start_s == pytest.approx(2, abs=0.05)
    assert found[1].end_s == pytest.approx(4)
    assert 0.1 < found[0].score < 0.7
    assert (found[0].valence, found[0].arousal) == pytest.approx((0.5, -0.25))


def test_a_blink_is_smoothed_away() -> None:
    labels = ["Sad"] * 30 + ["Surprise"] * 3 + ["Sad"] * 30
    assert [stretch.label for stretch in stretches(result_of(regular(63), labels))] == ["Sad"]


def test_frames_without_the_face_are_in_no_stretch() -> None:
    found = stretches(result_of(regular(60), ["Sad"] * 20 + [None] * 20 + ["Sad"] * 20))
    spans = [(stretch.start_s, stretch.end_s) for stretch in found]
    assert spans == [pytest.approx((0, 0.8)), pytest.approx((1.6, 2.4))]


def test_a_frame_stands_for_a_second_at_most() -> None:
    found = stretches(result_of([0, 10, 10.5], ["Sad"] * 3))
    assert [(stretch.start_s, stretch.end_s) for stretch in found] == [(0, 1), (10, 11)]


def test_a_clip_without_a_face_has_no_stretch() -> None:
    assert stretches(nothing()) == ()


def test_a_score_that_is_no_number_spoils_no_other() -> None:
    result = result_of(regular(100), ["Sad"] * 100)
    face = result.timeline[0].face
    assert face is not None
    face.scores[:] = np.nan
    (only,) = stretches(result)
    assert only.label == "Sad"
    assert only.score == pytest.approx(0.7, abs=0.05)


# CSV and pandas


def test_the_csv_has_a_row_for_every_frame(demo: ClipResult) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(demo), newline="")))
    assert len(rows) == len(demo.timeline) == 75
    assert tuple(rows[0]) == COLUMNS
    assert float(rows[10]["time_s"]) == pytest.approx(0.4)


def test_the_data_frame_has_what_the_csv_has(demo: ClipResult) -> None:
    pandas = pytest.importorskip("pandas", reason="the extra 'pandas' is not installed")
    frame = to_pandas(demo)
    read = pandas.read_csv(io.StringIO(to_csv(demo), newline=""))
    assert tuple(frame.columns) == COLUMNS
    assert frame["label"].tolist() == read["label"].tolist()
    for name in ("time_s", "left", *LABELS, "valence"):
        np.testing.assert_allclose(frame[name], read[name], atol=0.06 if name == "left" else 1e-4)
    np.testing.assert_allclose(frame[list(LABELS)].sum(axis=1), 1, atol=1e-5)


def test_a_frame_without_a_face_is_empty_in_both() -> None:
    pandas = pytest.importorskip("pandas", reason="the extra 'pandas' is not installed")
    result = result_of(regular(2), ["Sad", None])
    *_, second = csv.DictReader(io.StringIO(to_csv(result), newline=""))
    assert [name for name, cell in second.items() if cell] == ["index", "time_s"]
    frame = to_pandas(result)
    assert [name for name in COLUMNS if not pandas.isna(frame[name][1])] == ["index", "time_s"]
    assert to_pandas(nothing())["track_id"].isna().all()


def test_without_pandas_the_error_is_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(BackendError, match=r'pip install "occam-sdk\[pandas\]"'):
        to_pandas(nothing())


def test_of_several_faces_each_has_a_row_in_every_frame_that_shows_it() -> None:
    result = of_several(regular(3), {4: ["Sad", None, None], 1: ["Happy", "Fear", None]})
    rows = list(csv.DictReader(io.StringIO(to_csv(result), newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["index"], row["track_id"], row["label"]) for row in rows] == [
        ("0", "4", "Sad"),  # the main face first
        ("0", "1", "Happy"),
        ("1", "1", "Fear"),
        ("2", "", ""),
    ]
    pandas = pytest.importorskip("pandas", reason="the extra 'pandas' is not installed")
    frame = to_pandas(result)
    assert frame["index"].tolist() == [0, 0, 1, 2]
    assert frame.groupby("track_id").size().to_dict() == {1: 2, 4: 1}
    assert pandas.isna(frame["track_id"][3])


# WebVTT and ELAN

clips_of_any_kind = st.lists(
    st.tuples(
        st.sampled_from([0.0004, 0.001, 0.0333, 0.04, 0.5, 2.0]), st.sampled_from([*LABELS, None])
    ),
    max_size=60,
)


def _made(steps: Sequence[tuple[float, str | None]], start_s: float) -> ClipResult:
    times_s = (start_s + np.cumsum([0.0, *(step for step, _ in steps)]))[:-1].tolist()
    return result_of(times_s, [label for _, label in steps])


@given(clips_of_any_kind, st.sampled_from([-1.0, 0.0, 0.0005, 5000.0]))
def test_cues_and_annotations_increase_do_not_overlap_and_cover_the_frames_with_a_face(
    steps: list[tuple[float, str | None]], start_s: float
) -> None:
    result = _made(steps, start_s)
    found = cues(to_webvtt(result))
    assert all(start < end for start, end, _ in found)
    assert all(one[1] <= other[0] for one, other in pairwise(found))
    document = Eaf(to_eaf(result, media="clip.mp4"))
    document.check()
    assert [span[:2] for span in document.spans("face")] == [cue[:2] for cue in found]
    for row, following in pairwise(result.timeline):
        # The middle of what the frame stands for, if it is more than what is rounded away.
        stands_s = min(following.time_s - row.time_s, 1.0)
        if stands_s < 0.002 or row.time_s < 0:
            continue
        middle = 1000 * (row.time_s + stands_s / 2)
        assert any(start <= middle <= end for start, end, _ in found) == (row.face is not None)


def test_a_cue_names_label_and_score(demo: ClipResult) -> None:
    ((start, end, text),) = cues(to_webvtt(demo))
    assert (start, end) == (0, 3000)
    assert re.fullmatch(r"Happy \d\d %", text)


def test_of_several_faces_cues_name_theirs_and_begin_in_order() -> None:
    labels = {4: ["Sad"] * 50 + ["Fear"] * 50, 1: [None] * 25 + ["Happy"] * 50 + [None] * 25}
    found = cues(to_webvtt(of_several(regular(100), labels)))
    assert [text.rsplit(maxsplit=2)[0] for _, _, text in found] == ["#4 Sad", "#1 Happy", "#4 Fear"]
    assert [start for start, _, _ in found] == [0, 1000, 2000]


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed")
def test_a_browser_reads_the_cues_that_were_written(tmp_path: Path) -> None:
    labels = {4: ["Sad"] * 50 + [None] * 50, 1: [None] * 25 + ["Happy"] * 50 + [None] * 25}
    text = to_webvtt(of_several(regular(100), labels))
    (tmp_path / "page.html").write_text("<video><track default></video>", encoding="utf-8")
    with browser(tmp_path / "profile") as opened:
        opened.open(tmp_path / "page.html")
        read = opened.run(
            f"""new Promise((done, fail) => {{
              const track = document.querySelector("track");
              track.onerror = () => fail("no WebVTT");
              track.onload = () => done([...track.track.cues].map(
                (cue) => [Math.round(1000 * cue.startTime), Math.round(1000 * cue.endTime), cue.text]));
              track.src = URL.createObjectURL(new Blob([{json.dumps(text)}], {{ type: "text/vtt" }}));
              track.track.mode = "showing";
            }})"""
        )
    assert [tuple(cue) for cue in read] == cues(text)


def test_hours_are_written_out() -> None:
    result = result_of([36_000.5, 36_000.54], ["Sad", "Sad"])
    assert "10:00:00.500 --> 10:00:00.580\nSad 70 %\n" in to_webvtt(result)


def test_a_clip_without_a_face_has_no_cues_and_a_status() -> None:
    assert cues(to_webvtt(nothing())) == []
    document = Eaf(to_eaf(nothing(), media="clip.mp4"))
    document.check()
    assert document.spans("status") == [(0, 2000, "no_evidence")]
    assert document.spans("clip") == document.spans("face") == document.spans("voice") == []


def test_the_document_names_the_clip_where_it_lies() -> None:
    document = Eaf(to_eaf(nothing(), media="../my clips/a&b <ü>.mkv"))
    (media,) = document.root.iterfind("HEADER/MEDIA_DESCRIPTOR")
    assert media.attrib["RELATIVE_MEDIA_URL"] == "../my%20clips/a%26b%20%3C%C3%BC%3E.mkv"
    beside = Eaf(to_eaf(nothing(), media="10:30.mp4")).root.find("HEADER/MEDIA_DESCRIPTOR")
    assert beside is not None
    assert beside.attrib["RELATIVE_MEDIA_URL"] == "./10%3A30.mp4"
    assert beside.attrib["MIME_TYPE"] == "video/mp4"


def test_the_labels_are_a_controlled_vocabulary() -> None:
    root = Eaf(to_eaf(nothing(), media="clip.mp4")).root
    values = root.iterfind("CONTROLLED_VOCABULARY/CV_ENTRY_ML/CVE_VALUE")
    assert tuple(value.text for value in values) == LABELS


def test_valence_and_arousal_belong_to_the_face() -> None:
    result = result_of(regular(100), ["Sad"] * 50 + ["Happy"] * 50)
    document = Eaf(to_eaf(result, media="clip.mp4"))
    document.check()
    parents = [
        each.attrib["ANNOTATION_ID"]
        for each in document.tiers["face"].iterfind("ANNOTATION/ALIGNABLE_ANNOTATION")
    ]
    for name, value in (("face valence", "+0.500"), ("face arousal", "-0.250")):
        found = list(document.tiers[name].iterfind("ANNOTATION/REF_ANNOTATION"))
        assert [each.attrib["ANNOTATION_REF"] for each in found] == parents
        assert {each.findtext("ANNOTATION_VALUE") for each in found} == {value}


def test_of_several_faces_each_has_tiers_and_the_main_one_keeps_its_names() -> None:
    labels = {4: ["Sad"] * 50, 1: [None] * 25 + ["Happy"] * 25}
    document = Eaf(to_eaf(of_several(regular(50), labels), media="clip.mp4"))
    document.check()
    assert [(name, tier.get("PARTICIPANT")) for name, tier in document.tiers.items()] == [
        ("clip", None),
        ("face", "#4"),
        ("face valence", "#4"),
        ("face arousal", "#4"),
        ("face #1", "#1"),
        ("face #1 valence", "#1"),
        ("face #1 arousal", "#1"),
        ("voice", None),
        ("voice heard", None),
        ("status", None),
    ]
    assert document.spans("face") == [(0, 2000, "Sad")]
    assert document.spans("face #1") == [(1000, 2000, "Happy")]
    alone = Eaf(to_eaf(of_several(regular(50), {4: labels[4]}), media="clip.mp4"))
    assert not any(
        "#" in name or "PARTICIPANT" in each.attrib for name, each in alone.tiers.items()
    )


@pytest.mark.parametrize(
    ("starts_s", "duration_s", "spans"),
    [
        ((0.0,), 3.0, [(0, 3000)]),
        ((0.0, 6.0), 13.4, [(0, 6000), (6000, 13400)]),  # a rest too short to be judged by itself
        ((0.0, 12.0), 30.0, [(0, 6000), (12000, 18000)]),  # silence in between and after
        ((0.5, 3.0), 9.0, [(500, 3000), (3000, 9000)]),  # a pause in the timestamps
    ],
)
def test_the_pieces_that_were_heard(
    starts_s: tuple[float, ...], duration_s: float, spans: list[tuple[int, int]]
) -> None:
    voice = ModalityScores(one_hot("Fear"), evidence_s=starts_s)
    result = result_of(regular(50), ["Sad"] * 50, voice=voice, status="ok", duration_s=duration_s)
    document = Eaf(to_eaf(result, media="clip.mp4"))
    document.check()
    assert [span[:2] for span in document.spans("voice heard")] == spans
    assert document.spans("voice") == [(0, round(1000 * duration_s), "Fear")]


# The command


@pytest.mark.parametrize("ending", [".csv", ".vtt", ".EAF"])
def test_the_ending_says_what_predict_writes(ending: str, tmp_path: Path, demo: ClipResult) -> None:
    target = tmp_path / f"rows{ending}"
    done = occam("predict", demo_clip(), "--timeline", target)
    assert done.returncode == 0, done.stderr
    text = target.read_bytes().decode()
    if ending == ".csv":
        assert text == to_csv(demo)
    elif ending == ".vtt":
        assert text == to_webvtt(demo)
    else:
        document = Eaf(text)
        document.check()
        (media,) = document.root.iterfind("HEADER/MEDIA_DESCRIPTOR")
        assert (tmp_path / media.attrib["RELATIVE_MEDIA_URL"]).samefile(demo_clip())
    assert list(tmp_path.iterdir()) == [target]


def test_another_ending_is_refused_before_any_work(tmp_path: Path) -> None:
    done = occam("predict", demo_clip(), "--timeline", tmp_path / "rows.srt")
    assert done.returncode == 2
    assert "expected a name that ends with .csv or .vtt or .eaf" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
