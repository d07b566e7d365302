"""pFedMe and Ditto against closed forms and what they reduce to."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedmeta import cohort, loop
from fedmeta.cohort import Trial
from fedmeta.config import ConfigError
from fedmeta.inner import Inner
from fedmeta.learner import Model, Primal
from fedmeta.methods import METHODS
from fedmeta.methods.method import held
from fedmeta.params import add, as_own, owned
from fedmeta.sections.method import MethodConfig
from fedmeta.types import Examples, Params, Task
from tests.engine.cases import (
    FEATURES,
    SIZES,
    VECTOR_HEADS,
    distance,
    flat,
    model_of,
    only,
    problem,
    tasks,
    theta_of,
)
from tests.engine.test_closed_forms import Quadratic, setting
from tests.engine.test_owned import memory_of

every_head = pytest.mark.parametrize("head", VECTOR_HEADS)
both_forms = pytest.mark.parametrize("dual", [False, True])
EYE = torch.eye(FEATURES + 1, dtype=torch.float64)
SAME = {"method__rate": 0.8, "method__steps": 4, "server__optimizer": "sgd", "server__rate": 1.0}


def inner(rate: float, steps: int, **options: Any) -> Inner:
    return Inner(rate, steps, options=MethodConfig(**options))


def point(loss: Quadratic, w: Tensor, weight: float) -> Tensor:
    """The proximal point of w: the minimum of ``f(theta) + weight / 2 ||theta - w||^2``."""
    found: Tensor = torch.linalg.solve(loss.hessian + weight * EYE, loss.linear + weight * w)
    return found


def envelope(loss: Quadratic, w: Tensor, weight: float) -> Tensor:
    """The Moreau envelope of f at w, without the constant of f."""
    at = point(loss, w, weight)
    value: Tensor = at @ loss.hessian @ at / 2 - loss.linear @ at
    return value + weight / 2 * (at - w).square().sum()


@both_forms
def test_pfedme_sends_the_gradient_of_the_moreau_envelope(dual: bool) -> None:
    model, theta, task, support, _ = setting("pfedme")
    weight, eta, w = 1.7, 0.04, flat(theta)
    given = inner(0.5, 90, pfedme_lambda=weight, pfedme_rate=eta, local_rounds=1)
    sent = cohort.contribute(METHODS["pfedme"], model, theta, task, given, dual=dual)
    closed = weight * (w - point(support, w, weight))
    torch.testing.assert_close(flat(sent.total) / eta, closed, rtol=1e-10, atol=1e-12)
    step = 1e-4
    slopes = [
        (envelope(support, w + step * e, weight) - envelope(support, w - step * e, weight))
        / (2 * step)
        for e in EYE
    ]
    torch.testing.assert_close(closed, torch.stack(slopes), rtol=1e-7, atol=1e-9)
    assert float((closed - support.grad(w)).norm()) > 0.1 * float(closed.norm())  # not f's own


def test_pfedme_takes_steps_that_shorten_the_way() -> None:
    assert problem(method__name="pfedme", method__pfedme_lambda=15.0).train.options.pfedme_rate == 0
    with pytest.raises(ConfigError, match=r"rate = 0\.2 times .* = 15 is 3; .* use 0\.0666667 or"):
        problem(method__name="pfedme", method__pfedme_lambda=15.0, method__pfedme_rate=0.2)
    model, theta, task, _, _ = setting("pfedme")
    a, b = (
        cohort.contribute(METHODS["pfedme"], model, theta, task, given).total
        for given in (
            inner(0.3, 2, pfedme_lambda=4.0),
            inner(0.3, 2, pfedme_lambda=4.0, pfedme_rate=0.125),
        )
    )
    assert distance(a, b) == 0.0


@both_forms
def test_pfedme_by_hand(dual: bool) -> None:
    """Few steps, several local rounds; theta goes on from where it was, w follows."""
    model, theta, task, support, _ = setting("pfedme")
    weight, eta, rate = 2.5, 0.11, 0.4
    w = personal = flat(theta)
    for _ in range(3):
        for _ in range(2):  # implicit in the proximal term
            personal = (personal - rate * support.grad(personal) + rate * weight * w) / (
                1 + rate * weight
            )
        w = w - eta * weight * (w - personal)
    given = inner(rate, 2, pfedme_lambda=weight, pfedme_rate=eta, local_rounds=3)
    sent = cohort.contribute(METHODS["pfedme"], model, theta, task, given, dual=dual)
    torch.testing.assert_close(flat(sent.total), flat(theta) - w, rtol=1e-12, atol=1e-13)


def test_pfedme_solves_one_minibatch_in_a_local_round() -> None:
    model, theta, task, _, _ = setting("pfedme")
    mine = only(task, 0).support
    w = personal = flat(theta)
    for turn in range(2):
        at = torch.arange(turn * 2, turn * 2 + 2)
        half = torch.full((2,), 0.5, dtype=torch.float64)
        loss = Quadratic(Examples(mine.x[at], mine.y[:, at], half))
        for _ in range(3):
            personal = (personal - 0.4 * loss.grad(personal) + 0.4 * w) / 1.4
        w = w - 0.2 * (w - personal)
    given = inner(0.4, 3, pfedme_lambda=1.0, pfedme_rate=0.2, local_rounds=2)
    sent = cohort.contribute(METHODS["pfedme"], model, theta, task, replace(given, batch=2))
    torch.testing.assert_close(flat(sent.total), flat(theta) - w, rtol=1e-12, atol=1e-13)


def personalized(
    name: str, model: Model, theta: Params, task: Task, given: Inner, shots: int = 99
) -> Tensor:
    return cohort.predict(METHODS[name], model, theta, task, [Trial(given, shots)])[0]


@pytest.mark.parametrize("name", ["pfedme", "ditto"])
def test_newcomers_take_the_proximal_point(name: str) -> None:
    model, theta, task, support, _ = setting(name)
    weight = 0.9
    given = inner(0.6, 90, **{f"{name}_lambda": weight})
    phi = METHODS[name].adapt(Primal(model), held(METHODS[name], theta, {}), only(task, 0), given)
    expected = point(support, flat(theta), weight)
    torch.testing.assert_close(flat(phi), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["pfedme", "ditto"])
def test_momentum_is_of_the_losss_gradient_alone(name: str) -> None:
    model, theta, task, support, _ = setting(name)
    weight, rate, momentum = 0.9, 0.4, 0.6
    w = v = flat(theta)
    velocity = torch.zeros_like(v)
    for _ in range(3):
        velocity = momentum * velocity + support.grad(v)
        v = (v - rate * velocity + rate * weight * w) / (1 + rate * weight)
    given = replace(inner(rate, 3, **{f"{name}_lambda": weight}), momentum=momentum)
    phi = METHODS[name].adapt(Primal(model), held(METHODS[name], theta, {}), only(task, 0), given)
    torch.testing.assert_close(flat(phi), v, rtol=1e-12, atol=1e-13)


def ditto_round(head: str, theta: Params, task: Task, given: Inner, memory: Params) -> Params:
    found = cohort.contribute(METHODS["ditto"], model_of(head), theta, task, given, memory=memory)
    return found.kept


def test_ditto_is_held_near_the_common_model_wherever_it_was() -> None:
    """With enough steps v is the proximal point of w, though it began at what the user kept."""
    model, theta, task, support, _ = setting("ditto")
    method, weight = METHODS["ditto"], 0.6
    other = {n: v + 1.0 for n, v in theta.items()}
    memory = {n: v[None] for n, v in as_own(other).items()}
    given = inner(0.8, 110, ditto_lambda=weight)
    kept = cohort.contribute(method, model, theta, task, given, memory=memory).kept
    expected = point(support, flat(theta), weight)
    torch.testing.assert_close(flat(kept), expected, rtol=1e-9, atol=1e-11)
    one = cohort.contribute(method, model, theta, task, replace(given, steps=1), memory=memory)
    v = flat(other)
    after = flat(one.kept)  # the step is explicit in f and implicit in the proximal term
    by_rule = v - 0.8 * (support.grad(v) + weight * (after - flat(theta)))
    torch.testing.assert_close(after, by_rule, rtol=1e-12, atol=1e-13)


@every_head
def test_ditto_with_lambda_0_is_local(head: str) -> None:
    """Over several rounds, in which the common model goes its way, v descends as if alone."""
    model, task, steps = model_of(head), tasks(71), 3
    theta: Params = theta_of(METHODS["ditto"], model, 71)
    given, start = inner(0.5, steps, ditto_lambda=0.0), theta
    memory = {n: v.expand(len(SIZES), *v.shape) for n, v in as_own(theta).items()}
    for _ in range(3):
        found = cohort.contribute(METHODS["ditto"], model, theta, task, given, memory=memory)
        theta = add(theta, found.total, -1 / len(SIZES))
        memory = dict(found.kept)
    assert distance(theta, start) > 0.05
    for user in range(len(SIZES)):
        alone = METHODS["local"].adapt(
            Primal(model), start, only(task, user), replace(given, steps=3 * steps)
        )
        assert distance({n: v[user] for n, v in owned(memory).items()}, alone) < 1e-12
    a, b = (personalized(n, model, start, task, given) for n in ("ditto", "local"))
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@every_head
def test_ditto_with_a_large_lambda_is_fedavg(head: str) -> None:
    model, task = model_of(head), tasks(72)
    theta = theta_of(METHODS["ditto"], model, 72)
    memory = memory_of("ditto", theta, 72)
    gaps = []
    for weight in (0.0, 0.5, 5.0, 1e3, 1e12):
        kept = ditto_round(head, theta, task, inner(0.7, 5, ditto_lambda=weight), memory)
        at_w = {n: v.expand(len(SIZES), *v.shape) for n, v in theta.items()}
        gaps.append(distance(owned(kept), at_w))
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.1
    assert gaps[-1] < 1e-11
    given = inner(0.7, 5, ditto_lambda=1e12)
    a, b = (personalized(n, model, theta, task, given) for n in ("ditto", "fedavg"))
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@every_head
@pytest.mark.parametrize("name", ["ditto", "apfl"])
def test_the_common_model_is_fedavgs_bit_for_bit(name: str, head: str) -> None:
    given = SAME | {"method__momentum": 0.5, "method__batch": 3}
    runs = [problem(method__name=n, head__name=head, **given) for n in (name, "fedavg")]
    for mine, theirs in zip(*(list(loop.train(run)) for run in runs), strict=True):
        assert all(torch.equal(mine.meta[n], v) for n, v in theirs.meta.items())
