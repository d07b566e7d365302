"""ANIL and BOIL move a part of the head, and differentiate through what moved."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedmeta import cohort
from fedmeta.inner import Inner, descend
from fedmeta.learner import Learner, Primal
from fedmeta.methods import METHODS
from fedmeta.params import is_output, is_trunk
from fedmeta.types import Params, Task
from tests.engine.cases import (
    FITS,
    INNERS,
    VECTOR_HEADS,
    distance,
    forms,
    model_of,
    one_by_one,
    only,
    tasks,
    theta_of,
)
from tests.engine.test_gradients import differences

SIZES = [(4, 3), (5, 2)]
BLOCK = {"anil": is_output, "boil": is_trunk}
PAIRS = [(name, head) for name in BLOCK for head in FITS[name]]


@pytest.mark.parametrize("head", VECTOR_HEADS)
def test_every_output_layer_is_affine(head: str) -> None:
    """ANIL stands on it: the output layer alone is a linear model of embeddings."""
    model = model_of(head)
    theta, task = theta_of(METHODS["maml"], model, 1), only(tasks(1), 0)
    embedded = model.head.embed(theta, task.query.x)
    expected = theta["output.weight"] @ embedded + theta["output.bias"][:, None]
    torch.testing.assert_close(model.head.logits(theta, task.query.x), expected)


@pytest.mark.parametrize("inner", INNERS)
@pytest.mark.parametrize(("name", "head"), PAIRS)
def test_meta_gradient(name: str, head: str, inner: str) -> None:
    method, model, task = METHODS[name], model_of(head), tasks(5, SIZES)
    theta = theta_of(method, model, 5)
    expected = differences(method, model, theta, task, INNERS[inner])
    for dual in forms(name, head):
        update = cohort.contribute(method, model, theta, task, INNERS[inner], dual=dual)
        assert distance(update.total, expected) < 1e-7


@pytest.mark.parametrize("inner", INNERS)
@pytest.mark.parametrize(("name", "head"), PAIRS)
def test_one_block_moves(name: str, head: str, inner: str) -> None:
    """The same as a descent of the whole head in which the other block is held."""
    method, model, mine = METHODS[name], model_of(head), only(tasks(6), 0)
    theta, learner = theta_of(method, model, 6), Primal(model)
    phi = method.adapt(learner, theta, mine, INNERS[inner])
    expected = descend(learner, theta, mine.support, INNERS[inner], block=BLOCK[name])
    assert distance(phi, expected) < 1e-12
    moved = {param for param in theta if not torch.equal(phi[param], theta[param])}
    assert moved == {param for param in theta if BLOCK[name](param)}


def test_anil_without_a_trunk_is_maml() -> None:
    model, task, inner = model_of("linear"), tasks(7), INNERS["minibatch"]
    theta = theta_of(METHODS["anil"], model, 7)
    maml = one_by_one(METHODS["maml"], model, theta, task, inner)
    for dual in (False, True):
        found = cohort.contribute(METHODS["anil"], model, theta, task, inner, dual=dual)
        assert distance(found.total, maml) < 1e-12


def test_blocks_make_a_difference() -> None:
    model, task, inner = model_of("mlp"), tasks(8), INNERS["full"]
    theta = theta_of(METHODS["maml"], model, 8)
    sent = [one_by_one(METHODS[n], model, theta, task, inner) for n in ("maml", "anil", "boil")]
    assert min(distance(sent[0], sent[1]), distance(sent[0], sent[2])) > 1e-2
    assert distance(sent[1], sent[2]) > 1e-2


def test_the_second_order_of_anil_counts() -> None:
    """Cutting the graph at the inner steps gives something else."""
    model, task, inner = model_of("mlp"), tasks(9), INNERS["full"]
    theta = theta_of(METHODS["anil"], model, 9)

    def cut(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
        return learner.grad(METHODS["anil"].adapt(learner, theta, task, inner), task.query)

    first = one_by_one(replace(METHODS["anil"], contribute=cut), model, theta, task, inner)
    assert distance(first, one_by_one(METHODS["anil"], model, theta, task, inner)) > 1e-2
