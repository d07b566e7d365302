"""What a head is: an initialization and logits; what follows its first layer, if it is affine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from fedmeta.sections.method import HeadConfig
from fedmeta.types import Params

Error = Callable[[Tensor], Tensor]


class HeadError(ValueError):
    """A head that does not fit what it is to be put on; the message says what would."""


class Given(NamedTuple):
    """What a head may be made by, beside its sizes.

    Attributes:
        options: settings of single heads.
        tokens: positions of an example: its features are those of each position, one behind the
            other. 1: one vector.
        folder: of the encoder, for heads that have it in the loop.
        layers: of the encoder that are run; 0: all.
    """

    options: HeadConfig = HeadConfig()
    tokens: int = 1
    folder: str = ""
    layers: int = 0


USUAL = Given()


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
        body: prefixes of the names of what lies before the head proper, in models that are
            adapted as a whole: with ``head.adapt = head`` the inner loop leaves it alone.
        users: most users in one batched program, by type of device; 1: one after the other, as
            where a batched convolution costs more than it saves. Absent: all of a chunk.
        alone: `embed` in the form that is fastest where users come one after the other and nothing
            is mapped; None: the same form.
    """

    name: str
    init: Callable[[torch.Generator], dict[str, Tensor]]
    logits: Callable[[Params, Tensor], Tensor]
    embed: Callable[[Params, Tensor], Tensor]
    tail: Tail | None = None
    body: tuple[str, ...] = ()
    users: Mapping[str, int] = field(default_factory=dict)
    alone: Callable[[Params, Tensor], Tensor] | None = None
