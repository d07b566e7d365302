"""Predictions after adaptation: both forms agree, and shots are the first examples."""

import pytest
import torch

from fedmeta import cohort
from fedmeta.cohort import Trial
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.types import Examples, Task
from tests.engine.cases import (
    INNERS,
    PAIRS,
    VECTOR_HEADS,
    forms,
    model_of,
    only,
    predicted,
    tasks,
    theta_of,
    varied,
)

SIZES = ((4, 3), (2, 5), (7, 1), (3, 2))
every_pair = pytest.mark.parametrize(("name", "head"), PAIRS)


def cut(task: Task, user: int, shots: int) -> Task:
    """A user who has nothing but his first examples."""
    mine = only(task, user)
    x, y, _ = mine.support
    n = min(shots, len(x))
    return mine._replace(support=Examples(x[:n], y[:, :n], x.new_full((n,), 1 / max(n, 1))))


@pytest.mark.parametrize(("name", "head", "kind", "inner"), varied(PAIRS))
def test_trials(name: str, head: str, kind: str, inner: str) -> None:
    method, model = METHODS[name], model_of(head, kind)
    theta = theta_of(method, model, 41)
    task = tasks(41, SIZES, kind, pad=1)
    trials = [Trial(INNERS[inner], shots) for shots in (0, 1, 3, 99)]
    learner = Primal(model)
    for dual in forms(name, head, training=False):
        found = cohort.predict(method, model, theta, task, trials, dual=dual)
        for trial, logits in zip(trials, found, strict=True):
            for user, (_, queries) in enumerate(SIZES):
                mine = cut(task, user, trial.shots)
                expected = predicted(method, learner, theta, mine, trial.inner)
                torch.testing.assert_close(
                    logits[user, :, :queries], expected, rtol=1e-11, atol=1e-12
                )
        moved = (found[-1] - found[0]).abs().amax(dim=(1, 2))
        assert bool((moved > 1e-3).all()) == method.personalizes


@every_pair
def test_query_labels_change_nothing(name: str, head: str) -> None:
    """Adapting on what is scored is a leak that a test must see."""
    method, model = METHODS[name], model_of(head)
    theta, task = theta_of(method, model, 42), tasks(42, SIZES)
    other = task._replace(query=task.query._replace(y=task.query.y.roll(1, dims=1)))
    assert not torch.equal(task.query.y, other.query.y)
    trials = [Trial(INNERS["full"], 0), Trial(INNERS["minibatch"], 4)]
    for dual in forms(name, head, training=False):
        a = cohort.predict(method, model, theta, task, trials, dual=dual)
        b = cohort.predict(method, model, theta, other, trials, dual=dual)
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("head", VECTOR_HEADS)
def test_query_features_reach_only_their_own_row(head: str) -> None:
    """Adaptation does not look at query features either (no transduction)."""
    method, model = METHODS["maml"], model_of(head)
    theta, task = theta_of(method, model, 43), tasks(43, SIZES)
    x = task.query.x.clone()
    x[:, 0] += 1.0
    other = task._replace(query=task.query._replace(x=x))
    for dual in forms("maml", head, training=False):
        (a,), (b,) = (
            cohort.predict(method, model, theta, t, [Trial(INNERS["full"], 4)], dual=dual)
            for t in (task, other)
        )
        torch.testing.assert_close(a[..., 1:], b[..., 1:], rtol=0, atol=1e-14)
        assert float((a[..., 0] - b[..., 0]).abs().min()) > 1e-6


def test_first_keeps_a_prefix_and_renews_the_mean() -> None:
    support = cohort.first(tasks(44, SIZES).support, 3)
    assert (support.weight > 0).sum(-1).tolist() == [3, 2, 3, 3]
    torch.testing.assert_close(support.weight.sum(-1), torch.ones(4, dtype=torch.float64))
    assert (support.weight[:, 3:] == 0).all()
    assert not cohort.first(tasks(44, SIZES).support, 0).weight.any()
