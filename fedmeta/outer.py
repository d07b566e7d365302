"""Outer optimizers: what the server does with a mean contribution.

The adaptive ones are those of "Adaptive Federated Optimization" (Reddi et al. 2021, algorithm
2), with no bias correction and ``v_0 = epsilon^2``. State is float64 and lives across rounds: a
server that rebuilds Adam every round does sign-SGD.

`hypergradient` is `adam` that learns its rate (Baydin et al. 2018; for meta-learning Behl et
al. 2019): ``d loss(theta_t) / d rate = -g_t . d_{t-1}`` with d the direction of the step before
(for SGD ``g_{t-1}``), over all parameters. The published step adds a multiple of that product,
whose scale is that of squared gradients; here the cosine of the two moves the logarithm of the
rate, so that it stays positive and one setting serves rates that are wrong in either direction.
"""

import math
from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from fedmeta.sections.run import ServerConfig
from fedmeta.types import Params

States = dict[str, tuple[Tensor, ...]]
"""State of the outer optimizer per parameter."""

Step = Callable[[Tensor, tuple[Tensor, ...], ServerConfig], tuple[Tensor, tuple[Tensor, ...]]]


class Outer(NamedTuple):
    """An optimizer on single tensors.

    Attributes:
        start: ``(shape-giving tensor, settings) -> state``, a tuple of float64 tensors.
        step: ``(gradient, state, settings) -> (direction, new state)``; the server moves by
            minus the rate times the direction.
        couple: what the tensors have to do with each other, before their steps:
            ``(gradients, states, settings) -> states``.
    """

    start: Callable[[Tensor, ServerConfig], tuple[Tensor, ...]]
    step: Step
    couple: Callable[[Params, States, ServerConfig], States] | None = None


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


def _follow(
    g: Tensor, state: tuple[Tensor, ...], c: ServerConfig
) -> tuple[Tensor, tuple[Tensor, ...]]:
    *moments, _, factor = state
    direction, after = _adam(g, tuple(moments), c)
    return factor * direction, (*after, direction, factor)


def _hypergradient(mean: Params, states: States, c: ServerConfig) -> States:
    """The rate, as a multiple of ``server.rate``, after the cosine of gradient and last step."""
    pairs = [(g.double(), states[name][2]) for name, g in mean.items()]
    product, g2, d2 = (
        torch.stack([(a * b).sum() for a, b in of]).sum()
        for of in (pairs, [(g, g) for g, _ in pairs], [(d, d) for _, d in pairs])
    )
    scale = (g2 * d2).sqrt()
    cosine = torch.where(scale > 0, product / torch.where(scale > 0, scale, 1.0), 0.0)
    grown = (c.hyper_rate * cosine).exp()
    return {name: (*rest, factor * grown) for name, (*rest, factor) in states.items()}


def _first(p: Tensor, c: ServerConfig) -> tuple[Tensor, ...]:
    zero = torch.zeros_like(p, dtype=torch.float64)
    return *_moments(p, c), zero, zero.new_ones(())


def _moments(p: Tensor, c: ServerConfig) -> tuple[Tensor, ...]:
    zero = torch.zeros_like(p, dtype=torch.float64)
    return zero, torch.full_like(zero, c.epsilon**2)


OUTER: dict[str, Outer] = {
    "sgd": Outer(lambda p, c: (), _sgd),
    "momentum": Outer(lambda p, c: (torch.zeros_like(p, dtype=torch.float64),), _momentum),
    "adam": Outer(_moments, _adam),
    "yogi": Outer(_moments, _yogi),
    "hypergradient": Outer(_first, _follow, _hypergradient),
}

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}
"""The outer rate over ``server.rate``, by the share of the rounds that are done. Linear is the
published server of Reptile, cosine that of MAML++; both would be 0 in the round after the last.
"""


class ServerState(NamedTuple):
    """All that a server carries from round to round.

    Attributes:
        round: rounds done.
        meta: the meta-initialization.
        outer: state of the outer optimizer per parameter.
        privacy: what a privacy mechanism takes on from round to round, float64.
    """

    round: int
    meta: Params
    outer: States
    privacy: Params = MappingProxyType({})


def begin(meta: Params, settings: ServerConfig) -> ServerState:
    """The state before round 1."""
    start = OUTER[settings.optimizer].start
    return ServerState(0, meta, {name: start(p, settings) for name, p in meta.items()})


def advance(
    state: ServerState, mean: Params, settings: ServerConfig, rounds: int | None = None
) -> ServerState:
    """The state after one more round with the mean contribution ``mean``, computed in float64.

    Args:
        state: the state before.
        mean: a direction of descent per parameter (absent names stay where they are).
        settings: with ``optimizer``, ``rate`` and ``schedule`` resolved.
        rounds: of the whole run, by which the schedule goes; None: the rate is constant.
    """
    meta, outer, optimizer = dict(state.meta), dict(state.outer), OUTER[settings.optimizer]
    rate = settings.rate
    if rounds:
        rate *= SCHEDULES[settings.schedule](min(state.round / rounds, 1.0))
    if optimizer.couple:
        outer = optimizer.couple(mean, outer, settings)
    for name, g in mean.items():
        direction, outer[name] = optimizer.step(g.double(), outer[name], settings)
        moved = state.meta[name].double() - rate * direction
        meta[name] = moved.to(state.meta[name].dtype)
    return ServerState(state.round + 1, meta, outer, state.privacy)
