"""One page that shows a clip and what was seen and heard in it, and needs nothing else."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote

import cv2
import numpy as np
from numpy.typing import NDArray

from . import __version__
from .encode import rewrite
from .labels import COLOURS, INKS, LABELS
from .media import audio_stream, codec_name, open_media, start_s, video_stream
from .stills import Still, stills
from .stretches import SMOOTH_S, Course, courses, heard
from .types import ClipResult, Frame

STILL_PX: Final = 176
JPEG_QUALITY: Final = 82
LARGEST_BYTES: Final = 16_000_000  # a larger clip is embedded in a smaller form,
LONGEST_S: Final = 600.0  # and one of more than this is not: its page would have hundreds of MB
SHORT_SIDE_PX: Final = 480
QUALITY: Final = 26
EARLY_S: Final = 0.02  # a clip that starts further from 0 is shown by browsers at other times
BLOCK: Final = 3 << 18  # Base64 of a multiple of 3 bytes has no padding

PLAYABLE: Final[tuple[tuple[str, set[str], set[str], str], ...]] = (
    ("mov,mp4,m4a,3gp,3g2,mj2", {"h264", "av1", "vp9"}, {"aac", "mp3", "opus"}, "video/mp4"),
    ("matroska,webm", {"vp8", "vp9", "av1"}, {"opus", "vorbis"}, "video/webm"),
    ("mp3", set(), {"mp3"}, "audio/mpeg"),
    ("wav", set(), {"pcm_s16le"}, "audio/wav"),
)
"""Container, codecs of pictures and of sound that browsers play, and the name they know it by."""


def report(clip: Path, result: ClipResult, target: Path) -> str:
    """Write one HTML file with the clip, a timeline, the selected frames and all scores.

    The page loads nothing from elsewhere. A clip that browsers do not play, or of more than 16 MB, is
    embedded as H.264 and AAC of at most 480 lines. If such a clip is longer than ten minutes, it is not in
    the page, which plays it from where it lies.

    Args:
        clip: the file that was judged.
        result: what ``Recognizer.predict`` said of it; its ``tracks`` are the faces to choose from.
        target: the HTML file to write.

    Returns:
        How the page has the clip, if not as it is; a note on the page says the same.

    Raises:
        MediaError: the clip cannot be read.
    """
    folder = Path(__file__).parent
    page = (folder / "report.html").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="occam-") as scratch:
        media = _media(clip, result, target, Path(scratch))
        parts = {
            "title": html.escape(f"{result.label or 'Nothing to judge'}: {_readable(clip.name)}"),
            "data": _json(_data(clip, result, media)),
            "script": (folder / "report.js").read_text(encoding="utf-8"),
        }
        with target.open("w", encoding="utf-8", newline="") as file:
            for piece in re.split(r"(\{\{\w+\}\})", page):
                name = piece.strip("{}")
                if piece == "{{media}}":
                    _embed(media.embedded, file)
                else:
                    file.write(parts[name] if piece == f"{{{{{name}}}}}" else piece)
    return media.note


@dataclass(frozen=True)
class _Media:
    """What the page plays.

    Attributes:
        kind: MIME type.
        embedded: the file to embed, or None.
        address: of the clip as seen from the page, where it is not embedded.
        note: what the reader should know of it.
    """

    kind: str
    embedded: Path | None
    address: str = ""
    note: str = ""


def _media(clip: Path, result: ClipResult, target: Path, scratch: Path) -> _Media:
    kind = None if result.truncated else _kind(clip)
    if kind is not None and clip.stat().st_size <= LARGEST_BYTES:
        return _Media(kind, clip)
    if result.duration_s > LONGEST_S:
        where = os.path.relpath(clip.resolve(), target.resolve().parent)
        note = f"the clip is too long to be in this page, which plays it from {_readable(where)}"
        if kind is None:
            note += "; browsers may be unable to: occam annotate writes a clip that they play"
        kind = kind or ("video/mp4" if result.timeline else "audio/mp4")
        return _Media(kind, None, f"./{quote(os.fsencode(where))}", note)
    small = scratch / "clip.mp4"
    written = rewrite(clip, small, _smaller, keep={"aac", "mp3"}, quality=QUALITY, from_zero=True)
    note = "the clip was encoded anew for this page"
    if written.video:
        note += f", with at most {SHORT_SIDE_PX} lines; it was judged as it is"
    return _Media("video/mp4" if written.video else "audio/mp4", small, note=note)


def _kind(clip: Path) -> str | None:
    """The MIME type under which a browser plays the clip as it is, or None."""
    with open_media(clip) as container:
        pictures, sound = video_stream(container), audio_stream(container)
        if abs(start_s(container)) > EARLY_S or len(container.streams.video) > 1:
            return None
        for form, video_codecs, audio_codecs, kind in PLAYABLE:
            fits = container.format.name == form
            if pictures is not None:
                fits = fits and codec_name(pictures) in video_codecs
                fits = fits and pictures.codec_context.pix_fmt in ("yuv420p", "yuvj420p")
            if sound is not None:
                fits = fits and codec_name(sound) in audio_codecs
            if fits:
                return kind if pictures is not None else kind.replace("video", "audio")
    return None


def _smaller(frame: Frame) -> NDArray[np.uint8]:
    height, width = frame.image.shape[:2]
    share = SHORT_SIDE_PX / min(height, width)
    if share >= 1:
        return frame.image
    size = (2 * round(width * share / 2), 2 * round(height * share / 2))
    return np.asarray(cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _embed(media: Path | None, file: IO[str]) -> None:
    if media is None:
        return
    with media.open("rb") as source:
        while block := source.read(BLOCK):
            file.write(base64.b64encode(block).decode())


def _data(clip: Path, result: ClipResult, media: _Media) -> dict[str, Any]:
    """All that the page shows, in plain JSON types."""
    notes = list(result.notes) + ([media.note] if media.note else [])
    if result.truncated:
        notes.append("the file was cut short or damaged: this is about what could be decoded")
    faces = courses(result)
    return {
        "name": _readable(clip.name),
        "media": media.kind,
        "address": media.address,
        "labels": LABELS,
        "colours": COLOURS,
        "inks": INKS,
        "status": result.status,
        "duration_s": round(result.duration_s, 3),
        "weights": {"face": result.weights.face, "voice": result.weights.voice},
        "fused": _rounded(result.scores),
        "voice": _rounded(result.voice.scores if result.voice else None),
        "notes": notes,
        "maker": f"Scores along the clip are means over {SMOOTH_S:g} s. Made by occam-sdk {__version__}.",
        "times": [round(time_s, 4) for time_s in faces[0].times_s.tolist()],
        "faces": [
            _face(face, shown)
            for face, shown in zip(faces, stills(clip, faces, STILL_PX), strict=True)
        ],
        "heard": [(round(start, 3), round(end, 3)) for start, end in heard(result)],
    }


def _face(face: Course, shown: tuple[Still, ...]) -> dict[str, Any]:
    said = face.said
    return {
        "name": face.name,
        "said": _rounded(said.scores if said else None),
        "valence": said.valence if said else None,
        "arousal": said.arousal if said else None,
        "frames": int(face.seen.sum()),
        "scores": _thousandths(face.smooth_scores),
        "feelings": _thousandths(face.smooth_feelings),
        "stretches": [
            (round(each.start_s, 3), round(each.end_s, 3), LABELS.index(each.label))
            for each in face.stretches
        ],
        "stills": [
            (round(still.time_s, 4), LABELS.index(still.label), _jpeg(still.image))
            for still in shown
        ],
    }


def _rounded(values: NDArray[Any] | None) -> list[float] | None:
    return None if values is None else [round(value, 3) for value in values.tolist()]


def _thousandths(rows: NDArray[np.float64]) -> list[list[int] | None]:
    """Whole thousandths, which take half the space; None for a row of NaN."""
    known = ~np.isnan(rows[:, 0])
    whole = np.rint(1000 * np.where(known[:, None], rows, 0)).astype(int).tolist()
    return [row if has else None for row, has in zip(whole, known.tolist(), strict=True)]


def _jpeg(image: NDArray[np.uint8]) -> str:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def _readable(name: str) -> str:
    """A file's name; what is no UTF-8 in it as question marks."""
    return name.encode("utf-8", "replace").decode()


def _json(data: dict[str, Any]) -> str:
    """JSON that no name can break out of: a "<" in it would end the script element."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
