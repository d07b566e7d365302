"""Pictures of runs for notebooks, made of what the artefacts hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments import drawing
from fedmeta.config import ConfigError
from fedmeta.metrics import Metric
from fedmeta.statistics import gain, hurt_share
from strategies.events import RoundDone

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from experiments.found import Comparison

BETTER, WORSE = drawing.COLOURS[0], drawing.COLOURS[4]
"""Blue and vermilion, told apart with any colour vision."""

Values = NDArray[np.float64]


def rounds(histories: Mapping[str, Sequence[RoundDone]], metric: Metric) -> Figure:
    """The measure of validation users over the rounds, a line for each run."""
    figure, axis = _canvas()
    for at, (name, history) in enumerate(histories.items()):
        told = [(event.round, event.valid) for event in history if event.valid is not None]
        rows = [(_scale(metric) * value, (_scale(metric) * value,) * 2) for _, value in told]
        drawing.line(axis, [number for number, _ in told], rows, at, name)
    axis.set_xlabel("round")
    axis.set_ylabel(f"{_unit(metric)} of validation users")
    axis.legend(frameon=False)
    return figure


def gains(values: Values, metric: Metric) -> Figure:
    """Gains of users, sorted: above zero in blue, below in vermilion.

    Args:
        values: one for each user, positive is better, NaN where the model diverged.
        metric: whose unit they have.
    """
    figure, axis = _canvas()
    known = np.sort(values[~np.isnan(values)])[::-1] * _scale(metric)
    worse = hurt_share(values)
    place = np.arange(len(known))
    for side, colour, label in (
        (known >= 0, BETTER, f"{1 - worse:.0%} not worse off"),
        (known < 0, WORSE, f"{worse:.0%} worse off"),
    ):
        axis.bar(place[side], known[side], width=1.0, color=colour, label=label)
    axis.axhline(0, color="0.3", linewidth=0.8)
    axis.set_xlabel("test users, sorted by gain")
    axis.set_ylabel("gain, points" if metric.name == "accuracy" else f"gain in {metric.name}")
    axis.legend(frameon=False)
    return figure


def shots(users: pd.DataFrame, metric: Metric) -> Figure:
    """The macro measure of test users by number of their examples, and of the worst tenth."""
    figure, axis = _canvas()
    test = users[users["split"] == "test"]
    for at, (name, rows) in enumerate(test.groupby("method", sort=False)):
        by = rows.groupby("k")[metric.name]
        worst = by.quantile(0.1 if metric.sign > 0 else 0.9)
        places, scale = [float(k) for k in worst.index], _scale(metric)
        means = [(scale * value, (scale * value,) * 2) for value in by.mean()]
        drawing.line(axis, places, means, at, str(name))
        colour = drawing.COLOURS[at % len(drawing.COLOURS)]
        axis.plot(places, scale * worst.to_numpy(), color=colour, linewidth=0.8, linestyle=":")
    axis.set_xlabel("examples of the user (dotted: where the worst tenth begins)")
    axis.set_ylabel(f"{_unit(metric)} of test users")
    axis.legend(frameon=False, fontsize=8)
    return figure


def methods(content: dict[str, Any], metric: Metric) -> Figure:
    """Gain of each method over the best one model for all, with paired 95 % intervals.

    Args:
        content: of ``compare.json``.
        metric: of the comparison.
    """
    held = {n: row["test"]["against_reference"] for n, row in content["methods"].items()}
    known = {name: figures for name, figures in held.items() if figures is not None}
    figure, axis = _canvas(0.6 + 0.35 * max(len(known), 3))
    for at, figures in enumerate(known.values()):
        mean, (low, high) = (figures["gain"][key] for key in ("mean", "ci95"))
        sure = low > 0 or high < 0
        spread = _scale(metric) * np.array([[mean - low], [high - mean]])
        axis.errorbar(
            [_scale(metric) * mean], [at], xerr=spread, color=BETTER if mean >= 0 else WORSE,
            marker="o", markerfacecolor=None if sure else "white", capsize=3,
        )  # fmt: skip
    axis.axvline(0, color="0.3", linewidth=0.8)
    axis.set_yticks(range(len(known)), list(known))
    axis.invert_yaxis()
    unit = "points" if metric.name == "accuracy" else metric.name
    axis.set_xlabel(f"gain over one model for all, {unit} (filled: sure at 95 %)")
    return figure


def over_start(users: pd.DataFrame, metric: Metric) -> Values:
    """Gain of each test user of one run over the model that he was sent."""
    test = users[users["split"] == "test"]
    first, last = test["k"].min(), test["k"].max()
    by = test.set_index(["user", "k"])[metric.name].unstack("k")
    return gain(metric, by[first].to_numpy(), by[last].to_numpy())


def over_reference(found: Comparison, method: str = "") -> Values:
    """Gain of each test user over the one model for all of the verdict, mean over the seeds.

    Raises:
        ConfigError: a method that was not compared, or there is no one model for all.
    """
    name, reference = method or found.verdict.method, found.verdict.reference
    if not reference or name not in found.rows:
        raise ConfigError(
            f"gains of {name!r} over {reference!r}: expected a method out of"
            f" {', '.join(found.rows)}, and one that trains one model for all, as fedavg does"
        )
    before, after = found.rows[reference].scores.before, found.rows[name].scores.after
    values: Values = gain(found.metric, before, after).mean(0)
    return values


def _canvas(height: float = 3.4) -> tuple[Figure, Axes]:
    figure = drawing.Picture(figsize=(6.4, height), layout="constrained")
    axis = figure.subplots()
    drawing.plain(axis)
    return figure, axis


def _scale(metric: Metric) -> float:
    return 100.0 if metric.name == "accuracy" else 1.0


def _unit(metric: Metric) -> str:
    return "accuracy, %" if metric.name == "accuracy" else metric.name
