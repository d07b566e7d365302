"""Figures of users that artefacts do not hold: gains of each, and intervals of curves."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from experiments.drawing import COLOURS
from experiments.report.runs import Member, Runs, Values
from fedmeta import seeding
from fedmeta.methods import METHODS
from fedmeta.statistics import gain

LINES = len(COLOURS)
"""Most lines in a picture that are told apart at a glance."""
BEST = " Best: for validation users."


class Reference(NamedTuple):
    """What gains are over: the measure ``(seeds, users)``, and its name in words."""

    values: Values
    words: str


@lru_cache(maxsize=1)
def resampled(seeds: int, users: int, resamples: int) -> tuple[Values, Values]:
    """Weights of users and of seeds in each resample, drawn once for all figures of a page."""
    random = seeding.generator(0, "bootstrap")
    by_user = random.multinomial(users, np.full(users, 1 / users), size=resamples) / users
    by_seed = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    return by_user, by_seed


def intervals(values: Values, resamples: int) -> tuple[list[float], list[float], list[float]]:
    """Means and 95 % intervals of many columns at once, from the same resampled users and seeds.

    Args:
        values: ``(seeds, users, columns)``.
        resamples: bootstrap resamples.

    Returns:
        Mean, low and high for each column; each as :func:`fedmeta.statistics.interval` gives it.
    """
    seeds, users, columns = values.shape
    by_user, by_seed = resampled(seeds, users, resamples)
    # (resamples, users) @ (users, seeds * columns): one product for all columns.
    flat = values.transpose(1, 0, 2).reshape(users, seeds * columns)
    means = np.einsum("bs,bsc->bc", by_seed, (by_user @ flat).reshape(resamples, seeds, columns))
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return values.mean((0, 1)).tolist(), low.tolist(), high.tolist()


def same_users(runs: Runs) -> str:
    """Why users of these runs cannot be paired, or ""."""
    first = runs.members[0]
    for other in runs.members[1:]:
        if other.users != first.users:
            return f"{first.label} and {other.label} were judged on different test users"
        if other.scores.shape[0] != first.scores.shape[0]:
            return f"{first.label} and {other.label} have different numbers of seeds"
        if other.shots[-1] != first.shots[-1]:
            return (
                f"{first.label} adapts on {first.shots[-1]} examples, {other.label} on"
                f" {other.shots[-1]}"
            )
        if not np.array_equal(other.examples, first.examples):
            return f"{first.label} and {other.label} scored users on different examples"
    return ""


def reference(runs: Runs) -> Reference | str:
    """The one model for all that gains are over, or why there is none.

    It is the verdict's in a comparison; otherwise the best for validation users among the members
    that train a model to be used as it is.
    """
    general = [member for member in runs.members if METHODS[member.method].general]
    if runs.content:
        name = runs.content["decision"]["reference"]
        general = [member for member in runs.members if member.label == name]
    if not general:
        return (
            "no method here trains one model for all, and the start of a meta-learner is not made"
            " to be used without adaptation: over it all would gain"
        )
    if reason := same_users(runs):
        return reason
    measure, sign = f"{runs.unit.metric.name}_macro", runs.unit.metric.sign

    def before(member: Member) -> float:
        value = member.summary["valid"]["before"][measure]
        return -np.inf if value is None else sign * value

    best = max(general, key=before)
    own = f"the one model for all of {best.label}"
    return Reference(best.scores[..., 0], own)


def gains(runs: Runs, member: Member, over: Reference) -> Values:
    """Gain of each test user over one model for all ``(seeds, users)``, in the axis' unit."""
    return runs.unit.scale * gain(runs.unit.metric, over.values, member.scores[..., -1])


def shown(runs: Runs) -> dict[str, list[Member]]:
    """Whose lines a picture holds, by the name of its view: of many first the best, then all.

    The best are those of validation users, as :data:`BEST` tells; with them stand what gains are
    over and `local`.
    """
    if len(runs.members) <= LINES:
        return {"": runs.members}
    sign = runs.unit.metric.sign
    beside = {"local", runs.content.get("decision", {}).get("reference", "")}
    fixed = [member for member in runs.members if member.label in beside]
    rest = [m for m in runs.members if m.label not in beside]
    rest.sort(key=lambda m: sign * m.valid if m.valid == m.valid else -np.inf, reverse=True)
    best = rest[: LINES - len(fixed)]
    names = " and ".join(member.label for member in fixed)
    first = f"best {len(best)}" + (f", {names}" if names else "")
    return {first: best + fixed, f"all {len(runs.members)}": runs.members}


def adapting(runs: Runs) -> list[Member]:
    """The members that personalize, the verdict's method first; others have no gain to show."""
    able = [member for member in runs.members if METHODS[member.method].personalizes]
    chosen = runs.content["decision"]["method"] if runs.content else ""
    return sorted(able, key=lambda member: member.label != chosen)
