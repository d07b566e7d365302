"""Noise and coins: their law, their streams, and who may know them (P4, P12)."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from fedmeta.privacy.chance import SECURE, Chance, seeded, source

DRAWS = 1_000_000
SOURCES = {"seeded": seeded(3), "secure": SECURE}


@pytest.mark.parametrize("chance", SOURCES.values(), ids=SOURCES)
def test_standard_normal(chance: Chance) -> None:
    drawn = chance.normal((DRAWS // 4, 2, 2), (1, "w")).flatten().numpy()
    assert drawn.dtype == np.float64
    assert np.isfinite(drawn).all()
    assert abs(drawn.mean()) < 0.005
    assert abs(drawn.var() - 1) < 0.01
    assert abs(stats.kurtosis(drawn, fisher=False) / 3 - 1) < 0.02
    assert stats.kstest(drawn[:200_000], "norm").pvalue > 0.001
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.005


@pytest.mark.parametrize("chance", SOURCES.values(), ids=SOURCES)
def test_streams_have_nothing_to_do_with_each_other(chance: Chance) -> None:
    paths = [(r, n) for r in (1, 2) for n in ("a", "b")] + [
        ("local", user, 1, "a") for user in ("u", "v")
    ]
    drawn = [chance.normal((200_000,), path).numpy() for path in paths]
    for one, other in combinations(drawn, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.012


def test_only_the_seed_repeats_itself() -> None:
    path, other = (1, "w"), seeded(3)
    assert SOURCES["seeded"].normal((5,), path).equal(other.normal((5,), path))
    assert not seeded(4).normal((5,), path).equal(other.normal((5,), path))
    assert not SECURE.normal((5,), path).equal(SECURE.normal((5,), path))
    assert SECURE.normal((), path).shape == ()
    assert SECURE.normal((3, 0), path).shape == (3, 0)


@pytest.mark.parametrize("chance", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("rate", [0.02, 0.5])
def test_coins(chance: Chance, rate: float) -> None:
    """As many as the rate says, as a binomial law spreads them, each for himself."""
    identities = np.random.default_rng(0).integers(2**63, size=400).astype(np.uint64)
    came = np.stack([chance.coins(identities, rate, ("cohort", r)) for r in range(2000)])
    sizes, spread = came.sum(1), (400 * rate * (1 - rate)) ** 0.5
    assert abs(sizes.mean() - 400 * rate) < 5 * spread / 2000**0.5
    assert abs(sizes.std() / spread - 1) < 0.08
    assert abs(came.mean(0) - rate).max() < 5 * (rate * (1 - rate) / 2000) ** 0.5
    assert chance.coins(identities, 1.0, ("cohort", 1)).all()


def test_no_seed_where_users_are_real() -> None:
    assert source(None, deployed=True) is SECURE
    assert source(None, deployed=False) is SECURE
    with pytest.raises(ValueError, match="noise seed = 7"):
        source(7, deployed=True)
    path = (1, "w")
    assert source(7, deployed=False).normal((2,), path).equal(seeded(7).normal((2,), path))
