"""How a run went: accuracy over rounds, bytes to a target, users a second, curves over K."""

from statistics import median_low
from typing import Any

import numpy as np

from experiments.report.parts import Plot, Series
from experiments.report.runs import Member, Runs
from experiments.report.scores import BEST, LINES, intervals, shown

MOST = 300
"""Most points of a line over rounds."""


def over_rounds(runs: Runs) -> Plot:
    """The measure on validation users after adaptation, at the evaluated rounds."""
    title = "Over rounds"
    views: dict[str, list[Series]] = {}
    for key, name in (("valid", "mean over users"), ("valid_worst", "worst tenth of the users")):
        for whom, members in shown(runs).items():
            lines = [_line(runs, member, key, at) for at, member in enumerate(members)]
            if there := [line for line in lines if line.x]:
                views[", ".join(filter(None, (name, whom)))] = there
    if not views:
        return Plot("rounds", title, missing="No method here trains in rounds.")
    k, several = runs.members[0].shots[-1], len(runs.seeds) > 1
    quiet = [m.label for m in runs.members if not any(m.rounds)]
    valid = runs.members[0].summary["users"]["valid"]
    return Plot(
        "rounds",
        title,
        f"{valid:,} validation users after adaptation on {k} examples with the default rate and"
        " steps, at the evaluated rounds."
        + (f" Bars: range over {len(runs.seeds)} seeds." if several else " One seed, no interval.")
        + BEST * (len(runs.members) > LINES)
        + (f" Not in it, since they have no rounds: {', '.join(quiet)}." if quiet else "")
        + (
            ""
            if any(name.startswith("worst") for name in views)
            else " These rounds did not keep the worst tenth (older runs)."
        ),
        "round",
        runs.unit.axis,
        views,
    )


def _line(runs: Runs, member: Member, key: str, at: int) -> Series:
    """Means over seeds with their range; rounds that were not evaluated are no points."""
    by_round: dict[int, list[float]] = {}
    for rounds in member.rounds:
        for event in rounds:
            if event.get(key) is not None:
                by_round.setdefault(event["round"], []).append(event[key])
    x = sorted(by_round)
    x = x[:: -(-len(x) // MOST)] if len(x) > MOST else x
    mean, low, high = (
        runs.unit.of([float(how(by_round[r])) for r in x]) for how in (np.mean, min, max)
    )
    if len(runs.seeds) == 1:
        return Series(member.label, x, mean, tone=at)
    return Series(member.label, x, mean, low, high, tone=at)


def over_shots(runs: Runs) -> Plot:
    """The measure of test users by the number of examples they adapt on, with intervals."""
    found: dict[str, Series] = {}
    for member in runs.members:
        mean, low, high = map(runs.unit.of, intervals(member.scores, runs.resamples))
        found[member.label] = Series(member.label, member.shots, mean, low, high)
    views = {
        whom: [found[member.label]._replace(tone=at) for at, member in enumerate(members)]
        for whom, members in shown(runs).items()
    }
    users, seeds = len(runs.members[0].users), len(runs.seeds)
    return Plot(
        "curve",
        "Adaptation curve",
        f"{users:,} test users whom training has not seen, all points scored on the same examples"
        " of a user. 95 % bootstrap intervals over users"
        + (f" and {seeds} seeds." if seeds > 1 else ", one seed.")
        + BEST * (len(runs.members) > LINES),
        "K, examples to adapt on",
        runs.unit.axis,
        views,
    )


def target_of(runs: Runs) -> float | None:
    """The lower median of the members' best validation measures, so that half of them reach it."""
    sign, best = runs.unit.metric.sign, []
    for member in runs.members:
        for rounds in member.rounds[:1]:
            if values := [sign * e["valid"] for e in rounds if e.get("valid") is not None]:
                best.append(max(values))
    return sign * median_low(best) if best else None


def bytes_to(rounds: list[dict[str, Any]], sign: int, target: float) -> tuple[int, int, int] | None:
    """Round, bytes down and bytes up when validation users first reached a target, or None."""
    down = up = 0
    for event in rounds:
        down, up = down + event["bytes_down"], up + event["bytes_up"]
        if event.get("valid") is not None and sign * event["valid"] >= sign * target:
            return event["round"], down, up
    return None


def traffic(runs: Runs) -> Plot:
    """Megabytes that users were sent and sent until the target was reached."""
    title = "Bytes to a target"
    target = target_of(runs)
    if target is None:
        return Plot("bytes", title, missing="Nothing was sent: no method here trains in rounds.")
    if any("bytes_down" not in event for m in runs.members for r in m.rounds for event in r[:1]):
        return Plot("bytes", title, missing="These rounds did not count bytes (older runs).")
    labels, down, up, never, secret = [], [], [], [], []
    for member in runs.members:
        if not any(member.rounds):
            continue
        if (member.summary.get("privacy") or {}).get("unit") == "user":
            secret.append(member.label)  # bytes are users, and how many came has no noise
            continue
        found = [bytes_to(rounds, runs.unit.metric.sign, target) for rounds in member.rounds]
        if reached := [one for one in found if one is not None]:
            some = "" if len(reached) == len(found) else f" ({len(reached)} of {len(found)} seeds)"
            labels.append(member.label + some)
            down.append(float(np.mean([d for _, d, _ in reached])) / 1e6)
            up.append(float(np.mean([u for _, _, u in reached])) / 1e6)
        else:
            never.append(member.label)
    kept = f"Who took part is protected in {', '.join(secret)}: no bytes are told."
    if not labels and not never:
        return Plot("bytes", title, missing=kept)
    return Plot(
        "bytes",
        title,
        f"Until validation users reached {runs.unit.text(target)} ({runs.unit.axis}):"
        + (
            " the best of this run."
            if len(runs.members) == 1
            else " the lower median of the methods' best."
        )
        + " All users of a round together, each by a client of his own: parameters down, and what"
        " he sends up; training alone, without evaluation and headers."
        + (f" Never reached by {', '.join(never)}." if never else "")
        + (f" {kept}" if secret else ""),
        "",
        "megabytes",
        {"": [Series("down", labels, down, kind="bars", tone=0),
              Series("up", labels, up, kind="bars", tone=1)]},
    )  # fmt: skip


def throughput(runs: Runs) -> Plot:
    """Updates of users a second."""
    title = "Throughput"
    found = [(m.label, m.summary["speed"]["user_updates_per_s"]) for m in runs.members]
    labels = [label for label, rate in found if rate]
    if not labels:
        return Plot("throughput", title, missing="No method here trains in rounds.")
    rates = [rate for _, rate in found if rate]
    peak = max(m.summary["speed"]["peak_rss_mb"] for m in runs.members)
    return Plot(
        "throughput",
        title,
        "Training users a second on the machine of the run, evaluation on validation users"
        f" included; most memory of all processes {peak:,.0f} MB. One measurement, no"
        " interval: other load on the machine is in it.",
        "",
        "user updates per second",
        {"": [Series("user updates per second", labels, rates, kind="bars", tone=0, hidden=True)]},
    )
