"""Hostile replies to the real strategy: none is taken, none ends the run, not a bit changes."""

import gc
from pathlib import Path
from random import Random

import pytest
from flwr.app import (
    ConfigRecord,
    Error,
    Message,
)

from clients import wire
from clients.app import app
from experiments.backends.inline import InlineGrid
from fedmeta.config import flatten
from fedmeta.head_file import weights_sha256
from strategies.federated import Federated
from tests.federation.honest import aggregated, given, known, replies
from tests.federation.mutators import MUTATORS, WORTH


@pytest.fixture(scope="module")
def expected() -> dict[int, str]:
    """The weights after a round that lacks one of the replies, by the place of that one."""
    honest, out = replies().honest, {}
    for at in range(len(honest)):
        silent = Message(Error(2, "gone"), reply_to=replies().sent[at])
        run = given()
        quiet = run._replace(config=run.config.model_copy(update={
            "run": run.config.run.model_copy(update={"on_client_error": "skip"})}))  # fmt: skip
        strategy = Federated(quiet)
        strategy._shapes = known("maml")
        grid = InlineGrid(app, flatten(run.config), 2)
        list(strategy.configure_train(1, wire.arrays(strategy.state.meta), ConfigRecord(), grid))
        there = [replies().copy(i) for i in range(len(honest)) if i != at]
        strategy.aggregate_train(1, iter([silent, *there]))
        out[at] = weights_sha256(strategy.state.meta)
    out[-1] = weights_sha256(aggregated([replies().copy(i) for i in range(len(honest))]).state.meta)
    assert len(set(out.values())) == len(honest) + 1
    return out


def peak_mb() -> float:
    """Peak resident memory of this process since :func:`forget`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def forget(thoroughly: bool) -> float:
    """Count peak memory from now on; what is resident, without the bombs of before."""
    if thoroughly:
        gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()


def refuses(name: str, seed: int, expected: dict[int, str]) -> None:
    draw = Random(f"{name} {seed}")
    count = len(replies().honest)
    arrived = [replies().copy(i) for i in range(count)]
    at = draw.randrange(count)
    arrived[at] = MUTATORS[name](arrived[at], draw)
    draw.shuffle(arrived)
    before = forget(name.startswith("64 MB"))
    strategy = aggregated(arrived)
    assert peak_mb() - before < 100 - (WORTH >> 20), (name, seed)
    assert weights_sha256(strategy.state.meta) == expected[at], (name, seed)
    assert sum(strategy._last.refused.values()) == 1
    assert (strategy._last.users, strategy._last.failed) == (count - 1, 1)
    assert 0 < len(strategy._last.why) < 1000


@pytest.mark.parametrize("name", MUTATORS)
def test_a_bad_reply_costs_its_sender_and_nobody_else(name: str, expected: dict[int, str]) -> None:
    refuses(name, 0, expected)


@pytest.mark.slow
def test_all_of_them(expected: dict[int, str]) -> None:
    assert 25 * len(MUTATORS) >= 1000
    for name in MUTATORS:
        for seed in range(25):
            refuses(name, seed, expected)


def test_a_second_reply_counts_for_nothing(expected: dict[int, str]) -> None:
    arrived = [replies().copy(i) for i in (0, 0, 1, 2, 3, 2, 4, 5, 6)]
    strategy = aggregated(arrived)
    assert weights_sha256(strategy.state.meta) == expected[-1]
    assert strategy._last.refused == {"chunk": 2}
    assert strategy._last.failed == 0
