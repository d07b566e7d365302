"""Inner products of users' features, kept from round to round.

They depend on nothing that a round changes, and a user is sampled again and again. A round's draw
permutes his examples, and with them the rows and columns of what is kept.

A user's products are those of all his examples, computed for him alone: so a bit never depends
on who shared his batch, which worker he met or whether he was met before. Memory is bounded by
taking in users in their order until it is spent. A rule for throwing out would help no more: a
sweep over more users than there is room for would find none of them.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmeta.gram import Geometry

BYTES = 2**28
"""Most memory of a process for what it keeps; it is taken as users are met."""

LONGEST = 256
"""Most examples of a user whose products are kept: they are as many as its square."""


class Kept(NamedTuple):
    """Room for the products of some users.

    Attributes:
        rows: ``(examples of these users, most examples of one)``: the products of an example
            with all those of its user (the bias's 1 included), zero behind them.
        start: each user's first row, -1 for those who found no room.
        known: which users' rows are filled.
    """

    rows: Tensor
    start: NDArray[np.int64]
    known: NDArray[np.bool_]


def room(sizes: NDArray[np.int64], device: torch.device | None = None) -> Kept:
    """Room for users with so many examples, as far as :data:`BYTES` go."""
    able = (sizes > 0) & (sizes <= LONGEST)
    width = int(sizes[able].max(initial=1))
    ends = np.cumsum(np.where(able, sizes, 0))
    able &= ends * width * 4 <= BYTES
    rows = int(ends[able].max(initial=0))
    start = np.where(able, ends - sizes, -1)
    return Kept(torch.zeros(rows, width, device=device), start, np.zeros(len(sizes), dtype=bool))


def keep(kept: Kept, user: int, x: Tensor) -> None:
    """Fill the room of a user with the inner products of his features ``(N, D)``."""
    start, n = kept.start[user], len(x)
    kept.rows[start : start + n, :n] = torch.addmm(x.new_ones(()), x, x.mT)
    kept.known[user] = True


def look_up(
    kept: Kept,
    users: NDArray[np.int64],
    support: NDArray[np.int64],
    query: NDArray[np.int64],
    asked: bool = False,
) -> Geometry:
    """The products of users who are known, for examples in a drawn order.

    Args:
        kept: where to look.
        users: ``(U,)``.
        support: ``(U, S)`` positions among a user's examples.
        query: ``(U, Q)`` likewise.
        asked: whether those of the query with itself are wanted too.
    """
    device = kept.rows.device

    def between(one: NDArray[np.int64], *others: NDArray[np.int64]) -> list[Tensor]:
        at = torch.from_numpy(kept.start[users][:, None] + one).to(device)
        # Whole rows are copied first, since columns one by one are slow and there are then fewer.
        rows = kept.rows.index_select(0, at.flatten()).view(*at.shape, kept.rows.shape[1])
        index = [torch.from_numpy(other).to(device)[:, None, :] for other in others]
        return [rows.gather(2, of.expand(*at.shape, of.shape[-1])) for of in index]

    support_query = between(support, support, query)
    return Geometry(*support_query, *(between(query, query) if asked else ()))
