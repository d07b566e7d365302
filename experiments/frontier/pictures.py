"""The pictures of a frontier: measures against epsilon, and noise by size of head."""

from pathlib import Path
from typing import Any

from experiments import drawing

TITLES = {
    "after": "macro {measure} of unseen users",
    "worst_decile": "{measure} of the worst tenth",
    "hurt_share": "worse off than with local, % of users",
}


def draw(folder: Path, content: dict[str, Any]) -> None:
    """``frontier.svg`` and ``.png``, ``noise.svg`` and ``.png``."""
    drawing.save(frontier(content), folder, "frontier")
    _noise(folder, content)


def frontier(content: dict[str, Any]) -> drawing.Picture:
    """A row for each measure, a column for each mechanism; local training stands in all."""
    found = content["mechanisms"]
    percent = content["measure"] == "accuracy"
    audited = int(bool(content["audit"]))
    rows_of, height = len(TITLES) + audited, 9.0 + 2.4 * audited
    figure = drawing.Picture(figsize=(4.2 * len(found) + 1.8, height), layout="constrained")
    axes = figure.subplots(rows_of, len(found), sharex="col", sharey="row", squeeze=False)
    names = list(dict.fromkeys(n for one in found.values() for n in one["points"][0]["methods"]))
    for column, (mechanism, one) in enumerate(found.items()):
        points = one["points"][::-1]
        for axis, (key, title) in zip(axes[: len(TITLES), column], TITLES.items(), strict=True):
            scale = 100 if percent or key == "hurt_share" else 1
            for at, name in enumerate(names):
                rows = [_row(point["methods"].get(name), key, scale) for point in points]
                shift = 0.04 * (at - (len(names) - 1) / 2)  # so that no interval hides another
                places = [number + shift for number in range(len(points))]
                # Local is the line that all others are held against: it costs no privacy.
                label = "local (costs no privacy)" if name == "local" else name
                drawing.line(axis, places, rows, at, label)
            drawing.plain(axis)
            if column == 0:
                unit = "accuracy, %," if percent else content["measure"]
                axis.set_ylabel(title.format(measure=unit))
        if audited:
            _audit(axes[-1, column], points, content["audit"].get(mechanism, {}), not column)
        axes[0, column].set_title(mechanism, fontsize=10)
        labels = ["∞" if point["epsilon"] == "infinity" else point["epsilon"] for point in points]
        axes[-1, column].set_xticks(range(len(points)), labels)
        axes[-1, column].set_xlabel(f"epsilon at delta {content['delta']:g}")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    return figure


def _audit(axis: Any, points: list[dict[str, Any]], found: dict[str, Any], first: bool) -> None:
    """What is claimed at each epsilon, and what an audit has found that it is at least."""
    for at, (key, title) in enumerate(
        (
            ("claimed", "claimed"),
            ("lower_bound_curve", "audited, of Gaussian noise"),
            ("lower_bound", "audited"),
        )
    ):
        values = (found.get(point["epsilon"], {}).get(key) for point in points)
        rows = [None if value is None else (value, (value, value)) for value in values]
        drawing.line(axis, range(len(points)), rows, at, title)
    drawing.plain(axis)
    axis.legend(frameon=False, fontsize=7)
    if first:
        axis.set_ylabel("epsilon: claimed, and at least")


def _row(
    row: dict[str, Any] | None, key: str, scale: int
) -> tuple[float, tuple[float, float]] | None:
    """A value and its interval, of no width where none is known."""
    if row is None:
        return None
    value = row[key]
    if isinstance(value, dict):
        low, high = value["ci95"]
        return scale * value["mean"], (scale * low, scale * high)
    return scale * value, (scale * value, scale * value)


def _noise(folder: Path, content: dict[str, Any]) -> None:
    """Noise over clip by number of parameters, a line for each epsilon."""
    from matplotlib.figure import Figure

    found = content["noise"]
    figure = Figure(figsize=(4.2 * len(found) + 1.4, 3.6), layout="constrained")
    axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axis, (mechanism, lines) in zip(axes, found.items(), strict=True):
        for at, (epsilon, rows) in enumerate(lines.items()):
            ratios = [row["noise_over_clip"] for row in rows]
            sizes = [row["parameters"] for row in rows]
            drawing.line(axis, sizes, [(r, (r, r)) for r in ratios], at, f"epsilon {epsilon}")
        axis.axhline(1, color="0.5", linewidth=0.8)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("parameters of the head")
        axis.set_title(mechanism, fontsize=10)
        drawing.plain(axis)
    axes[0].set_ylabel("noise over clip, z sqrt(d) / m")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    drawing.save(figure, folder, "noise")
