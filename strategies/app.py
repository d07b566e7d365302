"""The Flower ServerApp: train, choose on validation users, judge test users once."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray

from clients import wire
from fedmeta import config
from fedmeta.cohort import Trial
from fedmeta.evaluation import candidates, shots_of
from fedmeta.inner import Inner
from fedmeta.metrics import METRICS
from fedmeta.privacy.chance import Chance
from fedmeta.problem import Problem, build
from fedmeta.turns import check_turns
from fedmeta.types import Params
from strategies import checkpoint
from strategies.errors import ClientError
from strategies.events import Listener, Phase, Resumed, RoundDone, ignore
from strategies.federated import Federated
from strategies.judging import Scored, judge, mean_of
from strategies.nodes import SIMULATED, Reach


class Outcome(NamedTuple):
    """All that a run has found out.

    Attributes:
        problem: what was run.
        meta: the meta-initialization of the best round.
        best_round: that round; 0 where there was none.
        history: one entry per round.
        adapt: how users personalize, as chosen on validation users.
        shots: support sizes of the curve; the first is 0, the last is K.
        users: indices of the users that were judged, by split (`valid`, `test`).
        scores: by split ``(shots, columns, users)``.
        seconds: wall time of the rounds.
        last: the parameters after the last round.
        before: rounds that another process had done, from whose checkpoint this one went on.
        lost: who could not be judged and why, by occasion (`tuning`, `valid`, `test`), where
            `run.on-client-error` is `skip`.
    """

    problem: Problem
    meta: Params
    best_round: int
    history: list[RoundDone]
    adapt: Inner
    shots: list[int]
    users: dict[str, NDArray[np.int64]]
    scores: dict[str, NDArray[np.float64]]
    seconds: float
    last: Params
    before: int = 0
    lost: Mapping[str, str] = MappingProxyType({})


def run(
    grid: Grid,
    problem: Problem,
    listener: Listener = ignore,
    folder: Path | None = None,
    reach: Reach = SIMULATED,
    chance: Chance | None = None,
) -> Outcome:
    """Train over a grid and judge. Test users are looked at once, at the very end.

    Args:
        grid: the clients.
        problem: what to run.
        listener: told about rounds and phases.
        folder: of checkpoints; a run that was left there goes on where it was. None: no
            checkpoints.
        reach: how users are reached.
        chance: where noise and secret cohorts come from; None: the seed of the run.

    Raises:
        CheckpointError: checkpoints that cannot be written, or read, or are another config's.
        ClientError: a client failed, or no round counted.
        ConfigError: simulated devices of which none ever replies in time.
    """
    settings, store = problem.config, problem.population.store
    check_turns(problem)
    decisive = checkpoint.decisive(settings)
    if folder is not None:
        decisive |= checkpoint.outside(settings, store)
    resumed = checkpoint.read(folder, decisive) if folder else None

    def save(progress: checkpoint.Progress) -> None:
        if folder is not None:
            checkpoint.write(folder, progress, decisive)

    ledger = folder.parent if folder else None
    strategy = Federated(problem, listener, resumed, save, chance, ledger, reach)
    if resumed is not None:
        listener(Resumed(resumed.history))
    shots = shots_of(settings)
    began = time.perf_counter()
    left = settings.federation.rounds - strategy.state.round
    if problem.method.contribute is not None and left > 0:
        strategy.start(
            grid,
            wire.arrays(strategy.state.meta),
            num_rounds=left,
            timeout=reach.timeout,
        )
    seconds = time.perf_counter() - began
    if strategy.history and not any(event.counted or event.spent for event in strategy.history):
        why = strategy.first or strategy.history[0].why
        raise ClientError(
            f"none of {len(strategy.history)} rounds counted: every client failed or was refused,"
            f" or too many did (validation.quorum = {settings.validation.quorum:g}); first: {why}"
        )
    _, best_round, meta = strategy.best
    listener(Phase("tuning"))
    adapt, untold = _tune(grid, problem, meta, reach)
    listener(Phase("judging"))
    trials = [Trial(adapt, k) for k in shots]
    found: dict[str, Scored] = {
        split: judge(problem, meta, store.users(split), trials, grid, reach)
        for split in ("valid", "test")
    }
    lost = {"tuning": untold} | {split: one.lost for split, one in found.items()}
    return Outcome(
        problem,
        meta,
        best_round,
        strategy.history,
        adapt,
        shots,
        {split: one.users for split, one in found.items()},
        {split: one.scores for split, one in found.items()},
        seconds,
        strategy.state.meta,
        len(resumed.history) if resumed else 0,
        {name: why for name, why in lost.items() if why},
    )


def _tune(grid: Grid, problem: Problem, meta: Params, reach: Reach) -> tuple[Inner, str]:
    """The way to personalize that is best for validation users; ties go to the gentler.

    Returns:
        It, and who of them was not asked, or "".
    """
    options = candidates(problem)
    if len(options) == 1:
        return options[0], ""
    trials = [Trial(inner, problem.config.data.support) for inner in options]
    users = problem.population.store.users("valid")
    found = judge(problem, meta, users, trials, grid, reach)
    sign = METRICS[problem.population.store.task].sign
    value = sign * np.array([mean_of(trial) for trial in found.scores[:, 0]])
    # argmax would take the first NaN, which is a way to personalize that diverges.
    return options[int(np.argmax(np.where(np.isnan(value), -np.inf, value)))], found.lost


def make_app(
    report: Callable[[Outcome], None], listener: Listener = ignore, folder: Path | None = None
) -> ServerApp:
    """A ServerApp that hands what it found out to ``report``; ``folder`` is of checkpoints."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        report(run(grid, build(config.parse(context.run_config)), listener, folder))

    return app
