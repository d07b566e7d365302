"""One plain sentence: does personalization pay on this data, by how much, and for whom not."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedmeta.methods import METHODS
from fedmeta.metrics import Metric
from fedmeta.statistics import gain, hurt_share, interval

Scores = tuple[NDArray[np.float64], NDArray[np.float64], float]
"""Test users before and after, ``(seeds, users)``, and the validation mean after."""


class Verdict(NamedTuple):
    """The decision and the sentence that says it.

    Attributes:
        pays: whether the interval of the gain lies above zero.
        method: the personalizing method that validation users preferred.
        reference: the un-adapted global model it is held against.
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


def verdict(metric: Metric, rows: Mapping[str, Scores], support: int, resamples: int) -> Verdict:
    """Hold the personalizing method that is best on validation users against one model for all.

    The method is chosen by validation users, so that the choice does not flatter it on test
    users. The reference is FedAvg without adaptation, or, where that was not run, the method's
    own initialization.
    Where no method personalizes the sentence says so. A method that diverges on validation users
    (NaN) is not chosen while another does not.
    """
    able = [name for name in rows if METHODS[name].personalizes]
    if not able:
        text = "no method here personalizes, so there is nothing to decide; add one to --methods"
        return Verdict(False, "", "", 0.0, [0.0, 0.0], 0.0, text)
    values = np.array([metric.sign * rows[name][2] for name in able])
    method = able[int(np.argmax(np.where(np.isnan(values), -np.inf, values)))]
    single = "fedavg" in rows
    reference = "fedavg" if single else method
    base = rows["fedavg"][1] if single else rows[method][0]
    gains = gain(metric, base, rows[method][1])
    found = interval(gains, resamples)
    hurt = hurt_share(gains)
    against = "one FedAvg model for all" if single else "its own un-adapted initialization"
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
    return Verdict(
        found.low > 0, method, reference, found.mean, [found.low, found.high], hurt, sentence
    )


def _amount(metric: Metric, value: float) -> str:
    return f"{100 * value:+.1f} points" if metric.name == "accuracy" else f"{value:+.3g}"
