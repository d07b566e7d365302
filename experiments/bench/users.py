"""Users that refer to one pool of items, so that many of them need little memory."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.bench.workloads import CLASSES, FEATURES, WORKS, start
from fedmeta.config import Config, parse

ITEMS = 4096
WORK = WORKS["W1"]
CHUNK = 500


class Pool(NamedTuple):
    """Items ``(I, D)`` and, for each user, ``(U, N)`` items and labels."""

    items: NDArray[np.float32]
    item: NDArray[np.int64]
    label: NDArray[np.int64]


def write(path: Path, users: int) -> None:
    """An archive of ``users`` training users, one validation user and one test user."""
    rng = np.random.default_rng(0)
    everybody = users + 2
    np.savez(
        path,
        items=(rng.standard_normal((ITEMS, FEATURES)) / FEATURES**0.5).astype(np.float32),
        item=_distinct(rng, everybody).ravel(),
        y=rng.integers(CLASSES, size=everybody * WORK.support),
        user=np.repeat(np.arange(everybody), WORK.support),
        user_split=np.array([0] * users + [1, 2]),
    )


def _distinct(rng: np.random.Generator, users: int) -> NDArray[np.int64]:
    """Items ``(users, N)``, none twice for a user: steps of an odd width around a power of two."""
    start = rng.integers(ITEMS, size=(users, 1))
    width = 2 * rng.integers(ITEMS // 2, size=(users, 1)) + 1
    return (start + width * np.arange(WORK.support)) % ITEMS


def read(path: Path) -> Pool:
    """What :func:`write` wrote."""
    with np.load(path) as found:
        shape = (-1, WORK.support)
        return Pool(found["items"], found["item"].reshape(shape), found["y"].reshape(shape))


def config(path: Path, users_per_round: int, rounds: int, workers: int, backend: str) -> Config:
    """A run of the workload, where an outer step of 1 makes the server's part FedAvg."""
    return parse(
        {
            "data.source": str(path),
            "data.support": WORK.support // 2,
            "data.query": WORK.support // 2,  # Reptile learns from both
            "data.standardize": "none",
            "head.name": WORK.head,
            "method.name": WORK.method,
            "method.rate": WORK.inner.rate,
            "method.steps": WORK.inner.steps,
            "method.batch": WORK.inner.batch,
            "server.optimizer": "sgd",
            "server.rate": 1.0,
            "federation.rounds": rounds,
            "federation.users-per-round": users_per_round,
            "federation.chunk": min(CHUNK, -(-users_per_round // 2)),
            "evaluation.every": 1_000_000,
            "evaluation.shots": "0",
            "evaluation.tune": False,
            "run.backend": backend,
            "run.workers": workers,
        }
    )


def initial() -> dict[str, NDArray[np.float32]]:
    """Parameters that stock Flower starts from."""
    return {name: value.numpy() for name, value in start(WORK).items()}
