"""P2 and P3: nothing but sums moves when a record comes or goes, and a sum by the clip at most."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedmeta.inner import Inner
from fedmeta.learner import Model
from fedmeta.methods import METHODS
from fedmeta.population import Rows
from fedmeta.privacy import example
from fedmeta.privacy.clipping import Clipped, by_examples, by_factors
from fedmeta.privacy.noisy import Noisy
from fedmeta.problem import Problem
from fedmeta.types import Examples, Params
from tests.engine.cases import flat, model_of, tasks, theta_of
from tests.privacy.doors import CLIP, made_door, private, sent, start

MOST = 44
PAIRS = [(n, b) for n in range(2, MOST + 1) for b in range(1, n)]
"""Numbers of records and of expected records in a step: the neighbour has one record less."""


@pytest.fixture(scope="module", params=["reptile", "fomaml"])
def large(request: pytest.FixtureRequest) -> Problem:
    values: dict[str, Any] = {
        "data__examples": 60,
        "data__examples_spread": 0.0,
        "data__support": MOST,
    }
    return private(request.param, privacy__expected_batch=MOST, **values)


def having(run: Problem, records: int, batch: int) -> Noisy:
    """The first user's door when he has so many records."""
    rows, population = run.population.learn, run.population
    user = int(population.store.users("train")[0])
    offsets = rows.offsets.copy()
    offsets[user + 1 :] += records - (offsets[user + 1] - offsets[user])
    kept = rows.examples[: rows.offsets[user] + records]
    others = rows.examples[rows.offsets[user + 1] :]
    learn = Rows(np.concatenate([kept, others]), offsets)
    privacy = run.config.privacy.model_copy(update={"expected_batch": batch})
    config = run.config.model_copy(update={"privacy": privacy})
    given = run._replace(population=replace(population, learn=learn), config=config)
    return example.meet(given, start(run), np.array([user]), 1, _nothing)


def _nothing(
    model: Model,
    params: Params,
    examples: Examples,
    clip: float,
    wanted: Callable[[str], bool],
    *rest: Any,
) -> dict[str, Tensor]:
    return {name: torch.zeros_like(value) for name, value in params.items() if wanted(name)}


def invariant(run: Problem, pairs: Sequence[tuple[int, int]]) -> None:
    theta = start(run)
    for n, batch in pairs:
        doors = [having(run, n, batch), having(run, n - 1, batch)]
        for name, side in doors[0].sides.items():
            other = doors[1].sides[name]
            assert (side.examples.weight > 0).sum() - (other.examples.weight > 0).sum() == 1
            assert side.divisor == other.divisor
            # The other records are in the same steps, on the same side.
            assert np.array_equal(side.chosen[..., : n - 1], other.chosen)
        out = [sent(door, run.method.name, theta, run.train) for door in doors]
        assert all(torch.equal(out[0][name], out[1][name]) for name in theta)
        assert doors[0].released == doors[1].released
        assert flat(out[0]).norm() > 0


def test_neighbours_meet_the_same_mechanism(large: Problem) -> None:
    invariant(large, PAIRS[::41])


@pytest.mark.slow
def test_all_neighbours_meet_the_same_mechanism(large: Problem) -> None:
    assert len(PAIRS) == 946
    invariant(large, PAIRS)


CASES = [("reptile", "linear"), ("fomaml", "linear"), ("fomaml", "mlp"), ("anil", "mlp")]
INNER = Inner(rate=0.5, steps=2)


def pairs_of(count: int, seed: int) -> Examples:
    """Users of four records; the first is on one side of the pair alone, and of any size."""
    support = tasks(seed, [(4, 0)] * count).support
    size = 10 ** (6 * torch.rand(count, 4, 1, generator=torch.Generator().manual_seed(seed)) - 3)
    return support._replace(x=support.x * size)


def changes(name: str, head: str, examples: Examples, way: Clipped) -> Tensor:
    """How far each release moves when the first record goes, ``(releases, users)``.

    The neighbour computes his own sums and is handed the others', so that he is asked at the same
    parameters; what he sends in the end is then the same to the bit, or something else leaks.
    """
    model = model_of(head)
    theta = theta_of(METHODS[name], model, 3)
    taken: list[dict[str, Tensor]] = []
    moved: list[Tensor] = []

    def recorded(*given: object) -> dict[str, Tensor]:
        sums = way(*given)  # type: ignore[arg-type]
        taken.append({name: value.clone() for name, value in sums.items()})
        return sums

    def replayed(*given: object) -> dict[str, Tensor]:
        mine = way(*given)  # type: ignore[arg-type]
        other = next(before)
        gaps = [(mine[name] - other[name]).flatten(1) for name in mine]
        moved.append(torch.cat(gaps, 1).norm(dim=1))
        return {name: value.clone() for name, value in other.items()}

    steps = INNER.steps
    door = made_door(examples, head, steps, way=recorded)
    first = sent(door, name, theta, INNER)
    before = cycle(taken)
    chosen = (examples.weight > 0).numpy().copy()
    chosen[:, 0] = False
    less = made_door(examples, head, steps, np.stack([chosen] * steps), way=replayed)
    second = sent(less, name, theta, INNER)
    assert all(torch.equal(first[name], second[name]) for name in first)
    return torch.stack(moved)


def bounded(name: str, head: str, count: int) -> None:
    for way in (by_factors, by_examples):
        found = changes(name, head, pairs_of(count, 5), way)
        assert len(found) == INNER.steps + METHODS[name].splits
        assert float(found.max()) <= CLIP * (1 + 1e-6)
        assert float(found.max()) > 0.999 * CLIP


@pytest.mark.parametrize(("name", "head"), CASES)
def test_one_record_moves_a_sum_by_the_clip_at_most(name: str, head: str) -> None:
    bounded(name, head, 100)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "head"), CASES)
def test_one_record_of_a_thousand_pairs(name: str, head: str) -> None:
    bounded(name, head, 1000)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_no_record_can_be_made_that_moves_more(head: str) -> None:
    """The one record is driven uphill on what it changes, by its features, in 100 pairs."""
    model, examples = model_of(head), pairs_of(100, 8)
    theta = theta_of(METHODS["reptile"], model, 4)
    params = {n: v.expand(100, *v.shape) for n, v in theta.items()}
    free = (0.01 * examples.x[:, :1]).requires_grad_()
    climb = torch.optim.Adam([free], lr=0.3)
    for _ in range(60):
        at = examples._replace(x=torch.cat([free, examples.x[:, 1:]], 1))
        with torch.enable_grad():
            both = by_factors(model, params, at, CLIP, lambda name: True)
            mask = torch.tensor([0.0, 1.0, 1.0, 1.0])
            rest = at._replace(weight=at.weight * mask)
            less = by_factors(model, params, rest, CLIP, lambda name: True)
            gap = torch.cat([(both[n] - less[n]).flatten(1) for n in both], 1).norm(dim=1)
            climb.zero_grad()
            (-gap.sum()).backward()
        assert float(gap.detach().max()) <= CLIP * (1 + 1e-6)
        climb.step()
    assert float(gap.detach().median()) > 0.99 * CLIP


def test_without_a_clip_the_tests_above_would_fail() -> None:
    def unclipped(
        model: Model, params: Params, examples: Examples, clip: float, *rest: Any
    ) -> dict[str, Tensor]:
        return by_factors(model, params, examples, 1e9, *rest)

    assert float(changes("reptile", "linear", pairs_of(20, 5), unclipped).max()) > 2 * CLIP


def test_noise_in_the_outer_step_alone_is_no_protection() -> None:
    """One record of the support moves the clipped gradients of all queries (which is why every
    method meets the support behind the door too, and why second order is refused)."""
    model, examples = model_of("linear"), pairs_of(200, 9)
    theta = theta_of(METHODS["fomaml"], model, 3)
    asked = tasks(11, [(20, 0)] * 200).support
    there = (examples.weight > 0).double()
    out = []
    for weight in (there, there * torch.tensor([0.0, 1.0, 1.0, 1.0])):
        support = examples._replace(weight=weight)
        params = {n: v.expand(200, *v.shape) for n, v in theta.items()}
        step = by_factors(model, params, support, 1e9, lambda name: True)
        phi = {name: params[name] - 0.5 * step[name] for name in params}
        out.append(by_factors(model, phi, asked, CLIP, lambda name: True))
    gap = torch.cat([(out[0][n] - out[1][n]).flatten(1) for n in out[0]], 1).norm(dim=1)
    assert float(gap.max()) > 5 * CLIP
