"""Keys never change, permutations are uniform, and streams know nothing of each other."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fedmeta import seeding

STREAMS = ("cohort", "examples", "support", "initialization", "bootstrap")


def test_keys_are_pinned() -> None:
    """A change here changes every result that anybody has ever published."""
    assert seeding.key(0, "cohort", 1) == 12943966813840258203
    assert seeding.key(7, "user", "anna") == 665231491685280101
    one = np.array([3], dtype=np.uint64), np.array([5], dtype=np.int64)
    assert seeding.scores(11, *one).tolist() == [4555924156650844084]


def test_paths_are_not_confused() -> None:
    paths: list[tuple[int | str, ...]] = [(1, 2), (12,), ("1", 2), (1, "2"), ("1", "2"), (2, 1)]
    assert len({seeding.key(*path) for path in paths}) == len(paths)
    assert all(0 <= seeding.key(*path) < 2**64 for path in paths)


def positions(stream: int, users: int, length: int) -> NDArray[np.int64]:
    """The permutation of each user's examples, ``(users, length)``."""
    identities = seeding.keys(tuple(f"u{n}" for n in range(users)), "user")
    score = seeding.scores(stream, identities[:, None], np.arange(length, dtype=np.int64)[None, :])
    return score.argsort(axis=1)


@pytest.mark.parametrize("at", [0, 1, 6])
def test_permutations_are_uniform(at: int) -> None:
    users, length = 7000, 7
    counts = np.bincount(positions(seeding.key(0, "x"), users, length)[:, at], minlength=length)
    chi2 = float(((counts - users / length) ** 2 / (users / length)).sum())
    assert chi2 < 22.5  # 99.9 % of chi-square with 6 degrees of freedom
    assert counts.min() > 0


def test_all_orders_of_three_occur_alike() -> None:
    order = positions(seeding.key(1, "x"), 6000, 3) @ np.array([9, 3, 1])
    _, counts = np.unique(order, return_counts=True)
    assert len(counts) == 6
    assert float(((counts - 1000.0) ** 2 / 1000.0).sum()) < 20.5  # 5 degrees of freedom


def test_streams_are_uncorrelated() -> None:
    """Ranks of the same users under other purposes, rounds and seeds."""
    paths = [(0, s, 1) for s in STREAMS] + [(0, "cohort", 2), (1, "cohort", 1)]
    identities = seeding.keys(tuple(f"u{n}" for n in range(4000)), "user")
    zero = np.zeros(4000, dtype=np.int64)
    drawn = [seeding.scores(seeding.key(*path), identities, zero) / 2.0**64 for path in paths]
    drawn += [
        seeding.scores(seeding.key(*paths[0]), identities, zero + k) / 2.0**64 for k in (1, 2)
    ]
    off = np.corrcoef(np.stack(drawn)) - np.eye(len(drawn))
    assert np.abs(off).max() < 4.5 / 4000**0.5
    assert all(abs(d.mean() - 0.5) < 4.5 / (12 * 4000) ** 0.5 for d in drawn)


def test_scores_do_not_depend_on_who_else_is_asked() -> None:
    identities = seeding.keys(("a", "b", "c"), "user")
    at = np.arange(4, dtype=np.int64)[None, :]
    together = seeding.scores(9, identities[:, None], at)
    alone = seeding.scores(9, identities[1:2, None], at[:, 2:])
    assert together[1, 2:].tolist() == alone[0].tolist()


def test_generators_are_their_own() -> None:
    a, b = seeding.generator(0, "a").random(5), seeding.generator(0, "b").random(5)
    assert a.tolist() == seeding.generator(0, "a").random(5).tolist()
    assert not np.isclose(a, b).any()
