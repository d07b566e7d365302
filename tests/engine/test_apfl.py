"""APFL: gradients of all that moves against finite differences, and what it reduces to."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedmeta.inner import Inner
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.methods.apfl import OFFSET, mixture
from fedmeta.params import OWN, as_own, is_head, owned, part, subtract
from fedmeta.types import Params, Task
from tests.engine.cases import distance, model_of, only, select, tasks, theta_of
from tests.engine.test_owned import memory_of
from tests.engine.test_personal_objectives import every_head, inner, personalized


def apfl(
    head: str, given: Inner, alpha: float, seed: int = 73
) -> tuple[Primal, Task, Params, Params, Params, float]:
    """One user's step of APFL from a w, a v and an alpha that differ; what he sends and keeps."""
    model, task = model_of(head), only(select(tasks(seed), [0]), 0)
    w = theta_of(METHODS["apfl"], model, seed)
    v = part(owned({n: x[0] for n, x in memory_of("apfl", w, seed).items()}), is_head)
    offset = torch.tensor(alpha - given.options.mix, dtype=torch.float64)
    mine = {**w, **as_own({**v, OFFSET: offset})}
    contribute = METHODS["apfl"].contribute
    assert contribute is not None
    sent = contribute(Primal(model), mine, task, given)
    after = float(sent[OWN + OFFSET]) + given.options.mix
    return Primal(model), task, w, v, sent, after


@every_head
def test_apfl_gradients(head: str) -> None:
    alpha, given = 0.3, inner(0.5, 1, mix=0.6, mix_rate=0.01)
    learner, task, w, v, sent, after = apfl(head, given, alpha)

    def loss(share: float, personal: Params) -> Tensor:
        at = torch.tensor(share, dtype=torch.float64)
        return learner.loss(mixture(w, personal, at), task.support)

    step = 1e-5
    slope = (loss(alpha + step, v) - loss(alpha - step, v)) / (2 * step)
    assert abs(float(slope)) > 1e-2
    assert (alpha - after) / 0.01 == pytest.approx(float(slope), rel=1e-7)
    for_v = learner.through(lambda free: loss(alpha, free), v)  # carries the factor alpha
    kept = part(owned(sent), is_head)
    assert distance(subtract(v, kept), {n: 0.5 * g for n, g in for_v.items()}) < 1e-12
    for_w = learner.grad(w, task.support)  # not at the mixture
    assert distance(part(sent, is_head), {n: 0.5 * g for n, g in for_w.items()}) < 1e-12


def walked(
    learner: Primal, task: Task, start: tuple[Params, Params, float], given: Inner, shared: bool
) -> tuple[Params, Params, float]:
    """The steps by autograd alone; ``shared``: whether w takes FedAvg's beside those of v."""
    w, v, alpha = start
    of_w, of_v = ({n: torch.zeros_like(x) for n, x in side.items()} for side in (w, v))
    for _ in range(given.steps):
        free = {n: x.clone().requires_grad_() for n, x in v.items()}
        share = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
        mixed = {n: share * x + (1 - share) * w[n] for n, x in free.items()}
        *g_v, turn = torch.autograd.grad(learner.loss(mixed, task.support), [*free.values(), share])
        if shared:
            free_w = {n: x.clone().requires_grad_() for n, x in w.items()}
            g_w = torch.autograd.grad(learner.loss(free_w, task.support), list(free_w.values()))
            of_w = {n: given.momentum * of_w[n] + g for n, g in zip(free_w, g_w, strict=True)}
            w = {n: x - given.rate * of_w[n] for n, x in w.items()}
        of_v = {n: given.momentum * of_v[n] + g for n, g in zip(free, g_v, strict=True)}
        v = {n: x - given.rate * of_v[n] for n, x in v.items()}
        alpha = min(max(alpha - given.options.mix_rate * float(turn), 0.0), 1.0)
    return w, v, alpha


@every_head
@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_apfl_step_by_step(head: str, momentum: float) -> None:
    """Three steps of a training user, and of one who leaves w as it is but moves v and alpha."""
    given = replace(inner(0.5, 3, mix=0.6, mix_rate=0.03), momentum=momentum)
    learner, task, w, v, sent, after = apfl(head, given, 0.3)
    at_w, at_v, alpha = walked(learner, task, (w, v, 0.3), given, shared=True)
    assert after == pytest.approx(alpha, rel=1e-10)
    assert distance(part(owned(sent), is_head), at_v) < 1e-12
    assert distance(subtract(w, part(sent, is_head)), at_w) < 1e-12
    offset = torch.tensor(0.3 - 0.6, dtype=torch.float64)
    mine = {**w, **as_own({**v, OFFSET: offset})}
    found = METHODS["apfl"].adapt(learner, mine, task, given)
    at_w, at_v, share = walked(learner, task, (w, v, 0.3), given, shared=False)
    assert abs(share - 0.3) > 1e-3
    assert distance(found, mixture(at_w, at_v, torch.tensor(share, dtype=torch.float64))) < 1e-12
    still = mixture(at_w, at_v, torch.tensor(0.3, dtype=torch.float64))
    assert distance(found, still) > 1e-4


@pytest.mark.parametrize("seed", [73, 74, 75])
def test_apfl_keeps_alpha_between_0_and_1(seed: int) -> None:
    *_, after = apfl("mlp", inner(0.5, 1, mix_rate=1e4), 0.5, seed)
    assert after in (0.0, 1.0)
    *_, after = apfl("mlp", inner(0.5, 6, mix_rate=0.5), 0.5, seed)
    assert 0.0 <= after <= 1.0


@every_head
def test_apfl_at_the_ends_of_alpha(head: str) -> None:
    """Alpha 0 is FedAvg, alpha 1 is FedAvg fine-tuned; between, parameters are mixed."""
    model, task = model_of(head), tasks(76)
    theta = theta_of(METHODS["apfl"], model, 76)
    for mix, same in ((0.0, "fedavg"), (1.0, "fedavg-ft")):
        given = inner(0.7, 4, mix=mix, mix_rate=0.0)
        a, b = (personalized(n, model, theta, task, given) for n in ("apfl", same))
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
    half = personalized("apfl", model, theta, task, inner(0.7, 4, mix_rate=0.0))
    assert float((half - personalized("fedavg", model, theta, task, given)).abs().max()) > 1e-2


def test_apfl_mixes_parameters_not_logits() -> None:
    learner, task, w, v, _, _ = apfl("mlp", inner(0.5, 1), 0.5)
    half = torch.tensor(0.5, dtype=torch.float64)
    mixed = learner.logits(mixture(w, v, half), task.support)
    logits = (learner.logits(w, task.support) + learner.logits(v, task.support)) / 2
    assert float((mixed - logits).abs().max()) > 1e-3
    mine = {**w, **as_own({**v, OFFSET: torch.zeros((), dtype=torch.float64)})}
    found = METHODS["apfl"].adapt(learner, mine, task, inner(0.5, 0))
    torch.testing.assert_close(learner.logits(found, task.support), mixed, rtol=1e-12, atol=1e-13)
