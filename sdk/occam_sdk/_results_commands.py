"""``occam annotate``, ``occam plot``, ``occam report``: what was seen in a clip, to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from ._judge import judge, new_file
from ._options import (
    BackendOption,
    BundleOption,
    DeviceOption,
    MaxFacesOption,
    MinFaceOption,
    user_errors,
)

VIDEO_ENDINGS: Final = (".mp4", ".mkv")

ClipArgument = Annotated[
    Path, typer.Argument(help="A file that FFmpeg can play: mp4, mkv, mov, webm …")
]

out = Console()


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(annotate)
    app.command()(plot)
    app.command()(report)


def annotate(
    clip: ClipArgument,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The .mp4 or .mkv to write.")],
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    min_face_px: MinFaceOption = None,
    max_faces: MaxFacesOption = 1,
) -> None:
    """Draw into a clip what its main face shows: box, track, label and a bar for each class.

    With --max-faces the others have box, track and label, too. Scores are
    averaged over a second. Timestamps are kept, and so is the sound.
    """
    from . import annotate as drawing

    asked = _asked(backend, device, min_face_px, max_faces)
    with user_errors(), new_file(target, clip, VIDEO_ENDINGS) as partial:
        result, _ = judge(clip, bundle, asked)
        written = drawing.annotate(clip, result, partial)
    _line(f"{result.label or 'nothing to judge'}, status {result.status}")
    sound = "no sound"
    if written.audio:
        sound = f"sound {'copied' if written.copied else 'encoded anew'} ({written.audio})"
    codec = "H.264 (libx264)" if written.video == "libx264" else "MPEG-4: there is no libx264 here"
    _line(f"{target}: {written.frames} frames, {codec}, {sound}")


def plot(
    clip: ClipArgument,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The .png to write.")],
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    min_face_px: MinFaceOption = None,
    max_faces: MaxFacesOption = 1,
) -> None:
    """Draw scores over time, valence and arousal, and the selected frames, as one picture.

    With --max-faces it also says what the others show when.
    """
    from . import plot as drawing

    asked = _asked(backend, device, min_face_px, max_faces)
    with user_errors(), new_file(target, clip, (".png",)) as partial:
        drawing.needs_matplotlib()
        result, _ = judge(clip, bundle, asked)
        drawing.plot(clip, result, partial)
    _line(f"{result.label or 'nothing to judge'}, status {result.status}")
    _line(f"{target}: written")


def report(
    clip: ClipArgument,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The .html to write.")],
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    min_face_px: MinFaceOption = None,
    max_faces: MaxFacesOption = 1,
) -> None:
    """Make one page of a clip and its result, for a browser: it needs no network.

    The clip is in it. If browsers cannot play it as it is, or if it has
    more than 16 MB, it is 480 lines high there. If it is longer than ten
    minutes too, the page plays it from where it lies: keep both there.

    With --max-faces the reader chooses whom to look at.
    """
    from . import report as page

    asked = _asked(backend, device, min_face_px, max_faces)
    with user_errors(), new_file(target, clip, (".html", ".htm")) as partial:
        result, _ = judge(clip, bundle, asked)
        note = page.report(clip, result, partial)
        size = partial.stat().st_size
    _line(f"{result.label or 'nothing to judge'}, status {result.status}")
    _line(f"{target}: {size / 1e6:.1f} MB{'; ' if note else ''}{note}")


def _asked(backend: str, device: str, min_face_px: float | None, max_faces: int) -> dict[str, Any]:
    return {
        "backend": backend, "device": device, "min_face_px": min_face_px, "max_faces": max_faces
    }  # fmt: skip


def _line(text: str) -> None:
    out.print(Text(text), soft_wrap=True)
