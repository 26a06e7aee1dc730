"""What the commands on a clip share: judging it, and a file that is there only when it is whole."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .labels import LABELS
from .types import ClipResult, Segment

BAR: Final = 20  # characters of a score of 1
LONG_CLIP_S: Final = 10.0  # from here on a progress bar is shown

err = Console(stderr=True)


def judge(clip: Path, bundle: Path | None, asked: Mapping[str, Any]) -> tuple[ClipResult, float]:
    """The answer, and the seconds that it took once the networks were loaded."""
    from .bundle import DEFAULT_BUNDLE
    from .recognizer import Recognizer

    duration_s = _duration_s(clip)
    with Recognizer(bundle or DEFAULT_BUNDLE, **asked) as recognizer:
        started = time.perf_counter()
        with progress_bar(clip.name, duration_s) as tell:
            result = recognizer.predict(clip, progress=tell)
        return result, time.perf_counter() - started


def judge_segments(
    clip: Path, segment_s: float, bundle: Path | None, asked: Mapping[str, Any]
) -> Iterator[Segment]:
    """The answer of each so many seconds, as soon as it is known."""
    from .bundle import DEFAULT_BUNDLE
    from .recognizer import Recognizer

    duration_s = _duration_s(clip)
    with (
        Recognizer(bundle or DEFAULT_BUNDLE, **asked) as recognizer,
        progress_bar(clip.name, duration_s) as tell,
        closing(recognizer.segments(clip, segment_s, progress=tell)) as segments,
    ):
        yield from segments


def _duration_s(clip: Path) -> float | None:
    from .media import probe  # late: PyAV takes time to load

    return probe(clip).duration_s


@contextmanager
def progress_bar(name: str, duration_s: float | None) -> Iterator[Callable[[float], None] | None]:
    """Says on a terminal how far a long clip has been judged, and how long it will take yet.

    Args:
        name: of the clip.
        duration_s: of it; None: nobody knows, and so not how long it will take.

    Yields:
        What to call with the time that has been reached; None where there is no bar, for stderr is no
        terminal or the clip is short.
    """
    if not err.is_terminal or (duration_s is not None and duration_s < LONG_CLIP_S):
        yield None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[at]}"),
        TimeRemainingColumn(),
    )
    # What is printed on the same terminal goes above the bar, what goes elsewhere is left alone.
    shared = sys.stdout.isatty()
    rest = "" if duration_s is None else f" of {clock(duration_s)}, left"
    with Progress(*columns, console=err, transient=True, redirect_stdout=shared) as bar:
        task = bar.add_task(name, total=duration_s, at="")
        yield lambda time_s: bar.update(task, completed=time_s, at=clock(time_s) + rest)


def clock(time_s: float) -> str:
    """As "1:02:03"."""
    return str(timedelta(seconds=max(0, int(time_s))))


def scores_table(result: ClipResult, order: Iterable[int], encoding: str) -> Table:
    """The answer: a row for each class, in this order, with a column for each modality and a bar."""
    block, dash = ("█", "–") if encoding.lower().startswith("utf") else ("#", "-")
    table = Table(box=None, header_style="dim")
    table.add_column("", no_wrap=True, min_width=max(map(len, LABELS)))
    for name in ("fused", "face", "voice"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, overflow="crop")
    parts = [part.scores if part else None for part in (result.face, result.voice)]
    for row in order:
        cells = [
            dash if scores is None else f"{100 * scores[row]:.0f} %"
            for scores in (result.scores, *parts)
        ]
        bar = 0 if result.scores is None else round(BAR * float(result.scores[row]))
        table.add_row(LABELS[row], *cells, block * bar)
    return table


@contextmanager
def new_file(target: Path, clip: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    """A place to write to that becomes ``target`` when the block ends well, and else never was.

    It is made at once, so that a place that cannot be written to is found before the work is done.
    """
    if target.is_dir():
        raise ValueError(f"{target}: is a folder; name the file to write")
    if target.exists() and not target.is_file():
        raise ValueError(f"{target}: is no regular file; name the file to write")
    if target.exists() and clip.exists() and target.samefile(clip):
        raise ValueError(f"{target}: is the clip itself; name another file to write")
    if target.suffix.lower() not in endings:
        raise ValueError(f"{target}: expected a name that ends with {' or '.join(endings)}")
    place = target.resolve()
    if not place.parent.is_dir():
        raise ValueError(f"{target.parent}: no such folder; make it first")
    try:
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=".occam-", suffix=place.suffix)
    except OSError as error:
        raise ValueError(
            f"{target.parent}: cannot be written to ({error.strerror}); choose another folder"
        ) from error
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)
        partial.replace(place)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
