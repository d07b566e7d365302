"""What is reported about a population of users, and how sure it is.

The unit is the user: means are over users (macro), intervals resample users, and differences
between methods are taken per user, on the same support and query examples, before they are
averaged.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedmeta import seeding
from fedmeta.metrics import Metric

Values = NDArray[np.float64]

ROOM = 0.01
"""Achievable gain below which a share of it would be noise."""


class Interval(NamedTuple):
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def interval(values: Values, resamples: int, seed: int = 0) -> Interval:
    """Mean and 95 % percentile bootstrap interval over users, and over seeds where given.

    Args:
        values: ``(users,)``, or ``(seeds, users)``: then users and seeds are both resampled.
        resamples: number of bootstrap resamples.
        seed: of the resampling.

    >>> interval(np.array([1.0, 1.0, 1.0]), 100)
    Interval(mean=1.0, low=1.0, high=1.0)
    """
    values = np.atleast_2d(values)
    random = seeding.generator(seed, "bootstrap")
    seeds, users = values.shape
    by_user = random.multinomial(users, np.full(users, 1 / users), size=resamples) / users
    by_seed = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    means = np.einsum("bs,su,bu->b", by_seed, values, by_user, optimize=True)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def describe(metric: Metric, scores: Values) -> dict[str, float]:
    """The figures of one state of a model: macro and micro mean, spread over users.

    Args:
        metric: measure of the task.
        scores: ``(columns, users)`` as in :data:`fedmeta.metrics.METRICS`.

    Returns:
        ``{measure}_macro`` and ``_micro``, ``f1_macro`` or ``rmse_macro``, ``loss_macro``,
        ``median``, ``p10`` and ``worst_decile``. The last two look at the worse end, which for
        an error is the high one.
    """
    value, second, loss, count = scores
    return {
        f"{metric.name}_macro": float(value.mean()),
        f"{metric.name}_micro": float((value * count).sum() / count.sum()),
        f"{metric.columns[1]}_macro": float(second.mean()),
        "loss_macro": float(loss.mean()),
        "median": float(np.median(value)),
        "p10": float(metric.sign * np.percentile(metric.sign * value, 10)),
        "worst_decile": worst_decile(metric, value),
    }


def worst_decile(metric: Metric, value: Values) -> float:
    """Mean of the tenth of the users who are worst off."""
    worst = np.sort(metric.sign * value)[: max(1, round(len(value) / 10))]
    return float(metric.sign * worst.mean())


def gain(metric: Metric, before: Values, after: Values) -> Values:
    """Gain of each user, positive where personalization helps; any shapes that broadcast."""
    return metric.sign * (after - before)


def hurt_share(gains: Values) -> float:
    """Share of users who are worse off, those whose model diverged (NaN) included."""
    return float((~(gains >= 0)).mean())


def achieved_share(before: Values, after: Values, bayes: Values) -> float:
    """Share of the achievable gain that was got, ``(after - before) / (bayes - before)``.

    Each is averaged over users first; NaN where less than :data:`ROOM` is left to gain.
    """
    room = float(bayes.mean() - before.mean())
    return float(after.mean() - before.mean()) / room if room > ROOM else float("nan")
