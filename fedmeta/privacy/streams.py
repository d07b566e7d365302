"""Gaussian noise as a function of a key alone: AES in counter mode, then Box and Muller.

A user's noise is the same in whatever chunk he is, next to whomever, on whichever worker. The
generator is a cryptographic one, so that only the key tells a simulation, whose key is a path of
public things, from a deployment, whose key nobody knows.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from torch import Tensor

from fedmeta.seeding import Part, text

_HALF = np.float32(2.0**-31)
_FROM_ZERO = modes.CTR(bytes(16))


def key(*path: Part) -> bytes:
    """A 128-bit key for a path; see :func:`fedmeta.seeding.key`."""
    return hashlib.blake2b(text(*path).encode(), digest_size=16).digest()


def gaussians(key: bytes, steps: int, count: int) -> NDArray[np.float32]:
    """Independent standard normal numbers, ``(steps, count)``, at most 6.8 from zero.

    Args:
        key: 16, 24 or 32 bytes; it may serve once.
        steps: rows.
        count: numbers in a row.
    """
    out = np.empty((steps, count), dtype=np.float32)
    _fill(out, key)
    return out


def _fill(out: NDArray[np.float32], key: bytes) -> None:
    """Write the numbers of a key into an array ``(steps, count)``."""
    steps, count = out.shape
    half = -(-count // 2)
    size = steps * half
    cipher = Cipher(algorithms.AES(key), _FROM_ZERO).encryptor()
    bits = np.empty(8 * size + 16, dtype=np.uint8)
    cipher.update_into(_zeros(8 * size), bits.data)
    raw = bits[: 8 * size].view("<i4").astype(np.float32)
    # One array after the other, each in place: that they stay in the cache is half of the speed.
    radius, angle = raw[:size], raw[size:]
    np.abs(radius, out=radius)
    radius *= _HALF
    radius += np.float32(2.0**-33)  # of a zero there is no logarithm
    np.log(radius, out=radius)
    radius *= np.float32(-2)
    np.sqrt(radius, out=radius)
    angle *= np.float32(np.pi) * _HALF
    cosine, sine = np.cos(angle), np.sin(angle, out=angle)
    wide = (steps, half)
    np.multiply(cosine.reshape(wide), radius.reshape(wide), out=out[:, :half])
    rest = count - half
    np.multiply(sine.reshape(wide)[:, :rest], radius.reshape(wide)[:, :rest], out=out[:, half:])


def of_users(paths: Sequence[tuple[Part, ...]]) -> Callable[[str, int, int], Tensor]:
    """The noise of users, each under a path of his own (see :data:`fedmeta.privacy.noisy.Noise`).

    >>> of_users([(0, "a"), (0, "b")])("support", 3, 5).shape
    torch.Size([3, 2, 5])
    """

    def noise(side: str, steps: int, count: int) -> Tensor:
        drawn = np.empty((steps, len(paths), count), dtype=np.float32)
        for at, path in enumerate(paths):
            _fill(drawn[:, at], key(*path, side, count))
        return torch.from_numpy(drawn)

    return noise


@lru_cache(maxsize=4)
def _zeros(size: int) -> bytes:
    return bytes(size)
