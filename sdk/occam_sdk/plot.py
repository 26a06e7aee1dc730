"""One picture of a clip's result: scores over time, valence and arousal, the selected frames."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from .errors import BackendError
from .labels import COLOURS, INKS, LABELS
from .stills import Still, stills
from .stretches import SMOOTH_S, Course, courses
from .types import ClipResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

STILL_PX: Final = 160
COLUMNS: Final = 16
GREY: Final = "#5b6470"
LONG_S: Final = 120.0  # from here on times are minutes and seconds
STEPS_S: Final = (30, 60, 120, 300, 600, 1200, 1800, 3600)
MAX_FACES: Final = 8  # places for their pictures; as many as a Recognizer tells of
READABLE_SHARE: Final = 0.09  # of the timeline's width, that a name needs


def plot(clip: Path, result: ClipResult, target: Path) -> None:
    """Write a PNG of 2100 by 1260 pixels: the main face's scores, and of each face what it shows when.

    Args:
        clip: the file that was judged; its selected frames are shown.
        result: what ``Recognizer.predict`` said of it; its ``tracks`` are the faces.
        target: the PNG file to write.

    Raises:
        BackendError: matplotlib is not installed; the message is the line that installs it.
        MediaError: the clip cannot be read.
    """
    needs_matplotlib()
    from matplotlib.figure import Figure

    faces = courses(result)
    main = faces[0]
    bands = 0.4 + 0.5 * len(faces)
    figure = Figure(figsize=(14, 8.4), dpi=150, facecolor="white")
    grid = figure.add_gridspec(
        3, COLUMNS, height_ratios=(10.9 - bands, bands, 2.6), hspace=0.16, wspace=0.12,
        left=0.05, right=0.975, top=0.835, bottom=0.05,
    )  # fmt: skip
    scores = figure.add_subplot(grid[0, :10])
    _draw_scores(scores, main, result.duration_s)
    whose = f"face {main.name}" if len(faces) > 1 else "the face"
    scores.set_ylabel(f"score of {whose} (bold: mean over {SMOOTH_S:g} s)")
    band = figure.add_subplot(grid[1, :10], sharex=scores)
    _draw_bands(band, faces, result.duration_s)
    _draw_feelings(figure, figure.add_subplot(grid[0, 11:]), main, result)
    shown = stills(clip, faces, STILL_PX)
    for column, still in enumerate(shown[0][:COLUMNS]):
        when = _clock(still.time_s) if result.duration_s > LONG_S else f"{still.time_s:.1f} s"
        told = f"{when}\n{still.label}"
        _draw_still(figure.add_subplot(grid[2, column]), still, told)
    if len(faces) > 1:
        places = grid[1, 11:].subgridspec(1, MAX_FACES)
        for column, (face, pictures) in enumerate(zip(faces, shown, strict=True)):
            if pictures:  # the one in the middle: at its ends a face comes or goes
                middle = pictures[len(pictures) // 2]
                _draw_still(figure.add_subplot(places[0, column]), middle, face.name)
    _draw_title(figure, result, clip.name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a file's name in any script
        figure.savefig(target, format="png")


def needs_matplotlib() -> None:
    """Raise ``BackendError`` with the line that installs matplotlib, if it is not there."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise BackendError('needs matplotlib: pip install "occam-sdk[plot]"') from error


def _draw_title(figure: Figure, result: ClipResult, name: str) -> None:
    answer = "nothing to judge"
    if result.scores is not None:
        answer = f"{result.label} {100 * result.scores.max():.0f} %"
    parts = [f"status {result.status}"]
    for part, said, weight in (
        ("face", result.face, result.weights.face), ("voice", result.voice, result.weights.voice)
    ):  # fmt: skip
        if said is None:
            parts.append(f"no {part}")
        else:
            sure = f"{said.label} {100 * said.scores.max():.0f} %"
            parts.append(f"{part}: {sure}, weight {weight:.2f}")
    readable = name.encode("utf-8", "replace").decode()
    plain: dict[str, Any] = {"parse_math": False, "va": "top"}
    figure.text(0.05, 0.972, answer, fontsize=21, fontweight="bold", **plain)
    figure.text(0.975, 0.965, readable, fontsize=13, color=GREY, ha="right", **plain)
    figure.text(0.05, 0.922, "   ·   ".join(parts), fontsize=12, color=GREY, **plain)


def _draw_scores(axes: Axes, face: Course, duration_s: float) -> None:
    times_s, means = face.times_s, face.smooth_scores
    for column, (label, colour) in enumerate(zip(LABELS, COLOURS, strict=True)):
        axes.plot(times_s, face.scores[:, column], color=colour, linewidth=0.8, alpha=0.35)
        axes.plot(times_s, means[:, column], color=colour, linewidth=2.4, label=label)
    axes.set_xlim(0, max(duration_s, 1e-3))
    axes.set_ylim(0, 1.02)
    axes.grid(axis="y", color="#e3e6ea", linewidth=0.8)
    axes.tick_params(labelbottom=False, length=0)
    _plain(axes)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(LABELS), frameon=False, fontsize=11,
        handlelength=1.2, columnspacing=1.3, borderaxespad=0.3, labelcolor="#222222",
    )  # fmt: skip
    if np.isnan(means).all():
        _say(axes, "no face was seen")


def _draw_bands(axes: Axes, faces: Sequence[Course], duration_s: float) -> None:
    """A band for each face, the main one on top."""
    axes.set_ylim(len(faces), 0)
    axes.set_yticks([])
    if len(faces) > 1:
        axes.set_yticks([row + 0.5 for row in range(len(faces))], [face.name for face in faces])
    axes.tick_params(axis="y", length=0)
    for row, face in enumerate(faces):
        spans = [(stretch.start_s, stretch.end_s - stretch.start_s) for stretch in face.stretches]
        columns = [LABELS.index(stretch.label) for stretch in face.stretches]
        colours = [COLOURS[column] for column in columns]
        axes.broken_barh(spans, (row + 0.04, 0.92), color=colours, linewidth=0)
        for (start_s, length_s), column in zip(spans, columns, strict=True):
            if length_s > READABLE_SHARE * duration_s:
                centred: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 11}
                middle = (start_s + length_s / 2, row + 0.53)
                axes.text(*middle, LABELS[column], color=INKS[column], **centred)
    said = faces[0].said
    times_s = said.evidence_s if said else ()
    axes.plot(times_s, [0.0] * len(times_s), "v", color="#111111", markersize=5, clip_on=False)
    axes.set_xlabel(f"{_time_ticks(axes.xaxis, duration_s)}     ▾ selected frames", labelpad=1)
    _plain(axes)


def _draw_feelings(figure: Figure, axes: Axes, face: Course, result: ClipResult) -> None:
    from matplotlib.collections import LineCollection

    axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal", anchor="N")
    axes.set_xlabel("valence:  unpleasant → pleasant", labelpad=2)
    axes.set_ylabel("arousal:  calm → excited", labelpad=-4)
    axes.set_xticks([-1, 0, 1])
    axes.set_yticks([-1, 0, 1])
    axes.axhline(0, color="#c8ccd2", linewidth=0.8)
    axes.axvline(0, color="#c8ccd2", linewidth=0.8)
    axes.tick_params(length=0, labelcolor=GREY)
    for spine in axes.spines.values():
        spine.set_color("#c8ccd2")
    means = face.smooth_feelings
    if np.isnan(means).all():
        _say(axes, "no face was seen")
        return
    axes.plot(*face.feelings.T, ".", color="#b9bec6", markersize=2.5, zorder=1)
    pieces = np.stack([means[:-1], means[1:]], axis=1)
    path = LineCollection(list(pieces), cmap="viridis", linewidth=2.6, capstyle="round", zorder=2)
    path.set_array(face.times_s[:-1])
    path.set_clim(0, result.duration_s)
    axes.add_collection(path)
    if result.valence is not None and result.arousal is not None:
        axes.plot(
            result.valence, result.arousal, "o", color="#d55e00", markeredgecolor="white",
            markersize=10, zorder=3, label="the clip",
        )  # fmt: skip
        axes.legend(loc="lower right", frameon=False, handletextpad=0.1)
    bar = figure.colorbar(path, ax=axes, location="bottom", fraction=0.035, pad=0.12, aspect=40)
    bar.set_label(_time_ticks(bar.ax.xaxis, result.duration_s))
    bar.outline.set_visible(False)


def _draw_still(axes: Axes, still: Still, told: str) -> None:
    axes.imshow(cv2.cvtColor(still.image, cv2.COLOR_BGR2RGB))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(told, fontsize=9, color="#222222")
    for spine in axes.spines.values():
        spine.set(color=COLOURS[LABELS.index(still.label)], linewidth=3)


def _time_ticks(axis: Axis, duration_s: float) -> str:
    """What the axis is; of a long clip its ticks are minutes and seconds, as 2:30."""
    if duration_s <= LONG_S:
        return "time in seconds"
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    step_s = next((step for step in STEPS_S if duration_s <= 8 * step), duration_s / 4)
    axis.set_major_locator(MultipleLocator(step_s))
    axis.set_major_formatter(FuncFormatter(lambda time_s, _: _clock(time_s)))
    return "time in minutes and seconds"


def _clock(time_s: float) -> str:
    return f"{round(time_s) // 60}:{round(time_s) % 60:02d}"


def _plain(axes: Axes) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)


def _say(axes: Axes, text: str) -> None:
    axes.text(
        0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color=GREY, fontsize=14
    )
