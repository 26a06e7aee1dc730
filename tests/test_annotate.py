"""``occam annotate``: what is drawn, and that time and sound stay as they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from occam_sdk import ClipResult, Recognizer, demo_clip, encode
from occam_sdk.annotate import Drawing, Shown, annotate
from occam_sdk.video.decode import VideoFile

from . import clips
from .results import one_hot, result_of
from .test_cli import occam

BLUE, GREEN = (200, 60, 30), (40, 160, 60)  # BGR


@pytest.fixture(scope="module")
def demo() -> ClipResult:
    with Recognizer() as recognizer:
        return recognizer.predict(demo_clip())


def plain(count: int = 8, size: tuple[int, int] = (320, 240)) -> list[clips.Image]:
    """Pictures without a face, blue on the left and green on the right."""
    width, height = size
    image = np.empty((height, width, 3), np.uint8)
    image[:, : width // 2], image[:, width // 2 :] = BLUE, GREEN
    return [image] * count


def tracks(path: Path) -> tuple[list[float], list[tuple[float, bytes]], Any]:
    """Times of the pictures, times and contents of the sound's packets, codecs."""
    with av.open(str(path)) as container:
        pictures = [
            float(packet.pts * packet.time_base)
            for packet in container.demux(video=0)
            if packet.pts is not None
        ]
        codecs = [stream.codec_context.name for stream in container.streams]
    sounds: list[tuple[float, bytes]] = []
    with av.open(str(path)) as container:
        if container.streams.audio:
            sounds = [
                (float(packet.pts * packet.time_base), bytes(packet))
                for packet in container.demux(audio=0)
                if packet.pts is not None
            ]
    return sorted(pictures), sounds, codecs


def draw(clip: Path, target: Path, result: ClipResult | None = None) -> encode.Written:
    times_s = [frame.time_s for frame in VideoFile(clip)]
    return annotate(clip, result or result_of(times_s, [None] * len(times_s)), target)


def test_the_demo_is_annotated_and_keeps_its_time_and_its_sound(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    done = occam("annotate", demo_clip(), target)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Happy, status ok",
        f"{target}: 75 frames, H.264 (libx264), sound copied (aac)",
    ]
    before, after = tracks(demo_clip()), tracks(target)
    np.testing.assert_allclose(after[0], before[0], atol=1e-5)
    assert [content for _, content in after[1]] == [content for _, content in before[1]]
    np.testing.assert_allclose(
        *([time for time, _ in each[1]] for each in (after, before)), atol=1e-4
    )
    assert list(tmp_path.iterdir()) == [target]


def test_box_and_panel_are_drawn_and_nothing_else_changes(tmp_path: Path, demo: ClipResult) -> None:
    annotate(demo_clip(), demo, tmp_path / "out.mp4")
    before = [frame.image.astype(int) for frame in VideoFile(demo_clip())][40]
    after = [frame.image.astype(int) for frame in VideoFile(tmp_path / "out.mp4")][40]
    changed = np.abs(after - before).max(axis=2) > 40
    face = demo.timeline[40].face
    assert face is not None
    left, top, right, bottom = np.rint(face.face.box_xyxy).astype(int).tolist()
    assert changed[top + 5 : bottom - 60, left - 1 : left + 2].mean() > 0.6
    assert changed[top + 5 : bottom - 5, right - 1 : right + 2].mean() > 0.6
    assert changed[top + 20 : top + 80, left + 20 : right - 20].mean() < 0.05
    assert changed.mean() < 0.35


def test_every_face_has_a_box_and_the_main_ones_label_is_filled() -> None:
    image = np.full((480, 640, 3), 128, np.uint8)
    boxes = np.array([[50, 100, 250, 400], [350, 100, 550, 400]], np.float64)
    main, other = (
        Shown(name, box, one_hot(label).astype(np.float64))
        for name, box, label in zip(("#7", "#2"), boxes, ("Happy", "Sad"), strict=True)
    )
    Drawing(image.shape[:2], boxes).draw(image, main, other)
    for left, colour in ((50, (0, 159, 230)), (350, (178, 114, 0))):  # BGR
        beside = image[200, left - 2 : left + 3].astype(int)
        assert np.abs(beside - colour).max(axis=1).min() < 10
    above = image[80:98]
    assert (above[:, 50:110] == (0, 159, 230)).all(axis=2).mean() > 0.5
    assert (above[:, 350:400] == 0).all(axis=2).mean() > 0.5


def test_a_face_that_is_not_seen_is_not_drawn() -> None:
    drawing = Drawing((480, 640), np.empty((0, 4)))
    unseen = Shown("#2", np.full(4, np.nan), np.full(7, np.nan))
    alone, both = np.full((2, 480, 640, 3), 128, np.uint8)
    drawing.draw(alone, unseen)
    drawing.draw(both, unseen, unseen)
    np.testing.assert_array_equal(both, alone)


def test_the_panel_lies_where_it_hides_no_face() -> None:
    image = np.full((480, 960, 3), 128, np.uint8)
    boxes = np.array([[0, 0, 350, 480], [610, 0, 960, 480]], np.float64)
    Drawing(image.shape[:2], boxes).draw(image, Shown("", boxes[0], one_hot("Sad")))
    assert (image[:, 360:600] != 128).any()
    assert (image[40:, 612:] == 128).all()


def test_the_faces_of_a_clip_are_annotated_by_the_command(tmp_path: Path) -> None:
    images = [frame.image for frame in VideoFile(demo_clip())][:20]
    clip = clips.pair(tmp_path / "pair.mp4", images)
    done = occam("annotate", clip, tmp_path / "out.mp4", "--max-faces", "2")
    assert done.returncode == 0, done.stderr
    before, after = (
        [frame.image.astype(int) for frame in VideoFile(path)][10]
        for path in (clip, tmp_path / "out.mp4")
    )
    changed = np.abs(after - before).max(axis=2) > 40
    small = images[0].shape[1] // 2
    assert changed[: images[0].shape[0] // 2, :small].mean() > 0.01
    assert changed[:, small:].mean() > 0.01


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_uneven_times_are_kept(ending: str, tmp_path: Path) -> None:
    times_s = [0.0, 0.04, 0.05, 0.3, 1.0, 1.001, 3.5, 3.7]
    clip = clips.write_clip(tmp_path / f"clip{ending}", images=plain(), times_s=times_s)
    draw(clip, tmp_path / f"out{ending}")
    np.testing.assert_allclose(tracks(tmp_path / f"out{ending}")[0], times_s, atol=6e-4)


@pytest.mark.parametrize("source", [".mp4", ".mkv", ".ts"])
def test_a_start_that_is_not_zero_is_kept_by_both_tracks(source: str, tmp_path: Path) -> None:
    clip = clips.write_clip(
        tmp_path / f"clip{source}",
        images=plain(),
        times_s=clips.regular(8, start_s=2.52),
        sound=clips.tone(0.4),
        sound_start_s=2.6,
    )
    draw(clip, tmp_path / "out.mp4")
    before, after = tracks(clip), tracks(tmp_path / "out.mp4")
    assert before[0][0] > 2.5
    np.testing.assert_allclose(after[0], before[0], atol=1e-4)
    assert [content for _, content in after[1]][:5] != []
    np.testing.assert_allclose(after[1][0][0], before[1][0][0], atol=1e-3)


def test_a_turned_clip_is_upright(tmp_path: Path) -> None:
    clip = clips.write_clip(tmp_path / "clip.mp4", images=plain())
    clips.set_display_matrix(clip, (0, 1, -1, 0))
    draw(clip, tmp_path / "out.mp4")
    (before, after) = (next(iter(VideoFile(path))).image for path in (clip, tmp_path / "out.mp4"))
    assert after.shape == before.shape == (320, 240, 3)
    difference = np.abs(after[20:150, 20:220].astype(int) - before[20:150, 20:220])
    assert difference.mean() < 8


def test_pixels_that_are_no_squares_become_squares(tmp_path: Path) -> None:
    options = {"x264-params": "sar=4/3"}
    clip = clips.write_clip(tmp_path / "clip.mp4", images=plain(size=(240, 240)), options=options)
    draw(clip, tmp_path / "out.mp4")
    clips.set_display_matrix(clip, (0, 1, -1, 0))
    draw(clip, tmp_path / "turned.mp4")
    for name, shape in (("out", (240, 320, 3)), ("turned", (320, 240, 3))):
        assert next(iter(VideoFile(tmp_path / f"{name}.mp4"))).image.shape == shape
        with av.open(str(tmp_path / f"{name}.mp4")) as container:
            assert container.streams.video[0].sample_aspect_ratio in (None, 0, 1)


@pytest.mark.skipif(
    int(av.__version__.partition(".")[0]) < 15, reason="PyAV 14 reads all colours as BT.601"
)
def test_colours_are_kept(tmp_path: Path) -> None:
    clip = clips.write_clip(tmp_path / "clip.mp4", images=plain())
    draw(clip, tmp_path / "out.mp4")
    (before, after) = (next(iter(VideoFile(path))).image for path in (clip, tmp_path / "out.mp4"))
    for columns in (slice(20, 140), slice(180, 300)):
        np.testing.assert_allclose(
            after[20:80, columns].mean(axis=(0, 1)),
            before[20:80, columns].mean(axis=(0, 1)),
            atol=5,
        )


SOUNDS = [
    ("clip.mkv", "pcm_s16le", ".mkv", "pcm_s16le", True),
    ("clip.mkv", "libopus", ".mp4", "opus", True),
    ("clip.mpg", "mp2", ".mp4", "mp2", True),
    ("clip.avi", "adpcm_ms", ".mp4", "aac", False),
]


@pytest.mark.parametrize(("name", "codec", "ending", "kept", "copied"), SOUNDS)
def test_sound_is_copied_where_the_container_takes_it(
    name: str, codec: str, ending: str, kept: str, copied: bool, tmp_path: Path
) -> None:
    clip = clips.write_clip(
        tmp_path / name,
        images=plain(25),
        codec="mpeg1video" if name.endswith("mpg") else "mpeg4",
        sound=clips.tone(1.0, rate_hz=48_000),
        sound_hz=48_000,
        sound_codec=codec,
    )
    written = draw(clip, tmp_path / f"out{ending}")
    assert (written.audio, written.copied) == (kept, copied)
    before, after = tracks(clip), tracks(tmp_path / f"out{ending}")
    if copied:
        assert b"".join(p for _, p in after[1]) == b"".join(p for _, p in before[1])
    assert after[1][-1][0] == pytest.approx(before[1][-1][0], abs=0.1)


def test_without_libx264_it_is_mpeg4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "H264", "no-such-encoder")
    clip = clips.write_clip(tmp_path / "clip.ts", images=plain(), times_s=clips.regular(8))
    assert draw(clip, tmp_path / "out.mp4").video == "mpeg4"
    before, after = tracks(clip), tracks(tmp_path / "out.mp4")
    assert after[2] == ["mpeg4"]
    np.testing.assert_allclose(after[0], before[0], atol=1e-3)


SIZES = [(64, 48), (101, 77), (240, 426), (426, 240), (32, 400)]


@pytest.mark.parametrize("size", SIZES)
def test_any_size_can_be_drawn_on(size: tuple[int, int], tmp_path: Path) -> None:
    clip = clips.write_clip(tmp_path / "clip.avi", images=plain(3, size), codec="ffv1")
    result = result_of(clips.regular(3), ["Happy", None, "Sad"])
    written = draw(clip, tmp_path / "out.mp4", result)
    assert written.frames == 3
    height, width = next(iter(VideoFile(tmp_path / "out.mp4"))).image.shape[:2]
    assert (width, height) == tuple(side + side % 2 for side in size)


def test_a_grey_clip_without_a_face_is_no_obstacle(tmp_path: Path) -> None:
    images = [np.full((240, 320, 3), 128, np.uint8)] * 4
    clip = clips.write_clip(tmp_path / "grey.mkv", images=images, codec="ffv1", pix_fmt="gray")
    done = occam("annotate", clip, tmp_path / "out.mkv")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "nothing to judge, status no_evidence"
    assert done.stdout.splitlines()[1].endswith(" 4 frames, H.264 (libx264), no sound")


def test_a_clip_that_was_cut_short_is_annotated_as_far_as_it_goes(tmp_path: Path) -> None:
    clip = clips.write_clip(
        tmp_path / "clip.mkv", images=plain(50), sound=clips.tone(2.0), options={"g": "5"}
    )
    cut = clips.cut(clip, 0.6)
    written = draw(cut, tmp_path / "out.mp4")
    assert 0 < written.frames == len(list(VideoFile(cut))) < 50


def _sound_alone(folder: Path) -> Path:
    return clips.write_clip(folder / "sound.wav", sound=clips.tone(2.0), sound_codec="pcm_s16le")


BAD: list[tuple[Callable[[Path], Path], str, str]] = [
    (lambda folder: folder / "missing.mp4", "out.mp4", "no such file"),
    (_sound_alone, "out.mp4", "has no pictures to draw on"),
    (lambda _: demo_clip(), "out.gif", "expected a name that ends with .mp4 or .mkv"),
    (lambda _: demo_clip(), "missing/out.mp4", "no such folder"),
]


@pytest.mark.parametrize(("make", "target", "says"), BAD)
def test_a_mistake_is_one_line_and_leaves_nothing(
    make: Callable[[Path], Path], target: str, says: str, tmp_path: Path
) -> None:
    clip = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    done = occam("annotate", clip, tmp_path / target)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before
