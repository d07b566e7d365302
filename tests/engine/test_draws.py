"""Numbers of a user's own inside a batched program are the numbers of `seeding`."""

import numpy as np
import torch
from torch.func import vmap

from fedmeta import draws, loop, seeding
from tests.engine.cases import problem


def test_they_are_those_of_seeding_bit_for_bit() -> None:
    keys = seeding.keys(tuple(f"user {n}" for n in range(50)), "somebody")
    for stream in (seeding.key("a"), seeding.key("b"), 3, 2**64 - 1):
        expected = seeding.scores(stream, keys[:, None], np.arange(9)[None, :])
        found = vmap(lambda key, s=stream: draws.bits(key, s, 9))(
            torch.from_numpy(keys.view(np.int64))
        )
        np.testing.assert_array_equal(found.numpy().view(np.uint64), expected)


def test_they_are_uniform() -> None:
    found = draws.uniform(torch.tensor(-7), seeding.key("uniform"), 40_000).numpy()
    assert found.min() >= 0
    assert found.max() < 1
    counts = np.histogram(found, 20, (0, 1))[0]
    assert np.abs(counts - 2000).max() < 5 * 2000**0.5
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.02


def test_a_users_key_is_his_own_and_the_seeds() -> None:
    run = problem(method__name="fedmd", head__name="mlp")
    users = np.arange(24)
    (keys,) = loop.facts_of(run, users).values()
    assert len(set(keys.tolist())) == 24
    (turned,) = loop.facts_of(run, users[::-1]).values()
    assert torch.equal(turned.flip(0), keys)
    (other,) = loop.facts_of(problem(method__name="fedmd", run__seed=1), users).values()
    assert not set(keys.tolist()) & set(other.tolist())
    assert loop.facts_of(problem(method__name="maml"), users) == {}
