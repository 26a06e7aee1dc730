"""Files that are not plain, from end to end: each is judged as the plain form of the same pictures is."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from occam_sdk import ClipResult, ModalityScores, Recognizer, Waveform, demo_clip
from occam_sdk.annotate import annotate
from occam_sdk.audio.decode import AudioFile
from occam_sdk.sources import open_source
from occam_sdk.video.decode import VideoFile

from . import clips
from .test_stream import Simple, stream

Image = NDArray[np.uint8]

COUNT, RATE_HZ, SIZE = 16, 25, (480, 272)
FRAME_S = 1 / RATE_HZ
GROUND = (90, 110, 70)
QUIET_265 = {"x265-params": "log-level=none"}


@pytest.fixture(scope="module")
def portraits() -> list[Image]:
    return [frame.image for frame in VideoFile(demo_clip())][20 : 20 + COUNT]


def placed(portrait: Image, left: int = 45, top: int = 15, side: int = 210) -> Image:
    """A picture of ``SIZE`` with the portrait somewhere in it."""
    image = np.full((SIZE[1], SIZE[0], 3), GROUND, np.uint8)
    small = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
    image[top : top + side, left : left + side] = small
    return image


@pytest.fixture(scope="module")
def images(portraits: list[Image]) -> list[Image]:
    return [placed(portrait) for portrait in portraits]


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    with Recognizer(threads=1) as made:
        yield made


@pytest.fixture(scope="module")
def plain(
    recognizer: Recognizer, images: list[Image], tmp_path_factory: pytest.TempPathFactory
) -> ClipResult:
    path = tmp_path_factory.mktemp("plain") / "plain.mp4"
    return recognizer.predict(clips.write_clip(path, images=images))


def times_s(result: ClipResult) -> list[float]:
    return [row.time_s for row in result.timeline]


def boxes(result: ClipResult) -> NDArray[np.float32]:
    """(T, 4): every row has a face."""
    return np.stack([row.face.face.box_xyxy for row in result.timeline if row.face])


def assert_judged_alike(result: ClipResult, plain: ClipResult) -> None:
    """The same face at the same place and time, with the same scores."""
    assert result.label == plain.label == "Happy"
    assert all(row.face is not None for row in result.timeline)
    np.testing.assert_allclose(times_s(result), times_s(plain), atol=2e-3)
    np.testing.assert_allclose(boxes(result), boxes(plain), atol=4)
    assert result.face is not None
    assert plain.face is not None
    np.testing.assert_allclose(result.face.scores, plain.face.scores, atol=0.03)
    assert not result.truncated


def streamed(recognizer: Recognizer, path: Path) -> ClipResult:
    """What a stream says of a whole file."""
    return list(recognizer.stream(path, window_s=60, hop_s=60))[-1].result


FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "10 bits, H.264": (".mp4", {"pix_fmt": "yuv420p10le"}),
    "10 bits, HEVC": (".mkv", {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": QUIET_265}),
    "grey, H.264": (".mp4", {"pix_fmt": "gray"}),
    "grey, 10 bits": (".mkv", {"pix_fmt": "gray10le"}),
    "alpha, ProRes": (".mov", {"codec": "prores_ks", "pix_fmt": "yuva444p10le"}),
    "alpha, VP9": (".webm", {"codec": "libvpx-vp9", "pix_fmt": "yuva420p"}),
    "interlaced, MPEG-2": (".mpg", {"codec": "mpeg2video", "options": {"flags": "+ildct+ilme"}}),
    "interlaced, H.264": (".ts", {"options": {"x264-params": "interlaced=1"}}),
    "motion JPEG": (".avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "program stream": (".mpg", {"codec": "mpeg2video"}),
    "clock that runs over": (".ts", {"times_s": clips.regular(COUNT, start_s=2**33 / 90_000 - 0.3)}),
    "clock that begins at an hour": (".mkv", {"times_s": clips.regular(COUNT, start_s=3600.0)}),
    "no timestamps, H.264": (".h264", {}),
    "no timestamps, MPEG-2": (".m2v", {"codec": "mpeg2video"}),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_an_unusual_file_is_judged_as_a_plain_one(
    form: str, recognizer: Recognizer, images: list[Image], plain: ClipResult, tmp_path: Path
) -> None:
    suffix, asked = FORMS[form]
    path = clips.write_clip(tmp_path / f"clip{suffix}", images=images, **asked)
    result = recognizer.predict(path)
    assert_judged_alike(result, plain)
    assert result.duration_s == pytest.approx(COUNT / RATE_HZ, abs=FRAME_S)
    assert_judged_alike(streamed(recognizer, path), plain)
    annotate(path, result, tmp_path / "out.mp4")
    drawn = [frame.time_s for frame in VideoFile(tmp_path / "out.mp4")]
    np.testing.assert_allclose(drawn, times_s(result), atol=2e-3)


# Turned, and of any size


TURNS = {  # how the camera was held: matrix as in test_video_decode, and how the pictures are stored
    "90": ((0, 1, -1, 0), cv2.ROTATE_90_COUNTERCLOCKWISE),
    "180": ((-1, 0, 0, -1), cv2.ROTATE_180),
    "270": ((0, -1, 1, 0), cv2.ROTATE_90_CLOCKWISE),
}


@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_clip_has_its_boxes_where_the_upright_one_has_them(
    turn: str, recognizer: Recognizer, images: list[Image], plain: ClipResult, tmp_path: Path
) -> None:
    matrix, stored = TURNS[turn]
    path = tmp_path / "clip.mp4"
    clips.write_clip(path, images=[cv2.rotate(image, stored) for image in images])
    clips.set_display_matrix(path, matrix)
    result = recognizer.predict(path)
    assert_judged_alike(result, plain)
    assert_judged_alike(streamed(recognizer, path), plain)
    annotate(path, result, tmp_path / "out.mp4")
    (drawn,) = (frame.image for frame in VideoFile(tmp_path / "out.mp4") if frame.index == 9)
    changed = np.abs(drawn.astype(int) - images[9]).max(axis=2) > 40
    left, top, right, bottom = np.rint(boxes(result)[9]).astype(int)
    assert changed[top + 5 : bottom - 5, right - 1 : right + 2].mean() > 0.6, "the box's side"
    assert changed[top + 20 : top + 60, left + 20 : right - 20].mean() < 0.05, "the face"


@pytest.mark.parametrize("size", [(481, 273), (479, 272), (480, 269)])
def test_an_odd_size_is_judged_alike(
    size: tuple[int, int],
    recognizer: Recognizer,
    images: list[Image],
    plain: ClipResult,
    tmp_path: Path,
) -> None:
    width, height = size
    padded = [np.pad(image, ((0, 1), (0, 1), (0, 0)), "edge") for image in images]
    cut = [image[:height, :width] for image in padded]
    path = clips.write_clip(tmp_path / "clip.mkv", images=cut, pix_fmt="yuv444p")
    assert_judged_alike(recognizer.predict(path), plain)


@pytest.mark.parametrize("shape", ["64/45", "4/3", "8/9"])
def test_a_clip_of_pixels_that_are_no_squares_is_judged_alike(
    shape: str, recognizer: Recognizer, images: list[Image], plain: ClipResult, tmp_path: Path
) -> None:
    wide, high = map(int, shape.split("/"))
    width = round(SIZE[0] * high / wide / 2) * 2
    squeezed = [cv2.resize(image, (width, SIZE[1])) for image in images]
    options = {"x264-params": f"sar={shape}"}
    path = clips.write_clip(tmp_path / "clip.mp4", images=squeezed, options=options)
    assert_judged_alike(recognizer.predict(path), plain)
    assert_judged_alike(streamed(recognizer, path), plain)


def test_4k_is_judged_alike_and_few_pictures_are_in_memory(
    recognizer: Recognizer, images: list[Image], plain: ClipResult, tmp_path: Path
) -> None:
    large = [cv2.resize(image, (3840, 2160)) for image in images[:12]]
    path = clips.write_clip(
        tmp_path / "clip.mp4", images=large, options={"preset": "ultrafast", "crf": "30"}
    )
    picture_bytes, large = large[0].nbytes, []
    tracemalloc.start()
    try:
        result = recognizer.predict(path)
        predicted = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        updates = list(recognizer.stream(path, window_s=60))
        watched = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.label == updates[-1].label == "Happy"
    np.testing.assert_allclose(boxes(result) / 8, boxes(plain)[:12], atol=4)
    np.testing.assert_allclose(result.face.scores, plain.face.scores, atol=0.03)
    assert predicted < 6 * picture_bytes
    assert watched < 16 * picture_bytes


# Interlaced


def test_a_face_that_moves_between_the_fields_is_no_comb(
    recognizer: Recognizer, portraits: list[Image], tmp_path: Path
) -> None:
    halves = [placed(portraits[i // 2], left=20 + 8 * i, side=80) for i in range(2 * COUNT)]
    woven = [even.copy() for even in halves[::2]]
    for image, odd in zip(woven, halves[1::2], strict=True):
        image[1::2] = odd[1::2]
    progressive = clips.write_clip(tmp_path / "progressive.mkv", images=halves[::2])
    interlaced = clips.write_clip(
        tmp_path / "interlaced.mpg",
        images=woven,
        codec="mpeg2video",
        options={"flags": "+ildct+ilme", "b": "4M"},
    )
    wanted, got = recognizer.predict(progressive), recognizer.predict(interlaced)
    assert got.label == wanted.label == "Happy"
    np.testing.assert_allclose(boxes(got), boxes(wanted), atol=4)
    off = [
        np.abs(one.face.scores - other.face.scores).max()
        for one, other in zip(got.timeline, wanted.timeline, strict=True)
        if one.face and other.face
    ]
    assert np.mean(off) < 0.1, "woven it would be 0.4"


# Time


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_rows_of_a_variable_rate_have_the_pictures_own_times(
    suffix: str, recognizer: Recognizer, images: list[Image], tmp_path: Path
) -> None:
    steps_s = np.resize([0.04, 0.01, 0.1, 0.033, 0.25, 0.08], COUNT - 1)
    wanted = np.concatenate([[0], np.cumsum(steps_s)])
    path = clips.write_clip(tmp_path / f"clip{suffix}", images=images, times_s=wanted + 1.5)
    result = recognizer.predict(path)
    np.testing.assert_allclose(times_s(result), wanted, atol=1e-3)
    assert all(row.face is not None for row in result.timeline)
    np.testing.assert_allclose(times_s(streamed(recognizer, path)), wanted, atol=1e-3)
    annotate(path, result, tmp_path / "out.mp4")
    drawn = [frame.time_s for frame in VideoFile(tmp_path / "out.mp4")]
    np.testing.assert_allclose(drawn, wanted, atol=1e-3)


class Listening(Simple):
    """Remembers the sound of every window."""

    def __init__(self) -> None:
        super().__init__()
        self.windows: list[Waveform] = []

    def hear(self, waveform: Waveform) -> tuple[ModalityScores | None, str]:
        self.windows.append(waveform)
        return super().hear(waveform)


def loud(waveform: Waveform) -> tuple[float, float]:
    """From when to when the tone sounds, on the clip's clock."""
    (places,) = np.nonzero(np.abs(waveform.samples) > 0.1)
    first, last = waveform.start_s + places[[0, -1]] / 16_000
    return float(first), float(last)


@pytest.mark.parametrize("start_s", [0.0, 7.0])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_sound_that_starts_late_is_in_the_windows_of_its_pictures(
    suffix: str, start_s: float, tmp_path: Path
) -> None:
    """The track begins half a second after the pictures; from 1.0 to 1.5 s there is a tone."""
    silence = np.zeros(22_050, np.float32)
    path = clips.write_clip(
        tmp_path / f"clip{suffix}",
        images=[clips.numbered(index) for index in range(75)],
        times_s=clips.regular(75, start_s=start_s),
        sound=np.concatenate([silence, clips.tone(0.5), silence, silence]),
        sound_start_s=start_s + 0.5,
    )
    first = next(iter(VideoFile(path))).time_s  # where a container puts the encoder's own lead
    for piece in AudioFile(path):
        assert loud(piece) == pytest.approx((first + 1.0, first + 1.5), abs=0.03)
    judge = Listening()
    updates = list(stream(judge, open_source(path), window_s=1.0, hop_s=0.5))
    heard = [loud(window) for window in judge.windows if np.abs(window.samples).max() > 0.1]
    assert min(begin for begin, _ in heard) == pytest.approx(first + 1.0, abs=0.03)
    assert max(end for _, end in heard) == pytest.approx(first + 1.5, abs=0.03)
    for before, update in pairwise(updates):
        assert 0 < update.time_s - before.time_s < 0.6
        assert update.result.timeline[-1].time_s <= update.time_s


def test_a_voice_that_starts_late_says_when_it_was_heard(
    recognizer: Recognizer, images: list[Image], tmp_path: Path
) -> None:
    (voice,) = AudioFile(demo_clip())
    path = clips.write_clip(
        tmp_path / "clip.mkv", images=images * 3, sound=voice.samples[:32_000], sound_hz=16_000,
        sound_start_s=0.5,
    )  # fmt: skip
    result = recognizer.predict(path)
    assert (result.label, result.status) == ("Happy", "ok")
    assert result.voice is not None
    assert result.voice.evidence_s == pytest.approx([0.5], abs=0.1), "AAC has a lead of 64 ms"


def test_where_the_sound_is_longer_the_rows_end_with_the_pictures(
    recognizer: Recognizer, images: list[Image], tmp_path: Path
) -> None:
    sound = clips.speech_like(3.0, 44_100)
    path = clips.write_clip(tmp_path / "clip.mp4", images=images, sound=sound)
    result, last = recognizer.predict(path), streamed(recognizer, path)
    assert len(result.timeline) == len(last.timeline) == COUNT
    assert result.timeline[-1].time_s == pytest.approx((COUNT - 1) / RATE_HZ, abs=0.05)
    assert result.duration_s == pytest.approx(3.0, abs=0.05)
    assert last.label == result.label
    assert last.status == result.status == "ok"


def test_a_program_stream_whose_clock_is_set_back_goes_on(
    recognizer: Recognizer, images: list[Image], tmp_path: Path
) -> None:
    one = clips.write_clip(
        tmp_path / "one.mpg", images=images * 3, codec="mpeg2video",
        sound=clips.tone(3 * COUNT / RATE_HZ), sound_codec="mp2",
    )  # fmt: skip
    path = tmp_path / "joined.mpg"
    path.write_bytes(one.read_bytes() * 2)
    result = recognizer.predict(path)
    assert len(result.timeline) == 6 * COUNT
    assert result.label == "Happy"
    np.testing.assert_allclose(np.diff(times_s(result)), FRAME_S, atol=0.03)
    assert result.duration_s == pytest.approx(6 * COUNT / RATE_HZ, abs=0.15)


LENGTHS: dict[str, dict[str, Any]] = {
    ".mp4": {},
    ".mov": {},
    ".mkv": {},
    ".ts": {},
    ".avi": {"codec": "mpeg4", "sound_codec": "libmp3lame"},
    ".webm": {"codec": "libvpx-vp9", "sound_codec": "libopus", "sound_hz": 48_000},
}


@pytest.mark.parametrize("with_sound", [False, True], ids=["pictures", "and sound"])
@pytest.mark.parametrize("suffix", LENGTHS)
def test_the_last_row_is_where_the_container_ends(
    suffix: str, with_sound: bool, recognizer: Recognizer, images: list[Image], tmp_path: Path
) -> None:
    asked = dict(LENGTHS[suffix])
    if with_sound:
        rate_hz = asked.get("sound_hz", 44_100)
        asked["sound"] = clips.tone(COUNT / RATE_HZ, rate_hz=rate_hz)
    else:
        asked.pop("sound_codec", None)
        asked.pop("sound_hz", None)
    path = clips.write_clip(tmp_path / f"clip{suffix}", images=images, **asked)
    with av.open(str(path)) as container:
        assert container.duration is not None
        stated_s = container.duration / av.time_base
    result, last = recognizer.predict(path), list(recognizer.stream(path))[-1]
    for row in (result.timeline[-1], last.result.timeline[-1]):
        assert row.index == COUNT - 1
        assert row.time_s + FRAME_S == pytest.approx(stated_s, abs=FRAME_S)
    assert result.duration_s == pytest.approx(stated_s, abs=FRAME_S)
    assert last.time_s == pytest.approx(stated_s, abs=2 * FRAME_S)
