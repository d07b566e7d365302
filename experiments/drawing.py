"""Lines with intervals, the same in all pictures."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import StringIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#7F7F7F",
)  # fmt: skip
"""Told apart with any colour vision (Okabe and Ito 2008, their yellow replaced by a grey)."""
MARKERS = "osD^vPX*<>"
LINES = ("-", "--", "-.", ":")


def _fixed() -> AbstractContextManager[None]:
    """In it the same figure gives the same file."""
    import matplotlib as mpl

    return mpl.rc_context({"svg.hashsalt": "fedmeta", "svg.fonttype": "none"})


class Picture(Figure):
    """A figure that notebooks show, without the global state of pyplot."""

    def _repr_svg_(self) -> str:
        text = StringIO()
        with _fixed():
            self.savefig(text, format="svg", metadata={"Date": None})
        return text.getvalue()


def line(
    axis: Any,
    places: Sequence[float],
    rows: Sequence[tuple[float, Sequence[float]] | None],
    at: int,
    label: str,
    filled: Sequence[bool] = (),
) -> None:
    """A line with its intervals.

    Args:
        axis: of matplotlib.
        places: where points stand.
        rows: a value and its interval for each place; None: there is none.
        at: number of the line, which gives colour, marker and dashes.
        label: for the legend.
        filled: whether the marker at a place is filled; empty: all are.
    """
    known = [(x, *row) for x, row in zip(places, rows, strict=True) if row is not None]
    x, y = [place for place, _, _ in known], [value for _, value, _ in known]
    below = [value - low for _, value, (low, _) in known]
    above = [high - value for _, value, (_, high) in known]
    colour, marker = COLOURS[at % len(COLOURS)], MARKERS[at % len(MARKERS)]
    dashes = LINES[at // len(COLOURS) % len(LINES)]
    axis.errorbar(
        x, y, yerr=[below, above], color=colour, linestyle=dashes, linewidth=1.4, capsize=2,
        elinewidth=0.9,
    )  # fmt: skip
    sure = filled or [True] * len(rows)
    faces = [
        colour if full else "white" for row, full in zip(rows, sure, strict=True) if row is not None
    ]
    axis.scatter(x, y, c=faces, edgecolors=colour, marker=marker, s=30, zorder=3)
    axis.plot([], [], color=colour, marker=marker, linestyle=dashes, label=label)


def plain(axis: Any) -> None:
    """An axis without a frame, with faint lines across."""
    axis.grid(axis="y", color="0.9", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def save(figure: Any, folder: Path, name: str) -> None:
    """An SVG and a PNG; the same figure gives the same file: no date, no random ids."""
    with _fixed():
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    figure.savefig(folder / f"{name}.png", dpi=150)
