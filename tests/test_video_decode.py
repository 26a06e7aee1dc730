"""Pictures: the right ones, at the right times, upright, in the right colours."""

from __future__ import annotations

import gc
import os

import av
import numpy as np
import pytest

from occam_sdk.audio.decode import AudioFile
from occam_sdk.video.decode import VideoFile

from . import clips

RED, GREEN, BLUE = (0, 0, 255), (0, 255, 0), (255, 0, 0)


def numbered(count: int) -> list[clips.Image]:
    return [clips.numbered(index) for index in range(count)]


def plain(bgr: tuple[int, int, int], width: int = 64, height: int = 48) -> clips.Image:
    return np.full((height, width, 3), bgr, np.uint8)


# --- times


@pytest.mark.parametrize("rate_hz", [10, 25, 30, 50])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_constant_rate_gives_evenly_spaced_times(tmp_path, suffix, rate_hz):
    path = clips.write_clip(tmp_path / f"clip{suffix}", images=numbered(40), rate_hz=rate_hz)
    frames = list(VideoFile(path))
    assert [clips.number(frame.image) for frame in frames] == list(range(40))
    assert [frame.index for frame in frames] == list(range(40))
    np.testing.assert_allclose(
        [frame.time_s for frame in frames], np.arange(40) / rate_hz, atol=1.01e-3
    )


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_variable_rate_gives_the_streams_own_times(tmp_path, suffix):
    steps_s = np.random.default_rng(5).choice([0.010, 0.033, 0.040, 0.2, 0.9], 59)
    times_s = [0.0, *np.cumsum(steps_s)]
    path = clips.write_clip(tmp_path / f"clip{suffix}", images=numbered(60), times_s=times_s)
    frames = list(VideoFile(path))
    assert [clips.number(frame.image) for frame in frames] == list(range(60))
    np.testing.assert_allclose([frame.time_s for frame in frames], times_s, atol=1e-6)


@pytest.mark.parametrize("start_s", [0.5, 5.0, 3600.0])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_container_that_starts_late_gives_times_from_zero(tmp_path, suffix, start_s):
    path = clips.write_clip(
        tmp_path / f"clip{suffix}",
        images=numbered(30),
        times_s=clips.regular(30, start_s=start_s),
        sound=clips.tone(1.2),
        sound_start_s=start_s,
    )
    frames, pieces = list(VideoFile(path)), list(AudioFile(path))
    assert frames[0].time_s == pytest.approx(0, abs=0.05)
    assert pieces[0].start_s == pytest.approx(0, abs=0.05)
    assert frames[-1].time_s - frames[0].time_s == pytest.approx(29 / 25, abs=1e-3)


@pytest.mark.parametrize(("picture_s", "sound_s"), [(0.0, 0.5), (0.5, 0.0), (2.0, 2.5), (2.5, 2.0)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_pictures_and_sound_share_one_clock(tmp_path, suffix, picture_s, sound_s):
    path = clips.write_clip(
        tmp_path / f"clip{suffix}",
        images=numbered(50),
        times_s=clips.regular(50, start_s=picture_s),
        sound=clips.tone(2.0),
        sound_start_s=sound_s,
    )
    frames, pieces = list(VideoFile(path)), list(AudioFile(path))
    lag_s = pieces[0].start_s - frames[0].time_s
    assert lag_s == pytest.approx(sound_s - picture_s, abs=0.05)
    assert min(pieces[0].start_s, frames[0].time_s) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(("suffix", "codec"), [(".h264", "libx264"), (".m2v", "mpeg2video")])
def test_a_stream_without_timestamps_gets_its_frame_rate(tmp_path, suffix, codec):
    path = clips.write_clip(tmp_path / f"clip{suffix}", images=numbered(30), codec=codec)
    frames = list(VideoFile(path))
    assert [clips.number(frame.image) for frame in frames] == list(range(30))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(30) / 25, atol=1e-6)


def test_wrong_timestamps_cost_no_frame_and_are_told(tmp_path):
    """AVI cannot say when H.264's reordered frames are due."""
    path = clips.write_clip(tmp_path / "clip.avi", images=numbered(40))
    video = VideoFile(path)
    frames = list(video)
    times_s = [frame.time_s for frame in frames]
    assert [clips.number(frame.image) for frame in frames] == list(range(40))
    assert (np.diff(times_s) > 0).all()
    np.testing.assert_allclose(times_s, np.arange(40) / 25, atol=0.13)
    assert any("timestamps" in note for note in video.damage.notes)
    assert not video.damage.truncated


def test_mpeg4_with_b_frames_in_an_avi_is_in_order(tmp_path):
    path = clips.write_clip(
        tmp_path / "clip.avi",
        images=numbered(40),
        codec="mpeg4",
        options={"bf": "2", "qmax": "2"},
    )
    video = VideoFile(path)
    frames = list(video)
    assert [clips.number(frame.image) for frame in frames] == list(range(40))
    np.testing.assert_allclose(np.diff([frame.time_s for frame in frames]), 1 / 25, atol=1e-6)
    assert video.damage.notes == []


@pytest.mark.parametrize(("suffix", "codec"), [(".ts", "libx264"), (".mpg", "mpeg1video")])
def test_joined_recordings_go_on_where_the_first_ends(tmp_path, suffix, codec):
    one = clips.write_clip(tmp_path / f"one{suffix}", images=numbered(75), codec=codec)
    path = tmp_path / f"joined{suffix}"
    path.write_bytes(one.read_bytes() * 2)
    frames = list(VideoFile(path))
    times_s = np.array([frame.time_s for frame in frames])
    assert [clips.number(frame.image) for frame in frames] == [*range(75)] * 2
    assert (np.diff(times_s) > 0).all()
    assert times_s[75] - times_s[74] == pytest.approx(1 / 25, abs=0.02)
    assert times_s[-1] == pytest.approx(149 / 25, abs=0.1)


@pytest.mark.parametrize(
    ("suffix", "codec", "sound_codec"),
    [(".mp4", "libx264", "aac"), (".mkv", "libvpx-vp9", "libopus"), (".mpg", "mpeg1video", "mp2")],
)
def test_the_end_is_when_the_last_frame_stops_being_shown(tmp_path, suffix, codec, sound_codec):
    path = clips.write_clip(
        tmp_path / f"clip{suffix}", images=numbered(50), codec=codec,
        sound=clips.tone(2.0, rate_hz=48_000), sound_hz=48_000, sound_codec=sound_codec,
    )  # fmt: skip
    video = VideoFile(path)
    assert len(list(video)) == 50
    assert video.end_s == pytest.approx(2.0, abs=0.05)


def test_a_file_without_pictures_has_no_frames(tmp_path):
    path = clips.write_clip(tmp_path / "sound.mp4", sound=clips.tone(1.0))
    video = VideoFile(path)
    assert list(video) == []
    assert (video.end_s, video.damage.truncated) == (0.0, False)


# --- upright


def corners(image: clips.Image) -> list[str]:
    """Colours of the corners: top left, top right, bottom left, bottom right."""
    height, width = image.shape[:2]
    found = []
    for row in (height // 4, height * 3 // 4):
        for column in (width // 4, width * 3 // 4):
            pixel = image[row, column].astype(int)
            white = pixel.min() > 200
            found.append("white" if white else ("blue", "green", "red")[int(pixel.argmax())])
    return found


# The matrix is ISO/IEC 14496-12's: a pixel at (x, y) is shown at (a x + c y, b x + d y), with y
# pointing down. The stored picture is red, green above blue, white, and 64 wide, 48 high.
MATRICES = {
    "as it is": ((1, 0, 0, 1), ["red", "green", "blue", "white"]),
    "quarter turn clockwise": ((0, 1, -1, 0), ["blue", "red", "white", "green"]),
    "half turn": ((-1, 0, 0, -1), ["white", "blue", "green", "red"]),
    "quarter turn counterclockwise": ((0, -1, 1, 0), ["green", "white", "red", "blue"]),
    "mirrored left to right": ((-1, 0, 0, 1), ["green", "red", "white", "blue"]),
    "mirrored top to bottom": ((1, 0, 0, -1), ["blue", "white", "red", "green"]),
    "mirrored along the diagonal": ((0, 1, 1, 0), ["red", "blue", "green", "white"]),
    "mirrored along the other diagonal": ((0, -1, -1, 0), ["white", "green", "blue", "red"]),
}


@pytest.mark.parametrize("turn", MATRICES)
def test_the_picture_is_turned_as_the_display_matrix_says(tmp_path, turn):
    matrix, expected = MATRICES[turn]
    stored = np.empty((48, 64, 3), np.uint8)
    stored[:24, :32], stored[:24, 32:], stored[24:, :32] = RED, GREEN, BLUE
    stored[24:, 32:] = 255
    path = clips.write_clip(tmp_path / "clip.mp4", images=[stored] * 3)
    clips.set_display_matrix(path, matrix)
    for frame in VideoFile(path):
        assert corners(frame.image) == expected
        assert frame.image.shape == ((64, 48, 3) if matrix[0] == 0 else (48, 64, 3))
        assert frame.image.flags.c_contiguous


# --- as wide as it is shown


@pytest.mark.parametrize(
    ("shape", "width"),
    [("1/1", 64), ("64/45", 91), ("4/3", 85), ("8/9", 57), ("4320/4319", 64), ("5/1", 64)],
)
def test_pixels_become_squares_unless_the_header_lies(tmp_path, shape, width):
    path = clips.write_clip(
        tmp_path / "clip.mp4", images=numbered(5), options={"x264-params": f"sar={shape}"}
    )
    frames = list(VideoFile(path))
    assert [frame.image.shape for frame in frames] == [(48, width, 3)] * 5
    assert [clips.number(frame.image) for frame in frames] == list(range(5))


# --- colours

FLAVOURS = {
    "420": {},
    "422": {"pix_fmt": "yuv422p"},
    "444": {"pix_fmt": "yuv444p"},
    "10-bit": {"pix_fmt": "yuv420p10le"},
    "10-bit-hevc": {"codec": "libx265", "pix_fmt": "yuv420p10le",
                    "options": {"x265-params": "log-level=none"}},
    "full-range": {"pix_fmt": "yuvj420p"},
    "interlaced": {"options": {"flags": "+ildct+ilme", "x264-params": "interlaced=1"}},
    "interlaced-mpeg2": {"codec": "mpeg2video", "options": {"flags": "+ildct+ilme"}},
    "mpeg4": {"codec": "mpeg4"},
    "mjpeg": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "vp9": {"codec": "libvpx-vp9"},
    "prores": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "lossless-rgb": {"codec": "ffv1", "pix_fmt": "bgr0"},
    "bt709": {"colorspace": "ITU709", "options": {"x264-params": "colormatrix=bt709"}},
}  # fmt: skip


@pytest.mark.parametrize("bgr", [RED, GREEN, BLUE, (30, 120, 200)], ids=str)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_colours_are_bgr(tmp_path, flavour, bgr):
    path = clips.write_clip(tmp_path / "clip.mkv", images=[plain(bgr)] * 3, **FLAVOURS[flavour])
    frames = list(VideoFile(path))
    assert len(frames) == 3
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert frame.image.shape == (48, 64, 3)
        np.testing.assert_allclose(frame.image.reshape(-1, 3).mean(axis=0), bgr, atol=8)


@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_grey_video_has_three_equal_channels(tmp_path, codec):
    path = clips.write_clip(tmp_path / "clip.mkv", images=numbered(20), codec=codec, pix_fmt="gray")
    frames = list(VideoFile(path))
    if codec == "ffv1":  # H.264 does not say which range grey has
        assert [clips.number(frame.image) for frame in frames] == list(range(20))
    assert len(frames) == 20
    assert all((frame.image == frame.image[..., :1]).all() for frame in frames)


@pytest.mark.parametrize("size", [(31, 17), (17, 31), (33, 48), (64, 49), (2, 2), (1, 1)])
@pytest.mark.parametrize(
    ("codec", "pix_fmt"), [("ffv1", "yuv420p"), ("libx264", "yuv444p"), ("mpeg4", "yuv420p")]
)
def test_odd_sizes_keep_their_size(tmp_path, codec, pix_fmt, size):
    width, height = size
    path = clips.write_clip(
        tmp_path / "clip.mkv",
        images=[plain(RED, width, height)] * 3,
        codec=codec,
        pix_fmt=pix_fmt,
    )
    for frame in VideoFile(path):
        assert frame.image.shape == (height, width, 3)
        np.testing.assert_allclose(frame.image.reshape(-1, 3).mean(axis=0), RED, atol=8)


INTERLACED = {
    "mpeg2video": {"flags": "+ildct+ilme", "qmax": "2"},
    "libx264": {"x264-params": "interlaced=1", "qp": "1"},
}


@pytest.mark.parametrize("height", [48, 52])
@pytest.mark.parametrize("codec", INTERLACED)
def test_of_an_interlaced_picture_one_field_is_shown(tmp_path, codec, height):
    """The other is taken a moment later: what moves would be a comb."""
    woven = [clips.numbered(index, (64, height)) for index in range(20)]
    for index, image in enumerate(woven):
        image[1::2] = clips.numbered((index + 7) % 20, (64, height))[1::2]
    path = clips.write_clip(
        tmp_path / "clip.mkv", images=woven, codec=codec, options=INTERLACED[codec]
    )
    frames = list(VideoFile(path))
    assert [clips.number(frame.image) for frame in frames] == list(range(20))
    for frame in frames:
        assert frame.image.shape == (height, 64, 3)
        lines = frame.image[4:-4, 8:24].mean(axis=(1, 2))
        assert np.ptp(lines) < 4


def test_a_progressive_picture_keeps_every_line(tmp_path):
    striped = plain((40, 40, 40))
    striped[1::2] = 200
    path = clips.write_clip(tmp_path / "clip.mkv", images=[striped] * 3, codec="ffv1")
    for frame in VideoFile(path):
        np.testing.assert_allclose(frame.image, striped, atol=4)


@pytest.mark.skipif(not clips.TASKS.is_dir(), reason="needs /proc to count threads")
def test_one_thread_starts_no_others(tmp_path):
    """``occam batch`` runs a process for each core; each would start a thread for each core."""
    path = clips.write_clip(tmp_path / "clip.mp4", images=numbered(30))

    def started(threads):
        before = clips.threads()
        return max(clips.threads() for _ in VideoFile(path, threads)) - before

    assert started(1) == 0
    if len(os.sched_getaffinity(0)) > 1:  # FFmpeg itself starts none on a single core
        assert started(None) > 0, "else the test shows nothing"


def test_frames_are_the_callers_own(tmp_path):
    path = clips.write_clip(tmp_path / "clip.mp4", images=numbered(30))
    frames = []
    for frame in VideoFile(path):
        frames.append(frame)
        frame.image[:2] = 0  # writable, and the decoder must not write into it later
    assert [clips.number(frame.image) for frame in frames] == list(range(30))


def pictures_alive() -> int:
    """Decoded pictures that somebody still holds."""
    return sum(type(thing) is av.VideoFrame for thing in gc.get_objects())


@pytest.mark.parametrize("turned", [False, True], ids=["upright", "turned"])
def test_pictures_do_not_wait_for_the_garbage_collector(tmp_path, turned):
    """A picture and its side data hold each other: hundreds of megabytes of a long clip did wait."""
    path = clips.write_clip(tmp_path / "clip.mp4", images=numbered(200))
    if turned:
        clips.set_display_matrix(path, (0, 1, -1, 0))
    gc.collect()
    before, most = pictures_alive(), 0
    gc.disable()
    try:
        for count, _ in enumerate(VideoFile(path), 1):
            if count % 20 == 0:
                most = max(most, pictures_alive() - before)
    finally:
        gc.enable()
    assert count == 200
    assert most <= 8  # those that the decoder hands out at once
