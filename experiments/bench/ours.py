"""Workload W1 end to end: our strategy, our grid over Ray, our ClientApp."""

import logging
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from flwr.app import Context, RecordDict

from clients.app import app as client_app
from experiments.backends import open_backend
from experiments.bench import users
from fedmeta.config import flatten
from strategies.app import make_app
from strategies.events import Event, RoundDone

WORKERS = 2


class Measured(NamedTuple):
    """Users per second after the first round; peak memory of all processes together."""

    users_per_s: float
    peak_rss_mb: float


def measure(path: Path, users_per_round: int, rounds: int, backend: str = "ray") -> Measured:
    """Like :func:`run`, in a new process, so that its peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(run, path, users_per_round, rounds, backend).result()


def run(path: Path, users_per_round: int, rounds: int, backend: str) -> Measured:
    """A run on the users of an archive, of which the first round does not count.

    The rate is by the clock on the wall from the end of the first round to that of the last:
    sampling, sending, computing, adding up and the outer step are all in it.
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)
    config = users.config(path, users_per_round, rounds + 1, WORKERS, backend)
    ends: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, RoundDone):
            ends.append(time.perf_counter())

    with open_backend(config.run, client_app) as make_grid, TemporaryDirectory() as memory:
        run_config = flatten(config) | {"run.memory": memory}
        grid = make_grid(run_config)
        server = make_app(lambda outcome: None, listen)
        server(grid, Context(1, 0, {}, RecordDict(), run_config))
        return Measured(users_per_round * rounds / (ends[-1] - ends[0]), grid.peak_rss_mb())
