"""The privacy loss of one release of a sampled Gaussian, on dp-accounting's grid.

The same distribution as ``dp_accounting.pld.from_gaussian_mechanism`` gives (Doroshenko et al.
2022, "connect the dots", rounded to the safe side), whose time goes into one call of Python for
each of up to 20,000 points of the grid. Here they are one array, and all else is the library's.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
LARGE = 50.0
"""Losses from here on are computed in a form that does not overflow."""


def once(noise: float, rate: float, step: float) -> Any:
    """The distribution of one release.

    Args:
        noise: standard deviation over the sensitivity, above 0.
        rate: chance of the record to be in the release, above 0.
        step: of the grid.

    Returns:
        A ``PrivacyLossDistribution``, for a record that comes and one that goes.
    """
    from dp_accounting.pld import privacy_loss_distribution as distribution
    from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType

    goes = _points(noise, rate, step, AdjacencyType.REMOVE)
    if rate == 1:
        return distribution.PrivacyLossDistribution(goes)
    comes = _points(noise, rate, step, AdjacencyType.ADD)
    return distribution.PrivacyLossDistribution(goes, comes)


def _points(noise: float, rate: float, step: float, adjacency: Any) -> Any:
    from dp_accounting.pld.pld_pmf import create_pmf_pessimistic_connect_dots_fixed_gap
    from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, GaussianPrivacyLoss

    loss = GaussianPrivacyLoss(noise, sampling_prob=rate, adjacency_type=adjacency)
    bounds = loss.connect_dots_bounds()
    first, last = (
        math.floor(bounds.epsilon_lower / step),
        math.ceil(bounds.epsilon_upper / step),
    )
    epsilons = np.arange(first, last + 1) * step
    adds = adjacency == AdjacencyType.ADD
    # Beyond the loss of a record that is in a release for sure not to be seen there is nothing
    # (or, where it goes, nothing but that).
    limit = -math.log1p(-rate) if rate < 1 else math.inf
    inside = epsilons < limit if adds else epsilons > -limit
    deltas = np.zeros(len(epsilons)) if adds else -np.expm1(np.minimum(epsilons, 0.0))
    within = epsilons[inside]
    side = -1.0 if adds else 1.0
    bare = within if rate == 1 else side * _unsampled(side * within, rate)
    cut = -side / 2 - bare * noise**2
    deltas[inside] = loss.mu_upper_cdf(cut) - np.exp(within + loss.mu_lower_log_cdf(cut))
    return create_pmf_pessimistic_connect_dots_fixed_gap(
        step, first, last, np.clip(deltas, 0.0, 1.0)
    )


def _unsampled(loss: Values, rate: float) -> Values:
    """``log(1 + (exp(loss) - 1) / rate)``: the loss that sampling at a rate made this one."""
    with np.errstate(divide="ignore", over="ignore"):
        usual = np.log1p(np.expm1(np.minimum(loss, LARGE)) / rate)
        large = loss - math.log(rate) + np.log1p(-(1 - rate) * np.exp(-np.maximum(loss, 0.0)))
    return np.where(loss < LARGE, usual, large)
