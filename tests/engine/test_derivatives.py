"""Derivatives that are written out by hand equal those of autograd."""

import pytest
import torch
from torch import Tensor

from fedmeta.learner import Primal
from fedmeta.losses import LOSSES
from fedmeta.methods import METHODS
from tests.engine.cases import (
    FEATURES,
    OUTPUTS,
    VECTOR_HEADS,
    distance,
    model_of,
    only,
    tasks,
    theta_of,
)


@pytest.mark.parametrize("kind", LOSSES)
def test_error_of_a_loss(kind: str) -> None:
    loss, task = LOSSES[kind], only(tasks(1, [(5, 1)], kind), 0).support
    weight = torch.tensor([0.3, 0.0, 0.1, 0.9, 0.2], dtype=torch.float64)
    logits = torch.randn(OUTPUTS[kind], 5, dtype=torch.float64).requires_grad_()
    (expected,) = torch.autograd.grad(loss.value(logits, task.y, weight), logits)
    torch.testing.assert_close(loss.error(logits, task.y, weight), expected, rtol=0, atol=1e-14)
    assert expected.abs().min(dim=0).values.count_nonzero() == 4  # all but the absent example


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("head", VECTOR_HEADS)
def test_tail_of_a_head(head: str, kind: str) -> None:
    model = model_of(head, kind)
    tail = model.head.tail
    if tail is None:
        pytest.skip("this head has no affine first layer")
    task = only(tasks(2, [(5, 1)], kind), 0).support
    theta = theta_of(METHODS["maml"], model, 2)
    first = (f"{tail.layer}.weight", f"{tail.layer}.bias")
    z = theta[first[0]] @ task.x.mT + theta[first[1]][:, None]
    torch.testing.assert_close(tail.forward(theta, z), model.head.logits(theta, task.x))

    def error(logits: Tensor) -> Tensor:
        return model.loss.error(logits, task.y, task.weight)

    free = {name: v.clone().requires_grad_() for name, v in theta.items() if name not in first}
    free["z"] = z.clone().requires_grad_()
    value = model.loss.value(tail.forward({**theta, **free}, free["z"]), task.y, task.weight)
    expected = dict(zip(free, torch.autograd.grad(value, list(free.values())), strict=True))
    dz, rest = tail.backward(theta, z, error)
    assert distance({**rest, "z": dz}, expected) < 1e-13


@pytest.mark.parametrize("head", VECTOR_HEADS)
def test_gradient_of_the_plain_form(head: str) -> None:
    model, task = model_of(head), only(tasks(3), 0)
    theta = {n: v.requires_grad_() for n, v in theta_of(METHODS["maml"], model, 3).items()}
    task = task._replace(support=task.support._replace(x=task.support.x.clone()))
    value = model.loss.value(
        model.head.logits(theta, task.support.x), task.support.y, task.support.weight
    )
    expected = dict(zip(theta, torch.autograd.grad(value, list(theta.values())), strict=True))
    assert distance(Primal(model).grad(theta, task.support), expected) < 1e-13


@pytest.mark.parametrize("head", VECTOR_HEADS)
def test_initialization_is_that_of_the_seed(head: str) -> None:
    model = model_of(head)

    def draw(seed: int) -> dict[str, Tensor]:
        return model.head.init(torch.Generator().manual_seed(seed))

    assert all(v.dtype == torch.float32 for v in draw(1).values())
    assert all(torch.equal(v, draw(1)[name]) for name, v in draw(1).items())
    drawn = [name for name, v in draw(1).items() if v.min() < v.max()]
    assert all(not torch.equal(draw(1)[name], draw(2)[name]) for name in drawn)
    assert model.head.logits(draw(1), torch.randn(4, FEATURES)).shape == (3, 4)
