"""What simulated devices did: the clock, who was left out, and when a measure was reached."""

from collections.abc import Sequence
from statistics import median_low
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmeta.config import Config
from fedmeta.device_rules import active
from fedmeta.devices import fleet_of
from fedmeta.metrics import METRICS
from fedmeta.turns import turns
from strategies.app import Outcome
from strategies.events import RoundDone

QUARTILES = 4


def clock_figures(outcome: Outcome) -> dict[str, Any] | None:
    """The part ``clock`` of ``summary.json``; None where no devices are simulated.

    Updates are wasted of users who were asked and did not count: they dropped, or were late.
    """
    history = outcome.history
    if not history or history[-1].clock is None:
        return None
    dropped, late = sum(e.dropped for e in history), sum(e.late for e in history)
    return {
        "simulated_s": history[-1].clock,
        "selected": sum(event.selected for event in history),
        "dropped": dropped,
        "late": late,
        "wasted_user_updates": dropped + late,
        "empty_rounds": sum(event.selected == 0 for event in history),
        "by_speed": by_speed(outcome),
    }


def by_speed(outcome: Outcome) -> list[dict[str, Any]] | None:
    """Training users' share of the updates and test users' measure, by quartile of speed.

    The fastest quartile is first; speed is what a round takes without jitter. None where all are
    equally fast, or fewer than four users of a split have a speed.
    """
    problem = outcome.problem
    fleet, store = fleet_of(problem), problem.population.store
    if fleet is None:
        return None
    seconds = fleet.compute + fleet.transfer
    those = {"train": store.users("train"), "test": outcome.users["test"]}
    known = {split: _known(users, seconds) for split, users in those.items()}
    if any(len(who) < QUARTILES for who in known.values()) or not np.ptp(seconds[known["train"]]):
        return None
    counts = np.zeros(len(seconds))
    for turn in turns(problem):
        counts[turn.users] += 1
    value = np.full(len(seconds), np.nan), np.full(len(seconds), np.nan)
    value[0][outcome.users["test"]] = outcome.scores["test"][0, 0]
    value[1][outcome.users["test"]] = outcome.scores["test"][-1, 0]
    parts = {split: np.array_split(who, QUARTILES) for split, who in known.items()}
    return [
        {
            "train_seconds": float(np.median(seconds[train])),
            "update_share": float(counts[train].sum() / max(counts.sum(), 1)),
            "test_seconds": float(np.median(seconds[test])),
            "test_before": float(value[0][test].mean()),
            "test_after": float(value[1][test].mean()),
        }
        for train, test in zip(parts["train"], parts["test"], strict=True)
    ]


def target_figures(outcome: Outcome, target: float) -> dict[str, Any] | None:
    """When the validation users' measure first reached a target; None without a target.

    It shows in evaluated rounds only, so `evaluation.every` is its resolution. None stands for
    a target that was not reached.
    """
    if not target or not outcome.history:
        return None
    sign = METRICS[outcome.problem.population.store.task].sign
    found = reached(outcome.history, sign, target)
    return {
        "measure": target,
        "rounds_to_target": found.round if found else None,
        "time_to_target_s": found.clock if found else None,
    }


def reached(history: Sequence[RoundDone], sign: int, target: float) -> RoundDone | None:
    """The first evaluated round with a measure at least as good as the target."""
    good = (e for e in history if e.valid is not None and sign * e.valid >= sign * target)
    return next(good, None)


def common_target(outcomes: Sequence[Outcome]) -> float:
    """The lower median of the runs' best validation measures, so that half of them reach it.

    A share of each run's own best would be another target for each, and nothing to compare by; the
    least of them is that of a model that does not adapt. 0: no run has rounds.
    """
    best = []
    sign = METRICS[outcomes[0].problem.population.store.task].sign
    for outcome in outcomes:
        if values := [sign * e.valid for e in outcome.history if e.valid is not None]:
            best.append(max(values))
    return sign * median_low(best) if best else 0.0


def set_target(config: Config, runs: Sequence[tuple[Outcome, dict[str, Any]]]) -> None:
    """Tell summaries of simulated devices when their runs reached a common target.

    A target that the config sets is in them already.
    """
    if config.evaluation.target or not active(config):
        return
    target = common_target([outcome for outcome, _ in runs])
    for outcome, summary in runs:
        if (figures := target_figures(outcome, target)) is not None:
            summary["target"] = figures


def _known(users: NDArray[np.int64], seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """The users whose speed is known, the fastest first."""
    mine = users[np.isfinite(seconds[users])]
    return mine[np.argsort(seconds[mine], kind="stable")]
