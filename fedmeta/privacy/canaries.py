"""A lower bound of epsilon from one run: canaries that are in it or not by a coin each.

Steinke, Nasr and Jagielski 2023, "Privacy auditing with one training run", theorem 5.2: of m
canaries the auditor guesses r, and is right for v of them. If the run is (epsilon, delta)-private
then, with ``W ~ Binomial(r, e^epsilon / (1 + e^epsilon))``,

    P[right >= v] <= P[W >= v] + 2 m delta max_{i >= 1} P[v - i <= W < v] / i

An epsilon at which that is less than 1 - confidence is refuted. The number of guesses has to be
fixed before scores are seen.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedmeta.privacy.event import Event

Scores = NDArray[np.float64]
Coins = NDArray[np.bool_]
MOST = 50.0
"""Largest epsilon that is looked for."""
SHARES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5)
"""Shares of the canaries of which it is tried to guess so many."""


class Guesses(NamedTuple):
    """How many canaries of the highest scores are guessed in, and of the lowest out."""

    plus: int
    minus: int


class Power(NamedTuple):
    """What an audit could have found.

    Attributes:
        at_claim: bounds of ideal mechanisms with the claimed noise, ``(repeats,)``.
        at_third: the same with a third of the noise.
        largest: the bound if all guesses are right.
    """

    at_claim: Scores
    at_third: Scores
    largest: float


def p_value(canaries: int, guessed: int, right: int, epsilon: float, delta: float) -> float:
    """Most that the chance of so many right guesses can be under (epsilon, delta).

    >>> p_value(10, 2, 2, 0.0, 0.0)
    0.25
    """
    from scipy.stats import binom  # here, since it takes a second and every process imports this

    chance = 1.0 / (1.0 + np.exp(-epsilon))
    tail = float(binom.sf(right - 1, guessed, chance))
    if not right or not delta:
        return tail
    below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guessed, chance))
    worst = float((below / np.arange(1, right + 1)).max())
    return min(tail + 2 * canaries * delta * worst, 1.0)


def lower_bound(
    canaries: int, guessed: int, right: int, delta: float, confidence: float = 0.95
) -> float:
    """The largest epsilon that is refuted at this confidence, 0 if none is.

    Raises:
        ValueError: more right guesses than guesses, or more guesses than canaries.
    """
    if not 0 <= right <= guessed <= canaries:
        raise ValueError(
            f"{right} right of {guessed} guesses on {canaries} canaries: expected right <= guesses"
            " <= canaries"
        )
    low, high = 0.0, MOST
    if p_value(canaries, guessed, right, low, delta) > 1 - confidence:
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        refuted = p_value(canaries, guessed, right, middle, delta) <= 1 - confidence
        low, high = (middle, high) if refuted else (low, middle)
    return low


def right_of(scores: Scores, included: Coins, guesses: Guesses) -> int:
    """How many guesses are right."""
    order = np.argsort(scores, kind="stable")
    out = order[: guesses.minus]
    return int(included[order[len(order) - guesses.plus :]].sum() + (~included[out]).sum())


def bound_of(scores: Scores, included: Coins, guesses: Guesses, delta: float) -> float:
    """The lower bound from the scores of the canaries, ``(m,)``."""
    guessed = guesses.plus + guesses.minus
    return lower_bound(len(scores), guessed, right_of(scores, included, guesses), delta)


def ideal(events: tuple[Event, ...], included: Coins, rng: np.random.Generator) -> Scores:
    """Scores of canaries at right angles under Gaussian releases, of which each is summed."""
    scores = np.zeros(len(included))
    for noise, rate, count in events:
        # One who is in a release by chance moves it by 1 each time.
        scores += np.where(included, rng.binomial(count, rate, len(included)), 0)
        scores += noise * count**0.5 * rng.standard_normal(len(included))
    return scores


def chosen(
    events: tuple[Event, ...], canaries: int, delta: float, rng: np.random.Generator
) -> Guesses:
    """The numbers of guesses that show most of a mechanism with a third of the noise."""
    weak = _third(events)
    tries = [Guesses(k, k * both) for k in _numbers(canaries) for both in (0, 1)]
    total = np.zeros(len(tries))
    for _ in range(5):
        included = rng.random(canaries) < 0.5
        scores = ideal(weak, included, rng)
        total += [bound_of(scores, included, guesses, delta) for guesses in tries]
    return tries[int(total.argmax())]


def power(
    events: tuple[Event, ...],
    canaries: int,
    guesses: Guesses,
    delta: float,
    rng: np.random.Generator,
    repeats: int = 20,
) -> Power:
    """What the audit gives of ideal mechanisms."""

    def bounds(given: tuple[Event, ...]) -> Scores:
        found = []
        for _ in range(repeats):
            included = rng.random(canaries) < 0.5
            found.append(bound_of(ideal(given, included, rng), included, guesses, delta))
        return np.array(found)

    guessed = sum(guesses)
    largest = lower_bound(canaries, guessed, guessed, delta)
    return Power(bounds(events), bounds(_third(events)), largest)


def auc_bound(epsilon: float, delta: float) -> float:
    """Most that the area under the ROC of any test of membership can be under (epsilon, delta).

    The two errors a, b of a test obey ``b >= 1 - delta - e^epsilon a`` and the same with a and b
    exchanged (Kairouz et al. 2015); the area under these two lines is what the AUC leaves to 1.

    >>> auc_bound(0.0, 0.0)
    0.5
    """
    return 1.0 - float((1 - delta) ** 2 * (1.0 / (1.0 + np.exp(np.minimum(epsilon, 700.0)))))


def auc(scores: Scores, members: Coins) -> float:
    """Chance of a member to score above another who is none; ties count a half.

    >>> auc(np.array([1.0, 2.0, 2.0]), np.array([False, False, True]))
    0.75
    """
    inside, outside = np.sort(scores[~members]), scores[members]
    below = np.searchsorted(inside, outside, "left") + np.searchsorted(inside, outside, "right")
    return float(below.mean() / 2 / len(inside))


def likelihood_ratios(shown: Scores, members: Coins) -> Scores:
    """LiRA's statistic of every (head, record), each head against all others (Carlini et al. 2022).

    Args:
        shown: what a head shows of a record (its margin, say), ``(heads, records)``.
        members: which records each head was trained on, as many.

    Returns:
        Log likelihood ratios of two normals, fitted to the other heads' figures with and without.
    """
    from scipy.stats import norm

    out = np.empty_like(shown)
    for head in range(len(shown)):
        rest = np.delete(shown, head, 0)
        inside = np.delete(members, head, 0)
        fits = [_fit(rest, inside), _fit(rest, ~inside)]
        out[head] = norm.logpdf(shown[head], *fits[0]) - norm.logpdf(shown[head], *fits[1])
    return out


def _fit(values: Scores, there: Coins) -> tuple[Scores, Scores]:
    """Mean and standard deviation of each column where it is there; one spread for the records."""
    count = np.maximum(there.sum(0), 1)
    mean = np.where(there, values, 0).sum(0) / count
    spread = np.sqrt((np.where(there, values - mean, 0) ** 2).sum() / there.sum())
    return mean, np.full_like(mean, spread + 1e-12)


def _numbers(canaries: int) -> list[int]:
    return sorted({max(1, int(share * canaries)) for share in SHARES})


def _third(events: tuple[Event, ...]) -> tuple[Event, ...]:
    return tuple(event._replace(noise_multiplier=event.noise_multiplier / 3) for event in events)
