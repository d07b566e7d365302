"""Noise that is correlated over rounds, so that less of it is left in their sum (DP-FTRL).

The server releases ``X + C^-1 Z`` for all rounds at once: X are the sums, Z independent noise and C
a lower-triangular matrix whose columns have norm 1 at most. It is the Gaussian mechanism on ``C X``
(Denisov et al. 2022), so it costs what C lets a user move. With b bands, two columns that are b
rounds or more apart are orthogonal: a user who comes back no sooner, k times in all, moves
``C X`` by sqrt(k) clips at most (Choquette-Choo et al. 2023). C is the square root of the matrix
of prefix sums cut to b bands (Kalinin and Lampert 2024): its first column holds the coefficients
of ``(1 - x)^(-1/2)``, ``binom(2j, j) / 4^j``, and the others are shifts of it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def coefficients(bands: int) -> NDArray[np.float64]:
    """The first column of C ``(bands,)``, of norm 1.

    >>> coefficients(1), (coefficients(3) / coefficients(3)[0]).round(9).tolist()
    (array([1.]), [1.0, 0.5, 0.375])
    """
    steps = np.arange(1, bands)
    raw = np.concatenate([[1.0], np.cumprod((2 * steps - 1) / (2 * steps))])
    found: NDArray[np.float64] = raw / np.linalg.norm(raw)
    return found


def correlated(fresh: Tensor, past: Sequence[Tensor], bands: int) -> Tensor:
    """One more row of ``C^-1 Z``: what forward substitution gives.

    Args:
        fresh: independent standard normal numbers of this round.
        past: the rows of the rounds before, the latest first; at most ``bands - 1`` of them count.
        bands: bands of C.
    """
    c = coefficients(bands)
    row = fresh
    for weight, before in zip(c[1:], past, strict=False):
        row = row - float(weight) * before
    return row / float(c[0])
