"""P4: the noise is Gaussian, and no two streams have anything in common."""

from itertools import combinations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import kstest, kurtosis

from fedmeta.inner import Inner
from fedmeta.methods import METHODS
from fedmeta.privacy import streams
from fedmeta.privacy.noisy import Source
from tests.engine.cases import flat, model_of, tasks, theta_of
from tests.privacy.doors import CLIP, Z, made_door, sent


def drawn(count: int, *path: int | str) -> NDArray[np.float64]:
    return streams.gaussians(streams.key(*path), 4, count // 4).astype(np.float64).ravel()


def normal(count: int) -> None:
    sample = drawn(count, 0, "noise", 7)
    assert abs(sample.mean()) < 5 / count**0.5
    assert abs(sample.var() - 1) < 0.01
    assert abs(float(kurtosis(sample, fisher=False)) / 3 - 1) < 0.02
    assert float(kstest(sample, "norm").pvalue) > 0.001
    assert bool((np.abs(sample) < 6.8).all())
    assert bool((np.abs(sample) > 4).any())


def apart(count: int, most: float) -> None:
    """Streams of seeds, users, rounds and sides, and the rows of one stream."""
    paths: list[tuple[int | str, ...]] = [
        (seed, "noise", user, number, side)
        for seed in (0, 1)
        for user in (3, 4)
        for number in (1, 2)
        for side in ("support", "query")
    ]
    sample = np.stack([drawn(count, *path) for path in paths])
    rows = streams.gaussians(streams.key(0), 4, count).astype(np.float64)
    for group in (sample, rows):
        found = np.asarray(np.corrcoef(group))
        for a, b in combinations(range(len(group)), 2):
            assert abs(found[a, b]) < most
    half = rows[0].reshape(2, -1)  # the two numbers that Box and Muller make together
    assert abs(np.asarray(np.corrcoef(half))[0, 1]) < 2 * most
    assert abs(np.asarray(np.corrcoef(half**2))[0, 1]) < 2 * most


def test_noise_is_normal() -> None:
    normal(400_000)


def test_streams_have_nothing_in_common() -> None:
    apart(100_000, 0.018)


@pytest.mark.slow
def test_a_million_draws() -> None:
    normal(1_000_000)
    apart(1_200_000, 0.005)


def test_the_same_key_gives_the_same_noise() -> None:
    key = streams.key(1, "a")
    assert np.array_equal(streams.gaussians(key, 3, 7), streams.gaussians(key, 3, 7))
    assert not np.array_equal(
        streams.gaussians(key, 3, 7), streams.gaussians(streams.key(1, "b"), 3, 7)
    )
    assert streams.gaussians(key, 0, 7).shape == (0, 7)


def test_a_step_without_gradient_is_noise_of_the_promised_size() -> None:
    """Over 2,000 users: norm of the move = rate z C sqrt(steps) / divisor, within 1 %."""
    users, inner = 2000, Inner(rate=0.5, steps=3)
    examples = tasks(3, [(2, 0)] * users).support
    empty = np.zeros((3, users, 2), dtype=bool)
    door = made_door(examples, "linear", 3, empty, divisor=4.0)
    theta = theta_of(METHODS["reptile"], model_of("linear"), 1)
    out = sent(door, "reptile", theta, inner)
    numbers = flat(out)
    assert len(numbers) == users * 21
    theory = 0.5 * Z * CLIP * 3**0.5 / 4
    assert abs(float(numbers.square().mean().sqrt()) / theory - 1) < 0.01
    steps = torch.stack([door._noise(Source("support", k), 21).flatten() for k in range(3)])
    assert float((torch.corrcoef(steps.double()) - torch.eye(3)).abs().max()) < 0.025
