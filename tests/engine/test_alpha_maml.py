"""Alpha MAML: both rates by their formulas, and what they are for: wrong ones get right."""

import math

import pytest
import torch

from fedmeta import cohort
from fedmeta.inner import Inner
from fedmeta.methods import METHODS
from fedmeta.methods.alpha_maml import LOG_ALPHA
from tests.engine.cases import FEATURES, distance, flat, model_of, tasks, theta_of
from tests.engine.test_closed_forms import setting
from tests.engine.test_gradients import differences

METHOD = METHODS["alpha-maml"]
both_forms = pytest.mark.parametrize("dual", [False, True])


@both_forms
def test_one_step_on_a_quadratic(dual: bool) -> None:
    """``d loss / d log alpha = -alpha grad L_S(theta) . grad L_Q(phi)``, and MAML's gradient."""
    model, theta, task, support, query = setting("alpha-maml")
    head = flat({name: value for name, value in theta.items() if "/" not in name})
    alpha = float(theta[LOG_ALPHA].exp())
    g = query.grad(head - alpha * support.grad(head))
    found = cohort.contribute(METHOD, model, theta, task, Inner(9.0, 1), dual=dual).total
    slope = -alpha * float(support.grad(head) @ g)
    assert float(found[LOG_ALPHA]) == pytest.approx(slope, rel=1e-12)
    shrink = torch.eye(FEATURES + 1, dtype=torch.float64) - alpha * support.hessian
    rest = flat({name: value for name, value in found.items() if name != LOG_ALPHA})
    torch.testing.assert_close(rest, shrink @ g, rtol=1e-12, atol=1e-13)


@both_forms
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_many_steps(head: str, dual: bool) -> None:
    model, task, inner = model_of(head), tasks(5, [(4, 3), (5, 2)]), Inner(0.7, 4, batch=2)
    theta = theta_of(METHOD, model, 5)
    expected = differences(METHOD, model, theta, task, inner)
    found = cohort.contribute(METHOD, model, theta, task, inner, dual=dual).total
    for name, value in expected.items():
        assert distance({name: found[name]}, {name: value}) < 1e-7


def test_alpha_starts_at_the_rate_and_is_positive() -> None:
    from fedmeta.problem import initial
    from tests.engine.cases import problem

    start = initial(problem(method__name="alpha-maml", method__rate=0.3))
    assert float(start[LOG_ALPHA].exp()) == pytest.approx(0.3)
    assert float(torch.tensor(-50.0).exp()) > 0 < math.exp(-50)
