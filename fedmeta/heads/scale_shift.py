"""The scale-and-shift head: two numbers per channel of the frozen features, then a classifier.

What Meta-Transfer Learning learns of a pre-trained network (Sun et al. 2019, section 4.2), for
features that are computed once: the network's channels are the features' columns.
"""

import torch
from torch import Tensor

from fedmeta.heads.head import USUAL, Given, Head
from fedmeta.types import Params


def scale_shift(
    features: int, outputs: int, hidden: int = 0, experts: int = 0, given: Given = USUAL
) -> Head:
    """A scale (1 at first) and a shift (0) for each feature: ``logits = W (s * x + t) + b``.

    Args:
        features: width D of the features.
        outputs: classes, or 1 for regression.
        hidden: not used.
        experts: not used.
        given: not used.
    """

    def init(generator: torch.Generator) -> dict[str, Tensor]:
        return {
            "scale.weight": torch.ones(features),
            "scale.bias": torch.zeros(features),
            "output.weight": torch.zeros(outputs, features),
            "output.bias": torch.zeros(outputs),
        }

    return Head("scale-shift", init, _logits, _embed)


def _logits(params: Params, x: Tensor) -> Tensor:
    return params["output.weight"] @ _embed(params, x) + params["output.bias"][:, None]


def _embed(params: Params, x: Tensor) -> Tensor:
    return (x * params["scale.weight"] + params["scale.bias"]).mT
