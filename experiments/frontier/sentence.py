"""Which method keeps most of its gain at which epsilon, and where personalization stops paying."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from fedmeta.metrics import Metric

MOST = 0.5
"""Share of the gain without privacy that is most of it."""

Point = dict[str, Any]


class Kept(NamedTuple):
    """A method that keeps most of its gain: at which point, and the share there."""

    method: str
    at: int
    share: float


def sentence(mechanism: str, points: Sequence[Point], metric: Metric) -> str:
    """The frontier of a mechanism in words.

    Methods and epsilons are chosen on validation users; the figures are those of test users.

    Args:
        mechanism: as the command names it.
        points: from infinity down, as in ``frontier.json``.
        metric: of the figures.
    """
    return (
        f"{mechanism}: {_keeps(points, metric)}; {_federation(points, metric)};"
        f" {_personal(points, metric)}."
    )


def kept(points: Sequence[Point]) -> Kept | None:
    """The method that keeps most of its gain over local training furthest down.

    Only methods count that gain without privacy for sure (whole 95 % interval on validation
    users), and only epsilons down to which the share never falls below :data:`MOST`.
    """
    best: Kept | None = None
    for name, row in points[0]["methods"].items():
        full = row["over_local_valid"]
        if not row["federated"] or not row["personalizes"] or not full["ci95"][0] > 0:
            continue
        for at in range(1, len(points)):
            here = points[at]["methods"].get(name)
            share = here["over_local_valid"]["mean"] / full["mean"] if here else math.nan
            if not share >= MOST:
                break
            if best is None or (at, share) > (best.at, best.share):
                best = Kept(name, at, share)
    return best


def preferred(point: Point, metric: Metric, federated: bool) -> str:
    """The personalizing method that validation users prefer; "" where there is none."""
    able = {
        name: metric.sign * row["valid"]
        for name, row in point["methods"].items()
        if row["personalizes"] and (row["federated"] or not federated)
    }
    known = {name: value for name, value in able.items() if not math.isnan(value)}
    return max(known, key=lambda name: known[name], default="")


def pays_to(points: Sequence[Point], metric: Metric, over: str, federated: bool) -> int:
    """The last point, from infinity down, to which the preferred method gains at all; -1: none.

    Args:
        points: from infinity down.
        metric: of the figures.
        over: `over_local` or `over_one_model`.
        federated: whether only methods that need the federation are looked at.
    """
    for at, point in enumerate(points):
        name = preferred(point, metric, federated)
        found = point["methods"][name][over] if name else None
        if found is None or not found["ci95"][0] > 0:
            return at - 1
    return len(points) - 1


def _keeps(points: Sequence[Point], metric: Metric) -> str:
    found = kept(points)
    if found is None:
        return "no method keeps most of a gain over local training at any finite epsilon"
    full = points[0]["methods"][found.method]["over_local"]["mean"]
    here = points[found.at]["methods"][found.method]["over_local"]["mean"]
    return (
        f"{found.method} keeps most of its gain over local training down to epsilon"
        f" {points[found.at]['epsilon']} ({amount(metric, here)} of {amount(metric, full)})"
    )


def _federation(points: Sequence[Point], metric: Metric) -> str:
    last = pays_to(points, metric, "over_local", federated=True)
    if last == len(points) - 1:
        return (
            "taking part pays at every epsilon that was tried, against local training, which costs"
            " no privacy"
        )
    stop = points[last + 1]
    name = preferred(stop, metric, federated=True)
    if not name:
        return f"no personalizing method that needs federation was run at {stop['epsilon']}"
    found = stop["methods"][name]["over_local"]
    where = _where(last, stop)
    return (
        f"taking part {where}: {name}, the best there for validation users, is"
        f" {amount(metric, found['mean'])} {_spread(metric, found)} against local training, which"
        " costs no privacy"
    )


def _personal(points: Sequence[Point], metric: Metric) -> str:
    last = pays_to(points, metric, "over_one_model", federated=False)
    if last == len(points) - 1:
        name = preferred(points[-1], metric, federated=False)
        found = points[-1]["methods"][name]["over_one_model"]
        return (
            "personalizing pays at every epsilon against the best one model for all of the same"
            f" epsilon ({amount(metric, found['mean'])} by {name} at {points[-1]['epsilon']})"
        )
    stop = points[last + 1]
    name = preferred(stop, metric, federated=False)
    held = stop["methods"][name]["over_one_model"] if name else None
    if held is None:
        return f"at {stop['epsilon']} there is no one model for all to hold personalizing against"
    where = _where(last, stop)
    return (
        f"personalizing {where}: {name} is {amount(metric, held['mean'])}"
        f" {_spread(metric, held)} against {stop['reference']}, the best one model for all there"
    )


def _where(last: int, stop: Point) -> str:
    stops = f"stops paying at epsilon {stop['epsilon']}"
    return "does not pay even without privacy" if last < 0 else stops


def _spread(metric: Metric, found: dict[str, Any]) -> str:
    low, high = found["ci95"]
    return f"(95 % interval {amount(metric, low)} to {amount(metric, high)})"


def amount(metric: Metric, value: float) -> str:
    """A gain in words."""
    return f"{100 * value:+.1f} points" if metric.name == "accuracy" else f"{value:+.3g}"
