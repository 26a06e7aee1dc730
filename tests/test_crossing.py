"""Two real faces that pass each other in a clip keep their ids; they are moved about by code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from occam_sdk import FaceTrack, Recognizer, demo_clip
from occam_sdk.video.decode import VideoFile

from . import clips
from .shared import CLIPS, needs_clips

Image = NDArray[np.uint8]
Path2D = list[tuple[float, float] | None]  # top left of a head by frame; None: it is not there

WIDTH, HEIGHT, HEAD = 640, 360, 110
TOGETHER_PX = 40  # nearer to each other than this nobody can say which of them a box is of


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    with Recognizer(max_faces=4, threads=1) as made:
        yield made


def head(recognizer: Recognizer, clip: Path) -> Image:
    """The head of the person whom a clip shows, ``HEAD`` pixels wide and high."""
    image = next(frame.image for frame in VideoFile(clip) if frame.index == 20)
    (found,) = recognizer.predict_image(image)
    left, top, right, bottom = found.face.box_xyxy
    radius, edge = round(0.75 * (bottom - top)), max(image.shape)
    x, y = round((left + right) / 2) + edge, round((top + bottom) / 2) + edge
    image = cv2.copyMakeBorder(image, edge, edge, edge, edge, cv2.BORDER_REPLICATE)
    around = image[y - radius : y + radius, x - radius : x + radius]
    return np.asarray(cv2.resize(around, (HEAD, HEAD), interpolation=cv2.INTER_AREA), np.uint8)


@pytest.fixture(
    scope="module", params=["her mirror image", pytest.param("somebody else", marks=needs_clips)]
)
def pair(request: pytest.FixtureRequest, recognizer: Recognizer) -> tuple[Image, Image]:
    one = head(recognizer, demo_clip())
    if request.param == "her mirror image":
        return one, one[:, ::-1]
    return one, head(recognizer, CLIPS / "style_furious_talk1_clip1.mp4")


def line(count: int, begin: tuple[float, float], step: tuple[float, float]) -> Path2D:
    return [(begin[0] + step[0] * n, begin[1] + step[1] * n) for n in range(count)]


def film(folder: Path, pair: tuple[Image, Image], front: Path2D, back: Path2D) -> Path:
    """The first of the pair goes in front."""
    images = []
    for places in zip(back, front, strict=True):
        image = np.full((HEIGHT, WIDTH, 3), (120, 120, 110), np.uint8)
        for place, picture in zip(places, pair[::-1], strict=True):
            if place is not None:
                x, y = np.rint(place).astype(int)
                image[y : y + HEAD, x : x + HEAD] = picture
        images.append(image)
    return clips.write_clip(folder / "film.mp4", images=images)


def people(track: FaceTrack, front: Path2D, back: Path2D) -> set[str]:
    """Whom a track's boxes are of."""
    found = set()
    for row in track.timeline:
        if row.face is None:
            continue
        box = row.face.face.box_xyxy.reshape(2, 2)
        off = [
            np.inf if place is None else np.linalg.norm(box.mean(axis=0) - place - HEAD / 2)
            for place in (front[row.index], back[row.index])
        ]
        if abs(off[0] - off[1]) > TOGETHER_PX:
            found.add("front" if off[0] < off[1] else "back")
    return found


def across(step: int, lower: int) -> tuple[Path2D, Path2D]:
    count = 500 // step
    return line(count, (10, 100), (step, 0)), line(count, (510, 100 + lower), (-step, 0))


def up_and_down(step: int, aside: int) -> tuple[Path2D, Path2D]:
    count = 240 // step
    return line(count, (250, 5), (0, step)), line(count, (250 + aside, 245), (0, -step))


def slantwise(step: int) -> tuple[Path2D, Path2D]:
    count = 240 // step
    return line(count, (150, 5), (step, step)), line(count, (390, 5), (-step, step))


def behind_one_who_stays(step: int) -> tuple[Path2D, Path2D]:
    count = 500 // step
    return [(260.0, 110.0)] * count, line(count, (10, 100), (step, 0))


def before_one_who_stays(step: int) -> tuple[Path2D, Path2D]:
    return behind_one_who_stays(step)[::-1]


def meet_and_turn_back(step: int) -> tuple[Path2D, Path2D]:
    half = 230 // step
    one, other = line(half, (10, 100), (step, 0)), line(half, (510, 110), (-step, 0))
    return one + one[::-1], other + other[::-1]


WAYS = {
    "slowly": across(5, 0),
    "walking": across(8, 30),
    "running": across(24, 0),
    "up and down": up_and_down(6, 40),
    "up and down, fast": up_and_down(12, 0),
    "slantwise": slantwise(8),
    "behind one who stays": behind_one_who_stays(8),
    "behind one who stays, fast": behind_one_who_stays(24),
    "before one who stays": before_one_who_stays(6),
    "meeting and turning back": meet_and_turn_back(8),
}


@pytest.mark.parametrize("way", WAYS)
def test_two_who_pass_each_other_keep_their_ids(
    recognizer: Recognizer, pair: tuple[Image, Image], way: str, tmp_path: Path
) -> None:
    front, back = WAYS[way]
    tracks = recognizer.predict(film(tmp_path, pair, front, back)).tracks
    assert len(tracks) == 2
    found = [people(track, front, back) for track in tracks]
    assert [{"front"}, {"back"}] in (found, found[::-1])
    for track in tracks:
        rows = track.timeline
        assert rows[0].face is not None
        assert rows[-1].face is not None


@pytest.mark.parametrize(("away", "same"), [(5, True), (20, True), (50, False)])
def test_who_leaves_and_returns_within_a_second_is_the_same(
    recognizer: Recognizer, pair: tuple[Image, Image], away: int, same: bool, tmp_path: Path
) -> None:
    leaves: Path2D = [(100.0, 100.0)] * 20 + [None] * away + [(110.0, 105.0)] * 20
    stays: Path2D = [(400.0, 100.0)] * len(leaves)
    tracks = recognizer.predict(film(tmp_path, pair, leaves, stays)).tracks
    assert len(tracks) == (2 if same else 3)
    assert all(len(people(track, leaves, stays)) == 1 for track in tracks)
