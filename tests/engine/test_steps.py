"""Steps in place, where nobody takes derivatives, are the steps that make new tensors."""

import pytest
import torch

from fedmeta.cohort import contribute
from fedmeta.inner import Inner
from fedmeta.methods import METHODS
from tests.engine.cases import INNERS, VECTOR_HEADS, model_of, tasks, theta_of

EVEN = ((4, 3), (4, 2))
"""Users without padding, whose minibatches are slices."""


@pytest.mark.parametrize("sizes", [EVEN, ((4, 3), (1, 5), (7, 1))])
@pytest.mark.parametrize("inner", [INNERS["full"], INNERS["minibatch"], Inner(0.5, 1, batch=2)])
@pytest.mark.parametrize("head", [h for h in VECTOR_HEADS if model_of(h).head.tail is not None])
@pytest.mark.parametrize("name", ["reptile", "fomaml"])
def test_in_place(name: str, head: str, inner: Inner, sizes: tuple[tuple[int, int], ...]) -> None:
    model, task = model_of(head), tasks(2, sizes)
    theta = theta_of(METHODS[name], model, 3)
    before = {key: value.clone() for key, value in theta.items()}
    labels = task.support.y.clone()
    with torch.enable_grad():
        expected = contribute(METHODS[name], model, theta, task, inner, dual=True).total
    with torch.no_grad():
        found = contribute(METHODS[name], model, theta, task, inner, dual=True).total
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-13)
    assert all(torch.equal(theta[key], value) for key, value in before.items())
    assert torch.equal(task.support.y, labels)
