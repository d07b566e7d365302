"""Goal P1: what is claimed stands beside accountants that share nothing, and closed forms."""

import itertools
import math
from statistics import NormalDist

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution

from fedmeta.privacy.accounting import (
    ORDERS,
    PRV_ERROR,
    Beside,
    beside,
    delta_of,
    epsilon,
    google_rdp,
    merged,
    opacus_rdp,
)
from fedmeta.privacy.event import Event
from fedmeta.privacy.loss import once

GRID = list(
    itertools.product((0.01, 0.05, 0.25), (0.5, 1.0, 2.0, 4.0), (20, 200, 2000), (1e-3, 1e-5, 1e-7))
)
FEW = GRID[7::25]


def same_rdp(rate: float, noise: float, count: int) -> None:
    events = [Event(noise, rate, count)]
    np.testing.assert_allclose(opacus_rdp(events), google_rdp(events), rtol=1e-9)


def agree(found: Beside) -> None:
    assert found.rdp_opacus == pytest.approx(found.rdp_google, rel=1e-9)
    assert found.pld <= found.rdp_opacus
    if not math.isnan(found.prv_opacus):
        assert abs(found.pld - found.prv_opacus) <= 0.01 * found.prv_opacus + PRV_ERROR


@pytest.mark.parametrize(("rate", "noise", "count", "delta"), FEW)
def test_accountants_agree_on_a_few_settings(
    rate: float, noise: float, count: int, delta: float
) -> None:
    same_rdp(rate, noise, count)
    agree(beside(((Event(noise, rate, count),),), delta))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_accountants_agree_on_108_settings() -> None:
    assert len(GRID) == 108
    answered = 0
    for rate, noise, count, delta in GRID:
        same_rdp(rate, noise, count)
        found = beside(((Event(noise, rate, count),),), delta)
        agree(found)
        answered += not math.isnan(found.prv_opacus)
    assert answered >= 80  # PRV is not asked for the largest


@pytest.mark.parametrize("count", [1, 7, 50])
@pytest.mark.parametrize("noise", [1.0, 5.0, 30.0, 300.0])
def test_unsampled_gaussians_are_the_analytic_one(noise: float, count: int) -> None:
    """Balle and Wang 2018, theorem 8, for the composed noise ``noise / sqrt(count)``."""
    phi, sigma = NormalDist().cdf, noise / math.sqrt(count)
    for eps in (0.01, 0.5, 4.0):
        exact = phi(0.5 / sigma - eps * sigma) - math.exp(eps) * phi(-0.5 / sigma - eps * sigma)
        assert delta_of(((Event(noise, 1.0, count),),), eps) == pytest.approx(exact, abs=1e-6)
    exact = dp.get_epsilon_gaussian(sigma, 1e-5)
    found = epsilon(((Event(noise, 1.0, count),),), 1e-5)
    assert exact - 1e-9 <= found <= exact * 1.001 + 1e-3


def test_one_sampled_release_is_the_mixture() -> None:
    """Hockey-stick divergences of ``(1 - q) N(0) + q N(1)`` and ``N(0)``, by quadrature."""
    noise, rate, eps = 0.8, 0.2, 0.7
    x, step = np.linspace(-20, 20, 2_000_001, retstep=True)
    nothing = np.exp(-(x**2) / (2 * noise**2)) / (noise * math.sqrt(2 * math.pi))
    there = np.exp(-((x - 1) ** 2) / (2 * noise**2)) / (noise * math.sqrt(2 * math.pi))
    mixed = (1 - rate) * nothing + rate * there
    removed = np.maximum(mixed - math.exp(eps) * nothing, 0).sum() * step
    added = np.maximum(nothing - math.exp(eps) * mixed, 0).sum() * step
    found = delta_of(((Event(noise, rate),),), eps)
    assert found == pytest.approx(max(removed, added), rel=1e-3)
    assert found >= max(removed, added) - 1e-9


def test_disjoint_parts_cost_the_worst_and_redrawn_ones_the_sum() -> None:
    inner, outer = Event(1.0, 0.5, 10), Event(2.0, 1.0, 5)
    alone = [epsilon(((event,),), 1e-5) for event in (inner, outer)]
    assert epsilon(((inner,), (outer,)), 1e-5) == max(alone)
    both = epsilon(((inner, outer),), 1e-5)
    assert max(alone) < both < sum(alone)
    assert delta_of(((inner, outer),), both) == pytest.approx(1e-5, rel=1e-3)
    found = beside(((inner, outer),), 1e-5)
    agree(found)
    agree(beside(((inner,), (outer,)), 1e-5))


def test_counts_of_one_kind_are_added_up() -> None:
    split = (Event(1.0, 0.1, 3), Event(3.0), Event(1.0, 0.1, 4), Event(4.0), Event(9.0, 0.0))
    plain, sampled = merged(split)
    assert plain.noise_multiplier == pytest.approx(2.4)
    assert sampled == Event(1.0, 0.1, 7)
    assert epsilon((split[:1], ()), 1e-5) == epsilon(((Event(1.0, 0.1, 3),),), 1e-5)


def test_without_noise_nothing_is_claimed_and_nothing_costs_nothing() -> None:
    assert epsilon(((Event(0.0), Event(1.0)),), 1e-5) == math.inf
    assert beside(((Event(0.0),),), 1e-5) == Beside(*[math.inf] * 4)
    assert delta_of(((Event(0.0),),), 3.0) == 1.0
    for charge in ((), ((),), ((Event(0.0, 1.0, 0),),), ((Event(0.0, 0.0, 9),),)):
        assert epsilon(charge, 1e-5) == 0.0 == delta_of(charge, 0.0)
        assert beside(charge, 1e-5) == Beside(0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Event(-1.0), "noise multiplier = -1.0"),
        (Event(math.nan), "noise multiplier = nan"),
        (Event(1.0, 1.5), "sampling rate = 1.5"),
        (Event(1.0, 1.0, -1), "count = -1"),
    ],
)
def test_events_out_of_range_are_refused(event: Event, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        epsilon(((event,),), 1e-5)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_delta_is_a_probability(delta: float) -> None:
    with pytest.raises(ValueError, match="delta ="):
        epsilon(((Event(1.0),),), delta)


def test_orders_are_whole() -> None:
    assert all(isinstance(order, int) for order in ORDERS)


@pytest.mark.parametrize("rate", [1e-3, 0.2, 0.9, 1.0])
@pytest.mark.parametrize("noise", [0.5, 2.0, 20.0])
def test_the_loss_of_a_release_is_that_of_the_library(rate: float, noise: float) -> None:
    step = 2e-3
    ours = once(noise, rate, step).self_compose(50)
    theirs = privacy_loss_distribution.from_gaussian_mechanism(
        noise, sampling_prob=rate, value_discretization_interval=step
    ).self_compose(50)
    for eps in (0.0, 0.1, 1.0, 10.0):
        found, known = (one.get_delta_for_epsilon(eps) for one in (ours, theirs))
        assert found == pytest.approx(known, rel=1e-9, abs=1e-13)
