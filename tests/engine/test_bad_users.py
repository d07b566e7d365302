"""A user whose numbers are not finite is named, and the sum is that of the others, bit for bit."""

import math

import pytest
import torch
from torch import Tensor

from fedmeta import cohort
from fedmeta.inner import Inner
from fedmeta.losses import LOSSES
from fedmeta.methods import METHODS
from fedmeta.types import Params, Task, Update
from tests.engine.cases import (
    FEDERATED,
    FITS,
    INNERS,
    KINDS,
    distance,
    forms,
    model_of,
    select,
    tasks,
    theta_of,
)
from tests.engine.test_contract import every_pair

BAD = 2
BOUNDED = ("relation", "siamese", "mann", "meta-networks", "ridge")
"""Do not iterate on the support: such a user says little, but what he says is finite."""
OTHERS = [0, 1, 3, 4]


def spoiled(task: Task, what: str, value: float) -> Task:
    """The task with one number of one user replaced."""
    support = task.support._replace(x=task.support.x.clone(), y=task.support.y.clone())
    if what == "feature":
        support.x[BAD, 1, 2] = value
    else:
        support.y[BAD, 0, 1] = value
    return task._replace(support=support)


def update(
    name: str, head: str, task: Task, inner: Inner, dual: bool, weight: Tensor | None
) -> Update:
    method, model = METHODS[name], model_of(head)
    theta = theta_of(method, model, 31, task.support.x.dtype)
    return cohort.contribute(method, model, theta, task, inner, weight, dual=dual)


def same_bits(a: Params, b: Params) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("what", "value"), [("feature", math.inf), ("target", math.nan)])
@every_pair
def test_user_with_broken_data(name: str, head: str, what: str, value: float) -> None:
    task = tasks(31, dtype=torch.float32)
    for dual in forms(name, head):
        for weight in (None, torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])):
            bad = update(name, head, spoiled(task, what, value), INNERS["full"], dual, weight)
            rest = None if weight is None else weight[OTHERS]
            good = update(name, head, select(task, OTHERS), INNERS["full"], dual, rest)
            assert bad.finite.tolist() == [True, True, False, True, True]
            assert good.finite.all()
            assert float(bad.weight) == float(good.weight)
            assert same_bits(bad.total, good.total)
            assert all(v.isfinite().all() for v in good.total.values())


@every_pair
def test_user_who_diverges(name: str, head: str) -> None:
    """Features of a size that no rate suits: the iterates overflow, the data are finite."""
    kind = KINDS[name][-1]
    if (name, head) == ("meta-fine-tuning", "linear"):
        pytest.skip("examples that are typical of nothing have no weight: such a user stays")
    task = tasks(32, kind=kind, dtype=torch.float32)
    x = task.support.x.clone()
    # The gradient of cross-entropy is bounded: there it takes more to overflow.
    x[BAD] *= 1e12 if kind == "regression" else 1e25
    method, model = METHODS[name], model_of(head, kind)
    theta = theta_of(method, model, 32, torch.float32)
    for dual in forms(name, head):
        found = cohort.contribute(
            method,
            model,
            theta,
            task._replace(support=task.support._replace(x=x)),
            Inner(0.5, 6),
            dual=dual,
        )
        good = cohort.contribute(
            method, model, theta, select(task, OTHERS), Inner(0.5, 6), dual=dual
        )
        if name in BOUNDED:
            assert all(value.isfinite().all() for value in found.total.values())
            continue
        assert found.finite.tolist() == [True, True, False, True, True]
        assert same_bits(found.total, good.total)


@pytest.mark.parametrize("kind", LOSSES)
def test_nobody_is_left(kind: str) -> None:
    task = tasks(33, [(3, 2), (2, 2)], kind)
    task.support.x[:] = math.nan
    for name in FEDERATED:
        head = FITS[name][0]
        for dual in forms(name, head):
            method, model = METHODS[name], model_of(head, kind)
            theta = theta_of(method, model, 33)
            found = cohort.contribute(method, model, theta, task, INNERS["full"], dual=dual)
            assert not found.finite.any()
            assert float(found.weight) == 0.0
            assert {n: v.shape for n, v in found.total.items()} == {
                n: v.shape for n, v in theta.items()
            }
            assert not any(v.count_nonzero() for v in found.total.values())


@pytest.mark.parametrize("name", FEDERATED)
def test_a_users_weight_scales_his_contribution(name: str) -> None:
    task = select(tasks(34), [0])
    head = FITS[name][-1]
    for dual in forms(name, head):
        once = update(name, head, task, INNERS["full"], dual, None)
        thrice = update(name, head, task, INNERS["full"], dual, torch.tensor([3]))
        assert distance(thrice.total, {n: 3 * v for n, v in once.total.items()}) < 1e-14
