"""Ray actors give the same bits as this process, and fail as loudly; one Ray for all tests."""

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

import clients.app
from clients import wire
from experiments.backends.inline import InlineGrid
from experiments.backends.ray_pool import RayGrid, pool, workers_for
from experiments.summary import weights_sha256
from fedmeta import loop
from fedmeta.config import ConfigError, flatten
from fedmeta.problem import Problem
from strategies.app import Outcome, run
from strategies.errors import ClientError
from tests.engine.cases import distance, problem

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray's files and processes
ACTORS = 2
POISON = "poison-"


def make_app() -> ClientApp:
    """The app of the tool, which raises for a user if the run's name says so."""
    app, poison = ClientApp(), POISON

    @app.train()
    def train(message: Message, context: Context) -> Message:
        name = str(context.run_config["run.name"])
        _, order = wire.read_order(message)
        if name.startswith(poison) and int(name.removeprefix(poison)) in order.users:
            raise ValueError(f"{name} was in chunk {order.chunk}")
        return clients.app.train(message, context)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return clients.app.evaluate(message, context)

    return app


@pytest.fixture(scope="module")
def actors() -> Iterator[list[Any]]:
    if workers_for(0) < ACTORS:
        pytest.skip("one CPU only")
    with pool(make_app(), ACTORS) as handles:
        assert ray.is_initialized()
        yield handles
    gc.collect()  # what Ray leaves open is closed here, where its warnings are expected
    assert not ray.is_initialized()  # what we have started, we have ended


def over_ray(actors: list[Any], given: Problem) -> Outcome:
    return run(RayGrid(actors, flatten(given.config)), given)


def over_inline(given: Problem) -> Outcome:
    return run(InlineGrid(make_app(), flatten(given.config)), given)


@pytest.mark.parametrize("name", ["maml", "fedavg-ft"])
def test_bits(actors: list[Any], name: str) -> None:
    given = problem(
        method__name=name, head__name="mlp", federation__chunk=2, federation__weighting="examples"
    )
    inline = over_inline(given)
    for count in (1, ACTORS):
        outcome = over_ray(actors[:count], given)
        assert weights_sha256(outcome.last) == weights_sha256(inline.last)
        assert weights_sha256(outcome.meta) == weights_sha256(inline.meta)
        assert outcome.best_round == inline.best_round
        for split in ("valid", "test"):
            np.testing.assert_array_equal(outcome.scores[split], inline.scores[split])
    *_, state = loop.train(given)
    assert distance(inline.last, state.meta) < 1e-6


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_an_app_that_raises(actors: list[Any], policy: str) -> None:
    user = int(loop.cohort_of(problem().population, problem().config, 1)[0])
    given = problem(method__name="fedavg", run__name=f"{POISON}{user}", run__on_client_error=policy)
    if policy == "fail":
        with pytest.raises(ClientError, match=r"round 1: node \d failed") as caught:
            over_ray(actors, given)
        assert f"ValueError: {POISON}{user} was in chunk" in str(caught.value)
        assert "Traceback" in str(caught.value)
        return
    outcome, inline = over_ray(actors, given), over_inline(given)
    assert outcome.history[0].failed > 0
    assert [(e.users, e.failed) for e in outcome.history] == [
        (e.users, e.failed) for e in inline.history
    ]
    assert weights_sha256(outcome.last) == weights_sha256(inline.last)


def test_memory_counts_all_processes(actors: list[Any]) -> None:
    config = flatten(problem().config)
    alone = InlineGrid(make_app(), config).peak_rss_mb()
    assert RayGrid(actors, config).peak_rss_mb() > alone + 50 * ACTORS


def test_more_workers_than_cpus_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"run\.workers = 4096"):
        workers_for(4096)
    assert workers_for(1) == 1
    assert workers_for(0) >= 1
