"""From training users to stacked tasks: which examples one learns from and which are scored.

The order of a user's examples is a seeded permutation of them that depends on the seed, the
purpose, the user and the round alone. The first K are the support set, the rest is the query:
the two are disjoint by construction. Episodes have a support and a query of their own, and where
domains are to be generalized over, the two sides of a training user have none in common.
"""

from typing import NamedTuple

import numpy as np
import torch

from fedmeta import across
from fedmeta.gram import Geometry
from fedmeta.kept import keep, look_up
from fedmeta.population import Population
from fedmeta.rows import Indices, every_row, examples_at, padded, permuted, rows_of
from fedmeta.types import Task

NUMBERS = 3 * 2**21
"""Most features, in numbers, of a batch in training: 24 MB.

Blocks of memory from 32 MB on are given back to the system whenever they are free, and getting
them anew each time costs a third of a round.
"""


class Draw(NamedTuple):
    """Which of their examples training users learn from and are scored on in a round.

    Attributes:
        users: ``(U,)``.
        rows: ``(U, longest)``, row indices of the users' examples in the drawn order.
        support, query: ``(U,)``, sizes of the two sets.
        behind: where in the order the query begins, ``(U,)`` or for all.
        order: ``(U, longest)``, the drawn order as positions among the examples that a user
            learns from; None where it is another.
    """

    users: Indices
    rows: Indices
    support: Indices
    query: Indices
    behind: Indices | int
    order: Indices | None


def draw(
    population: Population, users: Indices, stream: int, support: int, query: int, splits: bool
) -> Draw:
    """A round's draw for training users.

    Args:
        population: the data.
        users: indices of the users.
        stream: key of the round; another key draws another permutation of the examples.
        support: size K of the support set.
        query: most examples in the query set.
        splits: False gives all (at most ``support + query``) examples as support.
    """
    order: Indices | None = None
    behind: Indices | int = support
    if population.store.query is None:
        order, sizes = permuted(population, users, stream)
        rows = rows_of(population.learn, users, order)
    else:
        every = every_row(population)
        position, sizes = padded(every, users)
        rows, behind = rows_of(every, users, position), population.learn.sizes(users)
    if not splits:
        nothing = np.zeros_like(sizes)
        return Draw(users, rows, np.minimum(sizes, support + query), nothing, 0, order)
    if population.across:
        rows, behind = across.parted(population, users, stream, rows, sizes)
        order = None
    given = np.minimum(np.minimum(sizes, behind), support)
    return Draw(users, rows, given, np.clip(sizes - behind, 0, query), behind, order)


def training(
    population: Population, users: Indices, stream: int, support: int, query: int, splits: bool
) -> Task:
    """Tasks of training users for one round: those of :func:`draw`."""
    return drawn_tasks(population, draw(population, users, stream, support, query, splits))


def whole(population: Population, users: Indices, splits: bool) -> Task:
    """All that training users may learn from, in the order of the data, under no draw.

    Where episodes have a support and a query of their own these are the two sides, or with
    ``splits`` False the support has both; elsewhere the query is empty.
    """
    if population.store.query is None:
        rows, given = population.learn, population.learn.sizes(users)
    else:
        rows, given = every_row(population), population.store.sizes()[users]
        given = population.learn.sizes(users) if splits else given
    position, sizes = padded(rows, users)
    drawn = rows_of(rows, users, position)
    asked = sizes - given
    return drawn_tasks(population, Draw(users, drawn, given, asked, given, None))


def drawn_tasks(population: Population, drawn: Draw) -> Task:
    """The tasks of a draw, stacked over its users."""
    return Task(
        examples_at(population, drawn.rows, drawn.support),
        examples_at(population, _behind(drawn.rows, drawn.behind), drawn.query),
    )


def products(population: Population, drawn: Draw, asked: bool = False) -> Geometry | None:
    """The inner products of a draw's features from those that are kept; None: not for all users.

    Users who are met for the first time are added; ``asked``: of the query with itself as well.
    """
    kept, learn = population.kept, population.learn
    if kept is None or drawn.order is None or (kept.start[drawn.users] < 0).any():
        return None
    for user in drawn.users[~kept.known[drawn.users]].tolist():
        mine = learn.examples[learn.offsets[user] : learn.offsets[user + 1]]
        item = population.item[torch.from_numpy(mine).to(population.item.device)]
        keep(kept, user, population.features.index_select(0, item))
    support, query = int(drawn.support.max(initial=0)), int(drawn.query.max(initial=0))
    behind = _behind(drawn.order, drawn.behind)[:, :query]
    return look_up(kept, drawn.users, drawn.order[:, :support], behind, asked)


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


def batches(population: Population, users: Indices, examples: int) -> list[Indices]:
    """Parts of a chunk that are computed together, even and each of at most :data:`NUMBERS`.

    Args:
        population: the data.
        users: the chunk.
        examples: most examples of a user in a task.
    """
    width = min(int(population.learn.sizes(users).max(initial=1)), examples)
    numbers = len(users) * width * population.features.shape[1]
    return np.array_split(users, max(1, min(len(users), -(-numbers // NUMBERS))))


def _behind(order: Indices, start: Indices | int) -> Indices:
    """What each user has from a place on; what follows the last repeats it."""
    if isinstance(start, int):
        return order[:, start:]
    position = start[:, None] + np.arange(order.shape[1], dtype=np.int64)[None, :]
    return np.take_along_axis(order, np.minimum(position, order.shape[1] - 1), axis=1)
