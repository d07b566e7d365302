"""From users to stacked tasks: which examples a user learns from and which are scored.

The order of a user's examples is a seeded permutation of them that depends on the seed, the
purpose, the user and the round alone. The first K are the support set, the rest is the query:
the two are disjoint by construction. Episodes have a support and a query of their own, and where
domains are to be generalized over, the two sides of a training user have none in common.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from fedmeta import across, seeding
from fedmeta.population import Population, Rows
from fedmeta.types import Examples, Task

Indices = NDArray[np.int64]


def training(
    population: Population, users: Indices, stream: int, support: int, query: int, splits: bool
) -> Task:
    """Tasks of training users for one round.

    Args:
        population: the data.
        users: indices of the users.
        stream: key of the round; another key draws another permutation of the examples.
        support: size K of the support set.
        query: most examples in the query set.
        splits: False gives all (at most ``support + query``) examples as support.

    Returns:
        A task stacked over the users.
    """
    if population.store.query is None:
        order, sizes = _permuted(population, users, stream)
        given = np.minimum(sizes, support)
    else:
        order, sizes = _padded(_all(population), users)
        given = population.learn.sizes(users)
    if not splits:
        return Task(
            _examples(population, order, np.minimum(sizes, support + query)),
            _examples(population, order, np.zeros_like(sizes)),
        )
    if population.across:
        order, given = across.parted(population, users, stream, order, sizes)
    return Task(
        _examples(population, order, np.minimum(given, support)),
        _examples(population, _after(order, given), np.clip(sizes - given, 0, query)),
    )


def judging(population: Population, users: Indices, stream: int, support: int) -> Task:
    """Tasks on which unseen users are judged: K support examples, all others as query.

    With `data.unseen-items` the support comes from the folds that training may see and the
    query is the held-out fold.
    """
    order, sizes = (
        _permuted(population, users, stream)
        if population.store.query is None
        else _padded(population.learn, users)
    )
    given = _examples(population, order, np.minimum(sizes, support))
    if population.judge is None:
        return Task(given, _examples(population, order[:, support:], sizes - support))
    rows, counts = _padded(population.judge, users)
    return Task(given, _examples(population, rows, counts))


def chunks(
    population: Population, users: Indices, size: int, cells: int | None = None
) -> list[Indices]:
    """Users in chunks of like size, so that little is padded; fixed by the config alone.

    Args:
        population: the data.
        users: indices of the users.
        size: most users in a chunk.
        cells: most padded examples in a chunk (a single user may have more).
    """
    sizes = population.store.sizes()[users]
    order = users[np.lexsort((population.keys[users], sizes))]
    if cells is None:
        return [order[start : start + size] for start in range(0, len(order), size)]
    out: list[list[int]] = []
    for user, width in zip(order.tolist(), np.sort(sizes).tolist(), strict=True):
        # Sizes ascend, so the newest user sets the padded width of the chunk.
        if not out or len(out[-1]) >= size or (len(out[-1]) + 1) * width > cells:
            out.append([])
        out[-1].append(user)
    return [np.array(chunk, dtype=np.int64) for chunk in out]


def _all(population: Population) -> Rows:
    """All rows of all users."""
    offsets = population.store.offsets
    return Rows(np.arange(offsets[-1], dtype=np.int64), offsets)


def _after(order: Indices, start: Indices) -> Indices:
    """The rows of each user from a position of his own on; what follows the last repeats it."""
    position = start[:, None] + np.arange(order.shape[1], dtype=np.int64)[None, :]
    return np.take_along_axis(order, np.minimum(position, order.shape[1] - 1), axis=1)


def _permuted(population: Population, users: Indices, stream: int) -> tuple[Indices, Indices]:
    rows, sizes = _padded(population.learn, users)
    position = np.arange(rows.shape[1], dtype=np.int64)
    score = seeding.scores(stream, population.keys[users][:, None], position[None, :])
    score[position[None, :] >= sizes[:, None]] = np.iinfo(np.uint64).max  # padding goes last
    return np.take_along_axis(rows, np.argsort(score, axis=1, kind="stable"), axis=1), sizes


def _padded(rows: Rows, users: Indices) -> tuple[Indices, Indices]:
    """Row indices ``(U, longest)``, padded with a copy of the user's first row, and the sizes."""
    sizes = rows.sizes(users)
    position = np.arange(sizes.max(initial=0), dtype=np.int64)[None, :]
    at = rows.offsets[users][:, None] + np.where(position < sizes[:, None], position, 0)
    return rows.examples[np.minimum(at, len(rows.examples) - 1)], sizes


def _examples(population: Population, rows: Indices, sizes: Indices) -> Examples:
    width = int(sizes.max(initial=0))
    device = population.features.device
    index = torch.from_numpy(np.ascontiguousarray(rows[:, :width])).to(device)
    present = torch.from_numpy(np.arange(width)[None, :] < sizes[:, None]).to(device)
    item, label = population.item[index], population.target[index]
    x = population.features.index_select(0, item.flatten()).view(
        *item.shape, population.features.shape[1]
    )
    if population.store.task == "classification":
        classes = torch.arange(population.outputs, device=device)[:, None]
        y = (label[:, None, :] == classes).to(x.dtype)
    else:
        y = label[:, None, :].to(x.dtype)
    count = torch.from_numpy(np.maximum(sizes, 1))[:, None].to(x)
    return Examples(x, y, present.to(x.dtype) / count)
