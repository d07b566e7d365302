"""Gaussian noise as a function of a key alone: AES in counter mode, then Box and Muller.

A user's noise is the same in whatever chunk he is, next to whomever, on whichever worker. The
generator is a cryptographic one, so that only the key tells a simulation, whose key is a path of
public things, from a deployment, whose key nobody knows.
"""

import hashlib

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from fedmeta.seeding import Part, text

_TURN = np.float32(2.0 * np.pi * 2.0**-32)


def key(*path: Part) -> bytes:
    """A 128-bit key for a path; see :func:`fedmeta.seeding.key`."""
    return hashlib.blake2b(text(*path).encode(), digest_size=16).digest()


def gaussians(key: bytes, steps: int, count: int) -> NDArray[np.float32]:
    """Independent standard normal numbers, ``(steps, count)``, up to 6.7 from zero.

    The numbers of a step depend on the key, the step and ``count``, not on how many steps there
    are. A key may serve once.

    Args:
        key: 16, 24 or 32 bytes.
        steps: rows.
        count: numbers in a row.
    """
    half = -(-count // 2)
    cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    bits = cipher.update(bytes(8 * half * steps))
    raw = np.frombuffer(bits, dtype="<u4").reshape(steps, 2, half).astype(np.float32)
    # In (0, 1]: of a zero there is no logarithm. Rounding is finest near zero, at the tails.
    radius = (raw[:, 0] + np.float32(1)) * np.float32(2.0**-32)
    np.log(radius, out=radius)
    radius *= np.float32(-2)
    np.sqrt(radius, out=radius)
    angle = raw[:, 1] * _TURN
    out = np.empty((steps, 2, half), dtype=np.float32)
    np.multiply(np.cos(angle), radius, out=out[:, 0])
    np.multiply(np.sin(angle, out=angle), radius, out=out[:, 1])
    return out.reshape(steps, 2 * half)[:, :count]
