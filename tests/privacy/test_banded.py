"""Correlated noise: what a user can move, by trying all ways to take part; and that it pays."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fedmeta import seeding
from fedmeta.config import parse
from fedmeta.privacy.banded import coefficients, correlated
from fedmeta.privacy.chance import Chance, seeded
from fedmeta.privacy.plan import plan
from fedmeta.privacy.release import release
from fedmeta.types import Params

ROUNDS = 10


def matrix(bands: int, rounds: int = ROUNDS) -> NDArray[np.float64]:
    """C, entry by entry."""
    c = coefficients(bands)
    return np.array(
        [[c[i - j] if 0 <= i - j < bands else 0.0 for j in range(rounds)] for i in range(rounds)]
    )


def test_coefficients_are_those_of_the_square_root() -> None:
    """``A = C C`` for as many bands as rounds, up to the norm: prefix sums."""
    root = matrix(ROUNDS) / coefficients(ROUNDS)[0]
    np.testing.assert_allclose(root @ root, np.tri(ROUNDS), atol=1e-12)


@pytest.mark.parametrize("bands", [1, 2, 3, 5])
def test_sensitivity_over_all_ways_to_take_part(bands: int) -> None:
    """k rounds, each two at least ``bands`` apart: sqrt(k) clips, never more, and reached."""
    gram = matrix(bands).T @ matrix(bands)
    for k in range(1, 5):
        worst = 0.0
        for at in combinations(range(ROUNDS), k):
            if all(b - a >= bands for a, b in pairwise(at)):
                # All entries are at least 0, so equal directions of norm 1 are the worst.
                worst = max(worst, float(gram[np.ix_(at, at)].sum()))
        assert worst <= k + 1e-12
        assert worst == pytest.approx(k, abs=1e-9) or k * bands > ROUNDS
    if bands > 1:  # who comes back sooner moves more than is charged
        soon = [0, bands - 1]
        assert gram[np.ix_(soon, soon)].sum() > 2 + 0.01


@pytest.mark.parametrize("bands", [1, 2, 4])
def test_streamed_noise_is_the_solution_of_the_whole_system(bands: int) -> None:
    fresh = torch.randn(ROUNDS, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = np.linalg.solve(matrix(bands), fresh.numpy())
    past: list[torch.Tensor] = []
    for number in range(ROUNDS):
        row = correlated(fresh[number], past, bands)
        np.testing.assert_allclose(row.numpy(), expected[number], atol=1e-12)
        past = [row, *past][: bands - 1]


def test_less_noise_in_the_sum_of_all_rounds() -> None:
    """What SGD feels: the error of prefix sums, at the same charge, falls with every band."""
    rounds = 64
    errors = [
        float(np.linalg.norm(np.tri(rounds) @ np.linalg.inv(matrix(bands, rounds))))
        for bands in (1, 2, 4, 8, 16)
    ]
    assert all(b < 0.9 * a for a, b in pairwise(errors))


def test_released_rounds_carry_that_noise() -> None:
    """The release of zeros is C^-1 Z, times clip and multiplier, over the public number."""
    values = {"privacy.unit": "user", "privacy.mechanism": "banded", "privacy.bands": 3}
    config = parse(values | {"privacy.noise-multiplier": 2.0, "privacy.clip": 0.5})
    privacy = plan(config, 200)
    meta = {"w": torch.zeros(4), "b": torch.zeros(())}
    drawn: list[NDArray[np.float64]] = []

    def normal(shape: tuple[int, ...], path: tuple[int | str, ...]) -> torch.Tensor:
        stream = torch.Generator().manual_seed(seeding.key(*path) >> 1)
        row = torch.randn(shape, dtype=torch.float64, generator=stream)
        if path[1] == "w":
            drawn.append(row.numpy())
        return row

    chance, found = Chance(normal, seeded(0).coins), []
    carried: Params = {}
    for number in range(1, ROUNDS + 1):
        out = release(privacy, meta, lambda name: True, {}, carried, number, chance)
        found.append(out.mean["w"].numpy())
        carried = out.carried
        assert len(carried) == 2 * min(number, 2)
    expected = np.linalg.solve(matrix(3), np.stack(drawn)) * 2.0 * 0.5 / 50
    np.testing.assert_allclose(np.stack(found), expected, atol=1e-12)
