"""The MLP head: one hidden layer, so that the features themselves can be meta-learned."""

import torch
from torch import Tensor

from fedmeta.heads.head import USUAL, Error, Given, Head, Tail
from fedmeta.types import Params


def mlp(
    features: int, outputs: int, hidden: int = 64, experts: int = 0, given: Given = USUAL
) -> Head:
    """One hidden layer: ``logits = V relu(W x + b) + c``.

    The hidden weights are drawn with variance 2 / hidden, which for features of unit norm gives
    hidden vectors of unit norm: one inner learning rate then suits this head and the linear one.

    Args:
        features: width D of the features.
        outputs: classes, or 1 for regression.
        hidden: hidden units.
        experts: not used.
        given: not used.
    """

    def init(generator: torch.Generator) -> dict[str, Tensor]:
        return {
            "hidden.weight": torch.randn(hidden, features, generator=generator)
            * (2.0 / hidden) ** 0.5,
            "hidden.bias": torch.zeros(hidden),
            "output.weight": torch.randn(outputs, hidden, generator=generator) * hidden**-0.5,
            "output.bias": torch.zeros(outputs),
        }

    return Head("mlp", init, _logits, _embed, Tail("hidden", _forward, _backward, _rectified))


def _logits(params: Params, x: Tensor) -> Tensor:
    return params["output.weight"] @ _embed(params, x) + params["output.bias"][:, None]


def _embed(params: Params, x: Tensor) -> Tensor:
    return torch.relu(params["hidden.weight"] @ x.mT + params["hidden.bias"][:, None])


def _forward(params: Params, z: Tensor) -> Tensor:
    return params["output.weight"] @ torch.relu(z) + params["output.bias"][..., None]


def _rectified(params: Params, z: Tensor) -> Tensor:
    return torch.relu(z)


def _backward(params: Params, z: Tensor, error: Error) -> tuple[Tensor, dict[str, Tensor]]:
    # 1 where a unit is on and 0 where not, as numbers: a product with booleans is far slower,
    # and so is the derivative of relu, which MAML would take here.
    on = torch.sign(torch.relu(z.detach()))
    h = z * on
    e = error(params["output.weight"] @ h + params["output.bias"][..., None])
    grads = {"output.weight": e @ h.mT, "output.bias": e.sum(-1)}
    return (params["output.weight"].mT @ e) * on, grads
