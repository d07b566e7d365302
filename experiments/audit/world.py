"""A problem of chosen examples under a config's mechanism, and what leaves it round by round.

The code that clips, samples and noises is that of a run: the client's ``contribution`` and the
server's ``mean_of``. Only the data are ours, and the server's steps, which are so small that the
parameters stay where they are: what users send is then the same in each round but for the noise.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clients.contribution import contribution
from clients.wire import Order, Sum
from fedmeta import loop
from fedmeta.config import Config, flatten, parse
from fedmeta.data.store import UserStore
from fedmeta.heads import HEADS
from fedmeta.inner import Inner
from fedmeta.learner import Model
from fedmeta.losses import LOSSES
from fedmeta.methods import METHODS
from fedmeta.outer import begin
from fedmeta.params import add
from fedmeta.population import populate
from fedmeta.privacy.refusals import checked
from fedmeta.privacy.release import clip_of
from fedmeta.privacy.rounds import mean_of
from fedmeta.problem import Problem, initial, resolve
from fedmeta.types import Params

STILL = 1e-9
"""A rate at which nothing moves."""
GIVEN = {
    "data.tasks": "user",
    "data.standardize": "none",
    "head.name": "linear",
    "method.batch": 0,
    "server.optimizer": "sgd",
    "server.schedule": "constant",
    "server.rate": STILL,
    "federation.chunk": 50,
    "robust.rule": "mean",
    "validation.max-norm": 0.0,
    "run.backend": "inline",
    "run.device": "cpu",
}
"""What is ours in the config of an attack; clip, noise, sampling and method are its own."""


def problem_of(
    config: Config,
    features: NDArray[np.float32],
    label: NDArray[np.int64],
    sizes: NDArray[np.int64],
    classes: int,
    **values: Any,
) -> Problem:
    """A problem of training users alone.

    Args:
        config: whose mechanism and method are taken.
        features: of the examples, ``(N, D)``, those of a user together.
        label: ``(N,)``.
        sizes: examples of each user.
        classes: how many there are.
        values: dotted keys, with ``__`` for the dot and ``_`` for the dash.

    Raises:
        ConfigError: the mechanism does not go with the method.
    """
    other = {key.replace("__", ".").replace("_", "-"): value for key, value in values.items()}
    config = resolve(parse({**flatten(config), **GIVEN, **other}), "classification")
    users = len(sizes)
    store = UserStore(
        name="audit",
        items=features,
        item=np.arange(len(label)),
        label=label,
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        ids=tuple(f"{user:06d}" for user in range(users)),
        split=np.zeros(users, dtype=np.int8),
        classes=tuple(map(str, range(classes))),
    )
    population = populate(store, features, config.data)
    method, given = METHODS[config.method.name], config.method
    inner = Inner(given.rate, given.steps, 0, 0.0, given.mu if method.proximal else 0.0, given)
    model = Model(HEADS["linear"](features.shape[1], classes), LOSSES["classification"])
    privacy = checked(method, population, config)
    return Problem(config, population, model, method, inner, inner, privacy)


def released(
    problem: Problem, there: NDArray[np.bool_] | None = None, rounds: int | None = None
) -> Iterator[tuple[Params, Params]]:
    """The server's parameters after each round, and the mean that moved them.

    Args:
        problem: what is run.
        there: which users there are, though all of them were counted; None: all.
        rounds: how many; None: those of the config.

    Raises:
        ValueError: a client failed.
    """
    state = begin(initial(problem), problem.config.server)
    for number in range(1, (problem.config.federation.rounds if rounds is None else rounds) + 1):
        users = loop.cohort_of(problem.population, problem.config, number)
        users = users if there is None else users[there[users]]
        clip = clip_of(problem.privacy, state.privacy)
        total: Params = {}
        weight = 0.0
        chunk = problem.config.federation.chunk
        for at in range(0, len(users), chunk):
            reply = sent(
                problem, state.meta, users[at : at + chunk], number, clip.norm if clip else 0.0
            )
            total = add(total, {n: torch.from_numpy(np.asarray(v)) for n, v in reply.total.items()})
            weight += reply.weight
        mean, carried = mean_of(problem, state, total, weight)
        state = loop.step(problem, state, mean)._replace(privacy=carried)
        yield state.meta, mean


def sent(
    problem: Problem, theta: Params, users: NDArray[np.int64], number: int, clip: float
) -> Sum:
    """A client's reply for some users.

    Raises:
        ValueError: a user failed.
    """
    order = Order(number, 0, users.tolist(), clip=clip)
    with torch.no_grad():
        reply = contribution(problem, theta, users, order, Path())
    if reply.failed:
        raise ValueError(
            f"method.name = {problem.method.name!r} cannot be attacked: {reply.reason}"
        )
    return reply
