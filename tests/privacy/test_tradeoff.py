"""The audit by trade-off curves: a linear program, ideal Gaussians, reductions."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq, linprog
from scipy.special import ndtr, ndtri
from scipy.stats import norm

from fedmeta.privacy import canaries, tradeoff
from fedmeta.privacy.accounting import delta_of, epsilon
from fedmeta.privacy.canaries import Guesses
from fedmeta.privacy.event import Event

DELTA = 1e-5


def likeliest(m: int, guessed: int, right: int, mu: float) -> float:
    """The largest chance of `right` or more under a Gaussian curve, by linear programming.

    Variables are the chances of each number of right guesses; the concave curve is the least of
    its tangents, of which there are many.
    """
    count = np.arange(guessed + 1)
    rows, limits = [], []
    for tail in range(1, guessed + 1):
        found = np.where(count >= tail, count / m, 0.0)
        missed = np.where(count >= tail - 1, (guessed - count) / m, 0.0)
        for x in np.concatenate([np.geomspace(1e-7, 0.5, 60), np.linspace(0.51, 0.99, 20)]):
            slope = math.exp(-mu * ndtri(x) - mu**2 / 2)
            rows.append(found - slope * missed)
            limits.append(float(ndtr(ndtri(x) + mu)) - slope * x)
    solved = linprog(
        -(count >= right).astype(float),
        A_ub=np.array(rows),
        b_ub=limits,
        A_eq=np.ones((1, guessed + 1)),
        b_eq=[1.0],
        bounds=(0, 1),
    )
    assert solved.success
    assert solved.fun is not None
    return float(-solved.fun)


@pytest.mark.parametrize(("m", "guessed", "mu"), [(12, 12, 0.5), (40, 12, 1.0), (16, 16, 1.5)])
def test_what_is_refuted_is_what_no_distribution_allows(m: int, guessed: int, mu: float) -> None:
    inverse = tradeoff.gaussian(mu)
    seen = 0
    for right in range(guessed // 2, guessed + 1):
        most = likeliest(m, guessed, right, mu)
        seen += 1e-3 < most < 0.7
        assert not tradeoff.refuted(m, guessed, right, inverse, 1 - 0.97 * most)
        if most < 0.97:
            assert tradeoff.refuted(m, guessed, right, inverse, 1 - 1.03 * most)
    assert seen >= 2


def test_a_curve_of_one_line_pair_is_no_worse_than_the_bound_by_epsilon() -> None:
    """For pure epsilon both say the same of randomized response: all right, q^r = 0.05."""
    q = 0.05 ** (1 / 30)
    exact = math.log(q / (1 - q))

    def refutes(eps: float) -> bool:
        inverse = tradeoff.lines(np.array([eps]), np.array([0.0]))
        return tradeoff.refuted(30, 30, 30, inverse)

    assert refutes(0.7 * exact)
    assert not refutes(1.001 * exact)


def test_curve_of_a_gaussian_is_known_and_that_of_its_deltas_is_below_it() -> None:
    exact = tradeoff.gaussian(1.0)
    assert exact(float(norm.cdf(0.3))) == pytest.approx(norm.cdf(-0.7), rel=1e-12)
    assert tradeoff.curve((Event(2.0, 1.0, 4),))(0.4) == pytest.approx(exact(0.4), rel=1e-12)
    # A rate just below 1 is nearly none, and goes through the deltas.
    near = tradeoff.curve((Event(2.0, 0.9999, 4),))
    for y in (0.01, 0.1, 0.5, 0.9, 0.99):
        assert near(y) == pytest.approx(exact(y), rel=0.05, abs=1e-3)
    one = tradeoff.lines(np.array([0.5]), np.array([delta_of(((Event(1.0),),), 0.5)]))
    assert one(0.6) <= exact(0.6)


def bounds(noise: float, repeats: int, count: int, guesses: Guesses) -> np.ndarray:
    """Of ideal Gaussians: by the curve, and by epsilon and delta, ``(repeats, 2)``."""
    rng, event = np.random.default_rng(1), (Event(noise),)
    out = np.empty((repeats, 2))
    for number in range(repeats):
        included = rng.random(count) < 0.5
        right = canaries.right_of(canaries.ideal(event, included, rng), included, guesses)
        guessed = sum(guesses)
        out[number] = (
            tradeoff.lower_bound(event, count, guessed, right, DELTA),
            canaries.lower_bound(count, guessed, right, DELTA),
        )
    return out


@pytest.mark.parametrize("claimed", [1.0, 4.0])
def test_never_above_the_truth_more_often_than_told_and_tighter(claimed: float) -> None:
    """Ideal Gaussian of known epsilon: 40 audits with 2,000 canaries, none above it."""
    noise = float(brentq(lambda z: epsilon(((Event(z),),), DELTA) - claimed, 0.2, 8.0))
    found = bounds(noise, 40, 2000, Guesses(200, 200))
    assert (found[:, 0] > claimed).mean() <= 0.05
    assert np.median(found[:, 0]) > 1.2 * np.median(found[:, 1])
    # Half of the noise is found out, though nobody told the audit.
    caught = bounds(noise / 2, 20, 2000, Guesses(200, 200))
    assert (caught[:, 0] > claimed).mean() > (caught[:, 1] > claimed).mean()


@pytest.mark.slow
def test_coverage_over_many_audits() -> None:
    """500 audits of few canaries, where chance is largest: at most 5 % above, give or take."""
    noise = float(brentq(lambda z: epsilon(((Event(z),),), DELTA) - 2.0, 0.2, 8.0))
    for guesses in (Guesses(10, 10), Guesses(50, 0), Guesses(50, 50)):
        found = bounds(noise, 500, 100, guesses)
        assert (found[:, 0] > 2.0).mean() <= 0.05


def test_bad_numbers() -> None:
    with pytest.raises(ValueError, match="31 right of 30"):
        tradeoff.lower_bound((Event(1.0),), 100, 30, 31, DELTA)
    assert tradeoff.lower_bound((Event(1.0),), 100, 30, 15, DELTA) == 0.0
    assert tradeoff.lower_bound((), 100, 30, 30, DELTA) == 0.0
