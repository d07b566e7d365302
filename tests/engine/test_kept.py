"""Kept inner products are those of the task, and no bit tells who was met when or with whom."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedmeta import kept, tasks
from fedmeta.gram import Geometry, geometry
from fedmeta.population import Population
from fedmeta.tasks import draw, drawn_tasks, products
from tests.engine.test_tasks import QUERY, SUPPORT, population

SIZES = [9, 2, 5, 1, 12, 7]
FEATURES = 11


def people(unseen: bool = False) -> Population:
    some = population(SIZES, 0, unseen)
    wide = torch.randn(sum(SIZES), FEATURES, generator=torch.Generator().manual_seed(1))
    return replace(some, features=wide, kept=kept.room(np.diff(some.learn.offsets)))


def found(some: Population, users: list[int], stream: int = 3, splits: bool = True) -> Geometry:
    gram = products(some, draw(some, np.array(users), stream, SUPPORT, QUERY, splits))
    assert gram is not None
    return gram


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("splits", [False, True])
def test_they_are_those_of_the_task(splits: bool, unseen: bool) -> None:
    some = people(unseen)
    users = np.array([4, 2, 0, 5] if unseen else [4, 1, 0, 3])
    for stream in (3, 4):  # the second time they are known
        drawn = draw(some, users, stream, SUPPORT, QUERY, splits)
        gram, task = products(some, drawn, asked=True), drawn_tasks(some, drawn)
        assert gram is not None
        assert gram.asked is not None
        wanted = geometry(task)
        torch.testing.assert_close(gram.support, wanted.support, rtol=0, atol=1e-5)
        torch.testing.assert_close(gram.query, wanted.query, rtol=0, atol=1e-5)
        asked = task.query.x @ task.query.x.mT + 1
        torch.testing.assert_close(gram.asked, asked, rtol=0, atol=1e-5)


def test_company_and_history_change_no_bit() -> None:
    some, other = people(), people()
    together = found(some, [0, 2, 4, 5])
    found(other, [5, 1], stream=9)
    for place, user in enumerate([0, 2, 4, 5]):
        alone = found(other, [user])
        for a, b in zip(together, alone, strict=True):
            if a is None or b is None:  # not asked for
                assert a is b
                continue
            n, q = min(SIZES[user], SUPPORT), b.shape[2]
            torch.testing.assert_close(a[place, :n, :q], b[0, :n, :q], rtol=0, atol=0)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "BYTES", 4 * 7 * (5 + 7))
    monkeypatch.setattr(kept, "LONGEST", 7)
    room = kept.room(np.array([5, 9, 0, 7, 6]))  # one too long, one empty, one too late
    assert room.start.tolist() == [0, -1, -1, 5, -1]
    assert room.rows.shape == (12, 7)
    some = replace(people(), kept=kept.room(np.array(SIZES)))
    assert products(some, draw(some, np.array([1, 4]), 3, SUPPORT, QUERY, True)) is None


def test_a_population_without_room() -> None:
    some = replace(people(), kept=None)
    assert products(some, draw(some, np.array([1]), 3, SUPPORT, QUERY, True)) is None


def test_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    some, users = people(), np.array([3, 1, 2, 5, 0])
    assert [b.tolist() for b in tasks.batches(some, users, 7)] == [users.tolist()]
    monkeypatch.setattr(tasks, "NUMBERS", 3 * 7 * FEATURES)
    assert [b.tolist() for b in tasks.batches(some, users, 7)] == [[3, 1, 2], [5, 0]]
    monkeypatch.setattr(tasks, "NUMBERS", 1)
    assert [len(b) for b in tasks.batches(some, users, 7)] == [1] * 5
