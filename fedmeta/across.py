"""Support and query of a training user from different domains (domain generalization)."""

import numpy as np
from numpy.typing import NDArray

from fedmeta import seeding
from fedmeta.population import Population

Indices = NDArray[np.int64]


def parted(
    population: Population, users: Indices, stream: int, order: Indices, sizes: Indices
) -> tuple[Indices, Indices]:
    """Each user's examples with those of half of his domains first, and how many these are.

    Args:
        population: users with domains.
        users: indices of the users.
        stream: key of the round; another key draws other domains.
        order: examples of each user, ``(U, longest)``.
        sizes: how many of them count.

    Returns:
        The examples, otherwise in the same order, and the size of the first side, ``(U,)``: it
        is between 1 and ``sizes - 1`` for a user of at least two domains.
    """
    store = population.store
    if store.domain is None:
        raise ValueError(f"{store.name!r} has no domains to part examples by")
    domain = store.domain[order]
    real = np.arange(order.shape[1])[None, :] < sizes[:, None]
    present = np.zeros((len(users), len(store.domains)), dtype=bool)
    row = np.broadcast_to(np.arange(len(users))[:, None], order.shape)
    present[row[real], domain[real]] = True
    number = np.arange(len(store.domains), dtype=np.int64)
    score = seeding.scores(
        seeding.key(stream, "domains"), population.keys[users][:, None], number[None, :]
    )
    score[~present] = np.iinfo(np.uint64).max
    rank = score.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    first = rank < -(-present.sum(axis=1, keepdims=True) // 2)
    mine = np.take_along_axis(first, domain, axis=1)
    side = np.where(real, np.where(mine, 0, 1), 2)  # padding stays last
    turned = np.take_along_axis(order, side.argsort(axis=1, kind="stable"), axis=1)
    return turned, (side == 0).sum(axis=1)
