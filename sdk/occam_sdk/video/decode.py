"""Pictures of a clip with the stream's own timestamps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from ..media import PYAV, RESET_S, Damage, decode, open_media, start_s, time_s, video_stream
from ..types import Frame

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

TICK_S: Final = 0.001  # what a shorter step back becomes
WIDEST: Final = 2.5  # width of a pixel by its height, or the inverse; more is a mistake
DEFAULT_RATE_HZ: Final = 25.0  # for a frame without a timestamp in a stream without a frame rate


class VideoFile:
    """The frames of a file's main video track, one at a time; iterate once.

    Frames are as they are shown: upright (rotation metadata applied), their pixels square, of
    interlaced ones one field. Their times strictly increase; 0 is where the container starts.
    Damage ends or thins the stream, never the program: after the last frame ``damage`` tells what
    was lost.

    Args:
        path: the file.
        threads: that decode it; None is one for each core.

    Example:
        >>> from occam_sdk import demo_clip
        >>> len(list(VideoFile(demo_clip())))
        75
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None) -> None:
        self._path, self._threads = path, threads
        self.damage = Damage()
        self.end_s = 0.0
        """When the last frame so far stops being shown, in seconds."""

    def __iter__(self) -> Iterator[Frame]:
        with open_media(self._path) as container:
            stream = video_stream(container)
            if stream is not None:
                stream.thread_type, stream.thread_count = "AUTO", self._threads or 0
                yield from self._frames(container, stream)

    def _frames(self, container: InputContainer, stream: VideoStream) -> Iterator[Frame]:
        start = start_s(container)
        interval_s = 1 / float(stream.average_rate or stream.base_rate or DEFAULT_RATE_HZ)
        disordered, last_s = 0, -float("inf")
        reformatter = VideoReformatter()  # a picture's own would start threads for each picture
        for index, picture in enumerate(decode(container, stream, self.damage)):
            due_s = time_s(picture, stream, start)
            if due_s is None:
                due_s = last_s + interval_s if index else 0.0
            elif index == 0 and container.start_time is None:  # a bare stream: it starts here
                start, due_s = start + due_s, 0.0
            if due_s <= last_s:  # the decoder gives them in order, so it is the timestamp that lies
                disordered += 1
                if due_s < last_s - RESET_S:
                    start -= last_s + interval_s - due_s
                    due_s = last_s + interval_s
                else:
                    due_s = last_s + TICK_S
            last_s = due_s
            self.end_s = due_s + interval_s
            yield Frame(index, due_s, upright(picture, stream, reformatter, self._threads))
        if disordered:
            self.damage.notes.append(f"frames whose timestamps did not increase: {disordered}")


def upright(
    picture: av.VideoFrame,
    stream: VideoStream,
    reformatter: VideoReformatter,
    threads: int | None = None,
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR, turned and mirrored as the stream's display matrix asks for.

    Where its pixels are no squares, as on a DVD, it is made as wide as it is shown: a face that is
    squeezed by a third shows another emotion.
    """
    shape = float(stream.sample_aspect_ratio or 1)
    width = round(picture.width * shape) if 1 / WIDEST <= shape <= WIDEST else picture.width
    # PyAV before 17 has no such option, and a single thread.
    limit: dict[str, Any] = {"threads": threads or 0} if PYAV >= 17 else {}
    shown = reformatter.reformat(picture, width=max(1, width), format="bgr24", **limit)
    image = np.asarray(shown.to_ndarray(), np.uint8)
    if picture.interlaced_frame:
        _keep_one_field(image)
    if _mirrored(picture):
        image = image[::-1]
    # av_display_rotation_get, which this is, counts counterclockwise, and so does rot90.
    quarters = round(picture.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarters))


def _keep_one_field(image: NDArray[np.uint8]) -> None:
    """Put the mean of the lines above and below in place of every other line.

    The two fields are taken one after the other: of a face that moves both would make a comb.
    """
    below, lost = image[2::2], image[1::2]
    lost[: len(below)] = cv2.addWeighted(image[: 2 * len(below) : 2], 0.5, below, 0.5, 0)
    if len(lost) > len(below):
        lost[-1] = image[-2]


def _mirrored(picture: av.VideoFrame) -> bool:
    """Whether the display matrix (a, b, _, c, d, ...) also mirrors, as some front cameras' do.

    ``VideoFrame.rotation`` is where such a matrix takes the x axis; the y axis goes the other way.
    """
    # Not ``picture.side_data``: it and the picture hold each other, and so hundreds of pictures would
    # wait in memory for the garbage collector.
    side_data: Any = SideDataContainer
    try:
        matrix: Any = side_data(picture).get("DISPLAYMATRIX")
    except ValueError:  # PyAV before 19 does not know every kind of side data
        return False
    if matrix is None:
        return False
    a, b, _, c, d = (float(v) for v in np.frombuffer(matrix, np.int32)[:5])
    return a * d - b * c < 0
