"""One plain sentence: does personalization pay on this data, by how much, and for whom not."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedmeta.methods import METHODS
from fedmeta.metrics import Metric
from fedmeta.statistics import gain, hurt_share, interval

FEWEST = 5
"""Test users below which a bootstrap interval over users says nothing."""


class Scores(NamedTuple):
    """A method's measure on test users ``(seeds, users)`` and its means on validation users."""

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    valid_before: float
    valid_after: float


class Verdict(NamedTuple):
    """The decision and the sentence that says it.

    Attributes:
        pays: whether the interval of the gain lies above zero.
        method: the personalizing method that validation users preferred.
        reference: the method whose un-adapted model it is held against.
        gain: mean gain over test users, in the measure's own unit, positive is better.
        ci95: its interval over users (and seeds).
        hurt_share: share of test users who are worse off with it.
        sentence: all this in words.
    """

    pays: bool
    method: str
    reference: str
    gain: float
    ci95: list[float]
    hurt_share: float
    sentence: str


CHOOSERS = 10
"""Validation users below whom the sentence says how few have chosen."""


def verdict(
    metric: Metric,
    rows: Mapping[str, Scores],
    support: int,
    resamples: int,
    choosers: int = CHOOSERS,
) -> Verdict:
    """Hold the personalizing method that is best for validation users against one model for all.

    Both sides are chosen by validation users, so that the choice flatters neither on test users:
    the method by its measure after adaptation (of equal ones, the one with the better start), and
    the one model for all, by its measure before, among the methods that train a model to be used
    as it is. Where there is nothing to
    hold against each other, the sentence says so, as where the validation users, `choosers`, are
    few. A method that diverges on validation users (NaN) is not chosen while another does not.
    """
    able = [name for name in rows if METHODS[name].personalizes]
    # The start of a meta-learner is not made to be used as it is: against that all would pay.
    general = [name for name in rows if METHODS[name].general]
    if not able:
        return _undecided("no method here personalizes; add one to --methods")
    if not general:
        return _undecided("no method here trains one model for all; add fedavg to --methods")
    users = next(iter(rows.values())).before.shape[-1]
    if users < FEWEST:
        return _undecided(f"{users} test users are too few; {FEWEST} are the least")
    method = _best(metric, {n: (rows[n].valid_after, rows[n].valid_before) for n in able})
    reference = _best(metric, {n: (rows[n].valid_before,) for n in general})
    base = rows[reference].before
    gains = gain(metric, base, rows[method].after)
    found = interval(gains, resamples)
    hurt = hurt_share(gains)
    against = f"the best single model for all ({reference}'s)"
    size = _amount(metric, found.mean)
    spread = f"95 % interval {_amount(metric, found.low)} to {_amount(metric, found.high)}"
    setting = f"{method} with {support} examples per user"
    if not np.isfinite(found).all():
        lost = float((~np.isfinite(gains)).mean())
        sentence = (
            f"Personalization does not pay on this data: {setting} diverges for {lost:.0%} of the"
            " users; lower method.rate."
        )
    elif found.low > 0:
        sentence = (
            f"Personalization pays on this data: {setting} gains {size} of {metric.name} over"
            f" {against} ({spread}); it makes {hurt:.0%} of the users worse off."
        )
    elif found.high < 0:
        sentence = (
            f"Personalization does not pay on this data: {setting} loses {size.lstrip('-')} of"
            f" {metric.name} against {against} ({spread}) and makes {hurt:.0%} of the users"
            " worse off."
        )
    else:
        sentence = (
            f"Personalization does not pay on this data: the {size} of {metric.name} that"
            f" {setting} gives over {against} cannot be told from zero ({spread}), and"
            f" {hurt:.0%} of the users are worse off."
        )
    sentence += _beside(metric, rows, method, resamples)
    if choosers < CHOOSERS and len(able) > 1:
        chose = "1 validation user" if choosers == 1 else f"{choosers} validation users"
        sentence += f" Only {chose} chose {method} among {len(able)} methods: it may be chance."
    return Verdict(
        found.low > 0, method, reference, found.mean, [found.low, found.high], hurt, sentence
    )


def _beside(metric: Metric, rows: Mapping[str, Scores], method: str, resamples: int) -> str:
    """What the method gains over the best one that needs no federation.

    Where users differ in what labels mean, one model for all is at chance, and a gain over it is
    no merit of federation.
    """
    alone = [n for n in rows if METHODS[n].personalizes and METHODS[n].contribute is None]
    if not alone or method in alone:
        return " No federation is needed for it." if method in alone else ""
    other = _best(metric, {n: (rows[n].valid_after, rows[n].valid_before) for n in alone})
    found = interval(gain(metric, rows[other].after, rows[method].after), resamples)
    amount = _amount(metric, found.mean)
    moves = f"loses {amount[1:]}" if found.mean < 0 else f"gains {amount}"
    return (
        f" Over {other}, which needs no federation, it {moves}"
        f" (95 % interval {_amount(metric, found.low)} to {_amount(metric, found.high)})."
    )


def _undecided(reason: str) -> Verdict:
    nan = float("nan")
    return Verdict(False, "", "", nan, [nan, nan], nan, f"Nothing can be decided: {reason}.")


def _best(metric: Metric, values: Mapping[str, tuple[float, ...]]) -> str:
    """The name with the best values, the first of them first; NaN is the worst.

    A handful of validation users is often equally well served by all. Then whoever comes first
    in a list would be judged, be it one that is far worse for everybody else.
    """
    return max(
        values,
        key=lambda name: [-np.inf if np.isnan(v) else metric.sign * v for v in values[name]],
    )


def _amount(metric: Metric, value: float) -> str:
    return f"{100 * value:+.1f} points" if metric.name == "accuracy" else f"{value:+.3g}"
