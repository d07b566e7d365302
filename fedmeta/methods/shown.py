"""What a support set shows of the classes: their prototypes, and a rule for those it does not.

A class of which the user has no example has no prototype. Its logit is the mean of the logits of
the classes shown, less ``log(1 + n)``, with n the user's examples: finite, differentiable, never
the largest, and by Laplace's rule of succession the less likely the more he has shown. Where
nothing is shown all logits are 0: all classes are alike. Since the mean of linear functions is
linear, an output layer can obey the same rule.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fedmeta.types import Examples


class Shown(NamedTuple):
    """Which classes a support set shows. Leading axes, here as below, are users.

    Attributes:
        share: each class's share of the weight of the examples that count, ``(C, N)``; a row sums
            to 1, or to 0 where the class is not shown.
        present: bool ``(C,)``.
        penalty: ``log(1 + n)`` of the user's n examples, a scalar.
    """

    share: Tensor
    present: Tensor
    penalty: Tensor


def shown(examples: Examples) -> Shown:
    """Which classes the examples show; padding, of weight 0, shows none."""
    mass = examples.y * examples.weight[..., None, :]
    total = mass.sum(-1)
    present = total > 0
    share = mass / torch.where(present, total, 1.0)[..., None]
    return Shown(share, present, (examples.weight > 0).to(mass.dtype).sum(-1).log1p())


def complete(scores: Tensor, seen: Shown, penalty: Tensor | None = None) -> Tensor:
    """Scores ``(C, Q)`` of classes, with those of classes not shown put in by the rule above.

    ``penalty (Q,)`` is what a score of such a class is lower than the mean; None: as above.
    """
    present = seen.present[..., None]
    total = torch.where(present, scores, 0.0).sum(-2)
    mean = total / present.to(scores.dtype).sum(-2).clamp(min=1)
    absent = mean - (seen.penalty[..., None] if penalty is None else penalty)
    return torch.where(present, scores, absent[..., None, :])


def prototypes(h: Tensor, seen: Shown) -> Tensor:
    """Weighted mean of the embeddings ``h (H, N)`` of each class, ``(C, H)``; 0 if not shown."""
    return seen.share @ h.mT


def normalized(rows: Tensor) -> Tensor:
    """Rows of unit norm; a row of zeros stays, and so does its derivative, 0."""
    square = rows.square().sum(-1, keepdim=True)
    return rows / torch.where(square > 0, square, 1.0).sqrt()


def prototype_layer(c: Tensor, seen: Shown, squared: bool = True) -> dict[str, Tensor]:
    """The output layer of prototypes ``c (C, H)``: ``W = 2 c`` and ``b = -||c||^2``.

    Its logits are ``-||f - c||^2 + ||f||^2``, and the last term is the same for all classes
    (Snell et al. 2017, section 2.4). Without ``squared`` the bias is 0.
    """
    bias = -c.square().sum(-1, keepdim=True) * float(squared)
    return {
        "output.weight": complete(2 * c, seen, torch.zeros_like(c[..., 0, :])),
        "output.bias": complete(bias, seen).squeeze(-1),
    }
