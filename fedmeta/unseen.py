"""Tasks of users who are judged: what they adapt on, and what they are scored on."""

from typing import NamedTuple

import numpy as np

from fedmeta.population import Population, homes
from fedmeta.rows import Indices, examples_at, padded, permuted, rows_of
from fedmeta.types import Task


class Judged(NamedTuple):
    """Rows of users' examples when they are judged, ``(U, longest)`` each, and how many count."""

    support: Indices
    given: Indices
    query: Indices
    asked: Indices


def judging(population: Population, users: Indices, stream: int, support: int) -> Task:
    """Tasks on which unseen users are judged: K support examples, all others as query.

    With `data.unseen-items` the support comes from the folds that training may see and the
    query is the held-out fold.
    """
    rows = judged_rows(population, users, stream, support)
    return Task(
        examples_at(population, rows.support, rows.given),
        examples_at(population, rows.query, rows.asked),
    )


def judged_rows(population: Population, users: Indices, stream: int, support: int) -> Judged:
    """Which examples those tasks are made of."""
    order, sizes = _shown(population, users, stream)
    given = np.minimum(sizes, support)
    if population.judge is None:
        return Judged(order, given, order[:, support:], sizes - support)
    every, counts = padded(population.judge, users)
    return Judged(order, given, rows_of(population.judge, users, every), counts)


def domains(population: Population, users: Indices, stream: int, support: int) -> Indices:
    """The domain of most of what unseen users adapt on in :func:`judging`, ``(U,)``.

    Examples that are scored have no say in it.
    """
    order, sizes = _shown(population, users, stream)
    mine = np.arange(order.shape[1])[None, :] < np.minimum(sizes, support)[:, None]
    return homes(population.store, np.nonzero(mine)[0], order[mine], len(users))


def _shown(population: Population, users: Indices, stream: int) -> tuple[Indices, Indices]:
    """Rows of unseen users in the order in which they adapt on them, and how many there are."""
    position, sizes = (
        permuted(population, users, stream)
        if population.store.query is None
        else padded(population.learn, users)
    )
    return rows_of(population.learn, users, position), sizes
