"""Where noise and secret cohorts come from: a seeded path in simulation, the OS in deployment.

A seeded stream makes a simulation the same to the bit, on any backend and after a resume. Whoever
knows the seed can take the noise away, and the clients of a simulation do know it. In deployment
the numbers come from AES in counter mode under a key that the operating system gives for each
draw and that nobody keeps, so a fork or a restart never repeats one. Each normal number is then
the sum of four, halved, which closes the attack on the bits of single floating-point normals
(Holohan and Braghin 2021; Jin et al. 2022).
"""

import os
from collections.abc import Callable
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from torch import Tensor

from fedmeta import seeding
from fedmeta.seeding import Part

Shape = tuple[int, ...]
SUMMED = 4
"""Normal numbers in each number of the secure source."""


class Chance(NamedTuple):
    """A source of randomness.

    Attributes:
        normal: ``(shape, path) -> standard normal numbers``, float64; equal paths may give equal
            numbers, different paths never do.
        coins: ``(identities (N,), rate, path) -> bool (N,)``, each true with chance ``rate``.
    """

    normal: Callable[[Shape, tuple[Part, ...]], Tensor]
    coins: Callable[[NDArray[np.uint64], float, tuple[Part, ...]], NDArray[np.bool_]]


def source(seed: int | None, deployed: bool) -> Chance:
    """The source of a run.

    Args:
        seed: of a simulation; None: the operating system's.
        deployed: whether the users are real.

    Raises:
        ValueError: a seed where users are real.
    """
    if deployed and seed is not None:
        raise ValueError(
            f"noise seed = {seed}: who knows the seed of the noise can take it away, so with real"
            " users noise and cohorts come from the operating system; give no seed"
        )
    return SECURE if seed is None else seeded(seed)


def seeded(seed: int) -> Chance:
    """Numbers by path: the same run gives the same bits."""

    def normal(shape: Shape, path: tuple[Part, ...]) -> Tensor:
        return torch.from_numpy(
            np.asarray(seeding.generator(seed, "noise", *path).standard_normal(shape))
        )

    def coins(
        identities: NDArray[np.uint64], rate: float, path: tuple[Part, ...]
    ) -> NDArray[np.bool_]:
        stream = seeding.key(seed, *path)
        return _below(seeding.scores(stream, identities, np.zeros(len(identities), np.int64)), rate)

    return Chance(normal, coins)


def _secure_normal(shape: Shape, path: tuple[Part, ...]) -> Tensor:
    """Box and Muller's method on the key stream."""
    count = prod(shape)
    pairs = -(-SUMMED * count // 2)
    # 53 bits each and never 0, of which there is no logarithm.
    u = ((_stream(2 * pairs) >> np.uint64(11)) + 0.5) * 2.0**-53
    radius, angle = np.sqrt(-2.0 * np.log(u[:pairs])), 2.0 * np.pi * u[pairs:]
    both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[: SUMMED * count]
    drawn: NDArray[np.float64] = both.reshape(SUMMED, count).sum(0) / SUMMED**0.5
    return torch.from_numpy(drawn.reshape(shape))


def _secure_coins(
    identities: NDArray[np.uint64], rate: float, path: tuple[Part, ...]
) -> NDArray[np.bool_]:
    return _below(_stream(len(identities)), rate)


def _stream(count: int) -> NDArray[np.uint64]:
    """Numbers of 64 bits from AES-256 in counter mode under a fresh key."""
    cipher = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16)))
    return np.frombuffer(cipher.encryptor().update(bytes(8 * count)), dtype=np.uint64)


def _below(score: NDArray[np.uint64], rate: float) -> NDArray[np.bool_]:
    """Which of uniform 64-bit numbers are below the rate; at rate 1 all are."""
    if rate >= 1.0:
        return np.ones(len(score), dtype=np.bool_)
    found: NDArray[np.bool_] = score < np.uint64(rate * 2.0**64)
    return found


SECURE = Chance(_secure_normal, _secure_coins)
"""Numbers that nobody can know or repeat."""
