"""Opening a clip with FFmpeg: what every decoding stage needs before its first packet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import av

from .errors import MediaError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

STILL_FORMATS: Final = ("image2", "gif", "apng", "webp")


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
        video, audio = video_stream(container), audio_stream(container)
        if video is None and audio is None:
            raise MediaError(f"{path}: has neither a video nor an audio track; give a clip that plays")
        return MediaInfo(
            path=Path(path),
            has_video=video is not None,
            has_audio=audio is not None,
            start_s=start_s(container),
            duration_s=None if container.duration is None else container.duration / av.time_base,
        )


def open_media(path: str | os.PathLike[str]) -> InputContainer:
    """An open container; the caller closes it. Raises ``MediaError`` as ``probe`` does."""
    file = Path(path)
    if not file.exists():
        raise MediaError(f"{path}: no such file; check the name")
    if not file.is_file():
        raise MediaError(f"{path}: not a file; name one clip")
    if file.stat().st_size == 0:
        raise MediaError(f"{path}: the file is empty; copy or download it again")
    try:
        container = av.open(str(file), metadata_errors="replace")
    except PermissionError as error:
        raise MediaError(f"{path}: may not be read; check its permissions") from error
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(
            f"{path}: not a clip that FFmpeg can play ({error.strerror}); "
            "if it played before, it was cut or damaged: copy it again"
        ) from error
    if container.format.name.endswith("_pipe") or container.format.name in STILL_FORMATS:
        container.close()
        raise MediaError(
            f"{path}: is a still picture, not a clip; use "
            "Recognizer.predict_image(cv2.imread(path)) for pictures"
        )
    return container


def video_stream(container: InputContainer) -> VideoStream | None:
    """The container's main video track, or None; a cover picture of a song is none."""
    covers = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & covers]
    return max(streams, key=lambda s: s.width * s.height, default=None)


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The container's first audio track, or None."""
    return container.streams.audio[0] if container.streams.audio else None


def start_s(container: InputContainer) -> float:
    """The container's first timestamp in seconds."""
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


def decode(container: InputContainer, stream: Stream, damage: Damage) -> Iterator[Any]:
    """Decoded pictures or sounds of one track: ``av.VideoFrame`` or ``av.AudioFrame``.

    A packet that cannot be decoded is passed over, a file that cannot be read on ends; either is
    recorded in ``damage``.
    """
    lost = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                break
        except (av.error.FFmpegError, OSError) as error:
            damage.cut_short(f"the file cannot be read on: {error.strerror}")
            break
        try:
            yield from packet.decode()
        except av.error.EOFError:
            break
        except av.error.FFmpegError:
            lost += 1
    if lost:
        damage.cut_short(f"{lost} damaged pieces of the {stream.type} track left out")
