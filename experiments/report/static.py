"""Plots and tables for papers: PNG, SVG and LaTeX."""

import re
from pathlib import Path
from typing import Any

from experiments import drawing
from experiments.report.interactive import bar_width, colour_of
from experiments.report.parts import Page, Plot, Series, Table

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip
"""What LaTeX would read as a command."""

ROWS = 14
"""Most names below each other in a legend."""


def write(page: Page, folder: Path) -> list[Path]:
    """Every view of every plot as SVG and PNG, every table as LaTeX; the files."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for plot in page.plots:
        for name, series in plot.views.items():
            columns = -(-_names(series) // ROWS) if _names(series) > ROWS else 0
            size = (5.6 + 1.3 * columns, _height(series))
            figure = Figure(figsize=size, layout="constrained")
            axis = figure.subplots()
            _draw(axis, plot, series)
            stem = plot.key + (f"-{_slug(name)}" if len(plot.views) > 1 else "")
            drawing.save(figure, folder, stem)
            made += [folder / f"{stem}.svg", folder / f"{stem}.png"]
    for table in page.tables:
        path = folder / f"{table.key}.tex"
        path.write_text(latex(table), encoding="utf-8")
        made.append(path)
    return made


def latex(table: Table) -> str:
    """A table with rules of booktabs; what it says of its figures stands in the caption."""
    # A column of numbers is known by its first number; all others are words.
    sides = [
        "l" if any(isinstance(row[at].values[0], str) for row in table.rows) else "r"
        for at in range(len(table.columns))
    ]
    lines = [" & ".join(_tex(heading) for heading, _ in table.columns)]
    lines += [" & ".join(_tex(cell.text) for cell in row) for row in table.rows]
    head, *body = (rf"{line} \\" for line in lines)
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            rf"\caption{{{_tex(table.title)}. {_tex(table.note)}}}",
            rf"\begin{{tabular}}{{{''.join(sides)}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _tex(text: str) -> str:
    return "".join(SPECIAL.get(sign, sign) for sign in text)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.") or "view"


def _height(series: list[Series]) -> float:
    forest = [len(one.y) for one in series if one.kind == "forest"]
    return 0.9 + 0.28 * max(forest) if forest else 3.6


def _draw(axis: Any, plot: Plot, series: list[Series]) -> None:
    places = list(dict.fromkeys(place for one in series for place in one.x))
    named = any(isinstance(place, str) for place in places)
    for at, one in enumerate(series):
        x = [places.index(place) for place in one.x] if named else list(one.x)
        if one.kind == "forest":
            _forest(axis, one)
        elif one.kind == "bars":
            _bars(axis, one, x, at, len(series), bar_width(series))
        elif one.tone == "faint":
            colour = colour_of(one)
            axis.scatter(x, one.y, s=6, color=colour, alpha=0.35, linewidths=0, label=one.name)
        else:
            tone = one.tone if isinstance(one.tone, int) else 0
            lows, highs = (one.low, one.high) if one.low else (one.y, one.y)
            rows = [
                None if y is None else (y, (low, high))
                for y, low, high in zip(one.y, lows, highs, strict=True)
            ]
            # Points of several series at one name would hide each other.
            shift = 0.08 * (at - (len(series) - 1) / 2) if named else 0.0
            drawing.line(axis, [place + shift for place in x], rows, tone, one.name)
    if plot.zero:
        mark = axis.axvline if any(one.kind == "forest" for one in series) else axis.axhline
        mark(0, color="0.5", linewidth=0.8, zorder=0)
    if bar_width(series) is not None:
        axis.set_xlim(0, 100)
    if named and not any(one.kind == "forest" for one in series):
        turned = 0 if len(places) <= 5 else 30 if len(places) <= 12 else 90
        axis.set_xticks(range(len(places)), places, rotation=turned)
    for name in plot.log:
        (axis.set_xscale if name == "x" else axis.set_yscale)("log")
    axis.set_xlabel(plot.x)
    axis.set_ylabel(plot.y)
    drawing.plain(axis)
    axis.set_axisbelow(True)
    if (names := _names(series)) > ROWS:  # beside the picture: within they would hide it
        place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "ncols": -(-names // ROWS)}
        axis.legend(frameon=False, fontsize=8, **place)
    elif names and any(one.kind == "bars" for one in series):  # above: bars may stand everywhere
        axis.legend(
            frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=names
        )
    elif names:
        axis.legend(frameon=False, fontsize=8)


def _names(series: list[Series]) -> int:
    """How many series a legend names."""
    return sum(not one.hidden for one in series)


def _forest(axis: Any, one: Series) -> None:
    errors = [
        [value - low for value, low in zip(one.x, one.low, strict=True)],
        [high - value for value, high in zip(one.x, one.high, strict=True)],
    ]
    axis.errorbar(one.x, range(len(one.y)), xerr=errors, fmt="o", color=colour_of(one), capsize=2)
    axis.set_yticks(range(len(one.y)), one.y)


def _bars(
    axis: Any, one: Series, x: list[float], at: int, groups: int, width: float | None
) -> None:
    if not x:
        return
    if width is None:  # at words, side by side
        width = 0.8 / groups
        x = [place + (at - (groups - 1) / 2) * width for place in x]
    axis.bar(x, one.y, width=width, color=colour_of(one), label=one.name)
