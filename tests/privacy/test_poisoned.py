"""P9 and P10: records that are not finite are not seen; a step without records is a step."""

import numpy as np
import pytest
import torch

from fedmeta.inner import Inner
from fedmeta.methods import METHODS
from fedmeta.privacy.clipping import Clipped, by_examples, by_factors
from tests.engine.cases import flat, model_of, tasks, theta_of
from tests.privacy.doors import made_door, sent

INNER = Inner(rate=0.5, steps=3)
BAD = (np.nan, np.inf, -np.inf, 1e200)
"""What a feature may be; the square of the last is infinite."""


def poisoned(name: str, head: str, way: Clipped, count: int) -> None:
    """As many batches with one bad record, wherever it is: as if its gradient were zero."""
    examples = tasks(2, [(5, 0)] * count).support
    random = np.random.default_rng(0)
    x, chosen = examples.x.clone(), np.ones((INNER.steps, count, 5), dtype=bool)
    for user in range(count):
        record, feature = random.integers(5), random.integers(x.shape[-1])
        x[user, record, feature] = BAD[user % len(BAD)]
        chosen[:, user, record] = False
    theta = theta_of(METHODS[name], model_of(head), 2)
    spoiled = made_door(examples._replace(x=x), head, INNER.steps, way=way)
    without = made_door(examples, head, INNER.steps, chosen, way=way)
    a, b = (sent(door, name, theta, INNER) for door in (spoiled, without))
    assert all(bool(value.isfinite().all()) for value in a.values())
    assert float((flat(a) - flat(b)).norm() / flat(b).norm()) < 1e-11


@pytest.mark.parametrize("way", [by_factors, by_examples])
@pytest.mark.parametrize(("name", "head"), [("reptile", "linear"), ("fomaml", "mlp")])
def test_a_bad_record_is_not_seen(name: str, head: str, way: Clipped) -> None:
    poisoned(name, head, way, 40)


@pytest.mark.slow
def test_a_thousand_poisoned_batches() -> None:
    poisoned("fomaml", "mlp", by_factors, 1000)
    poisoned("reptile", "linear", by_factors, 1000)


@pytest.mark.parametrize("way", [by_factors, by_examples])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_step_without_records_is_noise_and_counts(head: str, way: Clipped) -> None:
    """A hundred users: nobody has a record in any step, or nobody has one at all."""
    theta = theta_of(METHODS["fomaml"], model_of(head), 2)
    for size in (3, 0):
        examples = tasks(4, [(size, 0)] * 100).support
        chosen = np.zeros((INNER.steps, 100, size), dtype=bool)
        door = made_door(examples, head, INNER.steps, chosen, way=way)
        out = flat(sent(door, "fomaml", theta, INNER))
        assert len(door.released) == INNER.steps + 1
        assert bool(out.isfinite().all())
        assert bool((out != 0).all())


def test_a_user_without_records_beside_one_with() -> None:
    theta = theta_of(METHODS["reptile"], model_of("linear"), 2)
    examples = tasks(4, [(3, 0), (0, 0)]).support
    door = made_door(examples, "linear", INNER.steps)
    out = sent(door, "reptile", theta, INNER)
    moved = torch.cat([value.flatten(1) for value in out.values()], 1)
    assert bool((moved != 0).all())
