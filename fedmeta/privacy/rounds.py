"""A mechanism in the rounds of a run: who is drawn, what users add, what the sum gives."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedmeta.config import Config
from fedmeta.outer import ServerState
from fedmeta.population import Population
from fedmeta.privacy import sampling
from fedmeta.privacy.chance import Chance, seeded
from fedmeta.privacy.plan import plan
from fedmeta.privacy.release import Released, own_noise, release
from fedmeta.problem import Problem
from fedmeta.types import Params


def cohort_of(
    population: Population, config: Config, round_number: int, chance: Chance | None = None
) -> NDArray[np.int64]:
    """The training users of a round of a mechanism that protects users.

    Args:
        population: the users.
        config: with `privacy.unit` = `user`.
        round_number: of the run, from 1.
        chance: draws those who come by chance; None: the seed of the run.
    """
    users, seed = population.store.users("train"), config.run.seed
    privacy, identities = plan(config, len(users)), population.keys[users]
    return sampling.cohort(privacy, users, identities, round_number, seed, chance or seeded(seed))


def mean_of(
    problem: Problem,
    state: ServerState,
    total: Params,
    weight: float,
    chance: Chance | None = None,
) -> Released:
    """The mean contribution of a round, from the sum of what users have sent.

    Args:
        problem: what is run.
        state: before the round.
        total: the sum, float64.
        weight: the sum of the users' weights, which counts where users are not protected.
        chance: where noise comes from; None: the seed of the run.
    """
    privacy, method = problem.privacy, problem.method
    if not privacy.guards_users:
        return Released({name: value / weight for name, value in total.items()}, {})
    noise, number = chance or seeded(problem.config.run.seed), state.round + 1
    return release(privacy, state.meta, method.sends, total, state.privacy, number, noise)


def added_by(
    problem: Problem,
    meta: Params,
    users: NDArray[np.int64],
    round_number: int,
    chance: Chance | None = None,
) -> dict[str, Tensor]:
    """The sum of the noises that users add to their contributions; nothing where they need not.

    Args:
        problem: what is run.
        meta: the server's parameters.
        users: all that were asked: those who fail send their noise as well.
        round_number: of the run, from 1.
        chance: where noise comes from; None: the seed of the run.
    """
    if problem.privacy.mechanism != "local":
        return {}
    names = [problem.population.store.ids[user] for user in users]
    noise = chance or seeded(problem.config.run.seed)
    return own_noise(problem.privacy, meta, problem.method.sends, names, round_number, noise)
