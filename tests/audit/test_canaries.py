"""The maths of audits: against the paper's statement, ideal mechanisms, and figures by hand."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from fedmeta.privacy import canaries
from fedmeta.privacy.accounting import delta_of, epsilon
from fedmeta.privacy.canaries import Guesses
from fedmeta.privacy.event import Event

DELTA = 1e-5


def test_p_value_is_the_papers_formula_term_by_term() -> None:
    m, r, v, eps, delta = 40, 12, 9, 0.7, 1e-3
    q = math.exp(eps) / (1 + math.exp(eps))
    mass = [math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(r + 1)]

    def tail(at: int) -> float:
        return sum(mass[max(at, 0) :])

    worst = max((tail(v - i) - tail(v)) / i for i in range(1, m + 1))
    expected = tail(v) + 2 * m * delta * worst
    assert canaries.p_value(m, r, v, eps, delta) == pytest.approx(expected, rel=1e-12)


def test_bound_is_where_the_p_value_crosses() -> None:
    found = canaries.lower_bound(2000, 200, 180, DELTA)
    assert canaries.p_value(2000, 200, 180, found, DELTA) == pytest.approx(0.05, abs=1e-9)
    # Without delta and all right: q^r = 0.05.
    q = 0.05 ** (1 / 30)
    assert canaries.lower_bound(100, 30, 30, 0.0) == pytest.approx(math.log(q / (1 - q)))
    assert canaries.lower_bound(100, 30, 15, 0.0) == 0.0
    with pytest.raises(ValueError, match="31 right of 30"):
        canaries.lower_bound(100, 30, 31, 0.0)


def test_more_delta_more_canaries_and_fewer_right_refute_less() -> None:
    base = canaries.lower_bound(1000, 100, 90, 1e-5)
    assert canaries.lower_bound(1000, 100, 90, 1e-3) < base
    assert canaries.lower_bound(100_000, 100, 90, 1e-5) < base
    assert canaries.lower_bound(1000, 100, 85, 1e-5) < base


def test_randomized_response_is_not_refuted_more_often_than_told() -> None:
    # A mechanism at which the theorem is tight: each canary's coin, right by chance q.
    rng, eps, refuted = np.random.default_rng(0), 1.0, 0
    q, r = math.exp(eps) / (1 + math.exp(eps)), 200
    for right in rng.binomial(r, q, 2000):
        refuted += canaries.p_value(r, r, int(right), eps, 0.0) <= 0.05
    assert 0.02 < refuted / 2000 < 0.065


def test_scores_are_counted_by_hand() -> None:
    scores = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    included = np.array([True, True, False, False, True])
    assert canaries.right_of(scores, included, Guesses(2, 2)) == 1 + 1


def audits(noise: float, count: int, repeats: int, claimed: float) -> list[float]:
    """Bounds of an ideal Gaussian whose noise is `noise`, where `claimed` is told."""
    rng = np.random.default_rng(0)
    guesses = canaries.chosen((Event(claimed),), count, DELTA, rng)
    out = []
    for _ in range(repeats):
        included = rng.random(count) < 0.5
        scores = canaries.ideal((Event(noise),), included, rng)
        out.append(canaries.bound_of(scores, included, guesses, DELTA))
    return out


def test_ideal_gaussian_at_epsilon_two() -> None:
    noise = float(brentq(lambda z: epsilon(((Event(z),),), DELTA) - 2.0, 1.0, 4.0))
    right = audits(noise, 2000, 20, noise)
    assert sum(bound > 2.0 for bound in right) == 0
    assert max(right) > 0.5  # it is no bound that is always zero
    assert sum(bound > 2.0 for bound in audits(noise / 3, 2000, 20, noise)) == 20
    assert sum(bound > 2.0 for bound in audits(noise / 4, 2000, 20, noise)) == 20


def test_auc_bound_is_the_area_over_the_two_lines() -> None:
    for eps, delta in ((0.0, 0.0), (0.5, 1e-2), (2.0, 1e-5), (1.0, 0.3)):
        a = np.linspace(0, 1, 200_001)
        b = np.maximum.reduce(
            [1 - delta - math.exp(eps) * a, math.exp(-eps) * (1 - delta - a), np.zeros_like(a)]
        )
        assert canaries.auc_bound(eps, delta) == pytest.approx(1 - np.trapezoid(b, a), abs=1e-6)
    # The AUC of a Gaussian mechanism, known in closed form, obeys it at each pair of its curve.
    noise = 1.3
    exact = float(norm.cdf(1 / noise / 2**0.5))
    for eps in (0.1, 0.5, 1.0, 2.0):
        assert exact <= canaries.auc_bound(eps, delta_of(((Event(noise),),), eps))


def test_likelihood_ratios_of_a_known_gap() -> None:
    # Normals a distance d apart: the AUC of the best test is Phi(d / sqrt 2).
    rng = np.random.default_rng(0)
    members = rng.random((64, 400)) < 0.5
    shown = rng.standard_normal((64, 400)) + 1.0 * members + 3 * rng.standard_normal(400)
    found = canaries.auc(canaries.likelihood_ratios(shown, members).ravel(), members.ravel())
    assert found == pytest.approx(float(norm.cdf(1 / 2**0.5)), abs=0.02)
    alike = rng.standard_normal((64, 400))
    none = canaries.auc(canaries.likelihood_ratios(alike, members).ravel(), members.ravel())
    assert none == pytest.approx(0.5, abs=0.02)
