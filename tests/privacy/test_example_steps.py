"""DP-SGD of a chunk of users is what it is for one of them, written out."""

from typing import Any

import numpy as np
import pytest
import torch

from fedmeta import loop
from fedmeta.head_file import weights_sha256
from fedmeta.privacy import example
from fedmeta.privacy.chance import SECURE, seeded
from fedmeta.privacy.clipping import by_examples, by_factors
from fedmeta.privacy.noisy import Source
from fedmeta.privacy.plan import plan
from tests.engine.cases import distance, flat
from tests.federation.runs import over_inline
from tests.privacy.doors import met, private, start, users, written_out

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("reptile", "linear", {}),
    ("reptile", "mlp", {"privacy__sampling_rate": 0.5}),
    ("fedprox", "mlp", {"method__momentum": 0.6, "method__mu": 0.4}),
    ("fomaml", "linear", {"privacy__split": "redrawn"}),
    ("fomaml", "mlp", {}),
    ("anil", "mlp", {}),
]


@pytest.mark.parametrize(("name", "head", "values"), CASES)
def test_a_chunk_is_its_users_written_out(name: str, head: str, values: dict[str, Any]) -> None:
    run = private(name, head, **values)
    theta = start(run)
    some = users(run)
    found = example.send(run, theta, some, 2)
    for user in range(len(some)):
        oracle = written_out(run, theta, met(run, theta, 2), user)
        assert distance({n: v[user] for n, v in found.items()}, oracle) < 1e-12
        assert distance(oracle, {n: 0 * v for n, v in oracle.items()}) > 0.1


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("name", ["fomaml", "anil"])
def test_both_ways_to_clip_agree(name: str, head: str) -> None:
    run = private(name, head)
    theta = start(run)
    a = example.send(run, theta, users(run), 1, by_factors)
    b = example.send(run, theta, users(run), 1, by_examples)
    assert distance(a, b) < 1e-12


def test_a_user_sends_the_same_in_any_chunk() -> None:
    """Noise and samples to the bit, sums as far as the order of additions goes."""
    run = private("fomaml", "mlp")
    theta = start(run)
    some = users(run)
    whole, part = met(run, theta), example.meet(run, theta, some[[3, 1]], 1)
    together = example.send(run, theta, some, 1)
    apart = example.send(run, theta, some[[3, 1]], 1)
    for side in ("support", "query"):
        longest = part.sides[side].chosen.shape[-1]
        assert np.array_equal(
            whole.sides[side].chosen[:, [3, 1], :longest], part.sides[side].chosen
        )
    for step in range(3):
        drawn = [door._noise(Source("support", step), 8) for door in (whole, part)]
        assert torch.equal(drawn[0][[3, 1]], drawn[1])
    assert distance({n: v[[3, 1]] for n, v in together.items()}, apart) < 1e-13


@pytest.mark.parametrize(
    ("name", "head"),
    [("reptile", "linear"), ("fomaml", "mlp"), ("anil", "mlp"), ("reptile", "scale-shift")],
)
def test_flower_equals_loop(name: str, head: str) -> None:
    run = private(name, head, federation__rounds=2)
    outcome = over_inline(run)
    for dtype in (torch.float32, torch.float64):
        *_, state = loop.train(run, dtype)
        assert distance(outcome.last, state.meta) < 1e-6
    again = over_inline(run)
    assert weights_sha256(outcome.last) == weights_sha256(again.last)


def test_what_is_released_is_what_is_charged() -> None:
    for name, split, parts in (
        ("reptile", "fixed", [[(0.2, 3)]]),
        ("fomaml", "fixed", [[(0.5, 3)], [(1.0, 1)]]),
        ("fomaml", "redrawn", [[(0.5, 3), (1.0, 1)]]),
        ("anil", "redrawn", [[(0.5, 3), (1.0, 1)]]),
    ):
        run = private(name, "mlp", privacy__split=split)
        theta = start(run)
        door = met(run, theta)
        assert run.method.private is not None
        run.method.private(door, door.start(theta), door.task(), run.train)
        charge = plan(run.config, 24).charge
        assert [[(e.sampling_rate, e.count) for e in part] for part in charge] == parts
        assert len(door.released) == sum(e.count for part in charge for e in part)
        assert {e.noise_multiplier for part in charge for e in part} == {door.multiplier}


def test_a_fixed_split_stays_and_a_redrawn_one_does_not() -> None:
    for split, stays in (("fixed", True), ("redrawn", False)):
        run = private("fomaml", privacy__split=split, privacy__sampling_rate=1.0)
        theta = start(run)
        one, two = met(run, theta, 1), met(run, theta, 2)
        asked = [door.sides["query"].chosen[0] for door in (one, two)]
        assert np.array_equal(asked[0], asked[1]) == stays
        for door in (one, two):
            mine = door.sides["support"].chosen[0]
            there = (door.sides["support"].examples.weight > 0).numpy()
            assert not (mine & door.sides["query"].chosen[0]).any()
            assert np.array_equal(mine | door.sides["query"].chosen[0], there)


def test_a_gradient_is_given_out_once() -> None:
    run = private()
    theta = start(run)
    door = met(run, theta)
    support = door.task().support
    params = door.start(theta)
    door.grad(params, door.minibatch(support, 0, 0))
    with pytest.raises(ValueError, match="released once"):
        door.grad(params, door.minibatch(support, 0, 0))
    with pytest.raises(ValueError, match="released once"):
        door.grad(params, door.minibatch(support, 3, 0))


def test_a_method_sees_no_example() -> None:
    door = met(private("fomaml"), start(private("fomaml")))
    for side in door.task():
        assert side.y.numel() == side.weight.numel() == 0
        assert not isinstance(side.x, torch.Tensor)
    for name in ("loss", "logits", "embed", "through", "bend", "output"):
        assert not hasattr(door, name)


def test_secret_samples_and_noise_never_repeat() -> None:
    """Where users are real: not the seed's, not the same twice, and of the same size."""
    run = private("fomaml", "mlp", privacy__noise_multiplier=50.0)
    theta = start(run)
    some = users(run)
    sends = [example.send(run, theta, some, 1, chance=SECURE) for _ in range(2)]
    seeded = example.send(run, theta, some, 1)
    assert distance(*sends) > 0.5
    assert distance(sends[0], seeded) > 0.5
    sizes = [float(flat(one).norm()) for one in (*sends, seeded)]
    assert max(sizes) / min(sizes) < 1.2
    doors = [example.meet(run, theta, some, n, chance=SECURE) for n in (1, 2)]
    asked = [door.sides["query"].chosen for door in doors]
    assert np.array_equal(asked[0], asked[1])  # a fixed split is fixed


def test_a_source_that_is_handed_in_draws_each_example_and_user_apart() -> None:
    """Even one that gives equal numbers for equal paths."""
    run = private("reptile", "mlp", privacy__sampling_rate=0.5)
    some = users(run)
    door = example.meet(run, start(run), some, 1, chance=seeded(3))
    side = door.sides["support"]
    chosen, there = side.chosen.sum(2), (side.examples.weight > 0).sum(1).numpy()
    assert ((chosen > 0) & (chosen < there)).mean() > 0.5
    others = example.meet(run, start(run), some[1:], 1, chance=seeded(3))
    mine, theirs = (one.noise("support", 2, 5) for one in (door, others))
    assert torch.equal(mine[:, 1:], theirs)
    assert not torch.isclose(mine[:, :1], mine[:, 1:]).any()


def test_no_two_releases_share_their_noise() -> None:
    """Of users, rounds, steps, sides and seeds."""
    rows = []
    for seed, number in ((0, 1), (0, 2), (1, 1)):
        run = private("fomaml", "mlp", run__seed=seed)
        door = example.meet(run, start(run), users(run, 3), number)
        count = sum(value.numel() for value in start(run).values())
        rows += [door._noise(Source("support", step), count) for step in range(3)]
        rows.append(door._noise(Source("query"), count))
    every = torch.cat(rows).double()
    assert len(every) == 3 * 3 * 4
    assert every.shape[1] > 1000
    off = torch.corrcoef(every) - torch.eye(len(every))
    assert float(off.abs().max()) < 5.5 / every.shape[1] ** 0.5
