"""A sweep for people: tables, and a picture of when each method pays."""

from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from experiments import drawing
from experiments.sweep.points import Swept
from fedmeta.methods import METHODS


def shown(panel: dict[str, Any]) -> list[str]:
    """The methods of a panel that personalize: the others have no gain to show."""
    return [name for name in panel["points"][0]["methods"] if METHODS[name].personalizes]


def pays_from(panel: dict[str, Any], name: str) -> str:
    """The value from which on a method pays at all further ones, in words."""
    last = ""
    for point in reversed(panel["points"]):
        if not point["methods"][name]["pays"]:
            break
        last = point["value"]
    return f"from {last}" if last else "not at the end"


def table(found: Swept) -> RenderableType:
    """One table per panel: the gain of each method at each value."""
    scale, digits = (100, 1) if found.content["measure"] == "accuracy" else (1, 3)
    parts: list[RenderableType] = []
    for panel in found.content["panels"]:
        out = Table(title=f"{panel['title']}: gain over one model for all, by {panel['key']}")
        out.add_column("method")
        for point in panel["points"]:
            out.add_column(point["value"], justify="right")
        out.add_column("pays")
        for name in shown(panel):
            cells = [_cell(point["methods"][name], scale, digits) for point in panel["points"]]
            out.add_row(name, *cells, pays_from(panel, name))
        parts.append(out)
    return Group(*parts, Text(f"* the whole 95 % interval is above zero    {found.folder}"))


def _cell(row: dict[str, Any], scale: int, digits: int) -> str:
    if row["gain"] is None:
        return "-"
    low, high = row["ci95"]
    text = f"{scale * row['gain']:+.{digits}f} ±{scale * (high - low) / 2:.{digits}f}"
    return text + ("*" if row["pays"] else " ")


def draw(folder: Path, content: dict[str, Any]) -> None:
    """``sweep.svg`` and ``sweep.png``: gains with 95 % intervals; filled where they are sure."""
    from matplotlib.figure import Figure

    panels = content["panels"]
    percent = content["measure"] == "accuracy"
    figure = Figure(figsize=(4.2 * len(panels) + 1.8, 4.0), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    names = shown(panels[0])
    for axis, panel in zip(axes, panels, strict=True):
        values = [point["value"] for point in panel["points"]]
        places, labels = _places(values)
        step = min((abs(b - a) for a, b in pairwise(places)), default=1.0)
        axis.axhline(0, color="0.5", linewidth=0.8)
        for at, name in enumerate(names):
            rows = [point["methods"][name] for point in panel["points"]]
            shift = 0.05 * step * (at - (len(names) - 1) / 2)  # so that no interval hides another
            drawing.line(
                axis,
                [x + shift for x in places],
                [_scaled(row, 100 if percent else 1) for row in rows],
                at,
                f"{name} ({METHODS[name].family})",
                [row["pays"] for row in rows],
            )
        axis.set_xticks(places, labels)
        axis.set_xlabel(panel["key"])
        axis.set_title(panel["title"], fontsize=10)
        drawing.plain(axis)
    unit = "points" if percent else content["measure"]
    axes[0].set_ylabel(f"gain over one model for all, {unit}")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside right upper", frameon=False, fontsize=8, title_fontsize=8,
        title="filled: the whole 95 % interval\nis above zero", alignment="left",
    )  # fmt: skip
    drawing.save(figure, folder, "sweep")


def _scaled(row: dict[str, Any], scale: int) -> tuple[float, tuple[float, float]] | None:
    if row["gain"] is None:
        return None
    low, high = row["ci95"]
    return scale * row["gain"], (scale * low, scale * high)


def _places(values: list[str]) -> tuple[list[float], list[str]]:
    """Where values stand: as numbers if all are, else one after the other."""
    try:
        return [float(value) for value in values], [f"{float(value):g}" for value in values]
    except ValueError:
        return [float(at) for at in range(len(values))], values
