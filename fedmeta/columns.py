"""Columns of stacked matrices: one slice for all users, or each his own positions ``(U, size)``."""

import torch
from torch import Tensor
from torch.nn.functional import pad


def take(value: Tensor, at: slice | Tensor) -> Tensor:
    """Columns ``at``."""
    if isinstance(at, slice):
        return value[..., at]
    return value.gather(-1, at[:, None, :].expand(*value.shape[:-1], at.shape[-1]))


def add_at(into: Tensor, at: slice | Tensor | None, e: Tensor, scale: float) -> None:
    """Add ``scale * e`` to columns ``at``, in place."""
    if isinstance(at, Tensor):
        into.scatter_add_(-1, at[:, None, :].expand(*e.shape), scale * e)
    else:
        (into if at is None else into[..., at]).add_(e, alpha=scale)


def scatter(e: Tensor, at: slice | Tensor | None, length: int) -> Tensor:
    """``e`` at columns ``at`` of ``length``, zero elsewhere; None: it has them all."""
    if at is None:
        return e
    if isinstance(at, slice):
        return pad(e, (at.start, length - at.stop))
    index = at[:, None, :].expand(*e.shape)
    return torch.zeros(*e.shape[:-1], length, dtype=e.dtype, device=e.device).scatter_add(
        -1, index, e
    )
