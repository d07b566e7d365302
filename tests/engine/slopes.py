"""Central finite differences along random directions, for any loss of a method."""

from collections.abc import Callable

import torch
from torch import Tensor

from fedmeta.types import Params


def agrees(
    loss: Callable[[Params], Tensor], theta: Params, gradient: Params, step: float = 1e-6
) -> bool:
    """Whether ``gradient`` gives the slope of ``loss`` at ``theta``, in float64.

    Every tensor of theta is moved by itself, along a random direction; one that the gradient does
    not name must have no slope, and the others must have one.
    """
    random = torch.Generator().manual_seed(7)
    for name, value in theta.items():
        way = torch.randn(value.shape, generator=random, dtype=value.dtype)
        up, down = (loss({**theta, name: value + sign * step * way}) for sign in (1, -1))
        slope = float(up - down) / (2 * step)
        expected = float((gradient[name] * way).sum()) if name in gradient else 0.0
        if abs(slope - expected) > 1e-6 * (1 + abs(expected)) or (name in gradient) != (
            abs(slope) > 1e-5
        ):
            return False
    return True
