"""Products of a chunk's features, all that the dual form needs them for (see :mod:`fedmeta.dual`).

Features meet each other in the Gram matrices, the server's weights in the anchors before the inner
loop, and the users' coefficients in one sum after it.
"""

from collections.abc import Iterable
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from fedmeta.heads import Tail
from fedmeta.types import Params, Task

WIDE = 32
"""Outputs from which on one large product for all users is faster than a small one for each."""


class Geometry(NamedTuple):
    """What the dual form keeps of a chunk's features: inner products (the bias's 1 included).

    Attributes:
        support: ``(U, S, S)``, support with support.
        query: ``(U, S, Q)``, support with query.
        asked: ``(U, Q, Q)``, query with query, where norms of what is sent are asked for.
    """

    support: Tensor
    query: Tensor
    asked: Tensor | None = None


def geometry(task: Task) -> Geometry:
    """Inner products of a chunk's features; they do not depend on the weights."""
    x = task.support.x
    return Geometry((x @ x.mT).add_(1), (x @ task.query.x.mT).add_(1))


def those(gram: Geometry, users: Tensor) -> Geometry:
    """The inner products of some users."""
    asked = None if gram.asked is None else gram.asked[users]
    return Geometry(gram.support[users], gram.query[users], asked)


class Anchors(NamedTuple):
    """First-layer outputs at the server's weights: ``(U, H, S)`` and ``(U, H, Q)``."""

    support: Tensor
    query: Tensor


def anchors(tail: Tail, theta: Params, task: Task) -> Anchors:
    """The one product of a chunk's features with the server's first layer."""
    weight, bias = theta[f"{tail.layer}.weight"], theta[f"{tail.layer}.bias"]
    return Anchors(*(_affine(weight, bias, side.x) for side in task))


def _affine(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """``W x + b`` for stacked x, ``(U, H, N)``."""
    if len(weight) < WIDE:
        return torch.baddbmm(bias[:, None], weight.expand(len(x), *weight.shape), x.mT)
    z = torch.addmm(bias, x.flatten(0, 1), weight.mT)
    return z.view(*x.shape[:2], len(weight)).mT.contiguous()


def total(tail: Tail, coefficients: Params, task: Task) -> dict[str, Tensor]:
    """Sum over a chunk's users of their contributions, from dual to plain coordinates.

    The sum over users of ``A X`` is one product, with all users' examples as its inner axis.
    """
    name = f"{tail.layer}.weight"
    sides = ((name, task.support.x), (f"{name}@query", task.query.x))
    # Coefficients as (H, users and examples), next to features as (users and examples, D).
    parts = [
        (coefficients[key].transpose(0, 1).flatten(1), x.flatten(0, 1))
        for key, x in sides
        if key in coefficients
    ]
    out = {key: v.sum(0) for key, v in coefficients.items() if not key.startswith(name)}
    if parts:
        out[name] = _add_up(a @ x for a, x in parts)
        out[f"{tail.layer}.bias"] = _add_up(a.sum(1) for a, _ in parts)
    return out


def each(tail: Tail, coefficients: Params, task: Task) -> dict[str, Tensor]:
    """The contribution of each of a chunk's users, ``(U, ...)``, in plain coordinates."""
    name = f"{tail.layer}.weight"
    sides = ((name, task.support.x), (f"{name}@query", task.query.x))
    parts = [(coefficients[key], x) for key, x in sides if key in coefficients]
    out = {key: v for key, v in coefficients.items() if not key.startswith(name)}
    if parts:
        out[name] = _add_up(a @ x for a, x in parts)
        out[f"{tail.layer}.bias"] = _add_up(a.sum(-1) for a, _ in parts)
    return out


def _add_up(terms: Iterable[Tensor]) -> Tensor:
    """Sum of one or more tensors."""
    return reduce(torch.add, terms)
