"""``occam report``: one page that needs nothing else, as a parser and as a browser see it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from occam_sdk import LABELS, ClipResult, ModalityScores, Recognizer, demo_clip, report
from occam_sdk.types import TimelineRow
from occam_sdk.video.decode import VideoFile

from . import clips
from .browser import PROGRAM, Browser, browser
from .results import nothing, of_several, one_hot, result_of
from .test_annotate import plain
from .test_cli import occam

HOSTILE = '"><script>document.title=1<!--<img src=x onerror=alert(1)> {{media}} &amp;.mp4'


@pytest.fixture(scope="module")
def demo() -> ClipResult:
    with Recognizer() as recognizer:
        return recognizer.predict(demo_clip())


class Page(HTMLParser):
    """A page as a parser sees it: elements with their attributes, and the text of each by id."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._inside = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        self._inside = attributes.get("id") or tag

    def handle_endtag(self, tag: str) -> None:
        del tag  # whichever it is
        self._inside = ""

    def handle_data(self, data: str) -> None:
        self.texts[self._inside] = self.texts.get(self._inside, "") + data

    @property
    def data(self) -> dict[str, Any]:
        return dict(json.loads(self.texts["data"], parse_constant=pytest.fail))

    def media(self, folder: Path) -> Path:
        target = folder / "embedded"
        target.write_bytes(base64.b64decode(self.texts["media"], validate=True))
        return target


def made(clip: Path, result: ClipResult, folder: Path) -> Page:
    report.report(clip, result, folder / "page.html")
    return Page(folder / "page.html")


def test_the_demo_makes_a_page_with_the_clip_itself_in_it(tmp_path: Path, demo: ClipResult) -> None:
    target = tmp_path / "page.html"
    done = occam("report", demo_clip(), target)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "Happy, status ok"
    assert list(tmp_path.iterdir()) == [target]
    page = Page(target)
    assert page.media(tmp_path).read_bytes() == demo_clip().read_bytes()
    assert page.data["media"] == "video/mp4"
    (face,) = page.data["faces"]
    assert len(page.data["times"]) == len(face["scores"]) == 75
    assert [time for time, *_ in face["stills"]] == list(demo.face.evidence_s)  # type: ignore[union-attr]
    assert page.data["voice"] is not None
    assert page.data["heard"] == [[0, round(demo.duration_s, 3)]]
    assert sum(page.data["fused"]) == pytest.approx(1, abs=0.01)
    assert "not what somebody feels" in target.read_text(encoding="utf-8")


def test_nothing_on_the_page_is_elsewhere(tmp_path: Path, demo: ClipResult) -> None:
    page = made(demo_clip(), demo, tmp_path)
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base"), tag
        assert not {"src", "href", "srcset", "action", "background"} & attributes.keys(), tag
    rest = (tmp_path / "page.html").read_text(encoding="utf-8").replace(page.texts["media"], "")
    assert "://" not in rest.replace("http://www.w3.org/1999/xhtml", "")
    assert "url(" not in rest
    (policy,) = (a["content"] for _, a in page.elements if "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_timeline_is_a_slider_with_a_name(tmp_path: Path, demo: ClipResult) -> None:
    page = made(demo_clip(), demo, tmp_path)
    (slider,) = (
        attributes for _, attributes in page.elements if attributes.get("role") == "slider"
    )
    assert slider["tabindex"] == "0"
    assert slider["aria-label"]


def test_a_hostile_name_stays_a_name(tmp_path: Path) -> None:
    clip = clips.write_clip(tmp_path / HOSTILE, images=plain())
    result = result_of(clips.regular(8), ["Sad"] * 8, notes=("</script><b>",))
    page = made(clip, result, tmp_path)
    assert page.data["name"] == HOSTILE
    assert page.data["notes"][0] == "</script><b>"
    assert [tag for tag, _ in page.elements].count("script") == 3
    assert "img" not in {tag for tag, _ in page.elements}
    assert page.media(tmp_path).read_bytes() == clip.read_bytes()


def test_a_clip_that_browsers_do_not_play_is_written_anew_from_zero(tmp_path: Path) -> None:
    clip = clips.write_clip(
        tmp_path / "clip.ts",
        images=plain(8, (960, 720)),
        times_s=clips.regular(8, start_s=2.5),
        codec="mpeg4",
        sound=clips.tone(0.4),
        sound_codec="mp2",
        sound_start_s=2.5,
    )
    times_s = [frame.time_s for frame in VideoFile(clip)]
    page = made(clip, result_of(times_s, ["Sad"] * 8), tmp_path)
    assert page.data["media"] == "video/mp4"
    assert "encoded anew for this page, with at most 480 lines" in page.data["notes"][-1]
    media = page.media(tmp_path)
    with av.open(str(media)) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
        assert container.streams.video[0].height == 480
        assert container.streams.video[0].width == 640
        assert abs(container.start_time or 0) < 0.1 * av.time_base
    found = [frame.time_s for frame in VideoFile(media)]
    np.testing.assert_allclose(np.diff(found), np.diff(times_s), atol=1e-3)


def test_a_large_clip_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "LARGEST_BYTES", 1000)
    page = made(demo_clip(), nothing(), tmp_path)
    assert page.media(tmp_path).read_bytes() != demo_clip().read_bytes()
    assert len(list(VideoFile(page.media(tmp_path)))) == 75


def test_a_clip_that_was_cut_short_is_written_anew_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = clips.write_clip(tmp_path / "clip.mkv", images=plain(50), options={"g": "5"})
    cut = clips.cut(whole, 0.7)
    times_s = [frame.time_s for frame in VideoFile(cut)]
    page = made(cut, result_of(times_s, [None] * len(times_s), truncated=True), tmp_path)
    assert len(list(VideoFile(page.media(tmp_path)))) == len(times_s)
    assert any("cut short" in note for note in page.data["notes"])


@pytest.mark.parametrize(
    ("name", "codec", "kind"),
    [("sound.wav", "pcm_s16le", "audio/wav"), ("sound.flac", "flac", "audio/mp4")],
)
def test_sound_alone_has_a_page_too(name: str, codec: str, kind: str, tmp_path: Path) -> None:
    if codec == "flac":
        clip = _flac(tmp_path / name)
    else:
        clip = clips.write_clip(tmp_path / name, sound=clips.tone(2.0), sound_codec=codec)
    result = result_of([], [], face=None, status="no_face", duration_s=2.0)
    page = made(clip, result, tmp_path)
    assert page.data["media"] == kind
    assert page.data["times"] == page.data["faces"][0]["stills"] == []
    with av.open(str(page.media(tmp_path))) as container:
        assert float(container.duration or 0) / av.time_base == pytest.approx(2, abs=0.1)


def _flac(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=44_100, layout="mono")
        sound = (clips.tone(2.0) * 32767).astype(np.int16)[None]
        for begin in range(0, sound.shape[1], 4096):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(sound[:, begin : begin + 4096]), format="s16", layout="mono"
            )
            frame.sample_rate, frame.pts = 44_100, begin
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_of_several_faces_the_main_one_comes_first(tmp_path: Path) -> None:
    images = [frame.image for frame in VideoFile(demo_clip())][:30]
    clip, target = clips.pair(tmp_path / "pair.mp4", images), tmp_path / "page.html"
    done = occam("report", clip, target, "--max-faces", "3")
    assert done.returncode == 0, done.stderr
    main, other = Page(target).data["faces"]
    assert main["name"] != other["name"]
    assert len(main["scores"]) == len(other["scores"]) == len(images)
    assert len(main["stills"]) == len(other["stills"]) == 16


class Once(Sequence[TimelineRow]):
    """Rows that may be made once."""

    def __init__(self, rows: Sequence[TimelineRow]) -> None:
        self._rows, self._made = rows, set[int]()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: Any) -> Any:
        row = self._rows[place]  # which ends an iteration
        assert place not in self._made
        self._made.add(place)
        return row


def test_a_report_makes_every_row_once(tmp_path: Path) -> None:
    clip = clips.write_clip(tmp_path / "clip.mp4", images=plain())
    result = of_several(clips.regular(8), {0: ["Sad"] * 8, 1: ["Happy"] * 8})
    tracks = tuple(replace(track, timeline=Once(track.timeline)) for track in result.tracks)
    made(clip, replace(result, tracks=tracks, timeline=tracks[0].timeline), tmp_path)


def test_a_long_clip_is_played_from_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "LARGEST_BYTES", 1000)
    monkeypatch.setattr(report, "LONGEST_S", 0.1)
    (tmp_path / "my #1 clips").mkdir()
    clip = clips.write_clip(tmp_path / "my #1 clips" / "a?.mp4", images=plain())
    folder = tmp_path / "pages"
    folder.mkdir()
    page = made(clip, result_of(clips.regular(8), ["Sad"] * 8), folder)
    assert page.data["address"] == "./../my%20%231%20clips/a%3F.mp4"
    assert "media" not in page.texts
    assert page.data["notes"][-1].endswith("which plays it from ../my #1 clips/a?.mp4")
    unplayable = clips.write_clip(tmp_path / "b.avi", images=plain(), codec="mpeg4")
    page = made(unplayable, result_of(clips.regular(8), ["Sad"] * 8), folder)
    assert "occam annotate writes a clip that they play" in page.data["notes"][-1]


def test_a_page_of_an_hour_stays_small(tmp_path: Path) -> None:
    times_s = clips.regular(90_000)
    labels = [
        ("Sad", "Happy", None, "Fear")[second % 4] for second in range(3600) for _ in range(25)
    ]
    clip = clips.write_clip(tmp_path / "clip.mp4", images=plain(2))
    made(clip, result_of(times_s, labels), tmp_path)
    assert (tmp_path / "page.html").stat().st_size < 5_000_000


def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    done = occam("report", demo_clip(), tmp_path / "out.pdf")
    assert done.returncode == 2
    assert "expected a name that ends with .html or .htm" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# In a browser

needs_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds: sad for two, happy for one, and no face for one."""
    folder = tmp_path_factory.mktemp("page")
    images = [clips.numbered(index, (320, 240)) for index in range(100)]
    clip = clips.write_clip(folder / HOSTILE, images=images, sound=clips.tone(4.0, level=0.01))
    labels = ["Sad"] * 50 + ["Happy"] * 25 + [None] * 25
    face = ModalityScores(one_hot("Happy"), 0.5, -0.25, (0.4, 2.6))
    result = result_of(clips.regular(100), labels, face=face)
    report.report(clip, result, folder / "page.html")
    return folder / "page.html"


def open_page(opened: Browser, page: Path, **how: Any) -> None:
    opened.requests.clear()
    opened.errors.clear()
    opened.open(page, **how)
    opened.until("playable")


def label(opened: Browser) -> str:
    return str(opened.run("document.getElementById('now').textContent"))


@needs_browser
def test_the_page_works_offline_and_without_errors(opened: Browser, page: Path) -> None:
    open_page(opened, page)
    assert opened.errors == []
    assert {address.partition(":")[0] for address in opened.requests} <= {"file", "blob", "data"}
    assert opened.run("document.querySelector('h1').textContent") == "Happy 70 %"
    assert opened.run("document.getElementById('name').textContent") == HOSTILE
    assert opened.run("document.querySelectorAll('#whole tbody tr').length") == len(LABELS)
    assert opened.run("document.title").startswith("Happy: ")


@needs_browser
def test_the_timeline_is_worked_by_keys(opened: Browser, page: Path) -> None:
    open_page(opened, page)
    opened.run("document.getElementById('timeline').focus()")
    assert (
        opened.run("getComputedStyle(document.getElementById('timeline')).outlineStyle") != "none"
    )
    for key, shift, position, shows in (
        ("ArrowRight", False, 0.04, "Sad"),
        ("ArrowRight", True, 1.04, "Sad"),
        ("ArrowLeft", False, 1.0, "Sad"),
        ("End", False, 4.0, "no face"),
        ("ArrowLeft", True, 3.0, "no face"),
        ("ArrowLeft", False, 2.96, "Happy"),
        ("PageDown", False, 0.0, "Sad"),
        ("PageUp", False, 4.0, "no face"),
        ("Home", False, 0.0, "Sad"),
    ):
        opened.press(key, shift=shift)
        value = opened.run("+document.getElementById('timeline').getAttribute('aria-valuenow')")
        assert value == pytest.approx(position, abs=0.011), key
        assert label(opened).startswith(shows), key
        opened.until("!player.seeking")
        assert opened.run("player.currentTime") == pytest.approx(position, abs=0.05)


@needs_browser
def test_a_click_and_a_drag_jump(opened: Browser, page: Path) -> None:
    open_page(opened, page)
    left, top, width = opened.run(
        "(({left, top, width}) => [left, top, width])"
        "(document.getElementById('timeline').getBoundingClientRect())"
    )
    opened.mouse("mousePressed", left + 0.25 * width, top + 20)
    assert opened.run("position") == pytest.approx(1, abs=0.02)
    opened.mouse("mouseMoved", left + 0.7 * width, top + 20)
    opened.mouse("mouseReleased", left + 0.7 * width, top + 20)
    assert opened.run("position") == pytest.approx(2.8, abs=0.02)
    assert label(opened).startswith("Happy")
    opened.mouse("mouseMoved", left + 0.1 * width, top + 20)
    assert opened.run("position") == pytest.approx(2.8, abs=0.02)


@needs_browser
def test_the_picture_is_that_of_the_time(opened: Browser, page: Path) -> None:
    open_page(opened, page)
    seen = opened.run(
        """new Promise((done) => {
          player.addEventListener("seeked", () => {
            const canvas = document.createElement("canvas");
            canvas.width = 320; canvas.height = 240;
            const context = canvas.getContext("2d");
            context.drawImage(player, 0, 0, 320, 240);
            done([80, 240].map((x) => context.getImageData(x, 120, 1, 1).data[0]));
          }, { once: true });
          seek(1.46);
        })"""
    )
    image = np.repeat(np.array(seen, np.uint8), 160)[None, :, None].repeat(240, 0).repeat(3, 2)
    assert clips.number(image) == 36


@needs_browser
def test_the_timeline_follows_the_clip_and_a_chosen_frame_jumps(
    opened: Browser, page: Path
) -> None:
    open_page(opened, page)
    assert opened.run("document.querySelectorAll('#stills button').length") == 2
    opened.run("document.querySelectorAll('#stills button')[1].click()")
    assert opened.run("position") == pytest.approx(2.6)
    opened.until("!player.seeking")
    opened.run("player.play()")
    opened.until("position > 2.9")
    share = opened.run("parseFloat(document.getElementById('head').style.left)")
    assert 70 < share <= 100
    opened.run("player.pause()")


@needs_browser
@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_is_wider_than_the_screen(width: int, opened: Browser, page: Path) -> None:
    open_page(opened, page, width=width)
    assert opened.run("document.documentElement.scrollWidth") <= width


@needs_browser
def test_it_is_dark_where_the_reader_wants_it_dark(opened: Browser, page: Path) -> None:
    grounds = []
    for dark in (False, True):
        open_page(opened, page, dark=dark)
        colour = opened.run("getComputedStyle(document.body).backgroundColor")
        grounds.append(sum(map(int, colour[4:-1].split(","))) / 3)
    assert grounds[0] > 200
    assert grounds[1] < 40


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds: #3 is sad for all of them, #0 comes after two and is happy."""
    folder = tmp_path_factory.mktemp("two")
    images = [clips.numbered(index, (320, 240)) for index in range(100)]
    clip = clips.write_clip(folder / "clip.mp4", images=images)
    labels = {3: ["Sad"] * 100, 0: [None] * 50 + ["Happy"] * 50}
    report.report(clip, of_several(clips.regular(100), labels), folder / "page.html")
    return folder / "page.html"


@needs_browser
def test_the_reader_chooses_the_face_to_look_at(opened: Browser, of_two: Path) -> None:
    open_page(opened, of_two)
    assert opened.run("document.querySelectorAll('#faces input').length") == 2
    assert opened.run("document.querySelectorAll('.band').length") == 2
    opened.run("seek(3)")
    assert label(opened).startswith("Sad")
    opened.run("document.querySelector('#faces input').focus()")
    opened.press("ArrowRight")
    assert label(opened).startswith("Happy")
    assert opened.run("document.querySelector('.chosen').textContent").endswith("#0")
    assert opened.run("document.querySelectorAll('#whole thead th')[1].textContent") == (
        "face #0, not in the answer"
    )
    opened.run("seek(1)")
    assert label(opened) == "no face"
    assert opened.run("document.querySelector('h1').textContent") == "Happy 70 %"  # the clip's
    opened.run("document.querySelector('#faces label').click()")
    assert label(opened).startswith("Sad")
    assert opened.errors == []


@needs_browser
@pytest.mark.parametrize("width", [320, 1280])
def test_a_page_of_several_is_no_wider_than_the_screen(
    width: int, opened: Browser, of_two: Path
) -> None:
    open_page(opened, of_two, width=width)
    assert opened.run("document.documentElement.scrollWidth") <= width


@needs_browser
def test_of_one_face_there_is_nothing_to_choose(opened: Browser, page: Path) -> None:
    open_page(opened, page)
    assert opened.run("getComputedStyle(document.getElementById('faces')).display") == "none"


@needs_browser
def test_a_clip_beside_the_page_is_played(
    opened: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "LARGEST_BYTES", 1000)
    monkeypatch.setattr(report, "LONGEST_S", 0.1)
    clip = clips.write_clip(tmp_path / "a #1?.mp4", images=plain(50))
    report.report(clip, result_of(clips.regular(50), ["Sad"] * 50), tmp_path / "page.html")
    open_page(opened, tmp_path / "page.html")
    opened.run("seek(1)")
    opened.until("!player.seeking")
    assert opened.run("player.currentTime") == pytest.approx(1, abs=0.05)
    assert opened.errors == []


@needs_browser
def test_a_page_of_sound_alone_works(opened: Browser, tmp_path: Path) -> None:
    clip = clips.write_clip(tmp_path / "s.wav", sound=clips.tone(2.0), sound_codec="pcm_s16le")
    result = result_of([], [], face=None, status="no_face", duration_s=2.0)
    report.report(clip, result, tmp_path / "page.html")
    open_page(opened, tmp_path / "page.html")
    opened.run("seek(1)")
    assert opened.run("document.querySelector('audio').currentTime") == 1
    assert label(opened) == "no face"
    assert opened.errors == []
