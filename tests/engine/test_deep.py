"""Several hidden layers: torch's own network, and the dual form beside the plain one."""

import pytest
import torch

from fedmeta import cohort
from fedmeta.heads import HEADS, Given
from fedmeta.learner import Model
from fedmeta.losses import LOSSES
from fedmeta.methods import METHODS
from fedmeta.privacy.clipping import by_examples, by_factors
from fedmeta.sections.method import HeadConfig
from tests.engine.cases import FEATURES, HIDDEN, INNERS, OUTPUTS, distance, tasks, theta_of

DEPTH = 3


def deep(kind: str) -> Model:
    given = Given(HeadConfig(depth=DEPTH))
    return Model(HEADS["mlp"](FEATURES, OUTPUTS[kind], HIDDEN, given=given), LOSSES[kind])


def test_the_network_is_torchs() -> None:
    model = deep("classification")
    theta = theta_of(METHODS["maml"], model, 3)
    parts: list[torch.nn.Module] = []
    for layer in ("hidden", "hidden2", "hidden3", "output"):
        weight = theta[f"{layer}.weight"]
        affine = torch.nn.Linear(weight.shape[1], weight.shape[0]).double()
        affine.load_state_dict({"weight": weight, "bias": theta[f"{layer}.bias"]})
        parts += [affine, torch.nn.ReLU()]
    x = tasks(1).support.x[0]
    expected = torch.nn.Sequential(*parts[:-1])(x).mT
    assert len(theta) == 2 * DEPTH + 2
    assert torch.allclose(model.head.logits(theta, x), expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("name", ["fedavg-ft", "maml", "anil", "ditto", "protonet"])
def test_both_forms_agree(name: str, kind: str) -> None:
    method, model, task = METHODS[name], deep(kind), tasks(4, kind=kind)
    if kind == "regression" and "classes" in method.needs:
        pytest.skip("classes only")
    theta = theta_of(method, model, 3)
    found, expected = (
        cohort.contribute(method, model, theta, task, INNERS["full"], dual=dual).total
        for dual in (True, False)
    )
    assert any("hidden2" in name and value.abs().max() > 1e-3 for name, value in expected.items())
    assert distance(found, expected) < 1e-11


def test_examples_are_clipped_as_one_by_one() -> None:
    """The norm under example-level privacy is over all hidden layers."""
    model, task = deep("classification"), tasks(4)
    theta = theta_of(METHODS["maml"], model, 3)
    users = len(task.support.weight)
    each = {name: value.expand(users, *value.shape) for name, value in theta.items()}
    found, expected = (
        way(model, each, task.support, 0.1, lambda name: True) for way in (by_factors, by_examples)
    )
    assert distance(found, expected) < 1e-11
