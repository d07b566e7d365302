"""Who pays for a release, and when: users on their side, a server for the users of its run."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients import ledger
from clients.ledger import EVERYBODY, Budget, LedgerError, Release
from fedmeta.config import Config
from fedmeta.problem import Problem
from fedmeta.types import Params

DECISIVE = ("data", "backbone", "head", "method", "federation", "privacy")
"""Sections that decide what a user sends, given the server's parameters."""


def admitted(
    problem: Problem,
    theta: Params,
    users: NDArray[np.int64],
    round_number: int,
    store: Path,
    fresh: bool = False,
    budget: Budget | None = None,
) -> NDArray[np.int64]:
    """The users who may answer; they have paid, on disk, whatever becomes of their answer.

    Where users do not protect themselves, all may, and nothing is charged here. ``fresh`` says
    that noise comes from the operating system, so that every release counts; ``budget`` is that
    of a user who has one of his own, None: the config's.

    Raises:
        LedgerError: the ledger cannot be used, so that nobody may.
    """
    if not charges(problem):
        return users
    ids = [problem.population.store.ids[user] for user in users]
    release = _release(problem, theta, round_number)
    if fresh:
        # Parts of two charges are the same examples only where these were split the same way.
        data = problem.config.data.model_dump_json()
        split = ledger.fingerprint({}, data, problem.population.store.digest)
        release = release._replace(fingerprint="", run=f"{release.run}, split {split[:32]}")
    return users[ledger.charge(store, ids, release, budget or _budget(problem.config))]


def charges(problem: Problem) -> bool:
    """Whether users protect themselves, and pay for what they send."""
    privacy = problem.privacy
    return bool((privacy.unit == "example" or privacy.mechanism == "local") and privacy.charge)


def request(problem: Problem, theta: Params, *order: str | int | float) -> str:
    """All that decides a user's answer but the noise, in a digest: his data too."""
    settings = problem.config.model_dump_json(include=set(DECISIVE))
    seed, data = problem.config.run.seed, problem.population.store.digest
    return ledger.fingerprint(theta, settings, seed, data, *order)


def pay(
    problem: Problem,
    value: Params,
    users: NDArray[np.int64],
    round_number: int,
    folder: Path,
    fresh: bool,
    carried: Params | None = None,
) -> None:
    """Charge for what a server is about to release for its users.

    Args:
        problem: what is run.
        value: that is going to be released.
        users: of the round; they are charged where who takes part is public, else everybody.
        round_number: of the run.
        folder: of the run, where the ledger is.
        fresh: whether the noise came from the operating system.
        carried: what else the round has noised, an adaptive clip, of which the next round tells.

    Raises:
        LedgerError: the ledger cannot be used, or the budget is spent: nothing may be released.
    """
    privacy = problem.privacy
    if not privacy.guards_users or privacy.mechanism == "local":
        return
    ids = [problem.population.store.ids[user] for user in users]
    who = [EVERYBODY] if privacy.by == "run" else ids
    both = {**value, **{f"carried/{name}": one for name, one in (carried or {}).items()}}
    sign = "" if fresh else ledger.fingerprint(both, "mean", problem.config.run.seed)
    release = Release("server", round_number, sign, privacy.charge)
    paid = ledger.charge(folder, who, release, _budget(problem.config))
    if not paid.all():
        budget = problem.config.privacy.epsilon_budget
        raise LedgerError(
            f"round {round_number}: privacy.epsilon-budget = {budget:g} is spent, as the ledger in"
            f" {str(folder)!r} has it; nothing more is released"
        )


def _release(problem: Problem, theta: Params, round_number: int) -> Release:
    """What users are about to send, known by all that decides it: their data too.

    Noise goes by seed, user and round, so it is the seed that names the draws: another run under
    the same seed would use the same noise again.
    """
    sign = request(problem, theta)
    return Release(f"seed {problem.config.run.seed}", round_number, sign, problem.privacy.charge)


def _budget(config: Config) -> Budget:
    return Budget(config.privacy.epsilon_budget, config.privacy.delta)
