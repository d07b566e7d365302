"""Arithmetic on named tensors, where a name that is absent stands for zero."""

from torch import Tensor

from fedmeta.types import Params


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
