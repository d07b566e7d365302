"""What noise costs: epsilon of composed Gaussian mechanisms, by accountants that share nothing.

The reported figure is that of Google's PLD accountant (Koskela et al. 2020; Doroshenko et al.
2022, "connect the dots"): a privacy loss distribution on a grid, rounded to the safe side. The
others stand beside it: Opacus' and Google's RDP on the same integer orders, and Opacus' PRV.
A record is there or not (add or remove one), as the :class:`Event` has it.

The libraries take seconds to load, so they are imported where they are needed.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedmeta.privacy.event import Charge, Event
from fedmeta.privacy.loss import once

ORDERS = (*range(2, 65), 72, 80, 96, 112, 128, 160, 192, 256, 384, 512, 768, 1024)
"""Integer Renyi orders: on fractional ones the libraries differ, by what they drop."""
COARSEST = 1e-3
"""Largest step of the grid of privacy losses."""
SAMPLED, PLAIN = 10, 50
"""Least steps of the grid in the spread of one release, with sampling and without."""
POINTS, TAIL = 20_000, 9.0
"""Most points of the grid for one release, and the deviations of the noise that they span: where
the sampling rate is tiny a step that suits it would be millions of them. A coarser grid is still on
the safe side."""
PRV_ERROR = 0.01
"""What Opacus' PRV is asked to be off by at most; its upper bound is shown."""
PRV_MOST = 100.0
"""Epsilon above which Opacus' PRV is not asked: it takes tens of seconds to say infinity."""


class Beside(NamedTuple):
    """Epsilon by four accountants; NaN where one gives none. All of them are upper bounds."""

    pld: float
    rdp_opacus: float
    rdp_google: float
    prv_opacus: float


def epsilon(charge: Charge, delta: float) -> float:
    """The reported epsilon of a charge at ``delta``, by PLD; infinity without noise.

    Parts are disjoint and fixed: a record is in one of them, and the worst counts.

    >>> round(epsilon(((Event(5.0, count=50),),), 1e-5), 3)
    6.573
    >>> epsilon((), 1e-5)
    0.0

    Raises:
        ValueError: an event out of range, or a delta outside (0, 1).
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta = {delta}: expected a number between 0 and 1")
    return max((_epsilon(merged(part), delta) for part in charge), default=0.0)


def delta_of(charge: Charge, epsilon: float) -> float:
    """The delta of a charge at an epsilon of 0 or more, by PLD; 1 without noise."""
    return max((_delta(merged(part), epsilon) for part in charge), default=0.0)


def deltas(events: Iterable[Event], epsilons: Sequence[float]) -> NDArray[np.float64]:
    """The delta of a composition at each of some epsilons of 0 or more, by PLD."""
    given = merged(events)
    if not given or given[0].noise_multiplier == 0:
        return np.full(len(epsilons), float(bool(given)))
    return np.asarray(_loss(given).get_delta_for_epsilon(list(epsilons)), dtype=np.float64)


def beside(charge: Charge, delta: float) -> Beside:
    """Epsilon by every accountant; for each the worst part."""
    parts = [_beside(part, delta) for part in map(merged, charge) if part]
    if not parts:
        return Beside(0.0, 0.0, 0.0, 0.0)
    return Beside(*(float(np.max(column)) for column in zip(*parts, strict=True)))


def merged(events: Iterable[Event]) -> tuple[Event, ...]:
    """The same composition in its shortest form, in a fixed order; one without noise swallows all.

    Releases without sampling are one Gaussian of noise ``(sum count / noise^2) ** -1/2``, exactly.

    Raises:
        ValueError: a noise that is negative or no number, a rate outside [0, 1], a negative count.
    """
    counts: dict[tuple[float, float], int] = {}
    for event in events:
        _check(event)
        if event.count and event.sampling_rate:
            kind = event.noise_multiplier, event.sampling_rate
            counts[kind] = counts.get(kind, 0) + event.count
    if any(noise == 0 for noise, _ in counts):
        return (Event(0.0),)
    kinds = sorted(counts.items())
    plain = sum(count / noise**2 for (noise, rate), count in kinds if rate == 1)
    rest = [Event(*kind, count) for kind, count in kinds if kind[1] < 1]
    return (*([Event(plain**-0.5)] if plain else []), *rest)


def opacus_rdp(events: Iterable[Event]) -> NDArray[np.float64]:
    """Renyi divergences of a composition at :data:`ORDERS`, by Opacus."""
    from opacus.accountants.analysis.rdp import compute_rdp

    total = np.zeros(len(ORDERS))
    for noise, rate, count in events:
        total += compute_rdp(q=rate, noise_multiplier=noise, steps=count, orders=list(ORDERS))
    return total


def google_rdp(events: Iterable[Event]) -> NDArray[np.float64]:
    """Renyi divergences of a composition at :data:`ORDERS`, by dp-accounting."""
    import dp_accounting as dp

    accountant = dp.rdp.RdpAccountant(list(ORDERS))
    for noise, rate, count in events:
        accountant.compose(dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise)), count)
    return np.asarray(accountant.rdp)


def _beside(events: tuple[Event, ...], delta: float) -> Beside:
    import dp_accounting as dp
    from opacus.accountants.analysis.rdp import get_privacy_spent

    if events[0].noise_multiplier == 0:
        return Beside(*[math.inf] * 4)
    orders, by_pld = list(ORDERS), _epsilon(events, delta)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the best order is the first or the last of all
        opacus, _ = get_privacy_spent(orders=orders, rdp=opacus_rdp(events), delta=delta)
        google, _ = dp.rdp.compute_epsilon(orders, google_rdp(events), delta)
    by_prv = _prv(events, delta) if by_pld <= PRV_MOST else math.nan
    return Beside(by_pld, max(float(opacus), 0.0), float(google), by_prv)


def _prv(events: tuple[Event, ...], delta: float) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(noise, rate, count) for noise, rate, count in events]
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return float(accountant.get_epsilon(delta, eps_error=PRV_ERROR))
    except (ValueError, RuntimeError, MemoryError):  # its grid does not suit every setting
        return math.nan


def _check(event: Event) -> None:
    if not event.noise_multiplier >= 0:
        raise ValueError(f"noise multiplier = {event.noise_multiplier}: expected 0 or more")
    if not 0 <= event.sampling_rate <= 1:
        raise ValueError(f"sampling rate = {event.sampling_rate}: expected a number from 0 to 1")
    if event.count < 0:
        raise ValueError(f"count = {event.count} releases: expected 0 or more")


@lru_cache(maxsize=4096)
def _epsilon(events: tuple[Event, ...], delta: float) -> float:
    if not events or events[0].noise_multiplier == 0:
        return math.inf if events else 0.0
    # A record that is in no release at all but by a chance of delta: nothing else can be seen.
    if all(rate < 1 for _, rate, _ in events):
        never = sum(count * math.log1p(-rate) for _, rate, count in events)
        if -math.expm1(never) <= delta:
            return 0.0
    return max(float(_loss(events).get_epsilon_for_delta(delta)), 0.0)


def _delta(events: tuple[Event, ...], epsilon: float) -> float:
    if not events or events[0].noise_multiplier == 0:
        return 1.0 if events else 0.0
    return float(_loss(events).get_delta_for_epsilon(epsilon))


def _loss(events: tuple[Event, ...]) -> Any:
    """The privacy loss distribution of a composition, on the grid of its finest event."""
    step = min(COARSEST, *(_spread(event) for event in events))
    total = None
    for noise, rate, count in events:
        found = _once(noise, rate, step)
        found = found if count == 1 else found.self_compose(count)
        total = found if total is None else total.compose(found)
    return total


def _spread(event: Event) -> float:
    """A step of the grid that suits the standard deviation of the privacy loss of one release."""
    deviation = math.sqrt(math.expm1(min(event.noise_multiplier**-2, 50.0)))
    if event.sampling_rate == 1:
        return min(deviation, 1.0) / PLAIN
    noise, rate = event.noise_multiplier, event.sampling_rate
    most = (1 + 2 * TAIL * noise) / (2 * noise**2)  # loss of a record that is in, at its tail
    widest = math.log1p(rate * math.expm1(most)) if most < 700 else most + math.log(rate)
    return max(min(event.sampling_rate * deviation, 1.0) / SAMPLED, 1e-6, widest / POINTS)


_once = lru_cache(maxsize=256)(once)
