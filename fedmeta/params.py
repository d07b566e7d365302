"""Arithmetic on named tensors, where a name that is absent stands for zero."""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from torch import Tensor

from fedmeta.types import Params

OWN = "own/"
"""Prefix of what stays with the user; everything else that a method returns leaves him."""

DOMAIN = "own/domain"
"""The number of the user's domain, for methods that need it; given, never changed."""

KEY = "own/key"
"""A 64-bit key of the user (int64), for methods that draw numbers of his own; given as well."""

SHARE = "share/"
"""A contribution of this name, a scalar, multiplies the user's weight and does not leave alone."""


def add(a: Params, b: Params, scale: float = 1.0) -> dict[str, Tensor]:
    """``a + scale * b``, name by name.

    >>> import torch
    >>> add({"w": torch.ones(1)}, {"w": torch.ones(1), "b": torch.ones(1)}, -0.5)
    {'w': tensor([0.5000]), 'b': tensor([-0.5000])}
    """
    out = dict(a)
    for name, value in b.items():
        # `add` with alpha is one pass over memory instead of two.
        out[name] = a[name].add(value, alpha=scale) if name in a else scale * value
    return out


def subtract(a: Params, b: Params) -> dict[str, Tensor]:
    """``a - b``, name by name.

    >>> import torch
    >>> subtract({"w": torch.ones(1)}, {"b": torch.ones(1)})
    {'w': tensor([1.]), 'b': tensor([-1.])}
    """
    return add(a, b, -1.0)


def times(factor: Tensor, params: Params) -> dict[str, Tensor]:
    """A number, or one per user, times all parameters.

    >>> import torch
    >>> times(torch.tensor([2.0, 0.0]), {"b": torch.ones(2, 1)})
    {'b': tensor([[2.],
            [0.]])}
    """
    return {name: along(factor, value) * value for name, value in params.items()}


def along(factor: Tensor, value: Tensor) -> Tensor:
    """The factor with axes added at the end, so that its own are the first of the value."""
    return factor.reshape(*factor.shape, *(1,) * (value.dim() - factor.dim()))


def weighed(leaves: Params, weight: Tensor | None) -> tuple[Params, Tensor]:
    """Leaves times the users' weights, and those weights; a share that was sent is part of them."""
    share = leaves.get(SHARE)
    leaves = part(leaves, lambda name: name != SHARE)
    some = next(iter(leaves.values()))
    if weight is None and share is None:
        return leaves, some.new_ones(len(some))
    weights = some.new_ones(len(some)) if weight is None else weight.to(some)
    weights = weights if share is None else weights * share
    return times(weights, leaves), weights


def is_output(name: str) -> bool:
    """Whether a parameter belongs to the output layer; the others are the trunk.

    >>> is_output("output.weight"), is_output("hidden.bias")
    (True, False)
    """
    return name.startswith("output.")


def is_trunk(name: str) -> bool:
    """Whether a parameter of the head lies before its output layer.

    >>> is_trunk("hidden.bias"), is_trunk("own/hidden.bias")
    (True, False)
    """
    return is_head(name) and not is_output(name)


def is_head(name: str) -> bool:
    """Whether a parameter is the head's; the others have a ``/`` in their names.

    >>> is_head("hidden.bias"), is_head("rate/hidden.bias"), is_head("own/hidden.bias")
    (True, False, False)
    """
    return "/" not in name


def matched(names: Iterable[str], patterns: str) -> frozenset[str]:
    """The names that one of some comma-separated shell patterns fits.

    >>> sorted(matched(["conv0.weight", "output.bias"], "output.*, head.*"))
    ['output.bias']
    """
    wanted = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
    return frozenset(n for n in names if any(fnmatchcase(n, pattern) for pattern in wanted))


def part(params: Params, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """The parameters whose names are wanted."""
    return {name: value for name, value in params.items() if wanted(name)}


def owned(params: Params) -> dict[str, Tensor]:
    """What stays with the user, under its plain names.

    >>> owned({"own/output.bias": 1, "output.bias": 2})
    {'output.bias': 1}
    """
    return {name.removeprefix(OWN): v for name, v in params.items() if name.startswith(OWN)}


def as_own(params: Params) -> dict[str, Tensor]:
    """The same parameters under the names of things that stay with the user."""
    return {OWN + name: value for name, value in params.items()}
