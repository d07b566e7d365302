"""A sharper bound from the same run: the whole trade-off curve instead of one epsilon and delta.

Mahloujifar, Melis and Chaudhuri 2024, "Auditing f-differential privacy in one run". For a run
that is f-DP let ``p_i`` be the chance of exactly i right among the c' guesses on m canaries.
Flipping the coin of one canary at random gives, for every j (their theorem, for upper tails),

    r_j = sum_{i >= j} i p_i / m <= g(h_{j-1}),  h_j = sum_{i >= j} (c' - i) p_i / m,  g = 1 - f

since g is concave. Let ``P[right >= c] = tau``. From there down each ``h_j`` has to be at least
``g^-1(r_{j+1})``, which takes mass; where more than all of it is needed, tau is impossible
(:func:`refuted`). Curves are those of a mechanism at other noise, so that what is refuted is a
noise multiplier, told by its epsilon at delta. That is a bound of epsilon only as far as the
mechanism that was run has Gaussian noise of some size, sampled and composed as claimed; the bound
of :mod:`fedmeta.privacy.canaries` needs no such thing.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from fedmeta.privacy.accounting import deltas, epsilon, merged
from fedmeta.privacy.event import Event

Values = NDArray[np.float64]
Inverse = Callable[[float], float]
"""``g^-1`` of a curve: the least chance of a false alarm of a test that finds so much."""

EPSILONS = np.concatenate([np.linspace(0, 1, 21), np.geomspace(1.1, 60, 60)])
"""At which a curve is looked at; between them it is taken for worse than it is."""
WIDTH = math.log(1e3)
"""How far, in the logarithm, noise is looked for on either side of what is claimed."""
PRECISION = 5e-3
"""Of the logarithm of the noise."""


def gaussian(mu: float) -> Inverse:
    """Of normals that are ``mu`` standard deviations apart (Dong et al. 2022, definition 2.2).

    >>> round(gaussian(1.0)(0.5), 4)
    0.1587
    """

    def inverse(y: float) -> float:
        return float(ndtr(ndtri(y) - mu))

    return inverse


def curve(events: tuple[Event, ...]) -> Inverse:
    """Of a composition: exact for Gaussians, from its deltas where records are sampled."""
    found = merged(events)
    if len(found) == 1 and found[0].sampling_rate == 1:
        return gaussian(found[0].count ** 0.5 / found[0].noise_multiplier)
    return lines(EPSILONS, deltas(found, EPSILONS.tolist()))


def lines(at: Values, delta: Values) -> Inverse:
    """Of what is (epsilon, delta)-private for several pairs at once (Wasserman and Zhou 2010)."""
    growth = np.exp(at)

    def inverse(y: float) -> float:
        below, above = (y - delta) / growth, 1 - delta - growth * (1 - y)
        return float(max(below.max(), above.max(), 0.0))

    return inverse


def refuted(
    canaries: int, guessed: int, right: int, inverse: Inverse, confidence: float = 0.95
) -> bool:
    """Whether so many right guesses have a chance below ``1 - confidence`` under a curve.

    Args:
        canaries: m.
        guessed: c', fixed before scores are seen.
        right: c of them.
        inverse: of the curve.
        confidence: of the refutation.
    """
    tau = 1 - confidence
    r, h = tau * right / canaries, tau * (guessed - right) / canaries
    for number in range(right - 1, -1, -1):
        needed = max(inverse(min(r, 1.0)), h)
        r, h = r + number / (guessed - number) * (needed - h), needed
        if r + h > guessed / canaries:
            return True
    return False


def lower_bound(
    events: tuple[Event, ...],
    canaries: int,
    guessed: int,
    right: int,
    delta: float,
    confidence: float = 0.95,
) -> float:
    """The largest epsilon at delta that is refuted for the mechanism at any noise, 0 if none is.

    Args:
        events: what was seen of the mechanism, at the claimed noise.
        canaries: how many there were.
        guessed: guesses.
        right: of them.
        delta: at which epsilon is told.
        confidence: of the refutation.

    Raises:
        ValueError: more right guesses than guesses, or more guesses than canaries.
    """
    if not 0 <= right <= guessed <= canaries:
        raise ValueError(
            f"{right} right of {guessed} guesses on {canaries} canaries: expected right <= guesses"
            " <= canaries"
        )

    def at(log_factor: float) -> tuple[Event, ...]:
        factor = math.exp(log_factor)
        return tuple(e._replace(noise_multiplier=factor * e.noise_multiplier) for e in events)

    def holds(log_factor: float) -> bool:
        return not refuted(canaries, guessed, right, curve(at(log_factor)), confidence)

    if not events or holds(WIDTH):
        return 0.0
    # Little noise takes long to account for: from what is claimed on, in steps of a factor of 2.
    enough = 0.0
    while holds(enough):
        enough += math.log(2)
    little = enough - math.log(2)
    while little > -WIDTH and not holds(little):
        little, enough = little - math.log(2), little
    while enough - little > PRECISION:
        middle = (little + enough) / 2
        little, enough = (middle, enough) if holds(middle) else (little, middle)
    return epsilon((at(enough),), delta)
