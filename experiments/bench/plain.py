"""The loop that the engine is measured against: one user after the other, in plain PyTorch.

It is what one writes first, with nothing held back: functional calls, no module, no optimizer
object, updates in place where the mathematics allows it, tensors ready and contiguous.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import grad
from torch.nn.functional import cross_entropy, linear, relu

from experiments.bench.workloads import Work
from fedmeta.types import Params, Task


class User(NamedTuple):
    """One user's tensors: features ``(N, D)`` and class indices ``(N,)``."""

    x: Tensor
    y: Tensor
    query_x: Tensor
    query_y: Tensor


def users_of(task: Task) -> list[User]:
    """The users of a chunk, each with contiguous tensors."""
    support, query = task.support.y.argmax(-2), task.query.y.argmax(-2)
    columns = zip(task.support.x, support, task.query.x, query, strict=True)
    return [User(*column) for column in columns]


def contribution(work: Work, theta: Sequence[Tensor], user: User) -> list[Tensor]:
    """What one user sends: a delta (``reptile``) or a meta-gradient (``maml``, ``fomaml``)."""
    if work.method == "reptile":
        return _delta(work, theta, user)
    second = work.method == "maml"
    meta = [p.detach().requires_grad_() for p in theta]
    phi: Sequence[Tensor] = meta
    for _ in range(work.inner.steps):
        g = grad(_loss(phi, user.x, user.y), phi, create_graph=second)
        phi = [p - work.inner.rate * d for p, d in zip(phi, g, strict=True)]
        if not second:
            phi = [p.detach().requires_grad_() for p in phi]
    return list(grad(_loss(phi, user.query_x, user.query_y), meta if second else phi))


def total(work: Work, theta: Params, users: Sequence[User]) -> dict[str, Tensor]:
    """The sum over users, in the precision of their tensors."""
    start = list(theta.values())
    sums = [torch.zeros_like(p) for p in start]
    for user in users:
        for into, part in zip(sums, contribution(work, start, user), strict=True):
            into += part
    return dict(zip(theta, sums, strict=True))


def _delta(work: Work, theta: Sequence[Tensor], user: User) -> list[Tensor]:
    phi = [p.clone().requires_grad_() for p in theta]
    size = work.inner.batch or len(user.x)
    for step in range(work.inner.steps):
        at = step * size % len(user.x)
        g = grad(_loss(phi, user.x[at : at + size], user.y[at : at + size]), phi)
        with torch.no_grad():
            for p, d in zip(phi, g, strict=True):
                p.sub_(d, alpha=work.inner.rate)
    return [p - q.detach() for p, q in zip(theta, phi, strict=True)]


def _loss(params: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of a linear head (two tensors) or of an MLP (four)."""
    hidden = x if len(params) == 2 else relu(linear(x, params[0], params[1]))
    return cross_entropy(linear(hidden, params[-2], params[-1]), y)
