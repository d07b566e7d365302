"""The generated start of a head: its derivative, MAML where the map is zero, and by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.func import grad

from fedmeta import cohort
from fedmeta.inner import Inner, descend
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.methods.meta_init import initialization
from fedmeta.params import is_head, part
from fedmeta.types import Params
from tests.engine.cases import FITS, distance, model_of, only, tasks, theta_of
from tests.engine.slopes import agrees

METHOD, INNER = METHODS["meta-init"], Inner(0.7, 2)
SIZES = ((9, 4), (4, 5), (2, 6))
heads = pytest.mark.parametrize("head", FITS["meta-init"])


@heads
def test_gradient_through_the_generator(head: str) -> None:
    model, mine = model_of(head), only(tasks(61, SIZES), 0)
    theta, learner = theta_of(METHOD, model, 61), Primal(model)

    def loss(at: Params) -> Tensor:
        start = initialization(learner, at, mine)
        return learner.loss(descend(learner, start, mine.support, INNER), mine.query)

    assert METHOD.contribute is not None
    assert agrees(loss, theta, METHOD.contribute(learner, theta, mine, INNER))


@heads
def test_without_heights_it_is_maml(head: str) -> None:
    model, task = model_of(head), tasks(62, SIZES)
    theta = theta_of(METHOD, model, 62)
    flat = {**theta, "meta-init/heights": torch.zeros_like(theta["meta-init/heights"])}
    maml = cohort.contribute(METHODS["maml"], model, part(theta, is_head), task, INNER).total
    sent = [cohort.contribute(METHOD, model, at, task, INNER).total for at in (flat, theta)]
    assert distance(part(sent[0], is_head), maml) < 1e-12
    assert distance(part(sent[1], is_head), maml) > 1e-2
    assert float(sent[0]["meta-init/heights"].norm()) > 1e-4  # it can leave zero


def test_start_by_hand() -> None:
    """Example by example and class by class, from autograd's gradient of each example's loss."""
    model, mine = model_of("mlp"), only(tasks(63, ((3, 1),)), 0)
    theta = theta_of(METHOD, model, 63)
    expected = theta["output.weight"].clone()
    for n in range(3):

        def loss(weight: Tensor, n: int = n) -> Tensor:
            z = model.head.logits({**theta, "output.weight": weight}, mine.support.x[n : n + 1])
            return torch.nn.functional.cross_entropy(z.mT, mine.support.y[:, n : n + 1].mT)

        g = grad(loss)(theta["output.weight"])
        pairs = zip(theta["meta-init/slopes"], theta["meta-init/heights"], strict=True)
        expected += sum(v * torch.tanh(u * g) for u, v in pairs) / 3
    found = initialization(Primal(model), theta, mine)["output.weight"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_zero_steps_is_the_start() -> None:
    model, mine = model_of("mlp"), only(tasks(64, SIZES), 0)
    theta = theta_of(METHOD, model, 64)
    found = METHOD.adapt(Primal(model), theta, mine, replace(INNER, steps=0))
    assert distance(found, initialization(Primal(model), theta, mine)) == 0.0
