"""Outer optimizers: what the server does with a mean contribution.

The adaptive ones are those of "Adaptive Federated Optimization" (Reddi et al. 2021, algorithm
2), with no bias correction and ``v_0 = epsilon^2``. State is float64 and lives across rounds: a
server that rebuilds Adam every round does sign-SGD.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fedmeta.sections.run import ServerConfig
from fedmeta.types import Params

Step = Callable[[Tensor, tuple[Tensor, ...], ServerConfig], tuple[Tensor, tuple[Tensor, ...]]]


class Outer(NamedTuple):
    """An optimizer on single tensors.

    Attributes:
        start: ``(shape-giving tensor, settings) -> state``, a tuple of float64 tensors.
        step: ``(gradient, state, settings) -> (direction, new state)``; the server moves by
            minus the rate times the direction.
    """

    start: Callable[[Tensor, ServerConfig], tuple[Tensor, ...]]
    step: Step


def _sgd(
    g: Tensor, state: tuple[Tensor, ...], c: ServerConfig
) -> tuple[Tensor, tuple[Tensor, ...]]:
    return g, ()


def _momentum(
    g: Tensor, state: tuple[Tensor, ...], c: ServerConfig
) -> tuple[Tensor, tuple[Tensor, ...]]:
    velocity = c.momentum * state[0] + g
    return velocity, (velocity,)


def _adam(
    g: Tensor, state: tuple[Tensor, ...], c: ServerConfig
) -> tuple[Tensor, tuple[Tensor, ...]]:
    m = c.momentum * state[0] + (1 - c.momentum) * g
    v = c.beta2 * state[1] + (1 - c.beta2) * g.square()
    return m / (v.sqrt() + c.epsilon), (m, v)


def _yogi(
    g: Tensor, state: tuple[Tensor, ...], c: ServerConfig
) -> tuple[Tensor, tuple[Tensor, ...]]:
    m = c.momentum * state[0] + (1 - c.momentum) * g
    square = g.square()
    v = state[1] - (1 - c.beta2) * square * torch.sign(state[1] - square)
    return m / (v.sqrt() + c.epsilon), (m, v)


def _moments(p: Tensor, c: ServerConfig) -> tuple[Tensor, ...]:
    zero = torch.zeros_like(p, dtype=torch.float64)
    return zero, torch.full_like(zero, c.epsilon**2)


OUTER: dict[str, Outer] = {
    "sgd": Outer(lambda p, c: (), _sgd),
    "momentum": Outer(lambda p, c: (torch.zeros_like(p, dtype=torch.float64),), _momentum),
    "adam": Outer(_moments, _adam),
    "yogi": Outer(_moments, _yogi),
}


class ServerState(NamedTuple):
    """All that a server carries from round to round.

    Attributes:
        round: rounds done.
        meta: the meta-initialization.
        outer: state of the outer optimizer per parameter.
    """

    round: int
    meta: Params
    outer: dict[str, tuple[Tensor, ...]]


def begin(meta: Params, settings: ServerConfig) -> ServerState:
    """The state before round 1."""
    start = OUTER[settings.optimizer].start
    return ServerState(0, meta, {name: start(p, settings) for name, p in meta.items()})


def advance(state: ServerState, mean: Params, settings: ServerConfig) -> ServerState:
    """The state after one more round with the mean contribution ``mean``, computed in float64.

    Args:
        state: the state before.
        mean: a direction of descent per parameter (absent names stay where they are).
        settings: with ``optimizer`` and ``rate`` resolved.
    """
    meta, outer = dict(state.meta), dict(state.outer)
    for name, g in mean.items():
        direction, outer[name] = OUTER[settings.optimizer].step(
            g.double(), state.outer[name], settings
        )
        moved = state.meta[name].double() - settings.rate * direction
        meta[name] = moved.to(state.meta[name].dtype)
    return ServerState(state.round + 1, meta, outer)
