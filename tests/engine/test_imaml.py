"""iMAML: the implicit gradient in closed form, and as the limit of a long unrolled loop."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedmeta import cohort
from fedmeta.inner import Inner, descend
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.sections.method import MethodConfig
from tests.engine.cases import FEATURES, distance, flat, model_of, one_by_one, only, tasks, theta_of
from tests.engine.test_closed_forms import sent, setting

both_forms = pytest.mark.parametrize("dual", [False, True])


def settings(rate: float, steps: int, **options: float) -> Inner:
    return Inner(rate, steps, options=MethodConfig.model_validate(options))


@both_forms
@pytest.mark.parametrize("damping", [0.0, 0.7])
def test_quadratic(damping: float, dual: bool) -> None:
    weight = 0.4
    _, theta, _, support, query = setting("imaml")
    eye = torch.eye(FEATURES + 1, dtype=torch.float64)
    phi = torch.linalg.solve(support.hessian + weight * eye, support.linear + weight * flat(theta))
    system = eye + support.hessian / (weight + damping)
    expected = torch.linalg.solve(system, query.grad(phi))
    inner = settings(0.5, 400, imaml_lambda=weight, cg_steps=FEATURES + 1, cg_damping=damping)
    torch.testing.assert_close(sent("imaml", inner, dual), expected, rtol=1e-9, atol=1e-10)
    few = replace(inner, options=inner.options.model_copy(update={"cg_steps": 1}))
    assert float((sent("imaml", few, dual) - expected).norm() / expected.norm()) > 1e-4


@both_forms
def test_more_steps_than_there_are_directions(dual: bool) -> None:
    """The residual becomes zero, and nothing is divided by it; nor where there is no support."""
    found = [sent("imaml", settings(0.5, 50, cg_steps=steps), dual) for steps in (FEATURES + 1, 60)]
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-10)
    model, task = model_of("mlp"), tasks(3, [(0, 4), (3, 0)])
    theta = theta_of(METHODS["imaml"], model, 3)
    update = cohort.contribute(METHODS["imaml"], model, theta, task, settings(0.3, 5), dual=dual)
    assert update.finite.all()


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_limit_of_a_long_unrolled_loop(head: str) -> None:
    """Autograd through 80 steps of the proximal descent, each of them differentiated.

    The proximal weight is such that no unit of the MLP ends up at the kink of its relu, where
    there is no Hessian.
    """
    model, mine, weight = model_of(head), only(tasks(4, [(5, 4)]), 0), 4.0
    theta, learner = theta_of(METHODS["imaml"], model, 4), Primal(model)
    inner = settings(0.15, 80, imaml_lambda=weight, cg_steps=40, cg_damping=0.0)

    def unrolled(start: dict[str, Tensor]) -> Tensor:
        phi = descend(learner, start, mine.support, replace(inner, mu=weight))
        return learner.loss(phi, mine.query)

    expected = torch.func.grad(unrolled)(theta)
    found = one_by_one(METHODS["imaml"], model, theta, tasks(4, [(5, 4)]), inner)
    assert distance(found, expected) < 1e-9
    first = settings(0.15, 80, imaml_lambda=weight, cg_steps=0)
    assert distance(cohort_of(first, head), expected) > 1e-2


def cohort_of(inner: Inner, head: str) -> dict[str, Tensor]:
    model = model_of(head)
    theta = theta_of(METHODS["imaml"], model, 4)
    return dict(cohort.contribute(METHODS["imaml"], model, theta, tasks(4, [(5, 4)]), inner).total)


@both_forms
def test_negative_curvature_is_passed_over(dual: bool) -> None:
    """With a weak proximal term an MLP's system is not positive definite."""
    model, task = model_of("mlp"), tasks(5)
    theta = theta_of(METHODS["imaml"], model, 5)
    inner = settings(0.3, 2, imaml_lambda=1e-3, cg_steps=12, cg_damping=0.0)
    update = cohort.contribute(METHODS["imaml"], model, theta, task, inner, dual=dual)
    assert update.finite.all()


@both_forms
def test_no_products_leave_the_first_order(dual: bool) -> None:
    """A large proximal weight holds users at theta and turns the system into the identity."""
    model, task = model_of("mlp"), tasks(6)
    theta = theta_of(METHODS["imaml"], model, 6)
    near = settings(1e-8, 4, imaml_lambda=1e7)
    found = cohort.contribute(METHODS["imaml"], model, theta, task, near, dual=dual).total
    still = one_by_one(METHODS["fomaml"], model, theta, task, Inner(0.0, 1))
    assert distance(found, still) < 1e-5
