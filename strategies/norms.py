"""How large a contribution and its weight may be."""

import math
from collections.abc import Mapping, Sequence
from statistics import median_low

import numpy as np
from numpy.typing import NDArray

from fedmeta.privacy.event import Privacy
from fedmeta.sections.validation import ValidationConfig
from fedmeta.sent import Weights

EVERY = 2**53
"""After every number of a chunk."""

WINDOW = 16
"""Norms that make a median: the first of the run, and the last ones before the round."""

FEWEST = 3
"""Norms below which there is no median to speak of: of two, either could be the bad one."""


SLACK = 1e-3
"""What a weight that is no whole number may be past its bounds: it was computed in float32."""


def limits(settings: ValidationConfig, privacy: Privacy) -> ValidationConfig:
    """The settings, without the median where users are protected by a mechanism.

    Who is let in would depend on what others have sent, which no bound on one user covers; their
    clip bounds them already. A cap above a fixed clip meets nobody honest and stays; where the clip
    adapts, or users add noise, it goes too.
    """
    if not privacy.guards_users:
        return settings
    fixed = privacy.mechanism != "local" and not privacy.quantile
    cap = settings.max_norm if fixed else 0.0
    return settings.model_copy(update={"max_ratio": 0.0, "max_norm": cap})


def largest(settings: ValidationConfig, *windows: Sequence[float]) -> float:
    """The largest norm of a mean contribution.

    Args:
        settings: cap and ratio.
        windows: norms of replies to compare with; those that were too large are among them, so
            that the median follows when everybody's grow. A minority cannot move it far. The
            window with the larger median counts: when most users fit the model their norms are
            next to nothing, and an honest one whom it does not fit yet is as long as all were at
            first.
    """
    cap = settings.max_norm or math.inf
    usual = max((median_low(some) for some in windows if len(some) >= FEWEST), default=0.0)
    # Where the usual contribution is nothing there is no ratio.
    return min(cap, settings.max_ratio * usual) if settings.max_ratio and usual > 0 else cap


def too_large(
    norms: NDArray[np.float64], users: int, chunk: int, limit: float, cap: float
) -> NDArray[np.bool_]:
    """Which norms are past the limit.

    The mean of fewer users is longer where they differ: by the square root of how many fewer
    where they have nothing in common. A chunk that is not full is given that much.
    """
    room = math.sqrt(max(chunk / max(users, 1), 1.0))
    return ~(norms <= min(limit * room, cap or math.inf))


def fits(weight: NDArray[np.floating], weights: Weights, users: int = 1) -> NDArray[np.bool_]:
    """Which weights of so many users each are what they may be; NaN is not."""
    slack = 0.0 if weights.whole else SLACK
    low, high = weights.least * users * (1 - slack), weights.most * users * (1 + slack)
    found: NDArray[np.bool_] = (weight > 0) & (weight >= low) & (weight <= high)
    return found & (weight == np.floor(weight)) if weights.whole else found


def squares(total: Mapping[str, NDArray[np.floating]], rows: int) -> NDArray[np.float64]:
    """Sums of squares of rows, ``(rows,)``: NaN or infinite where a number is, or is too large."""
    found = np.zeros(rows)
    with np.errstate(all="ignore"):
        for value in total.values():
            flat = value.reshape(rows, -1)
            found += np.einsum("ij,ij->i", flat, flat)  # one thread, and the same bits everywhere
    return found
