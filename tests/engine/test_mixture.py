"""Mixtures of experts, and scales and shifts: what they become where they are made simple."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedmeta import cohort
from fedmeta.cohort import Trial
from fedmeta.config import ConfigError
from fedmeta.heads import mmoe
from fedmeta.heads.mmoe import gates
from fedmeta.inner import Inner
from fedmeta.learner import Model, Primal
from fedmeta.losses import LOSSES
from fedmeta.methods import METHODS, Method
from fedmeta.methods.mmoe import usage_entropy
from fedmeta.params import owned, part
from fedmeta.types import Params, Task
from tests.engine.cases import (
    FEATURES,
    HIDDEN,
    INNERS,
    OUTPUTS,
    VECTOR_HEADS,
    distance,
    flat,
    model_of,
    only,
    problem,
    tasks,
    theta_of,
)
from tests.engine.test_closed_forms import RATE, Quadratic, descended
from tests.engine.test_gradients import differences

MMOE, SCALE_SHIFT = METHODS["mmoe"], METHODS["scale-shift"]
CLASSES = OUTPUTS["classification"]


def with_experts(experts: int) -> Model:
    return Model(mmoe(FEATURES, CLASSES, HIDDEN * experts, experts), LOSSES["classification"])


def as_mlp(params: Params) -> dict[str, Tensor]:
    """The parameters of a mixture of one as those of the single trunk."""
    names = {"experts.weight": "hidden.weight", "experts.bias": "hidden.bias"}
    return {
        names.get(name, name): value.squeeze(-3 if name.endswith("ts.weight") else -2)
        if name in names
        else value
        for name, value in params.items()
        if not name.startswith("gate.")
    }


@pytest.mark.parametrize("inner", INNERS)
def test_one_expert_is_the_single_trunk(inner: str) -> None:
    """MMOE with one expert is FedPer on the mlp, to the last bit, and begins where it begins."""
    model, single, task = with_experts(1), model_of("mlp"), tasks(61)
    theta = theta_of(MMOE, model, 61)
    found = cohort.contribute(MMOE, model, theta, task, INNERS[inner])
    fedper = replace(METHODS["fedper"], plain=True)
    expected = cohort.contribute(fedper, single, as_mlp(theta), task, INNERS[inner])
    total, kept = as_mlp(found.total), as_mlp(owned(found.kept))
    assert set(total) == {"hidden.weight", "hidden.bias"}
    assert all(torch.equal(total[name], expected.total[name]) for name in expected.total)
    assert all(torch.equal(kept[name], v) for name, v in owned(expected.kept).items())
    drawn = [head.init(torch.Generator().manual_seed(3)) for head in (model.head, single.head)]
    assert all(torch.equal(as_mlp(drawn[0])[name], value) for name, value in drawn[1].items())


def test_experts_are_averaged_and_gates_are_not() -> None:
    model, task = model_of("mmoe"), tasks(62)
    theta, inner = theta_of(MMOE, model, 62), INNERS["full"]
    update = cohort.contribute(MMOE, model, theta, task, inner)
    assert set(update.total) == {"experts.weight", "experts.bias"}
    private = {"own/gate.weight", "own/gate.bias", "own/output.weight", "own/output.bias"}
    assert set(update.kept) == private
    for user in range(len(task.support.weight)):
        mine = MMOE.adapt(Primal(model), theta, only(task, user), inner)
        for name, value in owned(update.kept).items():
            torch.testing.assert_close(value[user], mine[name], rtol=1e-12, atol=1e-13)
            assert float((value[user] - theta[name]).norm()) > 1e-3
    # What a user has kept is where he goes on from.
    again = cohort.contribute(MMOE, model, theta, task, inner, memory=update.kept)
    assert distance(again.total, update.total) > 1e-2


def test_mixture_by_hand() -> None:
    model, x = with_experts(2), only(tasks(63), 0).support.x
    theta = theta_of(MMOE, model, 63)
    for row in range(len(x)):
        asked = torch.softmax(theta["gate.weight"] @ x[row] + theta["gate.bias"], 0)
        hidden = [
            torch.relu(theta["experts.weight"][e] @ x[row] + theta["experts.bias"][e])
            for e in range(2)
        ]
        mixed = asked[0] * hidden[0] + asked[1] * hidden[1]
        expected = theta["output.weight"] @ mixed + theta["output.bias"]
        torch.testing.assert_close(model.head.logits(theta, x)[:, row], expected)
        assert 0.01 < float(asked[0]) < 0.99


def test_usage_entropy() -> None:
    """1 where experts are used alike, 0 where one does all; padding is not looked at."""
    model, task = with_experts(3), tasks(64)
    theta = theta_of(MMOE, model, 64)
    mine, learner = only(task, 0), Primal(model)
    even = {**theta, "gate.weight": theta["gate.weight"] * 0, "gate.bias": theta["gate.bias"] * 0}
    assert float(usage_entropy(learner, even, mine)) == pytest.approx(1.0, abs=1e-12)
    one = {**even, "gate.bias": torch.tensor([0.0, 900.0, 0.0], dtype=torch.float64)}
    assert float(usage_entropy(learner, one, mine)) == 0.0
    share = gates(theta, mine.query.x).mean(1)
    expected = float(-(share * share.log()).sum() / torch.log(torch.tensor(3.0)))
    for padded in (task, tasks(64, pad=4)):
        still = replace(MMOE, adapt=lambda _, t, *__: t, walk=None)
        found = figures_of(still, model, theta, padded, Trial(INNERS["full"], 0))["usage_entropy"]
        if padded is task:
            assert float(found[0]) == pytest.approx(expected, rel=1e-6)
        assert ((found >= 0) & (found <= 1 + 1e-12)).all()
    adapted = figures_of(MMOE, model, theta, task, Trial(INNERS["full"], 9))
    phi = MMOE.adapt(learner, theta, mine, INNERS["full"])
    assert float(adapted["usage_entropy"][0]) == pytest.approx(
        float(usage_entropy(learner, phi, mine)), rel=1e-12
    )
    assert not figures_of(METHODS["maml"], model, theta, task, Trial(INNERS["full"], 0))
    assert not cohort.answers(MMOE, model, theta, task, [Trial(INNERS["full"], 0)])[0].figures


def figures_of(
    method: Method, model: Model, theta: Params, task: Task, trial: Trial
) -> dict[str, Tensor]:
    return cohort.answers(method, model, theta, task, [trial], figures=True)[0].figures


@pytest.mark.parametrize("inner", INNERS)
def test_scale_and_shift_left_alone_are_maml_on_a_linear_head(inner: str) -> None:
    model, linear, task = model_of("scale-shift"), model_of("linear"), tasks(65)
    theta = theta_of(SCALE_SHIFT, model, 65)
    theta |= {"scale.weight": torch.ones(FEATURES).double()}
    theta |= {"scale.bias": torch.zeros(FEATURES).double()}
    found = cohort.contribute(SCALE_SHIFT, model, theta, task, INNERS[inner]).total
    output = part(theta, lambda name: name.startswith("output."))
    expected = cohort.contribute(METHODS["maml"], linear, output, task, INNERS[inner]).total
    assert distance({name: found[name] for name in expected}, expected) < 1e-12
    assert all(found[f"scale.{what}"].count_nonzero() == FEATURES for what in ("weight", "bias"))


def test_scale_and_shift_gradients_are_the_slope_of_the_query_loss() -> None:
    """By finite differences; and the inner loop moves the classifier alone."""
    model, task, inner = model_of("scale-shift"), tasks(66, [(4, 3), (5, 2)]), INNERS["momentum"]
    theta = theta_of(SCALE_SHIFT, model, 66)
    found = cohort.contribute(SCALE_SHIFT, model, theta, task, inner).total
    assert distance(found, differences(SCALE_SHIFT, model, theta, task, inner)) < 1e-8
    phi = SCALE_SHIFT.adapt(Primal(model), theta, only(task, 0), inner)
    moved = {name for name in theta if not torch.equal(phi[name], theta[name])}
    assert moved == {"output.weight", "output.bias"}


def test_scaled_and_shifted_quadratic() -> None:
    """On the squared loss it is linear regression on ``s * x + t``, known in closed form."""
    model = model_of("scale-shift", "regression")
    task: Task = tasks(67, [(6, 4)], "regression")
    theta, mine = theta_of(SCALE_SHIFT, model, 67), only(task, 0)
    seen = [
        Quadratic(side._replace(x=side.x * theta["scale.weight"] + theta["scale.bias"]))
        for side in mine
    ]
    start = flat(part(theta, lambda name: name.startswith("output.")))
    g = seen[1].grad(descended(start, seen[0], 3))
    for _ in range(3):
        g = g - RATE * seen[0].hessian @ g
    found = cohort.contribute(SCALE_SHIFT, model, theta, task, Inner(RATE, 3)).total
    torch.testing.assert_close(
        flat(part(found, lambda name: name.startswith("output."))), g, rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("name", ["mmoe", "scale-shift"])
def test_the_method_chooses_its_head(name: str) -> None:
    assert problem(method__name=name).config.head.name == name
    assert problem(method__name=name, head__name=name).config.head.name == name
    for head in VECTOR_HEADS:
        if head != name:
            with pytest.raises(ConfigError, match=f"use head.name = '{name}'"):
                problem(method__name=name, head__name=head)
    assert problem(method__name="maml").config.head.name == "mlp"
