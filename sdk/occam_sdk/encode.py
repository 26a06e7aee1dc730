"""A clip written anew with other pictures: its timestamps and its sound stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from .errors import MediaError
from .media import Damage, audio_stream, codec_name, decode, open_media, start_s, video_stream
from .types import Frame
from .video.decode import DEFAULT_RATE_HZ, VideoFile

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

TICKS: Final = 90_000  # a second, where the clip's own are too fine for MPEG-4, or unknown
MOST_MPEG4_TICKS: Final = 65_535
BT709: Final = 1  # FFmpeg's number for the colours of the pictures written
LIMITED: Final = 1  # and for their range
H264: Final = "libx264"

Change = Callable[[Frame], NDArray[np.uint8]]


@dataclass(frozen=True)
class Written:
    """What is in the new file.

    Attributes:
        frames: how many pictures.
        video: name of the encoder of the pictures, "libx264" or "mpeg4"; None without pictures.
        audio: name of the sound's codec, or None without sound.
        copied: whether the sound is the clip's own, or was encoded anew.
    """

    frames: int
    video: str | None
    audio: str | None
    copied: bool


def rewrite(
    clip: Path,
    target: Path,
    change: Change,
    *,
    keep: Collection[str] | None = None,
    quality: int = 20,
    from_zero: bool = False,
) -> Written:
    """Write ``clip`` to ``target`` with every picture changed, one at a time.

    Pictures are H.264 if this FFmpeg has libx264, else MPEG-4. Every picture is shown when it was
    shown in the clip.

    Args:
        clip: what to read.
        target: what to write; the container follows from its ending.
        change: gives the picture for a frame, (H, W, 3) uint8 BGR, always of the same size; a side
            that is odd grows by one pixel.
        keep: names of the sound's codecs that are copied as they are, others become AAC; None: all
            that the container takes.
        quality: libx264's constant rate factor; lower is better and larger.
        from_zero: the new file's clock starts at 0 where the clip's starts elsewhere, as that of
            ``Frame`` does; else it is the clip's own, unless that has pictures before 0.

    Raises:
        MediaError: the clip cannot be read, or has neither pictures nor sound.
    """
    frames = iter(VideoFile(clip))
    first = next(frames, None)
    with open_media(clip) as source, _open(target) as sink:
        pictures = video_stream(source) if first else None
        sound = audio_stream(source)
        if pictures is None and sound is None:
            raise MediaError(f"{clip}: nothing in it could be decoded; copy or download it again")
        origin_s = start_s(source)
        # A clock that runs over begins before 0, and MP4 does not show what is there.
        from_zero = from_zero or (first is not None and origin_s + first.time_s < 0)
        encoder: _Pictures | None = None
        if pictures is not None and first is not None:
            first_image = change(first)
            encoder = _Pictures(
                sink, pictures, 0.0 if from_zero else origin_s, first_image, quality
            )
        listening: _Sound | None = None
        if sound is not None:
            listening = _Sound(source, sound, sink, keep, origin_s if from_zero else 0.0)
        count = 0
        if encoder is not None and first is not None:
            images = chain(
                [(first.time_s, first_image)], ((each.time_s, change(each)) for each in frames)
            )
            for time_s, image in images:
                packets = encoder.encode(image, time_s)
                if listening:
                    listening.mux(until_s=encoder.reached_s)
                sink.mux(packets)
                count += 1
            sink.mux(encoder.flush())
        if listening:
            listening.mux()
        return Written(
            count,
            encoder.name if encoder else None,
            listening.codec if listening else None,
            listening is not None and listening.copied,
        )


def _open(target: Path) -> OutputContainer:
    # Without it MP4 keeps the start of each track only to the millisecond.
    options = {"movie_timescale": str(TICKS), "movflags": "+faststart"}
    mp4 = target.suffix.lower() == ".mp4"
    return av.open(f"file:{target}", "w", options=options if mp4 else {})


def _encoder() -> str:
    try:
        av.Codec(H264, "w")
    except ValueError:
        return "mpeg4"
    return H264


class _Pictures:
    """Encodes pictures under the times of the clip."""

    def __init__(
        self,
        sink: OutputContainer,
        source: VideoStream,
        start: float,
        image: NDArray[np.uint8],
        quality: int,
    ) -> None:
        self.name = _encoder()
        rate = source.average_rate or source.base_rate or Fraction(round(DEFAULT_RATE_HZ))
        ticks = source.time_base or Fraction(1, TICKS)
        if self.name != H264 and ticks.denominator > MOST_MPEG4_TICKS:
            ticks = Fraction(1, MOST_MPEG4_TICKS)
        options = {"crf": str(quality), "preset": "veryfast"} if self.name == H264 else {}
        stream: Any = sink.add_stream(self.name, rate=rate, options=options)
        height, width = (side + side % 2 for side in image.shape[:2])
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if self.name != H264:
            stream.bit_rate = max(400_000, round(0.2 * width * height * float(rate)))
        context = stream.codec_context
        context.time_base = ticks
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED
        self._stream, self._ticks, self._start = stream, ticks, start
        self._last: int | None = None
        self.reached_s = start

    def encode(self, image: NDArray[np.uint8], time_s: float) -> list[Packet[Any]]:
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        picture = picture.reformat(
            self._stream.width, self._stream.height, "yuv420p", dst_colorspace=BT709
        )
        due = round((self._start + time_s) / self._ticks)
        self._last = due if self._last is None else max(due, self._last + 1)
        picture.pts, picture.time_base = self._last, self._ticks
        self.reached_s = self._start + time_s
        return list(self._stream.encode(picture))

    def flush(self) -> list[Packet[Any]]:
        return list(self._stream.encode(None))


class _Sound:
    """Copies the packets of the sound, or encodes it as AAC, up to a time."""

    def __init__(
        self,
        source: InputContainer,
        stream: AudioStream,
        sink: OutputContainer,
        keep: Collection[str] | None,
        earlier_s: float,
    ) -> None:
        name = codec_name(stream)
        self.copied = name in sink.supported_codecs and (keep is None or name in keep)
        self.codec = name if self.copied else "aac"
        self._sink = sink
        if self.copied:
            copy = sink.add_stream_from_template(stream)
            self._packets = _copied(source, stream, copy, earlier_s)
        else:
            self._packets = _encoded(source, stream, sink, earlier_s)
        self._next = next(self._packets, None)

    def mux(self, until_s: float = float("inf")) -> None:
        """Write what sounds up to a time on the clip's own clock."""
        while self._next is not None:
            packet = self._next
            assert packet.dts is not None  # others are left out
            if packet.time_base and float(packet.dts * packet.time_base) > until_s:
                return
            self._sink.mux(packet)
            self._next = next(self._packets, None)


def _copied(
    source: InputContainer, stream: AudioStream, copy: Any, earlier_s: float
) -> Iterator[Packet[Any]]:
    last, shift = None, -round(earlier_s / stream.time_base) if stream.time_base else 0
    with suppress(av.error.FFmpegError):  # what was lost is in the result already
        for packet in source.demux(stream):
            if packet.dts is None or packet.is_corrupt:
                continue
            if last is not None and packet.dts + shift < last:  # a clock that was set anew
                shift = last - packet.dts
            packet.dts += shift
            packet.pts = packet.dts if packet.pts is None else packet.pts + shift
            last = packet.dts + max(1, packet.duration or 0)
            packet.stream = copy
            yield packet


def _encoded(
    source: InputContainer, stream: AudioStream, sink: Any, earlier_s: float
) -> Iterator[Packet[Any]]:
    rate = stream.rate if stream.rate in (32_000, 44_100, 48_000) else 48_000
    layout = "mono" if stream.channels == 1 else "stereo"
    new = sink.add_stream("aac", rate=rate, layout=layout)
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
    for sound in chain(decode(source, stream, Damage()), [None]):
        if sound is not None and sound.pts is not None and stream.time_base:
            sound.pts -= round(earlier_s / stream.time_base)
        for piece in resampler.resample(sound):
            yield from new.encode(piece)
    yield from new.encode(None)
