"""How much noise an epsilon takes, and how often it may be charged."""

import math
from collections.abc import Callable

from fedmeta.privacy.accounting import epsilon
from fedmeta.privacy.event import Charge

PRECISION = 1e-3
"""Relative precision of the noise that is searched for."""
LEAST, MOST = math.log(1e-3), math.log(1e7)
"""Logarithms of the noise multipliers that are searched."""


def noise_for(target: float, delta: float, charge_of: Callable[[float], Charge]) -> float:
    """The least noise multiplier, to 0.1 %, that costs at most ``target``; it never costs more.

    Args:
        target: epsilon.
        delta: at this delta.
        charge_of: what a noise multiplier costs; its epsilon must fall as the noise rises.

    Raises:
        ValueError: a target that is not positive and finite, or that no noise reaches.
    """
    if not 0 < target < math.inf:
        raise ValueError(f"epsilon = {target}: expected a positive, finite number")
    little, enough = LEAST, MOST
    at, slope = 0.0, -1.0
    last: tuple[float, float] | None = None
    if epsilon(charge_of(math.exp(MOST)), delta) > target:
        raise ValueError(f"epsilon = {target} at delta = {delta} is not reached by any noise")
    while enough - little > PRECISION:
        cost = epsilon(charge_of(math.exp(at)), delta)
        gap = math.log(min(max(cost, 1e-12), 1e12) / target)
        little, enough = (at, enough) if gap > 0 else (little, at)
        # Epsilon is nearly a power of the noise: a secant in logarithms, aimed a little past the
        # root, so that the bracket closes from both sides; halving where it leaves the bracket.
        if last is not None and at != last[0]:
            slope = min((gap - last[1]) / (at - last[0]), -0.1)
        last = at, gap
        at -= gap / slope - math.copysign(PRECISION / 3, gap)
        at = min(max(at, last[0] - 2), last[0] + 2)
        if not little < at < enough:
            at = (little + enough) / 2
    return math.exp(enough)


def factor_for(target: float, delta: float, charge: Charge) -> float:
    """What all noises of a charge are to be multiplied by, so that it costs at most ``target``.

    Raises:
        ValueError: as :func:`noise_for`.
    """

    def scaled(factor: float) -> Charge:
        return tuple(
            tuple(e._replace(noise_multiplier=factor * e.noise_multiplier) for e in part)
            for part in charge
        )

    return noise_for(target, delta, scaled)


def times_within(
    budget: float, delta: float, charge_of: Callable[[int], Charge], most: int = 2**62
) -> int:
    """How often something may be charged within a budget; 0 where once is too often.

    Args:
        budget: largest epsilon.
        delta: at this delta.
        charge_of: what so many times cost; its epsilon must rise with them without bound.
        most: from this power of 2 on, it is not asked whether more would do.
    """
    if epsilon(charge_of(1), delta) > budget:
        return 0
    fits, not_fits = 1, 2
    while epsilon(charge_of(not_fits), delta) <= budget:
        fits, not_fits = not_fits, 2 * not_fits
        if fits >= most:
            return fits
    while not_fits - fits > 1:
        middle = (fits + not_fits) // 2
        fits, not_fits = (
            (middle, not_fits) if epsilon(charge_of(middle), delta) <= budget else (fits, middle)
        )
    return fits
