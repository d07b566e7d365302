"""Asking the clients how well users do, and collecting their answers."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from flwr.app import ArrayRecord, Message, MessageType
from flwr.serverapp import Grid
from numpy.typing import NDArray

from clients import wire
from fedmeta import generation, tasks
from fedmeta.cohort import Trial
from fedmeta.evaluation import NUMBERS
from fedmeta.problem import Problem
from fedmeta.types import Params
from strategies.errors import ClientError, message_error
from strategies.nodes import nodes_of


def messages(
    problem: Problem,
    record: ArrayRecord,
    users: NDArray[np.int64],
    trials: Sequence[Trial],
    grid: Grid,
    round_number: int = 0,
) -> Iterator[Message]:
    """One message for each chunk of the users."""
    nodes = nodes_of(grid)
    population, size = problem.population, problem.config.federation.chunk
    cells = NUMBERS // population.features.shape[1]
    for number, chunk in enumerate(tasks.chunks(population, users, size, cells)):
        order = wire.Order(round_number, number, chunk.tolist())
        node = nodes[number % len(nodes)]
        yield wire.order_message(record, order, node, MessageType.EVALUATE, trials)


def collect(replies: Iterable[Message]) -> dict[int, NDArray[np.float64]]:
    """Scores ``(trials, columns)`` by user.

    Raises:
        ClientError: a client failed; without its users no score would mean anything.
    """
    scores: dict[int, NDArray[np.float64]] = {}
    for reply in replies:
        if reply.has_error():
            raise ClientError(message_error(reply))
        users, values = wire.read_scores(reply)
        scores |= {user: values[:, :, i] for i, user in enumerate(users)}
    return scores


def judge(
    problem: Problem,
    theta: Params,
    users: NDArray[np.int64],
    trials: Sequence[Trial],
    grid: Grid,
    timeout: float,
) -> NDArray[np.float64]:
    """Scores ``(trials, columns, users)`` of users, in the order given.

    Raises:
        ClientError: a client failed or did not reply in time.
    """
    record = wire.arrays(generation.public(problem.method, theta))
    sent = messages(problem, record, users, trials, grid)
    scores = collect(grid.send_and_receive(sent, timeout=timeout))
    missing = [problem.population.store.ids[user] for user in users if user not in scores]
    if missing:
        raise ClientError(
            f"{len(missing)} of {len(users)} users gave no scores within {timeout:.0f} s,"
            f" {missing[0]!r} first"
        )
    return np.stack([scores[user] for user in users.tolist()], axis=-1)
