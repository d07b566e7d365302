"""MAML++: its schedules by their formulas, its gradients by finite differences."""

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from fedmeta import cohort
from fedmeta.inner import Inner
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.methods.maml_pp import step_weights
from fedmeta.methods.method import Setup
from fedmeta.params import subtract
from fedmeta.sections.method import MethodConfig
from fedmeta.types import Params
from tests.engine.cases import distance, model_of, one_by_one, only, select, tasks, theta_of

METHOD = METHODS["maml-pp"]
STEPS, SHIFT = 3, 1e-5
both_forms = pytest.mark.parametrize("dual", [False, True])
every_head = pytest.mark.parametrize("head", ["linear", "mlp"])


def settings(progress: float = 0.0, **options: float) -> Inner:
    return Inner(0.5, STEPS, options=MethodConfig.model_validate(options), progress=progress)


@pytest.mark.parametrize("epochs", [10, 50])
def test_weights_of_the_steps_by_their_formula(epochs: int) -> None:
    """By epochs e of E in which the losses of all steps count, as published.

    Of 50, the last two are at the floor.
    """
    steps = 5
    for e in range(2 * epochs):
        if e < epochs:
            early = max(1 / steps - e / (steps * epochs), 0.03 / steps)
            last = min(
                1 / steps + e * (steps - 1) / (steps * epochs), 1 - (steps - 1) * 0.03 / steps
            )
        else:
            early, last = 0.0, 1.0
        found = step_weights(steps, e / (4 * epochs), 0.25)
        assert found == pytest.approx([early] * (steps - 1) + [last], rel=1e-12)
        assert sum(found) == pytest.approx(1.0)
    assert step_weights(3, 0.0, 0.0) == [0.0, 0.0, 1.0]
    assert step_weights(1, 0.0, 0.5) == [1.0]


@both_forms
@every_head
@pytest.mark.parametrize("progress", [0.0, 0.2, 0.6])
def test_meta_gradient_of_all_steps(progress: float, head: str, dual: bool) -> None:
    """Finite differences of the weighted losses, for the head and for every single rate."""
    model, task = model_of(head), tasks(5, [(4, 3)])
    theta, mine, learner = theta_of(METHOD, model, 5), only(task, 0), Primal(model)
    inner = settings(progress, multi_step_share=0.5)
    weights = step_weights(STEPS, progress, 0.5)

    def outer_loss(at: Params) -> Tensor:
        phi, total = at, torch.zeros((), dtype=torch.float64)
        for step, weight in enumerate(weights):
            g = learner.grad(phi, mine.support)
            rates = {name: at[f"rate/{name.partition('.')[0]}"][step] for name in g}
            phi = {n: v - rates[n] * g[n] if n in g else v for n, v in phi.items()}
            total = total + weight * learner.loss(phi, mine.query)
        return total

    expected = {}
    for name, value in theta.items():
        shifts = SHIFT * torch.eye(value.numel(), dtype=value.dtype).view(-1, *value.shape)

        def moved(by: Tensor, name: str = name, value: Tensor = value) -> Tensor:
            return outer_loss({**theta, name: value + by})

        slope = (vmap(moved)(shifts) - vmap(moved)(-shifts)) / (2 * SHIFT)
        expected[name] = slope.view_as(value)
    found = cohort.contribute(METHOD, model, theta, task, inner, dual=dual).total
    for name, value in expected.items():
        assert distance({name: found[name]}, {name: value}) < 1e-7, name


@both_forms
@every_head
def test_first_order(head: str, dual: bool) -> None:
    """The head's is the query gradient; a rate's is minus its step's gradient times that."""
    model, task = model_of(head), tasks(6, [(4, 3)])
    theta, mine, learner = theta_of(METHOD, model, 6), only(task, 0), Primal(model)
    inner = settings(0.1, first_order_share=0.2, multi_step_share=0.0)
    phi: Params = theta
    steps = []
    for step in range(STEPS):
        steps.append(learner.grad(phi, mine.support))
        rates = {name: theta[f"rate/{name.partition('.')[0]}"][step] for name in steps[-1]}
        phi = subtract(phi, {name: rates[name] * value for name, value in steps[-1].items()})
    g = learner.grad(phi, mine.query)
    expected = dict(g)
    for name in theta:
        if name.startswith("rate/"):
            layer = [n for n in g if n.startswith(name.removeprefix("rate/") + ".")]
            expected[name] = torch.stack(
                [-torch.stack([(s[n] * g[n]).sum() for n in layer]).sum() for s in steps]
            )
    found = cohort.contribute(METHOD, model, theta, task, inner, dual=dual).total
    assert distance(found, expected) < 1e-12
    later = settings(0.2, first_order_share=0.2, multi_step_share=0.0)
    exact = cohort.contribute(METHOD, model, theta, task, later, dual=dual).total
    assert distance(found, exact) > 1e-2


@both_forms
@every_head
def test_with_everything_off_it_is_maml(head: str, dual: bool) -> None:
    model, task = model_of(head), tasks(7)
    off = settings(learned_rates=False, multi_step_share=0.0, first_order_share=0.0)
    start = model.head.init(torch.Generator().manual_seed(1))
    assert METHOD.start is not None
    assert METHOD.start(Setup(start, off, 6, 3, torch.Generator())).keys() == start.keys()
    theta = theta_of(METHODS["maml"], model, 7)
    found = cohort.contribute(METHOD, model, theta, task, off, dual=dual).total
    assert distance(found, one_by_one(METHODS["maml"], model, theta, task, off)) < 1e-12


def test_first_order_alone_is_fomaml() -> None:
    model, task = model_of("mlp"), tasks(8)
    inner = settings(0.5, learned_rates=False, multi_step_share=0.0, first_order_share=1.0)
    theta = theta_of(METHODS["maml"], model, 8)
    found = cohort.contribute(METHOD, model, theta, task, inner).total
    assert distance(found, one_by_one(METHODS["fomaml"], model, theta, task, inner)) < 1e-12


@both_forms
def test_steps_beyond_training_take_the_last_rate(dual: bool) -> None:
    model, task = model_of("mlp"), tasks(9, [(4, 3)])
    theta, mine, learner = theta_of(METHOD, model, 9), only(task, 0), Primal(model)
    assert {len(v) for n, v in theta.items() if "/" in n} == {STEPS}
    phi = METHOD.adapt(learner, theta, mine, settings())
    last = {n: theta[f"rate/{n.partition('.')[0]}"][-1] for n in theta if "/" not in n}
    for _ in range(2):
        g = learner.grad(phi, mine.support)
        phi = subtract(phi, {name: last[name] * value for name, value in g.items()})
    more = Inner(0.5, STEPS + 2, options=MethodConfig())
    expected = learner.logits(phi, mine.query)
    (found,) = cohort.predict(METHOD, model, theta, task, [cohort.Trial(more, 9)], dual=dual)
    torch.testing.assert_close(found[0], expected, rtol=1e-12, atol=1e-12)


def test_bias_and_weight_share_a_rate() -> None:
    """One name per layer, one number per step: what the dual form allows and the wire carries."""
    theta = theta_of(METHOD, model_of("mlp"), 10)
    assert {n: v.shape for n, v in theta.items() if "/" in n} == {
        "rate/hidden": (STEPS,),
        "rate/output": (STEPS,),
    }
    sent = one_by_one(METHOD, model_of("mlp"), theta, select(tasks(10), [0]), settings())
    assert set(sent) == set(theta)
