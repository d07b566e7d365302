"""Meta-gradients equal central finite differences of the query loss after adaptation."""

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from fedmeta import cohort
from fedmeta.inner import Inner
from fedmeta.learner import Learner, Model, Primal
from fedmeta.methods import METHODS, Method
from fedmeta.params import add, subtract
from fedmeta.types import Params, Task
from tests.engine.cases import (
    FITS,
    INNERS,
    VECTOR_HEADS,
    distance,
    flat,
    model_of,
    one_by_one,
    only,
    select,
    tasks,
    theta_of,
)

EXACT = ["maml", "meta-sgd", "protonet", "protomaml", "protomamln", "ridge"]
SIZES = [(4, 3), (5, 2)]
STEP = 1e-5


def outer_loss(method: Method, model: Model, theta: Params, task: Task, inner: Inner) -> Tensor:
    """Sum over users of the query loss after adaptation."""
    learner, total = Primal(model), torch.zeros((), dtype=torch.float64)
    for user in range(len(task.support.weight)):
        mine = only(task, user)
        total = total + learner.loss(method.adapt(learner, theta, mine, inner), mine.query)
    return total


def differences(
    method: Method, model: Model, theta: Params, task: Task, inner: Inner
) -> dict[str, Tensor]:
    """Central finite differences for each single weight and rate, many at a time."""
    out = {}
    for name, value in theta.items():

        def moved(shift: Tensor, name: str = name, value: Tensor = value) -> Tensor:
            return outer_loss(method, model, {**theta, name: value + shift}, task, inner)

        shifts = STEP * torch.eye(value.numel(), dtype=value.dtype).view(-1, *value.shape)
        slope = (vmap(moved)(shifts) - vmap(moved)(-shifts)) / (2 * STEP)
        out[name] = slope.view_as(value)
    return out


@pytest.mark.parametrize("inner", INNERS)
@pytest.mark.parametrize(("name", "head"), [(n, h) for n in EXACT for h in FITS[n]])
def test_meta_gradient(name: str, head: str, inner: str) -> None:
    method, model, task = METHODS[name], model_of(head), tasks(5, SIZES)
    theta = theta_of(method, model, 5)
    if name == "meta-sgd":
        rates = torch.cat([v.flatten() for n, v in theta.items() if "/" in n])
        assert rates.min() < 0 < rates.max()
    expected = differences(method, model, theta, task, INNERS[inner])
    assert all(value.count_nonzero() for value in expected.values())
    for dual in (False, None):
        update = cohort.contribute(method, model, theta, task, INNERS[inner], dual=dual)
        for param, value in expected.items():
            # A shift that all embeddings share moves no distance between them: its gradient is 0.
            error = (update.total[param] - value).norm()
            assert error < 1e-7 * value.norm() + 1e-9 * flat(expected).norm(), param


def _detached(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    """The mistake of assigning to ``param.data``: the graph is cut at every step."""

    def value(start: Params) -> Tensor:
        phi = METHODS["maml"].adapt(learner, theta, task, inner)
        cut = {name: gap.detach() for name, gap in subtract(phi, theta).items()}
        return learner.loss({n: start[n] + cut[n] for n in cut}, task.query)

    return learner.through(value, theta)


def _same_for_rates(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
    """The mistake of giving the rates the weights' gradient."""
    sent = METHODS["meta-sgd"].contribute
    if sent is None:
        raise ValueError
    g = sent(learner, theta, task, inner)
    return {name: g[name.removeprefix("rate/")] for name in g}


@pytest.mark.parametrize("head", VECTOR_HEADS)
def test_finite_differences_catch_known_mistakes(head: str) -> None:
    model, task, inner = model_of(head), tasks(5, SIZES), INNERS["full"]
    mistakes = {"maml": _detached, "meta-sgd": _same_for_rates}
    for name, mistake in mistakes.items():
        method = METHODS[name]
        theta = theta_of(method, model, 5)
        expected = differences(method, model, theta, task, inner)
        wrong: Params = {}
        for user in range(len(SIZES)):
            sent = mistake(Primal(model), theta, only(task, user), inner)
            wrong = add(wrong, sent)
        assert distance(wrong, expected) > 1e-2, name


@pytest.mark.parametrize("head", VECTOR_HEADS)
def test_first_order_is_another_gradient(head: str) -> None:
    model, task, inner = model_of(head), tasks(6), INNERS["full"]
    theta = theta_of(METHODS["maml"], model, 6)
    exact = one_by_one(METHODS["maml"], model, theta, task, inner)
    first = one_by_one(METHODS["fomaml"], model, theta, task, inner)
    assert distance(first, exact) > 1e-2
    # What a detached inner loop computes is FOMAML, to the last digits.
    cut = _detached(Primal(model), theta, only(task, 0), inner)
    assert (
        distance(cut, one_by_one(METHODS["fomaml"], model, theta, select(task, [0]), inner)) < 1e-12
    )
