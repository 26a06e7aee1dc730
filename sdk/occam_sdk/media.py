"""Opening a clip with FFmpeg: what every decoding stage needs before its first packet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import av

from .errors import MediaError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.frame import Frame
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

_Stream = TypeVar("_Stream", bound="Stream")
PYAV: Final = int(av.__version__.partition(".")[0])

CLIP_FORMATS: Final = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpeg", "mpegts", "asf", "flv", "ogg",
    "mxf", "rm", "dv", "nut", "ivf", "obu", "mpegvideo", "m4v", "h264", "hevc", "mjpeg",
    "yuv4mpegpipe", "wav", "w64", "aiff", "au", "caf", "mp3", "aac", "ac3", "eac3", "dts", "flac",
    "amr", "wv", "ape",
)  # fmt: skip
"""FFmpeg's names of what may be opened: a playlist (HLS, concat, SDP) would have it open other
files or the network, and a text file it plays as ANSI art."""

PICTURE_FORMATS: Final = (
    "apng", "bmp_pipe", "gif", "gif_pipe", "ico", "j2k_pipe", "jpeg_pipe", "jpegxl_pipe",
    "pgm_pipe", "png_pipe", "ppm_pipe", "tiff_pipe", "webp", "webp_pipe",
)  # fmt: skip

STATED_LENGTH: Final = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flac")
"""Formats whose header says how long the clip is; for others FFmpeg reckons with what it finds."""

SHORTFALL_S: Final = 0.5  # this much less than the header says is a file that was cut
RESET_S: Final = 1.0  # a step back as long as this is a clock set anew, as in joined recordings


@dataclass(frozen=True)
class MediaInfo:
    """What a file says of itself.

    Attributes:
        path: the file.
        has_video, has_audio: which tracks it has; a cover picture is no video track.
        start_s: the container's first timestamp; the clip's clock starts there.
        duration_s: as the container claims it, or None.
    """

    path: Path
    has_video: bool
    has_audio: bool
    start_s: float
    duration_s: float | None


def probe(path: str | os.PathLike[str]) -> MediaInfo:
    """Look at a file's tracks without decoding them.

    Raises:
        MediaError: there is no such file, or it is empty, a still picture, or nothing that plays.
    """
    with open_media(path) as container:
        return MediaInfo(
            path=Path(path),
            has_video=video_stream(container) is not None,
            has_audio=audio_stream(container) is not None,
            start_s=start_s(container),
            duration_s=None if container.duration is None else container.duration / av.time_base,
        )


def open_media(path: str | os.PathLike[str]) -> InputContainer:
    """Open a file that plays; the caller closes it.

    Raises:
        MediaError: as ``probe`` does.
    """
    file = Path(path)
    try:
        size = file.stat().st_size
    except PermissionError as error:
        raise MediaError(f"{path}: may not be read; check its permissions") from error
    except (OSError, ValueError) as error:
        raise MediaError(f"{path}: no such file; check the name") from error
    if not file.is_file():
        raise MediaError(f"{path}: not a file; name one clip")
    if size == 0:
        raise MediaError(f"{path}: the file is empty; copy or download it again")
    try:
        container = _open(file)
    except PermissionError as error:
        raise MediaError(f"{path}: may not be read; check its permissions") from error
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(
            f"{path}: not a clip that can be played ({error.strerror}); give a video or audio "
            "file (MP4, MKV, AVI, MPEG, WAV, ...); if it played before, it was cut or damaged: "
            "copy it again"
        ) from error
    problem = None
    if container.format.name in PICTURE_FORMATS:
        problem = (
            "is a still picture, not a clip; use "
            "Recognizer.predict_image(cv2.imread(path)) for pictures, convert an animation to MP4"
        )
    elif video_stream(container) is None and audio_stream(container) is None:
        problem = (
            "has neither a video nor an audio track that can be decoded; convert it to MP4 (H.264, "
            "AAC); if it played before, it was cut or damaged: copy it again"
        )
    if problem:
        container.close()
        raise MediaError(f"{path}: {problem}")
    return container


def _open(file: Path) -> InputContainer:
    # PyAV before 19 refuses a clip whose title is not UTF-8; 19 has no such option and reads any.
    tolerant: dict[str, Any] = {"metadata_errors": "replace"} if PYAV < 19 else {}
    container: InputContainer = av.open(
        f"file:{file}",  # else FFmpeg takes "10:30.mp4" for a protocol
        mode="r",
        container_options={
            "format_whitelist": ",".join(CLIP_FORMATS + PICTURE_FORMATS),
            "protocol_whitelist": "file",
        },
        **tolerant,
    )
    return container


def video_stream(container: InputContainer) -> VideoStream | None:
    """Find the largest video track that can be decoded, or None; a song's cover is none."""
    covers = av.stream.Disposition.attached_pic
    streams = [s for s in _decodable(container.streams.video) if not s.disposition & covers]
    return max(streams, key=lambda s: s.width * s.height, default=None)


def audio_stream(container: InputContainer) -> AudioStream | None:
    """Find the first audio track that can be decoded, or None."""
    return next(iter(_decodable(container.streams.audio)), None)


def _decodable(streams: Iterable[_Stream]) -> list[_Stream]:
    return [stream for stream in streams if stream.codec_context is not None]


def codec_name(stream: VideoStream | AudioStream) -> str:
    """Read the name of a track's codec, "mp3" and not that of what decodes it."""
    codec: Any = stream.codec_context.codec
    # PyAV 14 knows the decoder's name alone; "mp3float" and "mp2float" are the common ones.
    return str(getattr(codec, "canonical_name", codec.name.removesuffix("float")))


def start_s(container: InputContainer) -> float:
    """Read the container's first timestamp, in seconds."""
    return 0.0 if container.start_time is None else container.start_time / av.time_base


@dataclass
class Damage:
    """What was lost while a track was decoded: whether it was cut short, and what to tell of it."""

    truncated: bool = False
    notes: list[str] = field(default_factory=list)

    def cut_short(self, note: str) -> None:
        """Record a loss."""
        self.truncated = True
        self.notes.append(note)


def decode(
    container: InputContainer, stream: VideoStream | AudioStream, damage: Damage
) -> Iterator[Any]:
    """Decode one track into its ``av.VideoFrame`` or ``av.AudioFrame``.

    A packet that cannot be decoded is passed over, a file that cannot be read on ends; either is
    recorded in ``damage``, and so is a file that ends before the time its header states.
    """
    # FFmpeg marks the last packet of a WAV that was written to a pipe as cut off: not a loss.
    marked = container.format.name != "wav"
    stated_s, whole_clip = _stated_end_s(container, stream)
    reached_s, lost, blemished = 0.0, 0, 0
    for packet in _packets(container, damage):
        if packet is not None:
            if packet.stream is stream or whole_clip:
                reached_s = max(reached_s, _end_s(packet))
            # An empty packet stands for a skipped frame, but would tell the decoder to finish.
            if packet.stream is not stream or packet.size == 0:
                continue
        try:
            frames = stream.decode(packet)
        except av.error.EOFError:
            continue
        except av.error.FFmpegError:
            lost += 1
            continue
        cut_off = marked and packet is not None and packet.is_corrupt
        blemished += cut_off or any(frame.is_corrupt for frame in frames)
        yield from frames
    if lost:
        damage.cut_short(f"damaged pieces of the {stream.type} track left out: {lost}")
    if blemished:
        damage.cut_short(f"damaged pieces of the {stream.type} track kept: {blemished}")
    if stated_s is not None and reached_s < stated_s - SHORTFALL_S:
        start = start_s(container)
        damage.cut_short(
            f"the {stream.type} track ends at {reached_s - start:.1f} s of {stated_s - start:.1f} s"
        )


def time_s(frame: Frame, stream: Stream, start: float) -> float | None:
    """Tell when a frame is due, in seconds after ``start``, or None where the file does not say.

    ``Frame.time`` is not used: the last frames of a track come out of PyAV without their time base.
    """
    if frame.pts is None or not stream.time_base:
        return None
    return float(frame.pts * stream.time_base) - start


def _packets(container: InputContainer, damage: Damage) -> Iterator[Packet[Any] | None]:
    """Read the packets of all tracks, then None: the decoder is to hand out what it still has."""
    try:
        yield from container.demux()
    except (av.error.FFmpegError, OSError) as error:
        damage.cut_short(f"the file cannot be read on: {error.strerror}")
    yield None


def _end_s(packet: Packet[Any]) -> float:
    """Tell when a packet has been shown, on the container's clock; 0 if it has no timestamp."""
    begin = packet.dts if packet.pts is None else packet.pts
    if begin is None or not packet.time_base:
        return 0.0
    return float((begin + (packet.duration or 0)) * packet.time_base)


def _stated_end_s(container: InputContainer, stream: Stream) -> tuple[float | None, bool]:
    """Read when the track ends by the header, on the container's clock, or None if it says nothing.

    Also tells whether the header says it of the whole clip and not of this track.
    """
    if container.format.name not in STATED_LENGTH:
        return None, False
    if stream.duration and stream.time_base:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base), False
    if container.duration:  # Matroska's is counted from 0, wherever the clip starts
        return container.duration / av.time_base, True
    return None, False
