"""A run with real users: wait for their nodes, train, judge, and let each keep his own model."""

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from flwr.serverapp import Grid

from clients import wire
from fedmeta import generation
from fedmeta.cohort import Trial
from fedmeta.config import Config, ConfigError
from fedmeta.devices import fleet_of
from fedmeta.facts import Facts
from fedmeta.privacy.chance import source
from fedmeta.problem import Problem, assemble
from strategies import app, roster
from strategies.app import Outcome
from strategies.events import Listener, ignore
from strategies.nodes import Reach
from strategies.roster import Roster

PATIENCE = 120.0
"""Seconds to wait for all nodes before the first round."""
TIMEOUT = 120.0
"""Seconds to wait for the replies of a round."""
POLL = 1.0
Tell = Callable[[str], None]


def run(
    grid: Grid,
    config: Config,
    facts: Facts,
    folder: Path,
    nodes: int,
    listener: Listener = ignore,
    tell: Tell = lambda text: None,
    patience: float = PATIENCE,
    timeout: float = TIMEOUT,
) -> Outcome:
    """Train with real users and judge; goes on where ``folder`` was left.

    Args:
        grid: of Flower.
        config: of the run; nodes have got its :func:`strategies.roster.shipped`.
        facts: what everybody may know of the data.
        folder: of the run: its roster, ledger and checkpoints.
        nodes: how many to wait for.
        listener: told about rounds.
        tell: told in words who is there.
        patience: seconds to wait for them; then it begins with those that are there.
        timeout: seconds to wait for the replies of a round.

    Raises:
        ConfigError: a config that real users cannot be asked for, or too few of them.
        ClientError, CheckpointError: as :func:`strategies.app.run`.
    """
    config = settled(config)
    there = roster.read(folder)
    if there is None:
        there = gather(grid, facts, nodes, patience, tell)
        there.write(folder)
    else:
        again(grid, there, patience, tell)
    problem = problem_of(config, there)
    reach = Reach(there.route, there.told, real=True, timeout=timeout)
    chance = None if config.privacy.test_noise else source(None, deployed=True)
    outcome = app.run(grid, problem, listener, folder / "checkpoints", reach, chance)
    done = personalized(grid, outcome, reach)
    tell(f"{done} of {len(there.users)} nodes have their own models")
    return outcome


def personalized(grid: Grid, outcome: Outcome, reach: Reach) -> int:
    """Let every user make his own model of the best round's; how many have done so."""
    problem, way = outcome.problem, outcome.adapt
    record = wire.arrays(generation.public(problem.method, outcome.meta))
    users = np.arange(len(problem.population.store.ids))
    node_of = reach.route(grid)
    trial = Trial(way, problem.config.data.support)
    rounds = len(outcome.history)
    messages = [
        wire.order_message(
            record,
            wire.Order(rounds, number, [user]),
            node,
            wire.PERSONALIZE,
            [trial],
            told=reach.told,
        )
        for number, user in enumerate(users.tolist())
        if (node := node_of(number, users[user : user + 1])) is not None
    ]
    replies = grid.send_and_receive(messages, timeout=reach.timeout)
    return sum(reply.has_content() for reply in replies)


def settled(config: Config) -> Config:
    """The config as it holds for real users: one of them in a message, and nobody ends a run.

    Raises:
        ConfigError: simulated devices.
    """
    return config.model_copy(
        update={
            "federation": config.federation.model_copy(update={"chunk": 1}),
            "run": config.run.model_copy(update={"on_client_error": "skip", "device": "cpu"}),
        }
    )


def problem_of(config: Config, there: Roster) -> Problem:
    """The problem of a server without data.

    Raises:
        ConfigError: what real users cannot be asked for.
    """
    known = config.backbone.model_copy(update={"name": there.facts.backbone})
    config = config.model_copy(update={"backbone": known})
    problem = assemble(config, there.population())
    if fleet_of(problem) is not None:
        raise ConfigError(
            "devices.*: devices are simulated, and those of real users are what they are; leave"
            " out the section"
        )
    if "public" in problem.method.needs or config.data.tasks != "user":
        raise ConfigError(
            f"method.name = {config.method.name!r} with data.tasks = {config.data.tasks!r}: real"
            " nodes have no public set, and their one user's task; use another method, and"
            " data.tasks = 'user'"
        )
    return problem


def again(grid: Grid, there: Roster, patience: float, tell: Tell) -> None:
    """Wait for the users of a run that goes on, whose nodes may have lost the server meanwhile."""
    deadline = time.monotonic() + patience
    while (away := there.away(grid)) and time.monotonic() < deadline:
        time.sleep(POLL)
    tell(f"{len(there.users) - away} of {len(there.users)} users are there again")


def gather(grid: Grid, facts: Facts, nodes: int, patience: float, tell: Tell) -> Roster:
    """Ask the nodes who is there until there are enough, or patience ends.

    Raises:
        ConfigError: too few users for a run, and what their nodes said.
    """
    name = secrets.token_hex(16)
    asking = Roster(name, facts, [])
    said: dict[int, wire.Hello] = {}
    refused: dict[str, int] = {}
    asked: set[int] = set()
    deadline = time.monotonic() + patience
    while True:
        online = set(grid.get_node_ids())
        if new := sorted(online - asked):
            left = max(deadline - time.monotonic(), POLL)
            found = roster.ask(grid, new, asking.told, left)
            said |= found.there
            asked |= set(new)
            for code, count in found.refused.items():
                refused[code] = refused.get(code, 0) + count
        if len(asked) >= nodes or time.monotonic() > deadline:
            break
        time.sleep(POLL)
    answered, said = len(said), roster.undisputed(said)
    if answered > len(said):
        refused["node-claimed-twice"] = answered - len(said)
    refusals = ", ".join(f"{code} {count}" for code, count in sorted(refused.items()))
    tell(f"{len(said)} of {nodes} nodes are there{refusals and f'; refused: {refusals}'}")
    try:
        users = roster.members(said.values())
    except ConfigError as error:
        raise ConfigError(
            f"{error}{refusals and f'; {refusals}: the logs of these nodes say why'}"
        ) from None
    there = Roster(name, facts, users)
    there.place(said, online)
    return there
