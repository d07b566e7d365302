"""Losses with their derivative in closed form, so that first-order inner loops need no autograd."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Loss(NamedTuple):
    """A weighted sum over examples of a loss, and its derivative with respect to the logits.

    Any leading axes are users, each with a sum of its own.

    Attributes:
        value: ``(logits (C, N), y (C, N), weight (N,)) -> scalar``.
        error: the same arguments ``-> (C, N)``, d value / d logits.
    """

    value: Callable[[Tensor, Tensor, Tensor], Tensor]
    error: Callable[[Tensor, Tensor, Tensor], Tensor]


def _entropy_value(logits: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    return -((torch.log_softmax(logits, -2) * y).sum(-2) * weight).sum(-1)


def _entropy_error(logits: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    return _minus(torch.softmax(logits, -2), y, weight)


def _minus(p: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """``(p - y) * weight``, in place of a p of our own where nobody takes derivatives."""
    if torch.is_grad_enabled():
        return (p - y) * weight[..., None, :]
    return p.sub_(y).mul_(weight[..., None, :])


def _squared_value(logits: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    return 0.5 * ((logits - y).square().sum(-2) * weight).sum(-1)


def _squared_error(logits: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    return (logits - y) * weight[..., None, :]


LOSSES = {
    "classification": Loss(_entropy_value, _entropy_error),
    "regression": Loss(_squared_value, _squared_error),
}
"""Cross-entropy for classification, half the squared error for regression."""
