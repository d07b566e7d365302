"""The MLP head: hidden layers, so that the features themselves can be meta-learned."""

from functools import partial

import torch
from torch import Tensor

from fedmeta.heads.head import USUAL, Error, Given, Head, Tail
from fedmeta.types import Params


def mlp(
    features: int, outputs: int, hidden: int = 64, experts: int = 0, given: Given = USUAL
) -> Head:
    """One hidden layer or several: ``logits = V relu(W x + b) + c``.

    The hidden weights are drawn with variance 2 / hidden, which for features of unit norm gives
    hidden vectors of unit norm: one inner learning rate then suits this head and the linear one.

    Args:
        features: width D of the features.
        outputs: classes, or 1 for regression.
        hidden: hidden units of each layer.
        experts: not used.
        given: `depth` of the options: the number of hidden layers.
    """
    deeper = tuple(f"hidden{number}" for number in range(2, given.options.depth + 1))

    def init(generator: torch.Generator) -> dict[str, Tensor]:
        def drawn(columns: int) -> Tensor:
            normal = torch.randn(hidden, columns, generator=generator)
            weights: Tensor = normal * (2.0 / hidden) ** 0.5
            return weights

        out = {"hidden.weight": drawn(features), "hidden.bias": torch.zeros(hidden)}
        for layer in deeper:
            out |= {f"{layer}.weight": drawn(hidden), f"{layer}.bias": torch.zeros(hidden)}
        return {
            **out,
            "output.weight": torch.randn(outputs, hidden, generator=generator) * hidden**-0.5,
            "output.bias": torch.zeros(outputs),
        }

    def embed(params: Params, x: Tensor) -> Tensor:
        z = params["hidden.weight"] @ x.mT + params["hidden.bias"][:, None]
        return _rectified(deeper, params, z)

    def logits(params: Params, x: Tensor) -> Tensor:
        return params["output.weight"] @ embed(params, x) + params["output.bias"][:, None]

    forward, backward = partial(_forward, deeper), partial(_backward, deeper)
    tail = Tail("hidden", forward, backward, partial(_rectified, deeper))
    return Head("mlp", init, logits, embed, tail)


def _rectified(deeper: tuple[str, ...], params: Params, z: Tensor) -> Tensor:
    for layer in deeper:
        z = params[f"{layer}.weight"] @ torch.relu(z) + params[f"{layer}.bias"][..., None]
    return torch.relu(z)


def _forward(deeper: tuple[str, ...], params: Params, z: Tensor) -> Tensor:
    h = _rectified(deeper, params, z)
    return params["output.weight"] @ h + params["output.bias"][..., None]


def _backward(
    deeper: tuple[str, ...], params: Params, z: Tensor, error: Error
) -> tuple[Tensor, dict[str, Tensor]]:
    # 1 where a unit is on and 0 where not, as numbers: a product with booleans is far slower,
    # and so is the derivative of relu, which MAML would take here.
    ons = [torch.sign(torch.relu(z.detach()))]
    hs = [z * ons[0]]
    for layer in deeper:
        z = params[f"{layer}.weight"] @ hs[-1] + params[f"{layer}.bias"][..., None]
        ons.append(torch.sign(torch.relu(z.detach())))
        hs.append(z * ons[-1])
    e = error(params["output.weight"] @ hs[-1] + params["output.bias"][..., None])
    grads = {"output.weight": e @ hs[-1].mT, "output.bias": e.sum(-1)}
    e = (params["output.weight"].mT @ e) * ons[-1]
    for number, layer in reversed(list(enumerate(deeper))):
        grads |= {f"{layer}.weight": e @ hs[number].mT, f"{layer}.bias": e.sum(-1)}
        e = (params[f"{layer}.weight"].mT @ e) * ons[number]
    return e, grads
