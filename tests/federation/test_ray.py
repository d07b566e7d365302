"""Ray actors give the same bits as this process, and fail as loudly; one Ray for all tests."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from experiments.backends.inline import InlineGrid
from experiments.backends.ray_grid import TRIES, RayGrid
from experiments.backends.ray_pool import Pool, Worker, pool, workers_for
from fedmeta import loop
from fedmeta.config import ConfigError, flatten
from fedmeta.head_file import weights_sha256
from fedmeta.problem import Problem
from strategies.app import Outcome, run
from strategies.errors import ClientError
from tests.engine.cases import distance, problem
from tests.federation.spoilers import GREEDY, KILL, POISON, make_app
from tests.federation.test_devices import BASE, HARD

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray's files and processes
ACTORS = 2


@pytest.fixture(scope="module")
def workers() -> Iterator[Pool]:
    if workers_for(0) < ACTORS:
        pytest.skip("one CPU only")
    with pool(make_app(), ACTORS) as started:
        assert ray.is_initialized()
        yield started
    gc.collect()  # what Ray leaves open is closed here, where its warnings are expected
    assert not ray.is_initialized()  # what we have started, we have ended


def over_ray(workers: Pool, given: Problem) -> Outcome:
    return run(RayGrid(workers, flatten(given.config)), given)


def over_inline(given: Problem) -> Outcome:
    return run(InlineGrid(make_app(), flatten(given.config)), given)


@pytest.mark.parametrize("name", ["maml", "fedavg-ft", "pfedhn"])
def test_bits(workers: Pool, name: str) -> None:
    given = problem(
        method__name=name, head__name="mlp", federation__chunk=2, federation__weighting="examples"
    )
    inline = over_inline(given)
    for count in (1, ACTORS):
        outcome = over_ray(workers._replace(actors=workers.actors[:count]), given)
        assert weights_sha256(outcome.last) == weights_sha256(inline.last)
        assert weights_sha256(outcome.meta) == weights_sha256(inline.meta)
        assert outcome.best_round == inline.best_round
        for split in ("valid", "test"):
            np.testing.assert_array_equal(outcome.scores[split], inline.scores[split])
    *_, state = loop.train(given)
    assert distance(inline.last, state.meta) < 1e-6


def test_bits_of_a_robust_rule(workers: Pool) -> None:
    given = problem(
        method__name="reptile",
        head__name="mlp",
        federation__chunk=2,
        robust__rule="multi-krum",
        robust__byzantine=2.0,
    )
    inline = over_inline(given)
    for count in (1, ACTORS):
        outcome = over_ray(workers._replace(actors=workers.actors[:count]), given)
        assert weights_sha256(outcome.last) == weights_sha256(inline.last)
    *_, state = loop.train(given)
    assert distance(inline.last, state.meta) < 1e-6


def test_bits_with_simulated_devices(workers: Pool) -> None:
    """Rounds of any number of users, none included; the same users whoever plays them."""
    given = problem(**(BASE | HARD))
    inline = over_inline(given)
    assert len({event.users for event in inline.history}) > 2
    for count in (1, ACTORS):
        outcome = over_ray(workers._replace(actors=workers.actors[:count]), given)
        assert weights_sha256(outcome.last) == weights_sha256(inline.last)
        told = [[e._replace(seconds=0.0) for e in of.history] for of in (outcome, inline)]
        assert told[0] == told[1]


@pytest.mark.parametrize("name", ["fedrep", "ditto"])
def test_bits_of_what_users_own(workers: Pool, name: str, tmp_path: Path) -> None:
    """The same weights and, to the byte, the same files with the users; whoever plays them."""
    hashes, files = [], []
    for count in range(ACTORS + 1):
        folder = tmp_path / str(count)
        given = problem(
            method__name=name, head__name="mlp", federation__chunk=2, run__memory=str(folder)
        )
        few = workers._replace(actors=workers.actors[:count])
        outcome = over_ray(few, given) if count else over_inline(given)
        hashes.append(weights_sha256(outcome.last))
        files.append(
            {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        )
    assert hashes == hashes[:1] * (ACTORS + 1)
    assert files == files[:1] * (ACTORS + 1)
    rounds = sorted({Path(name).stem for name in files[0]})
    assert rounds == ["1", "2", "3"]


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_an_app_that_raises(workers: Pool, policy: str) -> None:
    user = int(loop.cohort_of(problem().population, problem().config, 1)[0])
    given = problem(method__name="fedavg", run__name=f"{POISON}{user}", run__on_client_error=policy)
    if policy == "fail":
        with pytest.raises(ClientError, match=r"round 1: node \d failed") as caught:
            over_ray(workers, given)
        assert f"ValueError: {POISON}{user} was in chunk" in str(caught.value)
        assert "Traceback" in str(caught.value)
        return
    outcome, inline = over_ray(workers, given), over_inline(given)
    assert outcome.history[0].failed > 0
    assert [(e.users, e.failed) for e in outcome.history] == [
        (e.users, e.failed) for e in inline.history
    ]
    assert weights_sha256(outcome.last) == weights_sha256(inline.last)


def test_a_killed_actor_costs_nobody(workers: Pool, tmp_path: Path) -> None:
    """Its message is given to another, and it is replaced: not a bit is different."""
    small = {"method__name": "fedper", "head__name": "mlp", "federation__chunk": 2}
    expected = over_inline(problem(**small))
    before = list(workers.actors)
    given = problem(
        run__name=f"{KILL}{tmp_path / 'once'}", run__memory=str(tmp_path / "m"), **small
    )
    outcome = over_ray(workers, given)
    assert (tmp_path / "once").exists()
    assert [event.failed for event in outcome.history] == [0, 0, 0]
    assert weights_sha256(outcome.last) == weights_sha256(expected.last)
    assert len(workers.actors) == ACTORS
    assert sum(now is not then for now, then in zip(workers.actors, before, strict=True)) == 1


def test_a_chunk_that_kills_every_actor_fails_alone(workers: Pool, tmp_path: Path) -> None:
    given = problem(
        run__name=f"{KILL}{tmp_path / 'always'}",
        run__on_client_error="skip",
        method__name="fedavg",
        federation__chunk=2,
    )
    outcome = over_ray(workers, given)
    assert [event.failed for event in outcome.history] == [0, 2, 0]
    loud = given._replace(config=problem(method__name="fedavg", federation__chunk=2).config)
    grid = RayGrid(workers, flatten(given.config))
    with pytest.raises(ClientError, match="2 times in a row"):
        run(grid, loud)


@pytest.mark.slow
def test_who_waited_behind_the_dead_loses_no_try(workers: Pool, tmp_path: Path) -> None:
    """Both tries of the chunk that kills end two actors; what waited there is played all the same.

    With one actor every other message waits behind it both times.
    """
    given = problem(
        run__name=f"{KILL}{tmp_path / 'always'}",
        run__on_client_error="skip",
        method__name="fedavg",
        federation__chunk=1,
    )
    pools = workers._replace(actors=workers.actors[:1])
    grid = RayGrid(pools, flatten(given.config))
    outcome = run(grid, given)
    assert grid.replaced == TRIES == 2
    assert [event.failed for event in outcome.history] == [0, 1, 0]
    workers.actors[0] = pools.actors[0]


def test_a_worker_out_of_memory_fails_alone(workers: Pool) -> None:
    """The user who asks for too much is left out with a name for it; the run goes on."""
    user = int(loop.cohort_of(problem().population, problem().config, 1)[0])
    given = problem(method__name="fedavg", run__name=f"{GREEDY}{user}", run__on_client_error="skip")
    with limited(workers, 3000) as small:
        outcome = over_ray(small, given)
        assert outcome.history[0].failed > 0
        with pytest.raises(ClientError, match="MemoryError"):
            run(RayGrid(small, flatten(given.config)), problem(method__name="fedavg"))


@contextmanager
def limited(workers: Pool, memory_mb: int) -> Iterator[Pool]:
    """One more actor, with a limit of memory; it takes no CPU from the others."""
    remote: Any = ray.remote(Worker).options(num_cpus=0)
    actor = remote.remote(make_app(), memory_mb)
    yield Pool([actor], workers.start)
    ray.kill(actor)


def test_no_nodes_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="0 nodes"):
        InlineGrid(make_app(), flatten(problem().config), 0)


def test_more_than_ray_has_is_refused_at_once(workers: Pool) -> None:
    began = time.monotonic()
    with (
        pytest.raises(ConfigError, match="each needs 1 GPU, and Ray has 0"),
        pool(make_app(), 1, gpus=1.0),
    ):
        pass
    assert time.monotonic() - began < 5


def test_memory_counts_all_processes(workers: Pool) -> None:
    config = flatten(problem().config)
    alone = InlineGrid(make_app(), config).peak_rss_mb()
    assert RayGrid(workers, config).peak_rss_mb() > alone + 50 * ACTORS


def test_more_workers_than_cpus_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"run\.workers = 4096"):
        workers_for(4096)
    assert workers_for(1) == 1
    assert workers_for(0) >= 1
