"""What the clients of a run are expected to send, and what becomes of it before it is added up."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType

from clients import wire
from fedmeta import generation, loop, sent
from fedmeta.outer import ServerState
from fedmeta.privacy.clip import BELOW
from fedmeta.privacy.release import clip_of
from fedmeta.problem import Problem
from fedmeta.types import Params
from strategies.validation import Asked, Checked, Expected


def orders(
    problem: Problem,
    state: ServerState,
    arrays: ArrayRecord,
    asked: Mapping[int, Asked],
    round_number: int,
    told: ConfigRecord | None = None,
) -> Iterator[Message]:
    """The messages of a round, one for each chunk."""
    clip = clip_of(problem.privacy, state.privacy)
    if problem.method.generator is not None:
        arrays = ArrayRecord()  # what is common stays here; each user is sent what is his
    for number, (node, users) in asked.items():
        order = wire.Order(round_number, number, users, clip=clip.norm if clip else 0.0)
        made = generation.issue(problem, state.meta, np.array(users))
        record = wire.arrays(made) if made else None
        yield wire.order_message(arrays, order, node, MessageType.TRAIN, (), record, told)


def expected(
    problem: Problem,
    state: ServerState,
    shapes: Callable[[Params, int], sent.Shapes],
    round_number: int,
) -> Expected:
    """What honest replies of a round are; ``shapes`` is :func:`fedmeta.sent.remembered`."""
    clip = clip_of(problem.privacy, state.privacy)
    count: sent.Shapes = {BELOW: ()} if clip and clip.counts else {}
    return Expected(
        str(round_number),
        lambda: shapes(state.meta, round_number) | count,
        sent.weights(problem),
        loop.apart(problem),
    )


def collected(problem: Problem, meta: Params, checked: Checked) -> wire.Sum:
    """The sum of a chunk; made here where the server made what each of its users has."""
    term = checked.term
    if problem.method.generator is None or not term.users:
        return term
    given = {name: torch.from_numpy(value) for name, value in term.total.items()}
    total = generation.collect(problem, meta, checked.users, given)
    return term._replace(total={name: value.numpy() for name, value in total.items()})


def reason_of(problem: Problem, checked: Checked | None) -> str:
    """Why users of a reply failed, as it says itself; "" where none did."""
    if checked is None or not checked.term.failed:
        return ""
    name = problem.population.store.ids[checked.term.failed[0]]
    return f"user {name!r}: {checked.term.reason}"
