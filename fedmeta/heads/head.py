"""What a head is: an initialization and logits; what follows its first layer, if it is affine."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fedmeta.types import Params

Error = Callable[[Tensor], Tensor]


class Tail(NamedTuple):
    """The part of a head behind an affine first layer, with its derivative in closed form.

    A head that has one can be run in the dual form (see :mod:`fedmeta.dual`), where its
    parameters and arguments have a leading axis of users: index from the last axis.

    Attributes:
        layer: name of the first layer; its parameters are ``{layer}.weight`` and ``.bias``.
        forward: ``(params, z (H, N)) -> logits (C, N)``; z are the first layer's outputs.
        backward: ``(params, z, error) -> (d loss / d z (H, N), gradients of the tail's
            parameters)``, where ``error`` maps logits to d loss / d logits.
        embed: ``(params, z) -> (H, N)``, what the output layer is given; None where the first
            layer is the output layer.
    """

    layer: str
    forward: Callable[[Params, Tensor], Tensor]
    backward: Callable[[Params, Tensor, Error], tuple[Tensor, dict[str, Tensor]]]
    embed: Callable[[Params, Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Head:
    """A small model of one user, as pure functions.

    Attributes:
        name: its name in the registry.
        init: fresh parameters from a seeded generator, float32.
        logits: ``(params, x (N, D)) -> (C, N)``.
        embed: ``(params, x (N, D)) -> (H, N)``, what the output layer is given:
            logits are ``output.weight @ embed + output.bias``.
        tail: what follows the first layer, or None where that is not affine.
    """

    name: str
    init: Callable[[torch.Generator], dict[str, Tensor]]
    logits: Callable[[Params, Tensor], Tensor]
    embed: Callable[[Params, Tensor], Tensor]
    tail: Tail | None = None
