"""Example-level privacy on the client: DP-SGD in the steps of a user's own training.

Neighbours are two data sets of a user of which one has one example more. The server is the
adversary, so that the draw of users amplifies nothing. All that the mechanism uses beside the
examples is public and the same for every user: the rate at which an example is in a step, the
divisor, clip, noise, number of steps. Numbers of examples are private; there is no cut to the
first K of them either, since an example more would push another one out.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmeta import seeding
from fedmeta.config import Config
from fedmeta.privacy import streams
from fedmeta.privacy.chance import Chance
from fedmeta.privacy.clipping import Clipped, by_examples, clipped_sum
from fedmeta.privacy.noisy import Noisy, Side
from fedmeta.privacy.terms import terms
from fedmeta.problem import Problem
from fedmeta.tasks import whole
from fedmeta.types import Examples, Params, Task, Update


def applies(config: Config) -> bool:
    """Whether training is under example-level privacy."""
    return config.privacy.unit == "example"


def contribute(
    problem: Problem,
    theta: Params,
    users: NDArray[np.int64],
    round_number: int,
    chance: Chance | None = None,
) -> Update:
    """The sum over a chunk's users of what they send; see :func:`fedmeta.cohort.contribute`.

    ``chance`` is where samples and noise come from; None: the seed of the run.
    """
    with torch.no_grad():
        sent = send(problem, theta, users, round_number, chance=chance)
    sums = torch.stack([value.flatten(1).sum(1) for value in sent.values()])
    finite = sums.isfinite().all(0)
    inside = {name: value[finite] if not finite.all() else value for name, value in sent.items()}
    total = {name: value.sum(0, dtype=torch.float64) for name, value in inside.items()}
    return Update(total, finite.sum().double(), finite, {})


def send(
    problem: Problem,
    theta: Params,
    users: NDArray[np.int64],
    round_number: int,
    way: Clipped = clipped_sum,
    chance: Chance | None = None,
) -> dict[str, Tensor]:
    """What users send, ``(U, ...)`` each, in the precision of ``theta``.

    Raises:
        ValueError: the method cannot be trained under example-level privacy.
    """
    method = problem.method
    if method.private is None:
        raise ValueError(f"method {method.name!r} has no training under example-level privacy")
    noisy = meet(problem, theta, users, round_number, way, chance)
    return method.private(noisy, noisy.start(theta), noisy.task(), problem.train)


def meet(
    problem: Problem,
    theta: Params,
    users: NDArray[np.int64],
    round_number: int,
    way: Clipped = clipped_sum,
    chance: Chance | None = None,
) -> Noisy:
    """The users of a chunk behind their door: samples and noise of a round are drawn.

    Which set an example is for goes by the seed in any case: it has to stay over rounds, and need
    not be secret.
    """
    population, seed = problem.population, problem.config.run.seed
    if chance is None:
        paths = [(seed, "noise", int(key), round_number) for key in population.keys[users]]
        noise = streams.of_users(paths)
    else:
        normal = chance.normal

        def noise(side: str, steps: int, count: int) -> Tensor:
            who = [int(key) for key in population.keys[users]]
            drawn = [normal((steps, count), ("private", round_number, side, one)) for one in who]
            return torch.stack(drawn, 1)

    found = terms(problem.config, problem.method)
    dtype = next(iter(theta.values())).dtype
    task = whole(population, users, found.query_divisor is not None)
    task = Task(*(Examples(*(field.to(dtype) for field in side)) for side in task))
    keys = population.keys[users]
    inside, asked = ((side.weight > 0).cpu().numpy() for side in task)
    if found.query_divisor is not None and population.store.query is None:
        path = ("private split", 0 if found.fixed else round_number)
        mine = coins(seeding.key(seed, *path), keys, inside, found.share)
        task, asked, inside = Task(task.support, task.support), inside & ~mine, mine
    drawn = np.zeros((found.steps, *inside.shape), dtype=bool)
    for step in range(found.steps):
        if chance is None:
            stream = seeding.key(seed, "private", round_number, step)
            drawn[step] = coins(stream, keys, inside, found.rate)
        else:
            # Each example is known by itself: a user's would else be drawn together.
            position = np.arange(inside.shape[1], dtype=np.int64)[None, :]
            each = seeding.scores(0, keys[:, None], position).ravel()
            free = chance.coins(each, found.rate, ("private", round_number, step))
            drawn[step] = inside & free.reshape(inside.shape)
    sides = {"support": Side(task.support, drawn, found.divisor)}
    if found.query_divisor is not None:
        sides["query"] = Side(task.query, asked[None], found.query_divisor)
    return Noisy(problem.model, sides, found.clip, found.multiplier, noise, way)


def alone(problem: Problem, theta: Params, user: int, round_number: int) -> dict[str, Tensor]:
    """What one user sends, with every example's gradient by automatic differentiation."""
    with torch.no_grad():
        sent = send(problem, theta, np.array([user]), round_number, by_examples)
    return {name: value[0] for name, value in sent.items()}


def batches(problem: Problem, users: NDArray[np.int64], theta: Params) -> list[NDArray[np.int64]]:
    """Parts of a chunk that are computed together, so that what they need is little."""
    size = sum(value.numel() for value in theta.values())
    sizes = problem.population.store.sizes()[users]
    longest = int(sizes.max(initial=1))
    gradients = longest if problem.model.head.tail is None else 1
    each = size * (problem.train.steps + 2 + gradients)
    each += 2 * longest * problem.population.features.shape[1]
    return np.array_split(users, max(1, min(len(users), -(-len(users) * each // NUMBERS))))


NUMBERS = 2**22
"""Most numbers of a batch: noise of all steps, parameters and features; 16 MB."""


def coins(
    stream: int, keys: NDArray[np.uint64], present: NDArray[np.bool_], rate: float
) -> NDArray[np.bool_]:
    """Which of the present examples are in, each by a chance of its own, ``(U, N)``."""
    position = np.arange(present.shape[1], dtype=np.int64)[None, :]
    score = seeding.scores(stream, keys[:, None], position) >> np.uint64(11)
    chosen: NDArray[np.bool_] = present & (score * 2.0**-53 < rate)
    return chosen
