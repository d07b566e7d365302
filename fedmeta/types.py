"""The types that cross every boundary of the package.

Everything is class-first: logits and targets are ``(C, N)``, because a softmax over a strided
axis of ten classes vectorizes over the examples and one over the last axis does not.
"""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

Params = Mapping[str, Tensor]
"""Named tensors; with a leading axis U there is one set per user."""


class Examples(NamedTuple):
    """Labelled examples of one user; stacked over users each field has a leading axis U.

    Attributes:
        x: features, ``(N, D)``.
        y: one-hot labels ``(C, N)`` or targets ``(1, N)``.
        weight: ``(N,)``, one over the number of examples for those present and 0 for padding,
            so that a mean over a ragged user is a weighted sum over a padded one.
    """

    x: Tensor
    y: Tensor
    weight: Tensor


class Task(NamedTuple):
    """What one user learns from (support) and is judged on (query): never a shared example.

    Methods that do not split their data find all of it in ``support`` and a query of length 0.
    """

    support: Examples
    query: Examples


class Update(NamedTuple):
    """A sum over users, so that all one can do with updates is to add them.

    Attributes:
        total: weighted sum of the users' contributions, float64, in the server's shapes.
        weight: sum of the users' weights, float64 scalar.
        finite: which users of the chunk gave finite numbers, bool ``(U,)``; the others are in
            neither sum.
        kept: what each of the finite users keeps, ``(finite users, ...)``; it never leaves them.
    """

    total: Params
    weight: Tensor
    finite: Tensor
    kept: Params
