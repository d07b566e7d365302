"""The whole method on one page: no Flower, no batching, plain autograd. The oracle of the rest.

server: theta
for every round:
    users <- a seeded cohort of training users, of those whose devices reply in time
    for every user: phi <- adapt(theta, support); send a delta or a gradient of the query,
        keep what is the user's own for his next round
    theta <- theta - outer step of the weighted mean of what was sent
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmeta import cohort, devices, generation, robust, seeding
from fedmeta.config import Config
from fedmeta.devices import Fleet, Turn
from fedmeta.gram import Geometry
from fedmeta.inner import Inner
from fedmeta.learner import Primal
from fedmeta.methods.method import held
from fedmeta.methods.told import told
from fedmeta.outer import ServerState, advance, begin
from fedmeta.params import DOMAIN, KEY, OWN, SHARE, add, part
from fedmeta.population import Population
from fedmeta.privacy import example, rounds
from fedmeta.privacy.chance import Chance
from fedmeta.privacy.clip import clipped
from fedmeta.privacy.release import clip_of
from fedmeta.problem import Problem, initial
from fedmeta.tasks import Draw, draw, drawn_tasks, products
from fedmeta.types import Examples, Params, Task
from fedmeta.unseen import domains


def cohort_of(
    population: Population, config: Config, round_number: int, chance: Chance | None = None
) -> NDArray[np.int64]:
    """The training users of a round: a seeded sample without replacement, in a fixed order.

    Where users are protected, they come by chance or in turn, as the mechanism has it; ``chance``
    is where the first comes from, None: the seed of the run.
    """
    if config.privacy.unit != "off":
        return rounds.cohort_of(population, config, round_number, chance)
    return ranked(population, config, round_number)[: config.federation.users_per_round]


def ranked(population: Population, config: Config, round_number: int) -> NDArray[np.int64]:
    """All training users in the order of a round's draw."""
    users = population.store.users("train")
    stream = seeding.key(config.run.seed, "cohort", round_number)
    score = seeding.scores(stream, population.keys[users], np.zeros(len(users), dtype=np.int64))
    return users[np.argsort(score, kind="stable")]


def turn_of(
    problem: Problem,
    fleet: Fleet | None,
    round_number: int,
    clock: float,
    chance: Chance | None = None,
) -> Turn:
    """Who takes part in a round that begins at a time of the simulated clock."""
    population, config = problem.population, problem.config
    if fleet is None:
        users = cohort_of(population, config, round_number, chance)
        return Turn(users, clock, len(users), 0, 0)
    order = ranked(population, config, round_number)
    return devices.turn_of(problem, fleet, order, round_number, clock)


def tasks_of(problem: Problem, users: NDArray[np.int64], round_number: int) -> Task:
    """The stacked tasks of training users in a round."""
    return drawn_tasks(problem.population, _draw(problem, users, round_number))


def prepared(
    problem: Problem, users: NDArray[np.int64], round_number: int
) -> tuple[Task, Geometry | None]:
    """:func:`tasks_of`, and the inner products of their features where these are kept."""
    drawn = _draw(problem, users, round_number)
    wanted = cohort.has_dual(problem.method, problem.model, training=True)
    norms = problem.privacy.guards_users and problem.method.splits
    gram = products(problem.population, drawn, norms) if wanted else None
    return drawn_tasks(problem.population, drawn), gram


def _draw(problem: Problem, users: NDArray[np.int64], round_number: int) -> Draw:
    config = problem.config
    return draw(
        problem.population,
        users,
        seeding.key(config.run.seed, "examples", round_number),
        config.data.support,
        config.data.query,
        problem.method.splits,
    )


def weights_of(problem: Problem, task: Task) -> Tensor | None:
    """The users' weights in the mean: None for uniform, or their numbers of examples."""
    if problem.config.federation.weighting == "uniform":
        return None
    return (task.support.weight > 0).sum(-1) + (task.query.weight > 0).sum(-1)


def apart(problem: Problem) -> bool:
    """Whether the server needs users' contributions one by one, and not their sum alone."""
    return problem.method.generator is not None or robust.is_on(problem.config.robust)


def facts_of(problem: Problem, users: NDArray[np.int64], judged: bool = False) -> dict[str, Tensor]:
    """What a method may know of its users beside their examples; it stays with them, ``(U,)``.

    Of users who are ``judged`` it is what their support set says.
    """
    population = problem.population
    needs = told(problem.method, len(population.store.domains), judged)
    found: dict[str, NDArray[np.int64]] = {}
    if "domains" in needs:
        found[DOMAIN] = population.home[users]
        if judged:
            stream = seeding.key(problem.config.run.seed, "support")
            found[DOMAIN] = domains(population, users, stream, problem.config.data.support)
    if "key" in needs:
        stream, none = seeding.key(problem.config.run.seed, "own"), np.zeros(len(users), np.int64)
        found[KEY] = seeding.scores(stream, population.keys[users], none).view(np.int64)
    device = population.features.device
    return {name: torch.from_numpy(value).to(device) for name, value in found.items()}


def inner_of(problem: Problem, round_number: int) -> Inner:
    """The inner loop of training users in a round: schedules know how far the run is."""
    every = max(problem.config.federation.rounds, 1)
    return replace(problem.train, progress=min((round_number - 1) / every, 1.0))


def step(problem: Problem, state: ServerState, mean: Params) -> ServerState:
    """The server's state after one more round with the mean contribution."""
    finish, statistics = problem.method.finish, problem.method.statistics
    mean = finish(mean, state.meta) if finish else mean
    moved = part(mean, lambda name: not name.startswith(statistics))
    config = problem.config
    after = advance(state, moved, config.server, config.federation.rounds)
    exact = {
        name: (state.meta[name].double() - value).to(state.meta[name].dtype)
        for name, value in mean.items()
        if name.startswith(statistics)
    }
    return after._replace(meta={**after.meta, **exact})


def train(
    problem: Problem,
    dtype: torch.dtype = torch.float32,
    memory: dict[int, dict[str, Tensor]] | None = None,
) -> Iterator[ServerState]:
    """The server's state after each round, one user after the other.

    Args:
        problem: what to run.
        dtype: float64 makes it a reference for the precision of everything else.
        memory: what users own, by their index; it is read and written as the rounds go.

    Raises:
        ValueError: the method does not federate.
    """
    config, method = problem.config, problem.method
    if method.contribute is None:
        raise ValueError(f"method {method.name!r} does not federate: there are no rounds")
    theta = {name: value.to(dtype) for name, value in initial(problem).items()}
    state = begin(theta, config.server)
    memory = {} if memory is None else memory
    fleet, clock = devices.fleet_of(problem), 0.0
    for round_number in range(1, config.federation.rounds + 1):
        turn = turn_of(problem, fleet, round_number, clock)
        clock = turn.clock
        total: Params = {}
        weight = 0.0
        alone: dict[int, Params] = {}
        if fleet is not None and not len(turn.users):
            state = state._replace(round=round_number)
            yield state
            continue
        clip = clip_of(problem.privacy, state.privacy)
        users = turn.users
        for user in users:
            stacked = tasks_of(problem, np.array([user]), round_number)
            share = weights_of(problem, stacked)
            mine = Task(*(_only(side, dtype) for side in stacked))
            inner = inner_of(problem, round_number)
            facts = {n: v[0] for n, v in facts_of(problem, np.array([user])).items()}
            made = generation.issue(problem, state.meta, np.array([user]))
            given = {n: v[0] for n, v in made.items()} or state.meta
            start = held(method, given, memory.get(user, {}) | facts)
            if example.applies(config):
                sent = example.alone(problem, given, user, round_number)
            else:
                sent = method.contribute(Primal(problem.model), start, mine, inner)
            memory[user] = part(sent, lambda name: name.startswith(OWN))
            leaves = part(sent, lambda name: not name.startswith((OWN, SHARE)))
            if clip is not None:
                bounded = clipped({n: v[None] for n, v in leaves.items()}, clip)
                leaves = {n: v[0] for n, v in bounded.items()}
            w = (1.0 if share is None else float(share)) * float(sent.get(SHARE, 1.0))
            term = {name: w * value.double() for name, value in leaves.items()}
            if method.generator is not None:
                rows = {n: v[None] for n, v in term.items()} | {SHARE: torch.tensor([w]).double()}
                term = generation.collect(problem, state.meta, np.array([user]), rows)
            total = add(total, term)
            weight += w
            if robust.is_on(config.robust):
                alone[user] = term
        total = add(total, rounds.added_by(problem, state.meta, users, round_number))
        mean, carried = rounds.mean_of(problem, state, total, weight)
        if alone:
            order = sorted(alone)
            every = {name: torch.stack([alone[user][name] for user in order]) for name in total}
            mean = robust.aggregate(config.robust, every)
        state = step(problem, state, mean)._replace(privacy=carried)
        yield state


def _only(side: Examples, dtype: torch.dtype) -> Examples:
    """The one user of a stacked side."""
    return Examples(*(field[0].to(dtype) for field in side))
