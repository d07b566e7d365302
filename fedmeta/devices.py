"""Simulated devices: who is available, who drops, how long each takes, and who replies in time.

Simulated time never sleeps. Who replies in time depends on the seed, the round, the users and the
clock alone, so it is known before any work is sent, and who would come too late is not trained.
Every draw is a hash of (seed, purpose, round, user): it depends on no position and no worker.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fedmeta import generation, seeding
from fedmeta.data.raw import DataError
from fedmeta.device_rules import active
from fedmeta.population import Population
from fedmeta.problem import Problem, initial
from fedmeta.traces import Trace, leaving, read_trace

Users = NDArray[np.int64]
Values = NDArray[np.float64]


class Fleet(NamedTuple):
    """The devices of all users of a population, drawn once.

    Attributes:
        compute: seconds of a round's work without jitter, ``(users,)``; NaN: not known.
        transfer: seconds for the parameters down and up, ``(users,)``.
        phase: `diurnal`: where in the day a user's clock is at time 0, in days, ``(users,)``.
        trace: what the trace file says, if there is one.
    """

    compute: Values
    transfer: Values
    phase: Values
    trace: Trace | None


class Turn(NamedTuple):
    """Who takes part in a round, and when it is over.

    Attributes:
        users: whose replies come in time, in the order in which they were drawn.
        clock: simulated seconds at the end of the round.
        selected: users who were asked.
        dropped: of these, who left in mid-round.
        late: of these, who would reply after the round is over.
    """

    users: Users
    clock: float
    selected: int
    dropped: int
    late: int


def fleet_of(problem: Problem) -> Fleet | None:
    """The devices of all users of a problem; None where none are simulated.

    Raises:
        DataError: a trace that cannot be read or lacks a training user's seconds.
    """
    population, of = problem.population, problem.config.devices
    if not active(problem.config):
        return None
    trace = _trace(problem)
    none, path = np.zeros(len(population.keys)), (problem.config.run.seed,)
    slowness = narrowness = none + 1.0
    if of.latency == "lognormal":
        slowness = np.exp(of.latency_sigma * _normal(population, *path, "device-speed"))
        narrowness = np.exp(of.latency_sigma * _normal(population, *path, "device-bandwidth"))
    compute, transfer = none, none
    if of.latency == "trace" and trace is not None:
        compute = trace.seconds
    elif of.latency != "off":
        compute = slowness * (of.latency_seconds + of.example_seconds * _examples(problem))
    if of.bandwidth:
        # He is taken to send back as many bytes as he is sent.
        size = generation.size(problem, initial(problem))
        transfer = narrowness * (2 * size / of.bandwidth)
    phase = of.phase_spread * _uniform(population, *path, "device-phase")
    return Fleet(compute, transfer, phase, trace)


def turn_of(problem: Problem, fleet: Fleet, ranked: Users, round_number: int, clock: float) -> Turn:
    """What happens in a round that begins at a time.

    Of the available users the first in ``ranked`` are selected, ``over-selection`` times as many
    as wanted. The round is over when as many as wanted have replied, at the deadline if that is
    earlier, and where there is no deadline at the latest when the last has replied or was found
    gone, which is when he would have replied.

    Args:
        problem: users and settings.
        fleet: the users' devices.
        ranked: training users in the order of the round's draw.
        round_number: from 1 on; it keys the draws.
        clock: simulated seconds at its beginning.
    """
    population, of = problem.population, problem.config.devices
    seed, most = problem.config.run.seed, problem.config.federation.users_per_round
    there, leaves = _available(problem, fleet, round_number, clock)
    # 1.1 * 10 is a little more than 11 in floating point.
    asked = int(np.ceil(of.over_selection * most - 1e-9))
    chosen = ranked[there[ranked]][:asked]
    if not len(chosen):
        return Turn(chosen, clock + of.retry_seconds + of.overhead_seconds, 0, 0, 0)
    jitter: Values | float = 1.0
    if of.jitter:
        jitter = np.exp(of.jitter * _normal(population, seed, "device-jitter", round_number))
    seconds = (fleet.compute * jitter + fleet.transfer)[chosen]
    gone = _uniform(population, seed, "device-failure", round_number)[chosen] < of.failure
    gone |= clock + seconds > leaves[chosen]
    # Who replies at the same moment counts by the order of the draw.
    order = np.argsort(seconds, kind="stable")
    replies = order[~gone[order] & ((seconds[order] <= of.deadline) | (of.deadline == 0))]
    wanted = min(most, len(chosen))
    first = replies[:wanted]
    if len(first) == wanted:
        lasted = float(seconds[first[-1]])
    else:
        lasted = of.deadline or float(seconds.max())
    dropped = int(gone.sum())
    return Turn(
        chosen[np.sort(first)],
        clock + lasted + of.overhead_seconds,
        len(chosen),
        dropped,
        len(chosen) - dropped - len(first),
    )


def _available(
    problem: Problem, fleet: Fleet, round_number: int, clock: float
) -> tuple[NDArray[np.bool_], Values]:
    """Which users can be selected at a time, and until when they stay, both ``(users,)``."""
    population, of = problem.population, problem.config.devices
    always = np.full(len(population.keys), np.inf)
    if of.availability == "off":
        return np.ones(len(always), dtype=bool), always
    if of.availability == "trace" and fleet.trace is not None:
        until = leaving(fleet.trace, clock)
        return until > -np.inf, until
    chance: Values | float = of.available_share
    if of.availability == "diurnal":
        # The largest swing around the mean that stays between 0 and 1.
        swing = min(of.available_share, 1 - of.available_share)
        turns = clock / of.day_seconds + fleet.phase
        chance = of.available_share + swing * np.sin(2 * np.pi * turns)
    draw = _uniform(population, problem.config.run.seed, "device-availability", round_number)
    return draw < chance, always


def _trace(problem: Problem) -> Trace | None:
    of, store = problem.config.devices, problem.population.store
    if not of.trace:
        return None
    wanted: tuple[str, ...] = ("start", "end") if of.availability == "trace" else ()
    wanted += ("seconds",) if of.latency == "trace" else ()
    trace = read_trace(Path(of.trace).expanduser(), store.ids, wanted)
    train = store.users("train")
    missing = train[np.isnan(trace.seconds[train])]
    if of.latency == "trace" and len(missing):
        raise DataError(
            f"devices.trace = {of.trace!r} has no seconds for {len(missing)} of {len(train)}"
            f" training users, {store.ids[missing[0]]!r} first; add them"
        )
    return trace


def _examples(problem: Problem) -> Values:
    """Examples that each user passes through in a round, over all inner steps."""
    population, config = problem.population, problem.config
    everyone = np.arange(len(population.keys))
    held = np.minimum(population.learn.sizes(everyone), config.data.support + config.data.query)
    batch = config.method.batch or np.inf
    return config.method.steps * np.minimum(held, batch).astype(np.float64)


def _uniform(population: Population, *path: seeding.Part) -> Values:
    """One number in (0, 1) for each user."""
    position = np.zeros(len(population.keys), dtype=np.int64)
    score = seeding.scores(seeding.key(*path), population.keys, position)
    found: Values = ((score >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return found


def _normal(population: Population, *path: seeding.Part) -> Values:
    """One standard normal number for each user."""
    found: Values = torch.special.ndtri(torch.from_numpy(_uniform(population, *path))).numpy()
    return found
