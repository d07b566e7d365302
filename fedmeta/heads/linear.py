"""The linear head: softmax or linear regression on frozen features."""

import torch
from torch import Tensor

from fedmeta.heads.head import USUAL, Error, Given, Head, Tail
from fedmeta.types import Params


def linear(
    features: int, outputs: int, hidden: int = 0, experts: int = 0, given: Given = USUAL
) -> Head:
    """Linear: ``logits = W x + b``, from zero, since the problem is convex.

    Args:
        features: width D of the features.
        outputs: classes, or 1 for regression.
        hidden: not used; every head takes the same arguments.
        experts: not used.
        given: not used.
    """

    def init(generator: torch.Generator) -> dict[str, Tensor]:
        return {
            "output.weight": torch.zeros(outputs, features),
            "output.bias": torch.zeros(outputs),
        }

    return Head("linear", init, _logits, _embed, Tail("output", _forward, _backward))


def _logits(params: Params, x: Tensor) -> Tensor:
    return params["output.weight"] @ x.mT + params["output.bias"][:, None]


def _embed(params: Params, x: Tensor) -> Tensor:
    return x.mT


def _forward(params: Params, z: Tensor) -> Tensor:
    return z


def _backward(params: Params, z: Tensor, error: Error) -> tuple[Tensor, dict[str, Tensor]]:
    return error(z), {}
