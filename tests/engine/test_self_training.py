"""DaMSTF: what is hidden is hidden, and pseudo-labels count by what a step on them would do."""

from dataclasses import replace

import pytest
import torch

from fedmeta import cohort
from fedmeta.config import ConfigError
from fedmeta.inner import Inner, descend
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.methods.damstf import alignments, labelled
from fedmeta.params import add, is_head, part
from fedmeta.sections.method import MethodConfig
from fedmeta.types import Examples, Params, Task
from tests.engine.cases import VECTOR_HEADS, distance, model_of, only, problem, tasks, theta_of

SIZES = ((6, 2), (3, 2), (7, 1), (1, 2))
LABELLED = (3, 2, 4, 1)
every_head = pytest.mark.parametrize("head", VECTOR_HEADS)
both = pytest.mark.parametrize("dual", [False, None])


def inner(share: float = 0.5, weight: float = 0.5) -> Inner:
    return Inner(0.6, 4, options=MethodConfig(unlabelled_share=share, pseudo_weight=weight))


def sent(task: Task, settings: Inner, dual: bool | None, head: str, name: str = "damstf") -> Params:
    method, model = METHODS[name], model_of(head)
    theta = part(theta_of(METHODS["damstf"], model, 71), is_head)  # no adversary: see its tests
    return cohort.contribute(method, model, theta, task, settings, dual=dual).total


def with_labels(task: Task, y: torch.Tensor) -> Task:
    return task._replace(support=task.support._replace(y=y))


@every_head
@both
def test_weight_zero_is_training_on_the_labelled_part(head: str, dual: bool | None) -> None:
    task = tasks(71, SIZES)
    kept = torch.arange(7) < torch.tensor(LABELLED)[:, None]
    alone = task.support._replace(weight=kept.double() / torch.tensor(LABELLED)[:, None])
    expected = sent(task._replace(support=alone), inner(), dual, head, "fedavg")
    assert distance(sent(task, inner(weight=0.0), dual, head), expected) < 1e-12
    assert distance(sent(task, inner(weight=0.5), dual, head), expected) > 1e-2
    full = sent(task, inner(), dual, head, "fedavg")
    assert distance(sent(task, inner(share=0.0), dual, head), full) < 1e-12


@every_head
@both
def test_hidden_labels_are_hidden(head: str, dual: bool | None) -> None:
    task = tasks(72, SIZES)
    hidden = torch.arange(7) >= torch.tensor(LABELLED)[:, None]
    other = torch.where(hidden[:, None], task.support.y.roll(1, 1), task.support.y)
    assert not torch.equal(other, task.support.y)
    expected = sent(task, inner(), dual, head)
    assert distance(sent(with_labels(task, other), inner(), dual, head), expected) == 0.0
    seen = torch.where(hidden[:, None], task.support.y, task.support.y.roll(1, 1))
    assert distance(sent(with_labels(task, seen), inner(), dual, head), expected) > 1e-2


def test_share_that_is_hidden() -> None:
    for count in range(9):
        weight = (torch.arange(10) < count).double()
        for share in (0.0, 0.3, 0.5, 0.9):
            found = labelled(weight, share)
            assert int(found.sum()) == count - int(count * share)
            assert not found[int(found.sum()) :].any()


@every_head
def test_alignments_by_finite_differences(head: str) -> None:
    """They are minus the slope of the labelled loss in the weight of an example's own step."""
    model = model_of(head)
    learner, theta = Primal(model), theta_of(METHODS["damstf"], model, 73)
    mine = only(tasks(73, ((5, 4),)), 0)
    known, guessed = mine.support, mine.query
    found = alignments(learner, theta, known, guessed)
    for j in range(4):
        alone = torch.zeros(4, dtype=torch.float64)
        alone[j] = 1.0
        step = learner.grad(theta, guessed._replace(weight=alone))
        ends = [float(learner.loss(add(theta, step, -h), known)) for h in (1e-5, -1e-5)]
        assert float(found[j]) == pytest.approx(-(ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-9)
    assert found.min() < 0 < found.max()


@every_head
def test_the_whole_of_it_step_by_step(head: str) -> None:
    # So large a rate that some pseudo-labels are bad ones, which must not count at all.
    model, task, settings = model_of(head), tasks(79, ((12, 0),)), replace(inner(), rate=15.0)
    task.support.x[:, 9:] = -4.0 * task.support.x[:, :3]
    learner, theta = Primal(model), part(theta_of(METHODS["damstf"], model, 79), is_head)
    x, y, _ = only(task, 0).support
    sixth = torch.full((6,), 1 / 6, dtype=torch.float64)
    known = Examples(x[:6], y[:, :6], sixth)
    phi = descend(learner, theta, known, settings)
    pseudo = torch.softmax(learner.logits(phi, Examples(x[6:], y[:, 6:], sixth)), 0)
    pull = alignments(learner, theta, known, Examples(x[6:], pseudo, sixth))
    assert pull.min() < 0 < pull.max()
    good = torch.where(pull > 0, pull, 0.0)
    weight = torch.cat([sixth, 0.5 * good / good.sum()])
    joint = Examples(x, torch.cat([y[:, :6], pseudo], 1), weight)
    phi = descend(learner, theta, joint, settings)
    expected = {name: theta[name] - phi[name] for name in theta}
    for dual in (False, None):
        assert distance(sent_at(theta, task, settings, dual, head), expected) < 1e-12


def sent_at(theta: Params, task: Task, settings: Inner, dual: bool | None, head: str) -> Params:
    method = METHODS["damstf"]
    return cohort.contribute(method, model_of(head), theta, task, settings, dual=dual).total


def test_minibatches_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"set method\.batch = 0"):
        problem(method__name="damstf", method__batch=5)
    settings = replace(inner(), batch=2)
    task = tasks(75, ((4, 2),))
    assert distance(sent(task, settings, True, "mlp"), sent(task, inner(), True, "mlp")) == 0.0
