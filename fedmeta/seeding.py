"""Randomness as a hash of a path, never of a position.

Every random choice names its purpose: ``key(seed, "cohort", round)``. Two purposes never
share a stream, and the result does not depend on how many workers there are or in which
order they ask.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

Part = int | str


def key(*path: Part) -> int:
    """A 64-bit key for a path; equal paths give equal keys on every machine.

    >>> key(0, "cohort", 1) == key(0, "cohort", 1), key(0, "cohort", 1) == key(0, "cohort", 2)
    (True, False)
    """
    return int.from_bytes(hashlib.blake2b(text(*path).encode(), digest_size=8).digest(), "little")


def text(*path: Part) -> str:
    """A path as text, no two alike.

    >>> text(1, "2") == text("1", 2)
    False
    """
    return "\x1f".join(f"{type(part).__name__}:{part}" for part in path)


def generator(*path: Part) -> np.random.Generator:
    """A numpy generator of its own for a path."""
    return np.random.Generator(np.random.Philox(key=key(*path)))


def keys(names: tuple[str, ...], *path: Part) -> NDArray[np.uint64]:
    """One key per name, shape ``(len(names),)``: the names' stable identities."""
    return np.array([key(*path, name) for name in names], dtype=np.uint64)


def scores(
    stream: int, identities: NDArray[np.uint64], positions: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """Pseudo-random 64-bit scores for (identity, position) pairs, broadcast, in one sweep.

    Sorting a user's examples by their scores is a seeded permutation of them that depends on
    nothing but the stream, the user and the example: the splitmix64 finalizer (Steele, Lea and
    Flood, OOPSLA 2014) applied twice, so that neighbouring positions decorrelate.
    """
    mixed = _mix(identities ^ np.uint64(stream))
    return _mix(mixed + _mix(positions.astype(np.uint64)))


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = state + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
