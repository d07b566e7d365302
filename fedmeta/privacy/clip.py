"""A bound on all that a user sends: one norm over every name that leaves him, one factor.

In the dual form of the first layer a user sends coefficients ``A`` and ``B`` over the rows ``X`` of
his support and ``Y`` of his query, which stand for ``A X + B Y`` and its bias (a feature that is
always 1). Their norm needs inner products of rows only:

    ||A X + B Y||^2 = <A X X', A> + 2 <A X Y', B> + <B Y Y', B>

Because the clip is one factor for a user, his contribution stays what it is in either form.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fedmeta.gram import Geometry
from fedmeta.heads import Tail
from fedmeta.params import times
from fedmeta.types import Params, Task

BELOW = "privacy/below"
"""Name of the users below the clip minus half of all, which leaves beside what is clipped: a user
who is there or not moves it by a half."""

ROUNDING = 2.0**-21
"""By how much an inner product in single precision may be wrong, relative to the product of the
lengths: norms are taken as larger by it, so that what cancels hides nothing."""


class Clip(NamedTuple):
    """The bound on a user's contribution in a round.

    Attributes:
        norm: the largest L2 norm.
        counts: whether to count the users below it.
    """

    norm: float
    counts: bool = False


class Coordinates(NamedTuple):
    """What coefficients of the dual form mean."""

    tail: Tail
    task: Task
    gram: Geometry


def clipped(leaves: Params, clip: Clip, dual: Coordinates | None = None) -> dict[str, Tensor]:
    """Contributions ``(U, ...)`` of norm at most the clip, and what counts the users below it.

    Args:
        leaves: all that leaves the users, finite.
        clip: the bound.
        dual: where the first layer is in dual coordinates.

    Returns:
        The leaves, each user's times one factor; with ``clip.counts`` also :data:`BELOW`, ``(U,)``
        in float64.
    """
    norm = norms(leaves, dual)
    # A norm that overflowed is infinite or no number, and no comparison with it may let it pass.
    factor = torch.where(norm <= clip.norm, 1.0, clip.norm / norm).nan_to_num(nan=0.0)
    some = next(iter(leaves.values()))
    out = times(factor.to(some.dtype), leaves)
    if clip.counts:
        out[BELOW] = (norm <= clip.norm).double() - 0.5
    return out


def norms(leaves: Params, dual: Coordinates | None = None) -> Tensor:
    """L2 norms of users' contributions over all names, ``(U,)`` in float64, never too small."""
    name = "" if dual is None else f"{dual.tail.layer}.weight"
    squares = [
        value.double().reshape(len(value), -1).square().sum(1)
        for key, value in leaves.items()
        if dual is None or not key.startswith(name)
    ]
    if dual is not None:
        squares += _first_layer(leaves.get(name), leaves.get(f"{name}@query"), dual)
    return torch.stack(squares).sum(0).sqrt()


def _first_layer(a: Tensor | None, b: Tensor | None, dual: Coordinates) -> list[Tensor]:
    """Terms of the squared norm of a first layer and its bias, the last for rounding."""
    terms: list[Tensor] = []
    if a is not None:
        terms += _form(a, a, dual.gram.support)
    if b is not None:
        gram = dual.gram.asked
        if gram is None:
            gram = (dual.task.query.x @ dual.task.query.x.mT).add_(1)
        terms += _form(b, b, gram)
    if a is not None and b is not None:
        terms.append(2 * _form(a, b, dual.gram.query)[0])
    return terms


def _form(a: Tensor, b: Tensor, gram: Tensor) -> list[Tensor]:
    """``<A G, B>`` for each user ``(U,)``, and where A is B a bound on its rounding errors."""
    # Either product takes as long; what follows it is elementwise, so the smaller one is made.
    if a.shape[1] > a.shape[2]:
        found = ((a.mT @ b) * gram).flatten(1).sum(1)
    else:
        found = ((a @ gram) * b).flatten(1).sum(1)
    if a is not b:
        return [found.double()]
    # By Cauchy and Schwarz at least the square of the sum of the lengths of what is added up.
    length = (a * a).sum(1) * gram.diagonal(dim1=1, dim2=2)
    return [found.double(), ROUNDING * a.shape[2] * length.sum(1).double()]
