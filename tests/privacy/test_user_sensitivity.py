"""P3 for users: one user more or less moves a sum by the clip at most, whatever his data are."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fedmeta import cohort
from fedmeta.inner import Inner
from fedmeta.methods import METHODS
from fedmeta.privacy.clip import Clip
from fedmeta.types import Examples, Params, Task
from tests.engine.cases import FITS, SIZES, flat, model_of, select, tasks, theta_of

CLIP, INNER = 0.3, Inner(0.6, 3)
ABOVE = 1 + 1e-6
CASES = [
    (name, dual)
    for name in ("reptile", "fomaml", "maml", "anil", "meta-sgd", "fedavg-ft")
    for dual in ((False, True) if name != "meta-sgd" else (False,))
]
Moved = Callable[[Task, int], float]


def mover(name: str, dual: bool, seed: int) -> Moved:
    """How far a clipped sum over all users moves when one of them leaves."""
    method, model = METHODS[name], model_of(FITS[name][0])
    theta = theta_of(method, model, seed)

    def summed(task: Task) -> Tensor:
        found: Params = cohort.contribute(
            method, model, theta, task, INNER, dual=dual, clip=Clip(CLIP)
        ).total
        return flat(found).double()

    def moved(task: Task, user: int) -> float:
        rest = [u for u in range(len(SIZES)) if u != user]
        return float((summed(task) - summed(select(task, rest))).norm())

    return moved


def scaled(task: Task, user: int, factor: float, shift: Tensor) -> Task:
    """The task with another user's features: larger or smaller, and moved."""

    def side(examples: Examples) -> Examples:
        x = examples.x.clone()
        x[user] = factor * x[user] + shift
        return examples._replace(x=x)

    return Task(side(task.support), side(task.query))


def brute_force(name: str, dual: bool, pairs: int, climbed: int, steps: int) -> float:
    """The largest move over random neighbours and over some that are made to move it most."""
    worst = 0.0
    for number in range(pairs):
        moved, task = mover(name, dual, number), tasks(number)
        random = torch.Generator().manual_seed(number)
        user, like = number % len(SIZES), task.support.x
        size = 6 * float(torch.rand((), generator=random)) - 3
        shift = torch.randn(like.shape[-1], generator=random).to(like.dtype)
        best = moved(scaled(task, user, 10**size, 10**size * shift), user)
        for _ in range(steps if number < climbed else 0):
            other = size + float(torch.randn((), generator=random)) / 2
            turned = shift + torch.randn(len(shift), generator=random).to(like.dtype) / 2
            found = moved(scaled(task, user, 10**other, 10**other * turned), user)
            if found >= best:
                best, size, shift = found, other, turned
        worst = max(worst, best)
    return worst


@pytest.mark.parametrize(("name", "dual"), CASES)
def test_one_user_moves_a_sum_by_the_clip_at_most(name: str, dual: bool) -> None:
    worst = brute_force(name, dual, 10, 2, 5)
    assert 0.99 * CLIP < worst <= ABOVE * CLIP


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "dual"), CASES)
def test_a_thousand_random_and_a_hundred_optimised_neighbours(name: str, dual: bool) -> None:
    worst = brute_force(name, dual, 1000, 100, 20)
    assert 0.99 * CLIP < worst <= ABOVE * CLIP
