"""The mixture head: several hidden layers, and a gate that says which of them an example needs."""

import torch
from torch import Tensor

from fedmeta.heads.head import USUAL, Given, Head
from fedmeta.heads.mlp import mlp
from fedmeta.types import Params


def mmoe(
    features: int, outputs: int, hidden: int = 64, experts: int = 4, given: Given = USUAL
) -> Head:
    """A gated mixture of hidden layers: ``V sum_e softmax(G x)_e relu(W_e x + b_e) + c``.

    Experts are drawn as the hidden layer of `mlp` is, so that one expert is that head; the gate
    begins at zero, which asks all experts alike.

    Args:
        features: width D of the features.
        outputs: classes, or 1 for regression.
        hidden: hidden units of all experts together, so that the head costs what `mlp` costs.
        experts: hidden layers.
        given: not used.
    """
    hidden = -(-hidden // experts)
    single = mlp(features, outputs, hidden).init

    def init(generator: torch.Generator) -> dict[str, Tensor]:
        one = single(generator)
        others = [
            torch.randn(hidden, features, generator=generator) * (2.0 / hidden) ** 0.5
            for _ in range(experts - 1)
        ]
        return {
            "experts.weight": torch.stack([one["hidden.weight"], *others]),
            "experts.bias": torch.zeros(experts, hidden),
            "gate.weight": torch.zeros(experts, features),
            "gate.bias": torch.zeros(experts),
            "output.weight": one["output.weight"],
            "output.bias": one["output.bias"],
        }

    return Head("mmoe", init, _logits, _embed)


def gates(params: Params, x: Tensor) -> Tensor:
    """How much each example asks of each expert, ``(E, N)``; sums to 1 over the experts."""
    return torch.softmax(params["gate.weight"] @ x.mT + params["gate.bias"][:, None], dim=0)


def _logits(params: Params, x: Tensor) -> Tensor:
    return params["output.weight"] @ _embed(params, x) + params["output.bias"][:, None]


def _embed(params: Params, x: Tensor) -> Tensor:
    weight, bias = params["experts.weight"], params["experts.bias"]
    # All experts in one product; of one expert it is that of `mlp`, to the bit.
    hidden = torch.relu(weight.flatten(0, 1) @ x.mT + bias.flatten()[:, None])
    return (gates(params, x)[:, None] * hidden.view(*bias.shape, x.shape[-2])).sum(0)
