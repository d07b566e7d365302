"""Which users and examples take part: seeded, disjoint, and independent of chunks and methods."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmeta import loop, seeding, tasks
from fedmeta.data.selection import UNSEEN_FOLD
from fedmeta.data.store import UserStore
from fedmeta.methods import METHODS
from fedmeta.population import Population, Rows, Units
from fedmeta.types import Examples, Task
from fedmeta.unseen import judging
from tests.engine.cases import problem

SUPPORT, QUERY = 3, 4


def population(sizes: list[int], seed: int, unseen: bool = False) -> Population:
    """Users whose every example is an item of its own with its number as only feature."""
    examples = sum(sizes)
    fold = np.arange(examples) % 5
    everything = np.arange(examples, dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    number = np.arange(examples, dtype=np.float32)[:, None]
    ids = tuple(f"u{n}" for n in range(len(sizes)))
    label = np.random.default_rng(seed).integers(0, 3, examples)
    store = UserStore(
        "numbers",
        number,
        everything,
        label,
        offsets,
        ids,
        np.zeros(len(sizes), dtype=np.int8),
        ("a", "b", "c"),
        fold,
    )

    def rows(keep: NDArray[np.bool_]) -> Rows:
        ends = np.concatenate([[0], np.cumsum(keep)])[offsets].astype(np.int64)
        return Rows(np.flatnonzero(keep), ends)

    held_out = fold == UNSEEN_FOLD
    return Population(
        store,
        torch.from_numpy(number),
        torch.from_numpy(everything),
        torch.from_numpy(label),
        Units(),
        rows(~held_out if unseen else np.full(examples, True)),
        rows(held_out) if unseen else None,
        seeding.keys(ids, "user"),
        np.zeros(len(ids), dtype=np.int64),
    )


def seen(side: Examples, user: int) -> list[int]:
    """The numbers of a user's examples on one side, in their order."""
    numbers: list[int] = side.x[user, side.weight[user] > 0, 0].int().tolist()
    return numbers


some_sizes = st.lists(st.integers(6, 15), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(sizes=some_sizes, seed=st.integers(0, 99), splits=st.booleans(), unseen=st.booleans())
def test_training(sizes: list[int], seed: int, splits: bool, unseen: bool) -> None:
    people = population(sizes, seed, unseen)
    users = np.arange(len(sizes))
    task = tasks.training(people, users, seeding.key(seed), SUPPORT, QUERY, splits)
    for user, (start, end) in enumerate(
        zip(people.store.offsets, people.store.offsets[1:], strict=False)
    ):
        support, query = seen(task.support, user), seen(task.query, user)
        mine = support + query
        allowed = [n for n in range(start, end) if not unseen or n % 5 != UNSEEN_FOLD]
        assert len(set(mine)) == len(mine) == min(SUPPORT + QUERY, len(allowed))
        assert set(mine) <= set(allowed)
        assert len(query) == (min(QUERY, len(allowed) - SUPPORT) if splits else 0)
        for side, numbers in ((task.support, support), (task.query, query)):
            present = side.weight[user] > 0
            assert side.y[user].argmax(0)[present].tolist() == [
                int(people.store.label[n]) for n in numbers
            ]
            assert (side.y[user].sum(0) == 1).all()
            if numbers:
                assert float(side.weight[user].sum()) == pytest.approx(1.0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(sizes=some_sizes, seed=st.integers(0, 99), unseen=st.booleans())
def test_judging(sizes: list[int], seed: int, unseen: bool) -> None:
    people = population(sizes, seed, unseen)
    users = np.arange(len(sizes))
    task = judging(people, users, seeding.key(seed), SUPPORT)
    for user, (start, end) in enumerate(
        zip(people.store.offsets, people.store.offsets[1:], strict=False)
    ):
        support, query = seen(task.support, user), seen(task.query, user)
        assert len(support) == SUPPORT
        assert not set(support) & set(query)
        held_out = {n for n in range(start, end) if n % 5 == UNSEEN_FOLD}
        if unseen:
            assert set(query) == held_out
            assert not set(support) & held_out
        else:
            assert set(support) | set(query) == set(range(start, end))


def test_examples_depend_on_nothing_but_user_and_stream() -> None:
    people = population([9, 7, 12, 6, 10], 1)
    together = tasks.training(people, np.arange(5), 77, SUPPORT, QUERY, True)
    for user in range(5):
        alone = tasks.training(people, np.array([user]), 77, SUPPORT, QUERY, True)
        assert seen(alone.support, 0) == seen(together.support, user)
        assert seen(alone.query, 0) == seen(together.query, user)
    other = tasks.training(people, np.arange(5), 78, SUPPORT, QUERY, True)
    assert any(seen(other.support, u) != seen(together.support, u) for u in range(5))


def test_cohorts_are_seeded_samples_without_replacement() -> None:
    run = problem()
    train = set(run.population.store.users("train").tolist())
    rounds = [loop.cohort_of(run.population, run.config, n).tolist() for n in range(1, 31)]
    again = [loop.cohort_of(run.population, run.config, n).tolist() for n in range(1, 31)]
    assert rounds == again
    assert all(len(set(users)) == len(users) == 7 for users in rounds)
    assert all(set(users) <= train for users in rounds)
    assert len({frozenset(users) for users in rounds}) > 25
    assert set().union(*map(set, rounds)) == train
    other = problem(run__seed=1)
    assert loop.cohort_of(other.population, other.config, 1).tolist() != rounds[0]


@pytest.mark.parametrize("values", [{"federation__chunk": 1}, {"run__workers": 2}])
def test_cohorts_do_not_depend_on_chunks_or_workers(values: dict[str, int]) -> None:
    run, other = problem(), problem(**values)
    for number in (1, 2):
        a, b = (loop.cohort_of(p.population, p.config, number).tolist() for p in (run, other))
        assert a == b


def test_everybody_takes_part_where_the_cohort_is_larger() -> None:
    run = problem(federation__users_per_round=1000)
    users = loop.cohort_of(run.population, run.config, 1).tolist()
    assert sorted(users) == run.population.store.users("train").tolist()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=20),
    size=st.integers(1, 6),
    cells=st.none() | st.integers(1, 60),
)
def test_chunks(sizes: list[int], size: int, cells: int | None) -> None:
    people = population(sizes, 0)
    users = np.random.default_rng(0).permutation(len(sizes))
    chunks = tasks.chunks(people, users, size, cells)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(len(sizes)))
    assert all(1 <= len(chunk) <= size for chunk in chunks)
    shuffled = tasks.chunks(people, np.sort(users), size, cells)
    assert [c.tolist() for c in chunks] == [c.tolist() for c in shuffled]
    if cells is not None:
        for chunk in chunks:
            assert len(chunk) == 1 or len(chunk) * max(sizes[u] for u in chunk) <= cells


def test_every_method_is_judged_on_the_same_examples() -> None:
    drawn: list[Task] = []
    for name in METHODS:
        if "domains" in METHODS[name].needs:
            continue  # these are given other users
        run = problem(method__name=name, federation__chunk=1 + len(drawn))
        users = run.population.store.users("test")
        stream = seeding.key(run.config.run.seed, "support")
        drawn.append(judging(run.population, users, stream, run.config.data.support))
    for task in drawn[1:]:
        for a, b in zip(drawn[0], task, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
