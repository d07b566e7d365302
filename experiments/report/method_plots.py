"""Which method, and is the difference real: gains and paired differences with intervals."""

from typing import Any

from experiments.report.parts import Number, Plot, Series
from experiments.report.runs import Runs
from experiments.report.scores import Reference, adapting, intervals, same_users
from fedmeta.statistics import gain


def over_one_model(runs: Runs, over: Reference | str) -> Plot:
    """The gain of every method over one model for all."""
    title = "Gain over one model for all"
    if isinstance(over, str):
        return Plot("gain", title, missing=f"No gain can be shown: {over}.")
    names: list[str] = []
    means: list[Number] = []
    lows: list[Number] = []
    highs: list[Number] = []
    for member in adapting(runs):
        values = gain(runs.unit.metric, over.values, member.scores[..., -1])
        found = intervals(values[..., None], runs.resamples)
        names.append(member.label)
        for column, figure in zip((means, lows, highs), found, strict=True):
            column += runs.unit.of(figure)
    if not names:
        return Plot("gain", title, missing="No method here personalizes.")
    order = sorted(range(len(names)), key=lambda at: means[at] or 0.0)
    mean, low, high = ([column[at] for at in order] for column in (means, lows, highs))
    named = [names[at] for at in order]
    series = Series("gain", mean, named, low, high, kind="forest", tone=0, hidden=True)
    return Plot(
        "gain",
        title,
        f"{_whom(runs)} after {runs.members[0].shots[-1]} examples, user by user over"
        f" {over.words}. {_spread(runs)}",
        runs.unit.gain,
        "",
        {"": [series]},
        zero=True,
    )


def differences(runs: Runs) -> Plot:
    """Paired differences of one method to all others, with intervals."""
    title = "Paired differences"
    if len(runs.members) < 2:
        return Plot("pairs", title, missing="There is one run: nothing to take a difference to.")
    if reason := same_users(runs):
        return Plot("pairs", title, missing=f"Users cannot be paired: {reason}.")
    found = {(pair["a"], pair["b"]): pair for pair in pairs(runs)}
    first = adapting(runs)
    order = first + [member for member in runs.members if member not in first]
    views = {}
    for mine in order:
        rows = []
        for other in runs.members:
            if pair := found.get((mine.label, other.label)):
                rows.append((pair["mean"], *pair["ci95"], other.label))
            elif pair := found.get((other.label, mine.label)):
                low, high = pair["ci95"]
                rows.append((_minus(pair["mean"]), _minus(high), _minus(low), other.label))
        rows.sort(key=lambda row: row[0] or 0.0)
        mean, low, high = (runs.unit.of([row[at] for row in rows]) for at in range(3))
        names = [row[3] for row in rows]
        views[mine.label] = [
            Series("difference", mean, names, low, high, kind="forest", tone=0, hidden=True)
        ]
    return Plot(
        "pairs",
        title,
        f"{_whom(runs)}: the chosen method minus each other one after"
        f" {runs.members[0].shots[-1]} examples, user by user; right of zero it is better."
        f" {_spread(runs)} Not corrected for the number of comparisons.",
        runs.unit.gain.replace("gain", "difference"),
        "",
        views,
        zero=True,
    )


def pairs(runs: Runs) -> list[dict[str, Any]]:
    """The paired differences of a comparison, or the same of several runs; empty if unpaired."""
    if runs.content:
        known: list[dict[str, Any]] = runs.content["pairs"]
        return known
    if same_users(runs):
        return []
    found: list[dict[str, Any]] = []
    for at, a in enumerate(runs.members):
        for b in runs.members[at + 1 :]:
            values = gain(runs.unit.metric, b.scores[..., -1], a.scores[..., -1])
            mean, low, high = intervals(values[..., None], runs.resamples)
            found.append({"a": a.label, "b": b.label, "mean": mean[0], "ci95": [low[0], high[0]]})
    return found


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


def _whom(runs: Runs) -> str:
    return f"{len(runs.members[0].users):,} test users"


def _spread(runs: Runs) -> str:
    seeds = len(runs.seeds)
    more = f" and {seeds} seeds" if seeds > 1 else ", one seed"
    return f"95 % bootstrap intervals over users{more}."
