"""Per-FedAvg: its batches, its reduction to FOMAML, its limit, and quadratics in closed form."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from fedmeta import cohort
from fedmeta.inner import Inner
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.methods.per_fedavg import BATCHES, hands
from fedmeta.sections.method import MethodConfig
from fedmeta.types import Examples, Params, Task
from tests.engine.cases import distance, flat, model_of, one_by_one, only, tasks, theta_of
from tests.engine.test_closed_forms import Quadratic

METHOD = METHODS["per-fedavg"]
RATE, BETA = 0.4, 0.3
both_forms = pytest.mark.parametrize("dual", [False, True])
every_head = pytest.mark.parametrize("head", ["linear", "mlp"])


def settings(batch: int = 0, **options: float) -> Inner:
    given = {"local_rate": BETA, "local_steps": 1} | options
    return Inner(RATE, 1, batch, options=MethodConfig.model_validate(given))


def sent(head: str, task: Task, inner: Inner, dual: bool | None, kind: str) -> Params:
    model = model_of(head, kind)
    theta = theta_of(METHOD, model, 5)
    return cohort.contribute(METHOD, model, theta, task, inner, dual=dual).total


@pytest.mark.parametrize("number", [0, 1, 5])
def test_hands_are_disjoint_and_cover_the_user(number: int) -> None:
    learner, mine = Primal(model_of("linear")), tasks(1, [(7, 1), (9, 1)])
    for user, size in ((0, 7), (1, 9)):
        support = Examples(*(field[user] for field in mine.support))
        dealt = hands(learner, support, number, 0)
        taken = torch.stack([hand.weight > 0 for hand in dealt])
        assert len(dealt) == BATCHES
        assert (taken.sum(0) == (support.weight > 0)).all()
        assert taken.sum(1).min() >= size // 3
        assert [float(hand.weight.sum()) for hand in dealt] == pytest.approx([1.0] * BATCHES)


def test_hands_take_turns_and_minibatches_go_on() -> None:
    learner, support = Primal(model_of("linear")), only(tasks(2, [(12, 1)]), 0).support
    first, second = (hands(learner, support, number, 0) for number in (0, 1))
    torch.testing.assert_close(second[1].weight, first[0].weight)
    dealt = [b for number in (0, 1) for b in hands(learner, support, number, 2)]
    torch.testing.assert_close(torch.cat([b.x for b in dealt]), support.x)


def test_users_with_few_examples_take_all_of_them() -> None:
    learner, support = Primal(model_of("linear")), tasks(3, [(2, 1), (0, 1), (4, 1)]).support
    dealt = hands(learner, support, 0, 0)
    assert [(hand.weight > 0).sum(1).tolist() for hand in dealt] == [
        [1, 0, 2],
        [1, 0, 1],
        [2, 0, 1],
    ]
    assert all(hand.weight.isfinite().all() for hand in dealt)


@both_forms
@every_head
def test_one_step_of_first_order_is_fomaml(head: str, dual: bool) -> None:
    """FOMAML with support D and query D' under an SGD server whose rate is beta."""
    model, task = model_of(head), tasks(4, [(8, 0), (5, 0)])
    theta, learner = theta_of(METHOD, model, 5), Primal(model)
    expected: dict[str, Tensor] = {}
    for user in range(2):
        d, d1, _ = hands(learner, only(task, user).support, 0, 0)
        fomaml = METHODS["fomaml"].contribute
        assert fomaml is not None
        part = fomaml(learner, theta, Task(d, d1), Inner(RATE, 1))
        expected = {
            name: expected.get(name, torch.zeros_like(g)) + BETA * g for name, g in part.items()
        }
    found = sent(head, task, settings(), dual, "classification")
    assert distance(found, expected) < 1e-12
    assert distance(sent(head, task, settings(local_steps=3), dual, "classification"), found) > 0.1


@both_forms
@pytest.mark.parametrize("steps", [1, 3])
def test_differences_tend_to_the_second_order(steps: int, dual: bool) -> None:
    """To exact MAML's gradient where D'' is D: with a minibatch of all examples it is."""
    model, task = model_of("linear"), tasks(6, [(6, 0)])
    mine = only(task, 0)
    theta, same = theta_of(METHOD, model, 5), Task(mine.support, mine.support)
    stacked = Task(*(Examples(*(field[None] for field in side)) for side in same))
    maml = one_by_one(METHODS["maml"], model, theta, stacked, Inner(RATE, steps))
    expected = {name: BETA * g for name, g in maml.items()}
    errors = []
    for delta in (0.4, 0.2, 0.1, 1e-4):
        options = {"local_rate": BETA, "local_steps": 1, "hessian_free": True, "difference": delta}
        inner = Inner(RATE, steps, 6, options=MethodConfig.model_validate(options))
        found = cohort.contribute(METHOD, model, theta, task, inner, dual=dual).total
        errors.append(distance(found, expected))
    assert errors[3] < 1e-8
    for coarse, fine in pairwise(errors[:3]):
        assert 3.5 < coarse / fine < 4.5  # central differences: quadratic in delta
    first = Inner(RATE, steps, 6, options=MethodConfig(local_rate=BETA, local_steps=1))
    without = cohort.contribute(METHOD, model, theta, task, first, dual=dual).total
    assert distance(without, expected) > 1e-2


@both_forms
@pytest.mark.parametrize("hessian_free", [False, True])
def test_quadratic(hessian_free: bool, dual: bool) -> None:
    """Two local steps of two minibatches each way; differences are exact there."""
    task = tasks(7, [(12, 0)], "regression")
    mine, model = only(task, 0), model_of("linear", "regression")
    w = start = flat(theta_of(METHOD, model, 5))
    for number in range(2):
        d, d1, d2 = (
            Quadratic(
                Examples(
                    mine.support.x[2 * at : 2 * at + 2],
                    mine.support.y[:, 2 * at : 2 * at + 2],
                    torch.full((2,), 0.5, dtype=torch.float64),
                )
            )
            for at in range(3 * number, 3 * number + 3)
        )
        g = d1.grad(w - RATE * d.grad(w))
        w = w - BETA * (g - RATE * d2.hessian @ g if hessian_free else g)
    inner = settings(2, local_steps=2, hessian_free=hessian_free)
    found = flat(sent("linear", task, inner, dual, "regression"))
    torch.testing.assert_close(found, start - w, rtol=1e-11, atol=1e-12)


def test_a_newcomer_takes_one_step() -> None:
    assert METHOD.defaults.steps == 1
    model, task = model_of("mlp"), tasks(8)
    theta, mine = theta_of(METHOD, model, 5), only(task, 0)
    g = Primal(model).grad(theta, mine.support)
    phi = METHOD.adapt(Primal(model), theta, mine, Inner(RATE, METHOD.defaults.steps))
    assert distance(phi, {name: theta[name] - RATE * g[name] for name in g}) < 1e-14
