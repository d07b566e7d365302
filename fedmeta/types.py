"""The types that cross every boundary of the package."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

Params = Mapping[str, Tensor]
"""Named tensors; with a leading axis U there is one set per user."""


class Examples(NamedTuple):
    """Labelled examples of one user; stacked over users each field has a leading axis U.

    ``x`` is ``(N, D)``, ``y`` is ``(N,)`` (class index or target), ``mask`` is ``(N,)`` bool:
    False marks padding, which never changes a result.
    """

    x: Tensor
    y: Tensor
    mask: Tensor


class Task(NamedTuple):
    """What one user learns from (support) and is judged on (query): never a shared example."""

    support: Examples
    query: Examples


class Update(NamedTuple):
    """A sum over users, so that all one can do with updates is to add them.

    Attributes:
        total: weighted sum of the users' contributions, in the shapes of the server's params.
        weight: sum of the users' weights, float64 scalar.
        users: number of users summed, int64 scalar.
        loss: weighted sum of the users' training losses, float64 scalar.
        finite: which users of the chunk gave finite numbers, bool ``(U,)``; the others are not
            in the sums.
    """

    total: Params
    weight: Tensor
    users: Tensor
    loss: Tensor
    finite: Tensor
