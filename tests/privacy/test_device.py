"""A single device through Opacus takes the engine's steps, with the same noise."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedmeta.privacy import example
from fedmeta.privacy.device import check_module, opacus_descend
from fedmeta.problem import Problem
from fedmeta.types import Params
from tests.engine.cases import distance
from tests.privacy.doors import given_terms, met, noise_of, private, start, users


def module_of(theta: Params, dtype: torch.dtype) -> nn.Sequential:
    """The head as a module, with its names."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for layer in [n.removesuffix(".weight") for n in theta if n.endswith(".weight")]:
        outputs, width = theta[f"{layer}.weight"].shape
        if layers:
            layers["relu"] = nn.ReLU()
        layers[layer] = nn.Linear(width, outputs)
    module = nn.Sequential(layers).to(dtype)
    module.load_state_dict({name: value.to(dtype) for name, value in theta.items()})
    return module


def entropies(outputs: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, target, reduction="none")


def trained(
    run: Problem, theta: Params, user: int, dtype: torch.dtype, ghost: bool
) -> tuple[dict[str, Tensor], int]:
    """What a user sends, by Opacus; and how many steps he took."""
    found, door = given_terms(run), met(run, theta)
    side, noise = door.sides["support"], noise_of(door, user, theta)
    module = module_of(theta, dtype)
    taken = opacus_descend(
        module,
        entropies,
        side.examples.x[user].to(dtype),
        side.examples.y[user].argmax(0),
        [np.flatnonzero(row[user]).tolist() for row in side.chosen],
        lambda step, name, shape: noise("support", step, name),
        rate=run.train.rate,
        divisor=found.divisor,
        clip=found.clip,
        multiplier=found.multiplier,
        momentum=run.train.momentum,
        ghost=ghost,
    )
    after = {name: value.detach() for name, value in module.named_parameters()}
    return {name: value - after[name] for name, value in theta.items()}, taken


@pytest.mark.parametrize("ghost", [False, True], ids=["plain", "ghost"])
@pytest.mark.parametrize(
    ("head", "values"),
    [("linear", {}), ("mlp", {"method__momentum": 0.5}), ("mlp", {"privacy__sampling_rate": 0.05})],
)
def test_opacus_equals_the_engine(head: str, values: dict[str, Any], ghost: bool) -> None:
    """Also where most steps have no record."""
    run = private("reptile", head, method__steps=5, **values)
    theta = start(run)
    engine = example.send(run, theta, users(run), 1)
    small = {name: value.float() for name, value in theta.items()}
    quick = example.send(run, small, users(run), 1)
    for user in range(3):
        exact, taken = trained(run, theta, user, torch.float64, ghost)
        assert taken == 5
        assert distance({n: v[user] for n, v in engine.items()}, exact) < 1e-10
        close, _ = trained(run, small, user, torch.float32, ghost)
        assert distance({n: v[user] for n, v in quick.items()}, close) < 1e-6


@pytest.mark.parametrize("ghost", [False, True], ids=["plain", "ghost"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_record_that_is_not_finite_is_not_seen(bad: float, ghost: bool) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(4, 3).double(), torch.tensor([0, 1, 2, 1])
    poisoned = x.clone()
    poisoned[2, 1] = bad

    def result(features: Tensor, rows: list[list[int]]) -> dict[str, Tensor]:
        torch.manual_seed(1)
        module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
        kept = {"rate": 0.5, "divisor": 2.0, "clip": 0.4, "multiplier": 0.3, "ghost": ghost}
        opacus_descend(module, entropies, features, y, rows, _ones, **kept)  # type: ignore[arg-type]
        return dict(module.state_dict())

    with_it = result(poisoned, [[0, 1, 2, 3], [2], [3, 2]])
    without = result(x, [[0, 1, 3], [], [3]])
    assert distance(with_it, without) < 1e-14


def _ones(step: int, name: str, shape: torch.Size) -> Tensor:
    return torch.full(shape, 0.1 * (step + 1))


def tied() -> nn.Module:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    return nn.Sequential(first, second)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), "GroupNorm"),
        (lambda: nn.InstanceNorm1d(4, track_running_stats=True), "track_running_stats = False"),
        (tied, "tied weights"),
    ],
)
def test_modules_are_refused(module: Callable[[], nn.Module], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_module(module())
    check_module(nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4)))


@pytest.mark.parametrize("wrong", ["divisor", "clip", "multiplier"])
def test_constants_are_positive(wrong: str) -> None:
    given = {"rate": 1.0, "divisor": 1.0, "clip": 1.0, "multiplier": 1.0, wrong: 0.0}
    with pytest.raises(ValueError, match="above 0"):
        opacus_descend(
            nn.Linear(2, 2),
            entropies,
            torch.ones(1, 2),
            torch.zeros(1).long(),
            [[0]],
            _ones,
            **given,  # type: ignore[arg-type]
        )
