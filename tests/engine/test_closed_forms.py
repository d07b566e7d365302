"""On quadratics (linear head, half squared error) everything is known in closed form."""

import pytest
import torch
from torch import Tensor

from fedmeta import cohort
from fedmeta.inner import Inner
from fedmeta.learner import Model
from fedmeta.methods import METHODS
from fedmeta.types import Examples, Params, Task
from tests.engine.cases import FEATURES, flat, model_of, only, tasks, theta_of

RATE = 0.3
SIZE = (6, 4)


class Quadratic:
    """The loss of one user in the coordinates (bias, weights) of :func:`flat`."""

    def __init__(self, examples: Examples) -> None:
        ones = torch.ones(len(examples.x), 1, dtype=torch.float64)
        rows = torch.cat([ones, examples.x], dim=1)
        self.hessian = rows.T @ (rows * examples.weight[:, None])
        self.linear = rows.T @ (examples.y[0] * examples.weight)

    def grad(self, point: Tensor) -> Tensor:
        return self.hessian @ point - self.linear


def setting(name: str) -> tuple[Model, Params, Task, Quadratic, Quadratic]:
    model, task = model_of("linear", "regression"), tasks(11, [SIZE], "regression")
    mine = only(task, 0)
    return (
        model,
        theta_of(METHODS[name], model, 11),
        task,
        Quadratic(mine.support),
        Quadratic(mine.query),
    )


def sent(name: str, inner: Inner, dual: bool | None) -> Tensor:
    model, theta, task, _, _ = setting(name)
    return flat(cohort.contribute(METHODS[name], model, theta, task, inner, dual=dual).total)


def descended(point: Tensor, support: Quadratic, steps: int) -> Tensor:
    for _ in range(steps):
        point = point - RATE * support.grad(point)
    return point


@pytest.mark.parametrize("dual", [False, True])
@pytest.mark.parametrize("steps", [1, 4])
def test_maml_and_its_first_order(steps: int, dual: bool) -> None:
    _, theta, _, support, query = setting("maml")
    g = query.grad(descended(flat(theta), support, steps))
    shrink = torch.eye(FEATURES + 1, dtype=torch.float64) - RATE * support.hessian
    exact = torch.linalg.matrix_power(shrink, steps) @ g
    inner = Inner(RATE, steps)
    torch.testing.assert_close(sent("maml", inner, dual), exact, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(sent("fomaml", inner, dual), g, rtol=1e-12, atol=1e-13)
    assert float((exact - g).norm() / exact.norm()) > 1e-3


@pytest.mark.parametrize("dual", [False, True])
@pytest.mark.parametrize("name", ["reptile", "fedavg", "fedavg-ft"])
def test_one_step_of_a_delta_is_the_gradient(name: str, dual: bool) -> None:
    _, theta, _, support, _ = setting(name)
    expected = RATE * support.grad(flat(theta))
    torch.testing.assert_close(sent(name, Inner(RATE, 1), dual), expected, rtol=1e-12, atol=1e-13)
    many = flat(theta) - descended(flat(theta), support, 5)
    torch.testing.assert_close(sent(name, Inner(RATE, 5), dual), many, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dual", [False, True])
def test_fedprox_descends_on_the_proximal_objective(dual: bool) -> None:
    mu, (_, theta, _, support, _) = 0.7, setting("fedprox")
    start = flat(theta)
    point, velocity = start, torch.zeros_like(start)
    for _ in range(4):
        velocity = 0.6 * velocity + support.grad(point) + mu * (point - start)
        point = point - RATE * velocity
    found = sent("fedprox", Inner(RATE, 4, momentum=0.6, mu=mu), dual)
    torch.testing.assert_close(found, start - point, rtol=1e-12, atol=1e-13)


def test_meta_sgd_with_one_step() -> None:
    _, theta, _, support, query = setting("meta-sgd")
    head = flat({name: v for name, v in theta.items() if "/" not in name})
    rates = flat({name: v for name, v in theta.items() if "/" in name})
    g_support = support.grad(head)
    g_query = query.grad(head - rates * g_support)
    for_head = g_query - support.hessian @ (rates * g_query)
    expected = torch.cat([for_head, -g_support * g_query])  # "output." sorts before "rate/"
    found = sent("meta-sgd", Inner(RATE, 1), None)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    assert float((found[FEATURES + 1 :] - for_head).norm()) > 0.1 * float(for_head.norm())


@pytest.mark.parametrize("size", [2, 4])
def test_minibatches_are_one_endless_cycle(size: int) -> None:
    """Steps see examples 0..size-1, size..2 size-1 and so on, modulo their number."""
    _, theta, task, _, _ = setting("reptile")
    mine = only(task, 0)
    point = flat(theta)
    for step in range(5):
        at = torch.arange(step * size, (step + 1) * size) % SIZE[0]
        weight = torch.full((size,), 1 / size, dtype=torch.float64)
        part = Examples(mine.support.x[at], mine.support.y[:, at], weight)
        point = point - RATE * Quadratic(part).grad(point)
    for dual in (False, True):
        found = sent("reptile", Inner(RATE, 5, batch=size), dual)
        torch.testing.assert_close(found, flat(theta) - point, rtol=1e-12, atol=1e-13)
