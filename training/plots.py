"""Plots as SVG to stand inside a page: no scripts, no links, the page's own text colour.

A confusion matrix is a PNG of its own, for documents that show files. matplotlib (extra ``train``) draws
them and is imported when the first is drawn. The same figures give the same bytes.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from .metrics import Spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_IN: Final = 4.4  # narrow, so that 10 pt are still read where a phone shrinks it to its width
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#b8609a", "#7f7f7f")
"""Told apart by the colour-blind (after Okabe and Ito 2008), 3:1 against white and near-black alike."""
MARKERS: Final = "os^Dv"
DASHES: Final = ("-", "--", "-.", ":")
CELL_IN: Final = 0.62  # side of a cell of a confusion matrix
PALE: Final = 0.55  # up to which share of a row a cell is pale enough for black digits
FEW_POINTS: Final = 20  # up to which each point is marked
INK: Final = "#010203"  # drawn with it and then replaced by the colour of the text around the plot
SETTINGS: Final[dict[str, Any]] = {
    "svg.fonttype": "none",  # text stays text: found, copied and read aloud
    "svg.hashsalt": "occam",
    "text.parse_math": False,
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def bars(names: Sequence[str], values: Sequence[Spread | None], alt: str, key: str) -> str:
    """A bar in percent for each name, the first on top, with a whisker of one std where there is one.

    Args:
        names: of the bars.
        values: their lengths as parts of 1; None draws no bar.
        alt: what somebody who cannot see the plot is told.
        key: what its ids begin with; no other plot of the page may have the same.

    Raises:
        ImportError: matplotlib is not installed.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        rows = range(len(names))
        axes.barh(rows, [100 * v.mean if v else 0 for v in values], color=COLOURS[0], height=0.7)
        for row, value in enumerate(values):
            if value and value.std is not None:
                axes.errorbar(
                    100 * value.mean, row, xerr=100 * value.std, color=INK, capsize=3, linewidth=1.2
                )
            axes.annotate(
                str(value) if value else "–", (1.02, row), xycoords=("axes fraction", "data"),
                va="center", annotation_clip=False,
            )  # fmt: skip
        axes.set(xlim=(0, 100), xlabel="%", yticks=rows, yticklabels=names)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)

    return _svg(draw, 0.6 + 0.3 * len(names), alt, key)


def lines(
    axis_names: tuple[str, str],
    series: Mapping[str, Sequence[tuple[float, float]]],
    alt: str,
    key: str,
) -> str:
    """A line for each series of (x, y), told apart by colour, dash and marker, named below.

    ``axis_names`` are of x and y; ``alt``, ``key`` and errors are as those of :func:`bars`.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for i, (name, points) in enumerate(series.items()):
            axes.plot(
                *zip(*points, strict=True), label=name, color=COLOURS[i % len(COLOURS)],
                linestyle=DASHES[i % len(DASHES)], linewidth=1.8, markersize=4,
                marker=MARKERS[i % len(MARKERS)] if len(points) <= FEW_POINTS else None,
            )  # fmt: skip
        axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
        axes.grid(color=COLOURS[-1], alpha=0.3, linewidth=0.6)
        figure.legend(loc="outside lower left", frameon=False, handlelength=3.5)

    return _svg(draw, 2.6 + 0.22 * len(series), alt, key)


def confusion(
    path: Path, title: str, truth: Sequence[str], said: Sequence[str], counts: NDArray[np.int64]
) -> None:
    """Write a confusion matrix as PNG: percent of each row, with the count below.

    Args:
        path: of the picture.
        title: above it.
        truth: names of the rows.
        said: names of the columns.
        counts: (rows, columns), how many of each truth were taken for what.

    Raises:
        ImportError: matplotlib is not installed.
    """
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), part in np.ndenumerate(share):
            ink = "white" if part > PALE else INK
            axes.text(
                column, row, f"{100 * part:.1f}", color=ink, ha="center", va="bottom", fontsize=10
            )
            axes.text(
                column, row + 0.06, str(counts[row, column]), color=ink, ha="center", va="top",
                fontsize=7.5,
            )  # fmt: skip
        axes.set(
            title=title, xlabel="recognised as", ylabel="truth", xticks=range(len(said)),
            xticklabels=said, yticks=range(len(truth)), yticklabels=truth,
        )  # fmt: skip
        axes.tick_params(length=0)
        axes.tick_params(axis="x", labelrotation=45)
        axes.spines[:].set_visible(False)

    size_in = (1.6 + CELL_IN * len(said), 1.5 + CELL_IN * len(truth))
    with path.open("wb") as file:
        _save(draw, size_in, file, format="png", dpi=150, metadata={"Software": None})


def _svg(draw: Callable[[Figure], None], height_in: float, alt: str, key: str) -> str:
    drawn = io.StringIO()
    _save(
        draw, (WIDTH_IN, height_in), drawn, format="svg", transparent=True, metadata={"Date": None}
    )
    return _inline(drawn.getvalue(), alt, key)


def _save(
    draw: Callable[[Figure], None], size_in: tuple[float, float], file: IO[Any], **form: Any
) -> None:
    """Draw with our settings alone and write the picture."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install -e ".[train]"') from error
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever this user's own style is
        mpl.rcParams.update(cast("Any", SETTINGS))
        figure = Figure(size_in, layout="constrained")
        draw(figure)
        figure.savefig(file, **form)


def _inline(document: str, alt: str, key: str) -> str:
    """The svg element of a document, without what only a file of its own needs."""
    box = re.search(r'viewBox="[^"]*"', document)
    assert box is not None
    body = document[document.index(">", document.index("<svg")) + 1 :]
    body = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL
    )
    body = body.replace("xlink:href", "href").replace(INK, "currentColor")
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    return f'<svg role="img" aria-label="{html.escape(alt)}" {box[0]}>{body.strip()}\n'
