"""The tables of runs: methods with intervals, and differences of pairs."""

from experiments.report.method_plots import pairs
from experiments.report.parts import Cell, Columns, Table, count, plain, share
from experiments.report.runs import Member, Runs
from experiments.report.scores import Reference, gains, intervals
from fedmeta.methods import METHODS
from fedmeta.statistics import gain, hurt_share


def methods(runs: Runs, over: Reference | str) -> Table:
    """One row for each method or run, on the test users."""
    unit, name = runs.unit, runs.unit.metric.name
    second = runs.unit.metric.columns[1]
    columns: Columns = [
        ("method" if runs.content else "run", ("name",)),
        ("before", ("before",)),
        ("after [95 %]", ("after", "after_low", "after_high")),
        ("gain [95 %]", ("gain", "gain_low", "gain_high")),
        ("hurt", ("hurt_share",)),
        ("micro", ("micro",)),
        ("F1" if second == "f1" else second.upper(), (second,)),
        ("worst tenth", ("worst_decile",)),
        ("users/s", ("user_updates_per_s",)),
        ("epsilon", ("epsilon",)),
    ]
    rows = []
    for member in runs.members:
        test = member.summary["test"]
        after = test["after"]
        mean, low, high = intervals(member.scores[..., -1:], runs.resamples)
        figure = {"mean": mean[0], "ci95": [low[0], high[0]]}
        rows.append(
            [
                plain(member.label),
                unit.value(test["before"][f"{name}_macro"]),
                unit.spread(figure, signed=False),
                *_gain(runs, member, over),
                unit.value(after[f"{name}_micro"]),
                unit.value(after[f"{second}_macro"]),
                unit.value(after["worst_decile"]),
                count(member.summary["speed"]["user_updates_per_s"] or None),
                _epsilon(member),
            ]
        )
    seeds = len(runs.seeds)
    whom = "users" if seeds == 1 else f"users and {seeds} seeds"
    gained = (
        f"no gain: {over}"
        if isinstance(over, str)
        else f"gain and share hurt are over {over.words}"
    )
    return Table(
        "methods",
        f"{len(runs.members[0].users):,} test users, {runs.members[0].shots[-1]} examples each:"
        f" {unit.axis}",
        columns,
        rows,
        f"Mean over users [95 % bootstrap interval over {whom}]; {gained}. Micro: over examples."
        " Hurt: share of users who are worse off. Epsilon: of this run alone; - where nothing is"
        " claimed.",
    )


def _gain(runs: Runs, member: Member, over: Reference | str) -> list[Cell]:
    none = [Cell("-", (None, None, None)), share(None)]
    if isinstance(over, str) or not METHODS[member.method].personalizes:
        return none
    values = gain(runs.unit.metric, over.values, member.scores[..., -1])
    mean, low, high = intervals(values[..., None], runs.resamples)
    figure = {"mean": mean[0], "ci95": [low[0], high[0]]}
    return [runs.unit.spread(figure), share(hurt_share(gains(runs, member, over)))]


def _epsilon(member: Member) -> Cell:
    claim = member.summary.get("privacy")
    found = count(claim["epsilon"] if claim else None, ".3g")
    if claim and claim["epsilon"] is not None and claim["extrapolated"]:
        return found._replace(text=f"{found.text} extrapolated")
    return found


def differences(runs: Runs) -> Table | None:
    """All pairs; None where there are none."""
    rows = [
        [plain(str(pair["a"])), plain(str(pair["b"])), runs.unit.spread(pair)]
        for pair in pairs(runs)
    ]
    if not rows:
        return None
    columns: Columns = [
        ("a", ("a",)), ("b", ("b",)), ("a - b [95 %]", ("difference", "low", "high")),
    ]  # fmt: skip
    note = "Positive: a is better. Taken user by user; not corrected for the number of pairs."
    return Table("pairs", "Differences of all pairs", columns, rows, note)
