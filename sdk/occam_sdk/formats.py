"""A clip's result in the forms that other programs read: CSV, pandas, WebVTT, ELAN.

>>> from occam_sdk import Recognizer, demo_clip
>>> from occam_sdk.formats import to_webvtt
>>> with Recognizer() as recognizer:
...     result = recognizer.predict(demo_clip())
>>> print(to_webvtt(result).splitlines()[4])
00:00:00.000 --> 00:00:03.000
"""

from __future__ import annotations

import csv
import io
import mimetypes
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from xml.etree import ElementTree

from . import __version__
from ._batch_rows import Row, result_figures, to_cells
from .errors import BackendError
from .labels import LABELS
from .stretches import SMOOTH_S, Course, courses, heard
from .types import ClipResult, FaceScores, Segment, TimelineRow

if TYPE_CHECKING:
    import pandas

COLUMNS: Final = (
    "index", "time_s", "track_id", "left", "top", "right", "bottom", "confidence", "label",
    *LABELS, "valence", "arousal",
)  # fmt: skip
"""Of the CSV and of the data frame: a row for every face that is told of in every frame."""

SEGMENT_COLUMNS: Final = (
    "start_s", "end_s", "label", "status", *LABELS, "face_label", "voice_label", "face_weight",
    "voice_weight", "valence", "arousal", "frames", "frames_with_face", "truncated", "notes",
)  # fmt: skip
"""Of the same for segments: a row for each, with what ``occam batch`` tells of a clip."""

_SCHEMA: Final = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"


def to_csv(result: ClipResult | Iterable[Segment]) -> str:
    r"""CSV with a row for every frame, or for every segment; what there is not is an empty cell.

    Where the result tells of several faces, a frame has a row for each that is seen in it, the main one
    first; ``track_id`` tells them apart. Lines end with ``\r\n``: write the text with ``newline=""``.

    Args:
        result: of a clip, for ``COLUMNS``; or segments, for ``SEGMENT_COLUMNS``, each let go of once it is
            written.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    if not isinstance(result, ClipResult):
        writer.writerow(SEGMENT_COLUMNS)
        writer.writerows(to_cells(_segment_row(segment)) for segment in result)
        return file.getvalue()
    writer.writerow(COLUMNS)
    for row, seen in _seen(result):
        cells: list[Any] = [""] * (len(COLUMNS) - 2)
        if seen is not None:
            box = [f"{side:.1f}" for side in seen.face.box_xyxy.tolist()]
            scores = [f"{score:.4f}" for score in seen.scores.tolist()]
            cells = [
                seen.face.track_id, *box, f"{seen.face.confidence:.3f}",
                seen.label, *scores, f"{seen.valence:.4f}", f"{seen.arousal:.4f}",
            ]  # fmt: skip
        writer.writerow([row.index, f"{row.time_s:.6f}", *cells])
    return file.getvalue()


def to_pandas(result: ClipResult | Iterable[Segment]) -> pandas.DataFrame:
    """A ``pandas.DataFrame`` of the columns of ``to_csv``; what there is not is NaN.

    Raises:
        BackendError: pandas is not installed; the message is the line that installs it.
    """
    try:
        import pandas
    except ImportError as error:
        raise BackendError('needs pandas: pip install "occam-sdk[pandas]"') from error
    if not isinstance(result, ClipResult):
        figures = dict.fromkeys((*LABELS, "valence", "arousal"), "float64")
        frame = pandas.DataFrame(map(_segment_row, result), columns=list(SEGMENT_COLUMNS))
        return frame.astype(figures)
    rows = []
    for row, seen in _seen(result):
        cells: list[Any] = [None] * (len(COLUMNS) - 2)
        if seen is not None:
            face = seen.face
            cells = [
                face.track_id, *face.box_xyxy.tolist(), face.confidence, seen.label,
                *seen.scores.tolist(), seen.valence, seen.arousal,
            ]  # fmt: skip
        rows.append([row.index, row.time_s, *cells])
    kinds = dict.fromkeys(COLUMNS, "float64") | {
        "index": "int64", "track_id": "Int64", "label": "object"
    }  # fmt: skip
    return pandas.DataFrame(rows, columns=list(COLUMNS)).astype(kinds)


def _seen(result: ClipResult) -> Iterator[tuple[TimelineRow, FaceScores | None]]:
    """Every frame with each face that is told of and seen in it, or once with None."""
    timelines = [track.timeline for track in result.tracks] or [result.timeline]
    for rows in zip(*timelines, strict=True):
        faces = [row.face for row in rows if row.face is not None]
        yield from ((rows[0], face) for face in faces or [None])


def _segment_row(segment: Segment) -> Row:
    figures = result_figures(segment.result)
    known: Row = {"start_s": segment.start_s, "end_s": round(segment.end_s, 6), **figures}
    return {name: known[name] for name in SEGMENT_COLUMNS}


def to_webvtt(result: ClipResult) -> str:
    """Subtitles that name what the faces show: a cue for each stretch in which a face shows the same.

    Where no face is seen there is no cue. Where the result tells of several faces, a cue begins with
    its face's track id, as in "#2 Happy 71 %". See https://www.w3.org/TR/webvtt1/.
    """
    faces = courses(result)
    several = len(faces) > 1
    who = f"{faces[0].name}, the main face, and others show" if several else "the main face shows"
    about = f"What {who}, scores averaged over {SMOOTH_S:g} s"
    lines = ["WEBVTT", "", f"NOTE {about}; occam-sdk {__version__}", ""]
    cues = [
        (start, place, end, f"{face.name} {said}" if several else said)
        for place, face in enumerate(faces)
        for stretch in face.stretches
        for said in [f"{stretch.label} {100 * stretch.score:.0f} %"]
        for start, end in _milliseconds(stretch.start_s, stretch.end_s)
    ]
    for start, _, end, text in sorted(cues):  # players want them in order of their beginnings
        lines += [f"{_timestamp(start)} --> {_timestamp(end)}", text, ""]
    return "\n".join(lines)


def _milliseconds(start_s: float, end_s: float) -> Iterator[tuple[int, int]]:
    """The span in whole milliseconds from 0 on, if anything is left of it."""
    start, end = (max(0, round(1000 * time_s)) for time_s in (start_s, end_s))
    if start < end:
        yield start, end


def _timestamp(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"


def to_eaf(result: ClipResult, *, media: str | os.PathLike[str]) -> str:
    """An annotation document for ELAN (EAF 3.0).

    Tiers: ``clip``, ``voice`` and ``status`` hold one annotation over the whole clip; ``voice heard``
    the pieces of sound in which there was speech; ``face`` each stretch in which the main face shows the
    same, and ``face valence`` and ``face arousal`` their means. Where the result tells of several faces,
    the others have the same three, as ``face #2``. The scores of every frame are in the CSV.

    Args:
        result: of the clip.
        media: the clip, as seen from where the document will lie.
    """
    url = quote(os.fsencode(media))
    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": f"occam-sdk {__version__}",
            "DATE": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": _XSI,
            "xsi:noNamespaceSchemaLocation": _SCHEMA,
        },
    )
    header = _add(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    kind = mimetypes.guess_type(url)[0] or "unknown"
    where = url if url.startswith(("/", "../")) else f"./{url}"
    _add(header, "MEDIA_DESCRIPTOR", MEDIA_URL=where, MIME_TYPE=kind, RELATIVE_MEDIA_URL=where)
    tiers = _tiers(result)
    _add_tiers(root, tiers)
    last = _add(header, "PROPERTY", NAME="lastUsedAnnotationId")
    last.text = str(len(root.findall("TIER/ANNOTATION")))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


@dataclass(frozen=True)
class _Tier:
    """Annotations as (start, end, text) in milliseconds, in order, and texts that belong to each."""

    name: str
    kind: str
    spans: tuple[tuple[int, int, str], ...]
    beside: tuple[tuple[str, tuple[str, ...]], ...] = ()
    who: str = ""


def _tiers(result: ClipResult) -> list[_Tier]:
    def whole(text: str | None) -> tuple[tuple[int, int, str], ...]:
        spans = _milliseconds(0, result.duration_s) if text else ()
        return tuple((*span, text) for span in spans if text)

    speech = tuple((*span, "speech") for pair in heard(result) for span in _milliseconds(*pair))
    faces = courses(result)
    return [
        _Tier("clip", "emotion", whole(result.label)),
        *(_face_tier(face, main=face is faces[0], several=len(faces) > 1) for face in faces),
        _Tier("voice", "emotion", whole(result.voice.label if result.voice else None)),
        _Tier("voice heard", "text", speech),
        _Tier("status", "text", whole(result.status)),
    ]


def _face_tier(face: Course, *, main: bool, several: bool) -> _Tier:
    name = "face" if main else f"face {face.name}"
    runs = [
        (*span, stretch)
        for stretch in face.stretches
        for span in _milliseconds(stretch.start_s, stretch.end_s)
    ]
    return _Tier(
        name,
        "emotion",
        tuple((start, end, stretch.label) for start, end, stretch in runs),
        (
            (f"{name} valence", tuple(f"{stretch.valence:+.3f}" for *_, stretch in runs)),
            (f"{name} arousal", tuple(f"{stretch.arousal:+.3f}" for *_, stretch in runs)),
        ),
        face.name if several else "",
    )


def _add(parent: ElementTree.Element, tag: str, /, **attributes: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, tag, attributes)


def _add_tiers(root: ElementTree.Element, tiers: list[_Tier]) -> None:
    order = _add(root, "TIME_ORDER")
    # Every annotation has its own two: in ELAN, moving one must not move another.
    ends = chain.from_iterable(
        ((start, (tier.name, number, 0)), (end, (tier.name, number, 1)))
        for tier in tiers
        for number, (start, end, _) in enumerate(tier.spans)
    )
    slots = {}
    for count, (time, key) in enumerate(sorted(ends), 1):
        slots[key] = f"ts{count}"
        _add(order, "TIME_SLOT", TIME_SLOT_ID=slots[key], TIME_VALUE=str(time))
    count = 0
    for tier in tiers:
        who = {"PARTICIPANT": tier.who} if tier.who else {}
        element = _add(root, "TIER", LINGUISTIC_TYPE_REF=tier.kind, TIER_ID=tier.name, **who)
        first = count + 1
        for number, (_, _, text) in enumerate(tier.spans):
            count += 1
            start, end = (slots[tier.name, number, side] for side in (0, 1))
            identity = {"ANNOTATION_ID": f"a{count}", "TIME_SLOT_REF1": start}
            _annotate(element, "ALIGNABLE_ANNOTATION", text, TIME_SLOT_REF2=end, **identity)
        for name, texts in tier.beside:
            parent = {"PARENT_REF": tier.name, **who}
            element = _add(root, "TIER", LINGUISTIC_TYPE_REF="number", TIER_ID=name, **parent)
            for number, text in enumerate(texts):
                count += 1
                identity = {"ANNOTATION_ID": f"a{count}", "ANNOTATION_REF": f"a{first + number}"}
                _annotate(element, "REF_ANNOTATION", text, **identity)
    plain = {"GRAPHIC_REFERENCES": "false", "TIME_ALIGNABLE": "true"}
    vocabulary = {"CONTROLLED_VOCABULARY_REF": "emotions", "LINGUISTIC_TYPE_ID": "emotion"}
    _add(root, "LINGUISTIC_TYPE", **vocabulary, **plain)
    _add(root, "LINGUISTIC_TYPE", LINGUISTIC_TYPE_ID="text", **plain)
    beside = {"CONSTRAINTS": "Symbolic_Association", "LINGUISTIC_TYPE_ID": "number"}
    _add(root, "LINGUISTIC_TYPE", **beside, **(plain | {"TIME_ALIGNABLE": "false"}))
    _add(root, "LANGUAGE", LANG_ID="eng", LANG_LABEL="English (eng)")
    about = "1-1 association with a parent annotation"
    _add(root, "CONSTRAINT", DESCRIPTION=about, STEREOTYPE="Symbolic_Association")
    emotions = _add(root, "CONTROLLED_VOCABULARY", CV_ID="emotions")
    _add(emotions, "DESCRIPTION", LANG_REF="eng").text = "What an expression is perceived as"
    for number, label in enumerate(LABELS, 1):
        entry = _add(emotions, "CV_ENTRY_ML", CVE_ID=f"cve{number}")
        _add(entry, "CVE_VALUE", LANG_REF="eng").text = label


def _annotate(tier: ElementTree.Element, kind: str, text: str, /, **attributes: str) -> None:
    annotation = _add(_add(tier, "ANNOTATION"), kind, **attributes)
    _add(annotation, "ANNOTATION_VALUE").text = text
