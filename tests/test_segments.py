"""Long files in segments: each judged as a clip is, by its own frames and its own sound."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from occam_sdk import LABELS, MediaError, Recognizer, Segment, Waveform, demo_clip
from occam_sdk.formats import SEGMENT_COLUMNS, to_csv, to_pandas
from occam_sdk.segments import Groups, in_segments
from occam_sdk.types import RATE_HZ
from occam_sdk.video.decode import VideoFile

from . import clips
from .results import nothing, result_of
from .test_cli import occam

Image = NDArray[np.uint8]
SIZE = 160

pytestmark = pytest.mark.usefixtures("two_cores")


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    with Recognizer(threads=2) as made:
        yield made


@pytest.fixture(scope="module")
def portrait() -> Image:
    *_, last = VideoFile(demo_clip())
    return cv2.resize(last.image, (SIZE, SIZE), interpolation=cv2.INTER_AREA).astype(np.uint8)


GREY = np.full((SIZE, SIZE, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, portrait: Image) -> Path:
    """7 s: a face for two, nobody for two, the face again; speech for four, then silence."""
    images = [*[portrait] * 50, *[GREY] * 50, *[portrait] * 75]
    sound = np.concatenate([clips.speech_like(4, 44_100), np.zeros(3 * 44_100, np.float32)])
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    return clips.write_clip(path, images=images, sound=sound, sound_codec="pcm_s16le")


# Which belongs where


def test_groups_are_taken_one_after_the_other_and_none_is_made_before_its_time() -> None:
    made: list[int] = []

    def numbered() -> Iterator[tuple[int, int]]:
        for item in range(10):
            made.append(item)
            yield item // 4, item

    groups = Groups(numbered())
    assert groups.number == 0
    assert list(groups.take(0)) == [0, 1, 2, 3]
    assert made == [0, 1, 2, 3, 4]
    assert list(groups.take(1)) == [4, 5, 6, 7]
    assert list(groups.take(5)) == [8, 9]
    assert groups.number is None
    assert list(groups.take(6)) == []


def cut(seconds: float, segment_s: float, start_s: float = 0.0) -> list[tuple[int, float, float]]:
    """Number, start and length of the parts of so much sound, which comes 1,000 samples at a time."""
    samples = np.random.default_rng(0).uniform(-1, 1, round(seconds * RATE_HZ)).astype(np.float32)
    chunks = [
        Waveform(samples[i : i + 1000], start_s + i / RATE_HZ) for i in range(0, len(samples), 1000)
    ]
    parts = list(in_segments(iter(chunks), segment_s))
    together = np.concatenate([part.samples for _, part in parts])
    np.testing.assert_array_equal(together, samples)
    numbers = [number for number, _ in parts]
    assert numbers == sorted(numbers)
    return [
        (n, own[0].start_s, sum(part.duration_s for part in own))
        for n in sorted(set(numbers))
        for own in [[part for number, part in parts if number == n]]
    ]


@pytest.mark.parametrize(
    ("seconds", "segment_s", "start_s", "parts"),
    [
        (5, 2, 0, [(0, 0, 2), (1, 2, 2), (2, 4, 1)]),
        (4.9, 2, 0, [(0, 0, 2), (1, 2, 2.9)]),
        (0.4, 2, 0, [(0, 0, 0.4)]),
        (0.4, 2, 7, [(3, 7, 0.4)]),
        (1.25, 0.5, 0, [(0, 0, 0.5), (1, 0.5, 0.5), (2, 1, 0.25)]),
        (1.2, 0.5, 0, [(0, 0, 0.5), (1, 0.5, 0.7)]),
        (1, 1 / 3, 0, [(0, 0, 1 / 3), (1, 1 / 3, 1 / 3), (2, 2 / 3, 1 / 3)]),
        (2.1, 2, -0.1, [(0, -0.1, 2.1)]),
    ],
)
def test_sound_is_cut_where_segments_end_and_a_rest_stays_with_the_one_before(
    seconds: float, segment_s: float, start_s: float, parts: list[tuple[int, float, float]]
) -> None:
    found = cut(seconds, segment_s, start_s)
    assert [number for number, *_ in found] == [number for number, *_ in parts]
    np.testing.assert_allclose(found, parts, atol=2 / RATE_HZ)


# Segments of a file


def test_one_segment_as_long_as_the_clip_is_judged_as_the_clip(recognizer: Recognizer) -> None:
    (segment,) = recognizer.segments(demo_clip(), 60)
    result = recognizer.predict(demo_clip())
    assert segment.result.to_json() == result.to_json()
    assert (segment.start_s, segment.end_s) == (0, result.duration_s)


def test_each_segment_is_judged_by_its_own_frames_and_its_own_sound(
    recognizer: Recognizer, film: Path
) -> None:
    segments = list(recognizer.segments(film, 2))
    assert [(s.start_s, s.end_s) for s in segments] == [(0, 2), (2, 4), (4, 6), (6, 7)]
    assert [s.result.status for s in segments] == ["ok", "no_face", "no_voice", "no_voice"]
    assert [s.label for s in segments][2:] == ["Happy", "Happy"]
    assert [len(s.result.timeline) for s in segments] == [50, 50, 50, 25]
    for segment in segments:
        times_s = [row.time_s for row in segment.result.timeline]
        assert segment.start_s <= times_s[0] < times_s[-1] < segment.end_s
        assert segment.result.duration_s == segment.end_s - segment.start_s
    assert segments[2].result.face is not None
    assert len(segments[2].result.face.evidence_s) == 16


def test_a_segment_gets_the_scores_of_a_clip_of_the_same_frames(
    recognizer: Recognizer, film: Path
) -> None:
    *_, segment = recognizer.segments(film, 4)
    own = [frame for frame in VideoFile(film) if frame.time_s >= 4]
    assert segment.result.face is not None
    clip = recognizer.predict(own).face
    assert clip is not None
    np.testing.assert_array_equal(segment.result.face.scores, clip.scores)
    assert segment.result.face.evidence_s == clip.evidence_s


def test_a_stretch_without_pictures_and_sound_has_no_segment(
    recognizer: Recognizer, portrait: Image, tmp_path: Path
) -> None:
    times_s = [*clips.regular(10), *clips.regular(10, start_s=9)]
    clip = clips.write_clip(tmp_path / "gap.mkv", images=[portrait] * 20, times_s=times_s)
    segments = list(recognizer.segments(clip, 2))
    assert [segment.start_s for segment in segments] == [0, 8]


def test_a_sound_file_has_segments_too(recognizer: Recognizer, tmp_path: Path) -> None:
    path = clips.write_clip(
        tmp_path / "voice.wav",
        sound=clips.speech_like(5),
        sound_hz=RATE_HZ,
        sound_codec="pcm_s16le",
    )
    told: list[float] = []
    segments = list(recognizer.segments(path, 2, progress=told.append))
    assert [segment.result.status for segment in segments] == ["no_face"] * 3
    assert [segment.end_s for segment in segments] == pytest.approx([2, 4, 5])
    assert told == pytest.approx([2, 4, 5])


def test_the_last_segment_says_what_the_file_has_lost(
    recognizer: Recognizer, film: Path, tmp_path: Path
) -> None:
    part = tmp_path / "film.mkv"
    part.write_bytes(film.read_bytes())
    *before, last = recognizer.segments(clips.cut(part, 0.5), 1)
    assert before
    assert not any(segment.result.truncated for segment in before)
    assert last.result.truncated
    assert any("ends at" in note for note in last.result.notes)


def test_other_calls_come_in_between_and_who_stops_early_leaves_no_thread(
    recognizer: Recognizer, film: Path, portrait: Image
) -> None:
    segments = recognizer.segments(film, 1)
    first = next(segments)
    asked = threading.Thread(target=recognizer.predict_image, args=(portrait,))
    asked.start()
    asked.join(10)
    assert not asked.is_alive()
    assert recognizer.predict(demo_clip()).label == "Happy"
    assert next(segments).start_s == first.end_s
    segments.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "occam-ahead"]


def test_closing_the_recognizer_ends_its_segments(film: Path) -> None:
    with Recognizer(threads=2) as made:
        segments = made.segments(film, 1)
        next(segments)
    with pytest.raises(RuntimeError, match="closed"):
        next(segments)
    assert not [thread for thread in threading.enumerate() if thread.name == "occam-ahead"]


@pytest.mark.parametrize("segment_s", [0, -1, float("nan"), float("inf")])
def test_a_segment_of_no_length_is_refused_at_once(
    recognizer: Recognizer, film: Path, segment_s: float
) -> None:
    with pytest.raises(ValueError, match="segment_s: expected a positive number of seconds"):
        recognizer.segments(film, segment_s)


def test_what_is_no_clip_is_refused_at_once(recognizer: Recognizer, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        recognizer.segments(tmp_path / "missing.mp4")


def test_a_single_frame_is_refused_as_it_is_for_a_clip(
    recognizer: Recognizer, portrait: Image, tmp_path: Path
) -> None:
    clip = clips.write_clip(tmp_path / "one.mp4", images=[portrait])
    with pytest.raises(MediaError, match="predict_image"):
        list(recognizer.segments(clip, 1))


# As CSV and as a data frame


SEGMENTS = (
    Segment(0.0, 2.0, result_of([0.0, 0.04], ["Happy", None])),
    Segment(2.0, 3.5, nothing()),
)


def test_the_csv_of_segments_has_a_row_for_each() -> None:
    first, second = csv.DictReader(io.StringIO(to_csv(iter(SEGMENTS)), newline=""))
    assert tuple(first) == SEGMENT_COLUMNS
    assert (first["start_s"], first["end_s"], first["label"]) == ("0.0", "2.0", "Happy")
    assert sum(float(first[label]) for label in LABELS) == pytest.approx(1, abs=1e-4)
    assert (first["frames"], first["frames_with_face"], first["truncated"]) == ("2", "1", "false")
    assert (second["status"], second["label"], second["Happy"]) == ("no_evidence", "", "")


def test_the_data_frame_of_segments_has_a_row_for_each() -> None:
    pytest.importorskip("pandas", reason="the extra 'pandas' is not installed")
    frame = to_pandas(iter(SEGMENTS))
    assert tuple(frame.columns) == SEGMENT_COLUMNS
    assert frame["label"].tolist()[0] == "Happy"
    assert frame["end_s"].tolist() == [2, 3.5]
    assert np.isnan(frame["Happy"].tolist()[1])


# The command


def test_segments_are_rows_of_a_table(film: Path, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    done = occam("predict", film, "--segment", "2", "--timeline", table)
    assert (done.returncode, done.stderr) == (0, "")
    header, *rows = [line.split() for line in done.stdout.splitlines()]
    assert header == ["start", "end", "label", "score", "valence", "arousal", "status"]
    assert [row[0] for row in rows] == ["0:00:00.0", "0:00:02.0", "0:00:04.0", "0:00:06.0"]
    assert rows[3][1:3] == ["0:00:07.0", "Happy"]
    assert [row[-1] for row in rows] == ["ok", "no_face", "no_voice", "no_voice"]
    with table.open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["status"] for row in written] == [row[-1] for row in rows]


def test_with_json_each_segment_is_a_line(film: Path) -> None:
    done = occam("predict", film, "--segment", "2.5", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = [json.loads(line, parse_constant=pytest.fail) for line in done.stdout.splitlines()]
    assert [(row["start_s"], row["end_s"]) for row in told] == [(0, 2.5), (2.5, 5), (5, 7)]
    assert set(told[0]["scores"]) == set(LABELS)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--segment", "0"], "segment_s: expected a positive number of seconds, got 0"),
        (["--segment", "nan"], "segment_s: expected a positive number of seconds, got nan"),
        (["--segment", "ten"], "Invalid value"),
        (["--segment", "5", "--timeline", "clip.vtt"], "expected a name that ends with .csv"),
    ],
)
def test_a_bad_segment_is_refused_with_exit_code_2(arguments: list[str], says: str) -> None:
    done = occam("predict", demo_clip(), *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
