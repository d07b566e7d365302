"""Alpha MAML: both rates by their formulas, and what they are for: wrong ones get right."""

import pytest
import torch

from fedmeta import cohort
from fedmeta.inner import Inner
from fedmeta.methods import METHODS
from fedmeta.methods.alpha_maml import ALPHA, alpha_of, squashed
from fedmeta.methods.method import Setup
from fedmeta.outer import advance, begin
from fedmeta.problem import initial
from fedmeta.sections.run import ServerConfig
from fedmeta.types import Task
from tests.engine.cases import FEATURES, distance, flat, model_of, problem, tasks, theta_of
from tests.engine.test_closed_forms import setting
from tests.engine.test_gradients import differences

METHOD = METHODS["alpha-maml"]
both_forms = pytest.mark.parametrize("dual", [False, True])


@both_forms
def test_one_step_on_a_quadratic(dual: bool) -> None:
    """``d loss / d u = -s alpha grad L_S(theta) . grad L_Q(phi)``, and MAML's gradient."""
    model, theta, task, support, query = setting("alpha-maml")
    head = flat({name: value for name, value in theta.items() if "/" not in name})
    inner = Inner(9.0, 1)
    alpha, speed = float(alpha_of(theta, inner)), inner.options.alpha_speed
    g = query.grad(head - alpha * support.grad(head))
    found = cohort.contribute(METHOD, model, theta, task, inner, dual=dual).total
    slope = float(squashed(-speed * alpha * (support.grad(head) @ g)))
    assert float(found[ALPHA]) == pytest.approx(slope, rel=1e-12)
    shrink = torch.eye(FEATURES + 1, dtype=torch.float64) - alpha * support.hessian
    rest = flat({name: value for name, value in found.items() if name != ALPHA})
    torch.testing.assert_close(rest, shrink @ g, rtol=1e-12, atol=1e-13)


@both_forms
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_many_steps(head: str, dual: bool) -> None:
    model, task, inner = model_of(head), tasks(5, [(4, 3)]), Inner(0.7, 4, batch=2)
    theta = theta_of(METHOD, model, 5)
    expected = differences(METHOD, model, theta, task, inner)
    expected[ALPHA] = squashed(expected[ALPHA])
    found = cohort.contribute(METHOD, model, theta, task, inner, dual=dual).total
    for name, value in expected.items():
        assert distance({name: found[name]}, {name: value}) < 1e-7


def test_alpha_starts_at_the_rate_and_is_positive() -> None:
    run = problem(method__name="alpha-maml", method__rate=0.3)
    start = initial(run)
    assert float(alpha_of(start, run.train)) == pytest.approx(0.3)
    for far in (-4.0, 4.0):
        assert float(alpha_of({ALPHA: torch.tensor(far)}, run.train)) > 0


def trained(alpha: float, beta: float, rounds: int = 80) -> tuple[float, float, float]:
    """Inner rate, outer rate and loss after adaptation at the end of a run.

    Users regress on directions of their own around a common one.
    """
    model, inner = model_of("linear", "regression"), Inner(alpha, 2)
    config = ServerConfig(optimizer="hypergradient", rate=beta)
    head = {name: v.double() for name, v in model.head.init(torch.Generator()).items()}
    setup = Setup(head, inner, FEATURES, 1, torch.Generator())
    assert METHOD.start is not None
    state = begin(METHOD.start(setup), config)
    for number in range(rounds):
        update = cohort.contribute(METHOD, model, state.meta, users(number), inner)
        mean = {name: value / update.weight for name, value in update.total.items()}
        state = advance(state, mean, config)
    task = users(-1)
    (logits,) = cohort.predict(METHOD, model, state.meta, task, [cohort.Trial(inner, 99)])
    loss = float((logits - task.query.y).square().mean())
    return float(alpha_of(state.meta, inner)), beta * float(state.outer[ALPHA][3]), loss


def users(seed: int) -> Task:
    random = torch.Generator().manual_seed(seed + 50)
    task = tasks(seed + 50, [(8, 8)] * 10, "regression")
    own = 2.0 + torch.randn(10, 1, FEATURES, generator=random, dtype=torch.float64)
    return Task(*(side._replace(y=own @ side.x.mT) for side in task))


@pytest.mark.parametrize("wrong", [(0.1, 1.0), (10.0, 1.0), (1.0, 0.1), (1.0, 10.0)])
def test_it_recovers_from_a_rate_that_is_ten_times_wrong(wrong: tuple[float, float]) -> None:
    """Too small or too large, inner or outer: the run ends about where the right one does."""
    alpha, _, good = trained(1.0, 0.04)
    inner, outer = wrong
    found, beta, loss = trained(inner, 0.04 * outer)
    assert 0.67 < found / alpha < 1.5
    assert loss < (1.25 if inner == 1.0 else 2.5) * good
    assert beta > 0.04
    assert outer != 10.0 or beta < 0.4
