"""What follows a convolution in :mod:`fedmeta.heads.conv4`, with its derivatives in closed form.

Normalization of groups, a shift, ReLU and the maximum of 2 x 2 pixels, for one user on a CPU. Taken
one by one, each of them and each of their first and second derivatives passes over all pixels:
that was more than half of the time of second-order MAML. But only the maxima go on, a quarter of
the pixels, and the others count through the mean and the variance of their group. So derivatives
are taken where the maxima are, and two sums over each group do the rest. Values, and which pixel is
the maximum, are those of the textbook's order, to the bit.

With ``z`` the normalized pixels of a group, ``r`` one over the standard deviation and ``m`` the
number of pixels, the gradient of a normalization (Ioffe and Szegedy 2015, section 3) is
``r [g - (sum g + z sum g z) / m]``; it is differentiated once more by hand below.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

GROUP = 4
"""Channels that are normalized together."""
POOL = 2
EPS = 1e-5


def plain(c: Tensor, bias: Tensor) -> Tensor:
    """Images ``(N, C, H, W)`` to ``(N, C, H / 2, W / 2)``, in the textbook's order."""
    y = F.group_norm(c, len(bias) // GROUP)
    # The maximum of what is not normalized yet would be faster, but rounding breaks ties otherwise
    # there, and the gradient of a tie is another one: 1e-3 beside a plain loop.
    return F.max_pool2d(torch.relu(y + bias[:, None, None]), POOL)


def settled(c: Tensor, bias: Tensor) -> Tensor:
    """:func:`plain`, to the bit, faster to differentiate; not within ``torch.func``."""
    found: Tensor = _Settled.apply(c, bias)  # type: ignore[no-untyped-call]
    return found


class _Settled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, c: Tensor, bias: Tensor) -> Tensor:
        n, f, h, w = c.shape
        z, _, r = torch.native_group_norm(c, None, None, n, f, h * w, f // GROUP, EPS)
        y = z + bias[:, None, None]
        top, at = F.max_pool2d(y, POOL, return_indices=True)
        ctx.save_for_backward(c, bias, z, r, top, at)
        return torch.relu(top)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = _Slope.apply(*slopes, *ctx.saved_tensors)  # type: ignore[no-untyped-call]
        return found


class _Slope(torch.autograd.Function):
    """The gradient as a function of its own: of ``g``, the pixels ``c`` and the shift."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, c: Tensor, bias: Tensor, z: Tensor, r: Tensor, top: Tensor, at: Tensor
    ) -> tuple[Tensor, Tensor]:
        groups, m = _grouped(z), z[0, :GROUP].numel()
        r = r.reshape(-1, 1)
        on = g * (top > 0)
        z_top = top - bias[:, None, None]
        total, tilt = on.view(len(r), -1).sum(1, True), _product(on, z_top, len(r))
        slope = torch.addcmul(-r * total / m, groups, -r * tilt / m)
        _add_at(slope, at, on.view(len(r), -1) * r)
        ctx.save_for_backward(g, c, bias, z, r, at, on, z_top, total, tilt)
        return slope.view_as(c), on.sum((0, 2, 3))

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        g, c, bias, z, r, at, on, z_top, total, tilt = ctx.saved_tensors
        if torch.is_grad_enabled():  # a third derivative: nobody is in a hurry
            return (*_again(g, c, bias, outer), None, None, None, None)
        v, shift = outer
        v = v.contiguous()
        many, m = len(r), z[0, :GROUP].numel()
        v_total, v_tilt = v.view(many, -1).sum(1, True), _product(v, z, many)
        v_top = v.view(*z.shape[:2], -1).gather(2, at.flatten(2)).view(many, -1)
        flat = on.view(many, -1)
        # By g: the gradient is linear in it.
        by_g = torch.addcmul(-r * v_total / m, z_top.view(many, -1), -r * v_tilt / m)
        by_g = by_g.addcmul_(v_top, r).view_as(z_top) + shift[:, None, None]
        # By c: through r, and through z, which is normalized itself.
        through_r = (flat * v_top).sum(1, True) - (total * v_total + tilt * v_tilt) / m
        level = r * r * (v_tilt * total + tilt * v_total) / m**2
        along = -r * r * (through_r - 2 * v_tilt * tilt / m) / m
        by_c = torch.addcmul(level, _grouped(z), along)
        by_c.addcmul_(v.view(many, -1), -r * r * tilt / m)
        _add_at(by_c, at, flat * (-r * r * v_tilt / m))
        return by_g * (z_top + bias[:, None, None] > 0), by_c.view_as(c), None, *[None] * 4


def _again(g: Tensor, c: Tensor, bias: Tensor, outer: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The second derivative by the tape, so that it can be differentiated once more."""
    free = [value.view_as(value) for value in (g, c, bias)]  # the way from c to g is not ours
    free = [value if value.requires_grad else value.detach().requires_grad_() for value in free]
    first = torch.autograd.grad(plain(*free[1:]), free[1:], free[0], create_graph=True)
    return torch.autograd.grad(first, free, outer, create_graph=True, materialize_grads=True)


def _grouped(z: Tensor) -> Tensor:
    """Images ``(N, C, H, W)`` as one row for each group of channels of an image."""
    return z.view(len(z) * z.shape[1] // GROUP, -1)


def _product(a: Tensor, b: Tensor, groups: int) -> Tensor:
    """The inner product of each group, ``(groups, 1)``."""
    return torch.bmm(a.view(groups, 1, -1), b.view(groups, -1, 1)).view(-1, 1)


def _add_at(slope: Tensor, at: Tensor, values: Tensor) -> None:
    """Add to the pixels that were the maxima, in place."""
    n, f = at.shape[:2]
    slope.view(n, f, -1).scatter_add_(2, at.flatten(2), values.view(n, f, -1))
