"""The noise for an epsilon, and how often a budget lasts: never beyond, and hardly below."""

import math
import time

import pytest

from fedmeta.privacy.accounting import epsilon
from fedmeta.privacy.calibration import noise_for, times_within
from fedmeta.privacy.event import Charge, Event


def charge(noise: float, rate: float, count: int) -> Charge:
    return ((Event(noise, rate, count),),)


@pytest.mark.parametrize(("rate", "count"), [(0.05, 150), (0.5, 100), (1.0, 50), (1.0, 1)])
@pytest.mark.parametrize("target", [0.3, 1.0, 8.0])
def test_noise_never_costs_more_and_a_little_less_would(
    rate: float, count: int, target: float
) -> None:
    noise = noise_for(target, 1e-5, lambda z: charge(z, rate, count))
    assert epsilon(charge(noise, rate, count), 1e-5) <= target
    assert epsilon(charge(0.998 * noise, rate, count), 1e-5) > target


def test_a_known_noise_is_found_again() -> None:
    """Table of McMahan-style settings: 500 users, 50 a round, 100 rounds, epsilon 1: RDP 4.28."""
    by_pld = noise_for(1.0, 1e-5, lambda z: charge(z, 0.1, 100))
    assert 3.6 < by_pld < 4.28


def test_parallel_parts_are_searched_together() -> None:
    noise = noise_for(2.0, 1e-5, lambda z: ((Event(z, 0.5, 10),), (Event(z, 1.0, 3),)))
    alone = [
        noise_for(2.0, 1e-5, lambda z: charge(z, 0.5, 10)),
        noise_for(2.0, 1e-5, lambda z: charge(z, 1.0, 3)),
    ]
    assert noise == pytest.approx(max(alone), rel=2e-3)


@pytest.mark.parametrize("target", [0.0, -1.0, math.inf, math.nan])
def test_targets_are_positive(target: float) -> None:
    with pytest.raises(ValueError, match="epsilon ="):
        noise_for(target, 1e-5, lambda z: charge(z, 1.0, 1))


def test_what_no_noise_reaches_is_refused() -> None:
    with pytest.raises(ValueError, match="not reached"):
        noise_for(1.0, 1e-5, lambda z: charge(0.5, 1.0, 1))


@pytest.mark.parametrize("budget", [0.5, 2.0, 4.0])
def test_a_budget_lasts_as_often_as_counting_says(budget: float) -> None:
    often = times_within(budget, 1e-5, lambda n: charge(4.0, 0.2, 5 * n))
    counted = next(n for n in range(1000) if epsilon(charge(4.0, 0.2, 5 * (n + 1)), 1e-5) > budget)
    assert often == counted


def test_a_query_takes_less_than_two_seconds() -> None:
    epsilon(charge(3.0, 0.5, 2), 1e-5)  # loads the library
    for rate, noise, count in ((0.05, 1.01, 150), (0.01, 1.01, 10_000), (0.5, 0.51, 200)):
        began = time.process_time()
        epsilon(charge(noise, rate, count), 1e-5)
        assert time.process_time() - began < 2
