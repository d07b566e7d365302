"""Which method keeps most of its gain at which epsilon, and where personalization stops paying."""

import math
from collections.abc import Callable, Sequence
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


def pays_at(points: Sequence[Point], metric: Metric, over: str, federated: bool) -> list[int]:
    """The points at which the method that validation users prefer gains for sure.

    Args:
        points: from infinity down.
        metric: of the figures.
        over: `over_local` or `over_one_model`.
        federated: whether only methods that need the federation are looked at.
    """
    found = []
    for at, point in enumerate(points):
        name = preferred(point, metric, federated)
        gain = point["methods"][name][over] if name else None
        if gain is not None and gain["ci95"][0] > 0:
            found.append(at)
    return found


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
    against = "local training, which costs no privacy"
    return _pays("taking part", points, metric, "over_local", True, lambda point: against)


def _personal(points: Sequence[Point], metric: Metric) -> str:
    def against(point: Point) -> str:
        return f"{point['reference']}, the best one model for all of the same epsilon"

    return _pays("personalizing", points, metric, "over_one_model", False, against)


def _pays(
    what: str,
    points: Sequence[Point],
    metric: Metric,
    over: str,
    federated: bool,
    against: Callable[[Point], str],
) -> str:
    """Where it pays, where it stops, and by how much at the first point where it does not.

    Where it pays everywhere, by how much at the smallest epsilon.
    """
    paying = pays_at(points, metric, over, federated)
    names = [point["epsilon"] for point in points]
    rest = [at for at in range(len(points)) if at not in paying]
    at = rest[0] if rest else len(points) - 1
    if not rest:
        where = "pays at every epsilon that was tried"
    elif not paying:
        where = "pays at no epsilon that was tried, nor without privacy"
    elif paying[-1] < rest[0]:
        where = f"stops paying at epsilon {names[at]}"
    else:
        yes, no = (", ".join(names[one] for one in some) for some in (paying, rest))
        where = f"pays at epsilon {yes} and not at {no}"
    name = preferred(points[at], metric, federated)
    found = points[at]["methods"][name][over] if name else None
    if found is None:
        return f"{what} {where} (at {names[at]} nothing was run to hold against each other)"
    return (
        f"{what} {where}: at {names[at]} {name}, the best there for validation users, is"
        f" {amount(metric, found['mean'])} {_spread(metric, found)} against {against(points[at])}"
    )


def _spread(metric: Metric, found: dict[str, Any]) -> str:
    low, high = found["ci95"]
    return f"(95 % interval {amount(metric, low)} to {amount(metric, high)})"


def amount(metric: Metric, value: float) -> str:
    """A gain in words."""
    return f"{100 * value:+.1f} points" if metric.name == "accuracy" else f"{value:+.3g}"
