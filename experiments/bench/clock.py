"""Rates under one rule for all: two processes of one thread, or one process of two threads."""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from statistics import median
from typing import NamedTuple

import torch

Job = Callable[[], float]
"""Does a piece of work and says how much: users, or floating-point operations."""

Setup = Callable[[str, int], Mapping[str, Job]]
"""``(what, number of the process) -> jobs by name``; a function of a module, so that a new
process finds it."""

PATIENCE = 600.0
"""Seconds that a process waits for the others."""

_barrier: Barrier | None = None


class Arrangement(NamedTuple):
    """How many processes run at the same time, and the threads of each."""

    processes: int
    threads: int


ARRANGEMENTS = (Arrangement(2, 1), Arrangement(1, 2))


class Best(NamedTuple):
    """The rate of a job where it was fastest."""

    rate: float
    arrangement: Arrangement


def measure(setup: Setup, what: str, seconds: float, repeats: int) -> dict[str, Best]:
    """The rate of each job in the arrangement that suits it best.

    Every repeat gives each job its turn of ``seconds``, so that all meet the same moods of the
    machine; processes start a turn together and their rates add up. The median repeat counts.
    """
    found: dict[str, Best] = {}
    for arrangement in ARRANGEMENTS:
        for name, rate in _rates(setup, what, arrangement, seconds, repeats).items():
            if name not in found or rate > found[name].rate:
                found[name] = Best(rate, arrangement)
    return found


def _rates(
    setup: Setup, what: str, arrangement: Arrangement, seconds: float, repeats: int
) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(arrangement.processes)
    with ProcessPoolExecutor(arrangement.processes, context, _meet, (barrier,)) as pool:
        turns = [
            pool.submit(_turns, setup, what, number, arrangement.threads, seconds, repeats)
            for number in range(arrangement.processes)
        ]
        found = [turn.result() for turn in turns]
    return {
        name: median(sum(one[name][i] for one in found) for i in range(repeats))
        for name in found[0]
    }


def _meet(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _turns(
    setup: Setup, what: str, number: int, threads: int, seconds: float, repeats: int
) -> dict[str, list[float]]:
    torch.set_num_threads(threads)
    jobs = setup(what, number)
    for job in jobs.values():
        _turn(job, seconds / 5)  # first calls allocate and load
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            if _barrier is not None:
                _barrier.wait(PATIENCE)
            rates[name].append(_turn(job, seconds))
    return rates


def _turn(job: Job, seconds: float) -> float:
    began, done = time.perf_counter(), 0.0
    while (elapsed := time.perf_counter() - began) < seconds or not done:
        done += job()
    return done / elapsed
