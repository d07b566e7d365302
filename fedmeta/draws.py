"""Random numbers of a user's own inside a batched program: the hash of :mod:`fedmeta.seeding`.

A method may not own a generator: the users of a chunk are one program. It hashes the user's key,
which is given to it, as tensors; the numbers are those of :func:`fedmeta.seeding.scores`, bit for
bit, whatever the chunk and the padding.
"""

import torch
from torch import Tensor

_GOLDEN, _FIRST, _SECOND = (
    # The constants of the splitmix64 finalizer as signed numbers: torch multiplies no unsigned.
    constant - 2**64
    for constant in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def bits(key: Tensor, stream: int, count: int) -> Tensor:
    """The first ``count`` pseudo-random 64-bit numbers of a user in a stream, int64.

    Args:
        key: his key, an int64 scalar.
        stream: a :func:`fedmeta.seeding.key`: what the numbers are for.
        count: how many.
    """
    signed = stream - 2**64 if stream >= 2**63 else stream
    mixed = _mix(key ^ signed)
    return _mix(mixed + _mix(torch.arange(count, device=key.device)))


def uniform(key: Tensor, stream: int, count: int) -> Tensor:
    """The same numbers in [0, 1), float64.

    >>> uniform(torch.tensor(3), 5, 2) == uniform(torch.tensor(3), 5, 3)[:2]
    tensor([True, True])
    """
    return _shifted(bits(key, stream, count), 11).double() / 2**53


def _mix(state: Tensor) -> Tensor:
    z = state + _GOLDEN
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, by: int) -> Tensor:
    """``z >> by`` of unsigned numbers, where torch's shift of signed ones copies the sign."""
    return (z >> by) & ((1 << (64 - by)) - 1)
