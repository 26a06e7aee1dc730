"""Pictures of a clip with the stream's own timestamps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import av
import numpy as np
from numpy.typing import NDArray

from ..media import Damage, decode, open_media, start_s, video_stream
from ..types import Frame

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

SHORTFALL_S: Final = 0.5  # this much less than the track's own duration is a truncated file
DEFAULT_RATE_HZ: Final = 25.0  # for a frame without a timestamp in a stream without a frame rate


class VideoFile:
    """The frames of a file's main video track, one at a time; iterate once.

    Frames are upright (rotation metadata applied) and their times strictly increase; 0 is where the
    container starts. Damage ends or thins the stream, never the program: after the last frame
    ``damage`` tells what was lost.

    Example:
        >>> from occam_sdk import demo_clip
        >>> len(list(VideoFile(demo_clip())))
        75
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self.damage = Damage()
        self.end_s = 0.0
        """When the last frame so far stops being shown, in seconds."""

    def __iter__(self) -> Iterator[Frame]:
        with open_media(self._path) as container:
            stream = video_stream(container)
            if stream is not None:
                stream.thread_type = "AUTO"
                yield from self._frames(container, stream)

    def _frames(self, container: InputContainer, stream: VideoStream) -> Iterator[Frame]:
        start = start_s(container)
        interval_s = 1 / float(stream.average_rate or stream.base_rate or DEFAULT_RATE_HZ)
        index, disordered, last_s = 0, 0, -float("inf")
        for picture in decode(container, stream, self.damage):
            if picture.time is None:
                time_s = 0.0 if index == 0 else last_s + interval_s
            else:
                time_s = picture.time - start
            if time_s <= last_s:
                disordered += 1
                continue
            last_s = time_s
            self.end_s = time_s + interval_s
            yield Frame(index, time_s, _upright(picture))
            index += 1
        if disordered:
            self.damage.notes.append(f"{disordered} frames left out: their timestamps did not increase")
        claimed = stream.duration
        if claimed is not None and stream.time_base is not None:
            first = stream.start_time or 0
            claimed_end_s = float((first + claimed) * stream.time_base) - start
            if self.end_s < claimed_end_s - SHORTFALL_S:
                self.damage.cut_short(
                    f"the video track ends at {self.end_s:.1f} s of {claimed_end_s:.1f} s"
                )


def _upright(picture: av.VideoFrame) -> NDArray[np.uint8]:
    """(H, W, 3) BGR, turned as the stream's display matrix asks for."""
    image = picture.to_ndarray(format="bgr24")
    quarters = round(picture.rotation / 90) % 4
    return np.asarray(np.ascontiguousarray(np.rot90(image, quarters)), np.uint8)
