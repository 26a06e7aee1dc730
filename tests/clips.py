"""Small clips for tests, made on the spot: every picture carries its number in its brightness."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

STEP = 15  # grey levels between two numbers: lossy codecs blur less than that
TIME_BASE = Fraction(1, 1000)
TASKS = Path("/proc/self/task")

Image = NDArray[np.uint8]


def numbered(index: int, size: tuple[int, int] = (64, 48)) -> Image:
    """(H, W, 3) uint8 BGR of ``size`` (width, height); ``number`` reads ``index`` < 256 back."""
    width, height = size
    image = np.empty((height, width, 3), np.uint8)
    image[:, : width // 2] = STEP * (index % 16) + STEP // 2
    image[:, width // 2 :] = STEP * (index // 16) + STEP // 2
    return image


def number(image: Image) -> int:
    """The index that ``numbered`` wrote."""
    height, width = image.shape[:2]
    rows = slice(height // 4, -(height // 4))
    low = image[rows, width // 8 : width * 3 // 8].mean()
    high = image[rows, width * 5 // 8 : width * 7 // 8].mean()
    return round((low - STEP // 2) / STEP) + 16 * round((high - STEP // 2) / STEP)


def regular(count: int, rate_hz: float = 25.0, start_s: float = 0.0) -> list[float]:
    """The times, in seconds, of ``count`` pictures at a constant rate."""
    return [start_s + index / rate_hz for index in range(count)]


def tone(
    seconds: float, hz: float = 440.0, rate_hz: int = 44_100, level: float = 0.5
) -> NDArray[np.float32]:
    """(N,) float32 sine."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (level * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)


def speech_like(seconds: float, rate_hz: int = 16_000, seed: int = 0) -> NDArray[np.float32]:
    """(N,) float32: a gliding voice of 25 harmonics, two syllables a second, pauses between."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch_hz = 140 + 25 * np.sin(2 * np.pi * 0.7 * time_s)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate_hz
    voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 26))
    syllables = np.clip(np.sin(2 * np.pi * 2 * time_s), 0, None) ** 0.5
    sound = syllables * voice + 1e-3 * rng.standard_normal(len(time_s))
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def write_clip(
    path: Path,
    *,
    images: Sequence[Image] = (),
    times_s: Sequence[float] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate_hz: int = 25,
    colorspace: str | None = None,
    options: dict[str, str] | None = None,
    sound: NDArray[np.float32] | None = None,
    sound_hz: int = 44_100,
    sound_codec: str = "aac",
    sound_start_s: float = 0.0,
    cover: Image | None = None,
    title: str | None = None,
    muxer: dict[str, str] | None = None,
) -> Path:
    """A clip with at most one track of each kind; the container follows from the name.

    Args:
        images: (H, W, 3) uint8 BGR each.
        times_s: of the pictures; at ``rate_hz`` from 0 if None.
        sound: (N,) or (channels, N) float32.
        cover: a cover picture, as songs have.
    """
    with av.open(str(path), "w", options=muxer or {}) as container:
        packets: list[Any] = []
        if title is not None:
            container.metadata["title"] = title
        if len(images):
            packets += video_packets(
                container, images, times_s, codec, pix_fmt, rate_hz, colorspace, options
            )
        if sound is not None:
            packets += sound_packets(container, sound, sound_hz, sound_codec, sound_start_s)
        if cover is not None:
            packets += _cover_packets(container, cover)
        mux(container, packets)
    return path


def video_packets(
    container: Any,
    images: Sequence[Image],
    times_s: Sequence[float] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate_hz: int = 25,
    colorspace: str | None = None,
    options: dict[str, str] | None = None,
) -> list[Any]:
    """Encode one more video track."""
    height, width = images[0].shape[:2]
    stream = container.add_stream(codec, rate=rate_hz, options=options or {})
    stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
    if times_s is not None:  # MPEG-1 allows nothing but its own rate's time base
        stream.codec_context.time_base = TIME_BASE
    packets = []
    for index, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        if colorspace:
            frame = frame.reformat(format=pix_fmt, dst_colorspace=colorspace)
        if times_s is None:
            frame.pts, frame.time_base = index, Fraction(1, rate_hz)
        else:
            frame.pts, frame.time_base = round(times_s[index] / TIME_BASE), TIME_BASE
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def sound_packets(
    container: Any,
    sound: NDArray[np.float32],
    rate_hz: int = 44_100,
    codec: str = "aac",
    start_s: float = 0.0,
) -> list[Any]:
    """Encode one more audio track."""
    channels = np.atleast_2d(sound)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(channels)]
    stream = container.add_stream(codec, rate=rate_hz, layout=layout)
    packets = []
    for begin in range(0, channels.shape[1], 1024):
        block = np.ascontiguousarray(channels[:, begin : begin + 1024], np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
        frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
        frame.pts = begin + round(start_s * rate_hz)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def mux(container: Any, packets: list[Any]) -> None:
    """Write packets of all tracks in the order of their decoding times."""
    for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
        container.mux(packet)


def _cover_packets(container: Any, cover: Image) -> list[Any]:
    stream = container.add_stream("mjpeg", rate=1)
    stream.height, stream.width = cover.shape[:2]
    stream.pix_fmt = "yuvj420p"
    stream.disposition = av.stream.Disposition.attached_pic
    frame = av.VideoFrame.from_ndarray(cover, format="bgr24").reformat(format="yuvj420p")
    frame.pts = 0
    return [*stream.encode(frame), *stream.encode(None)]


def pair(path: Path, images: Sequence[Image], **how: Any) -> Path:
    """A clip in which each picture stands beside a mirrored one of half its size, on the left."""
    return write_clip(path, images=[beside_half(image) for image in images], **how)


def beside_half(image: Image) -> Image:
    """A picture beside its mirror image of half the size, on the left."""
    small = image[::2, ::-2]
    below = np.zeros((len(image) - len(small), *small.shape[1:]), np.uint8)
    return np.hstack([np.vstack([small, below]), image])


def threads() -> int:
    """How many this process has."""
    return sum(1 for _ in TASKS.iterdir())


def cut(path: Path, share: float) -> Path:
    """The first ``share`` of a file, beside it."""
    data = path.read_bytes()
    target = path.with_stem(f"{path.stem}-cut")
    target.write_bytes(data[: int(share * len(data))])
    return target


def scratch(path: Path, begin: float, end: float, seed: int | None = None) -> Path:
    """A copy whose bytes from ``begin`` to ``end``, shares of its size, are zeros or noise."""
    data = bytearray(path.read_bytes())
    first, last = int(begin * len(data)), int(end * len(data))
    noise = bytes(last - first) if seed is None else np.random.default_rng(seed).bytes(last - first)
    data[first:last] = noise
    target = path.with_stem(f"{path.stem}-scratched")
    target.write_bytes(data)
    return target


def set_display_matrix(path: Path, matrix: Sequence[int]) -> Path:
    """Write ``a, b, c, d`` of ISO/IEC 14496-12's matrix into an MP4's first track header.

    A pixel at (x, y) is shown at (a x + c y, b x + d y), moved back into the picture.
    """
    data = bytearray(path.read_bytes())
    begin = data.index(b"tkhd") + 4 + 40
    one, (a, b, c, d) = 1 << 16, matrix
    data[begin : begin + 36] = struct.pack(
        ">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30
    )
    path.write_bytes(data)
    return path
