"""A block of :mod:`fedmeta.heads.conv4` for one user on a CPU, differentiated in closed form.

A 3 x 3 convolution, normalization of groups, a shift, ReLU and the maximum of 2 x 2 pixels. What
follows the convolution, taken step by step, passes over all pixels for each step and for each of
its first and second derivatives: that was more than half of the time of second-order MAML. But only
the maxima go on, a quarter of the pixels, and the others count through the mean and the variance of
their group. So derivatives are taken where the maxima are, and two sums over each group do the
rest. Values, and which pixel is the maximum, are those of the textbook's order, to the bit.

With ``z`` the normalized pixels of a group, ``r`` one over the standard deviation and ``m`` the
number of pixels, the gradient of a normalization (Ioffe and Szegedy 2015, section 3) is
``r [g - (sum g + z sum g z) / m]``; it is differentiated once more by hand below. A convolution is
linear in the image and in the kernel, so that its second derivatives are convolutions and their
gradients once more; PyTorch makes of one of them a convolution with kernels as large as images.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

GROUP = 4
"""Channels that are normalized together."""
KERNEL, POOL = 3, 2
EPS = 1e-5


def plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Images ``(N, C, H, W)`` to ``(N, filters, H / 2, W / 2)``, in the textbook's order."""
    return _settle(_convolve(x, weight), bias)


def settled(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """:func:`plain`, to the bit, faster to differentiate; not within ``torch.func``."""
    found: Tensor = _Settled.apply(_Convolved.apply(x, weight), bias)  # type: ignore[no-untyped-call]
    return found


def _convolve(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=KERNEL // 2)


def _settle(c: Tensor, bias: Tensor) -> Tensor:
    y = F.group_norm(c, len(bias) // GROUP)
    # The maximum of what is not normalized yet would be faster, but rounding breaks ties otherwise
    # there, and the gradient of a tie is another one: 1e-3 beside a plain loop.
    return F.max_pool2d(torch.relu(y + bias[:, None, None]), POOL)


def _by(g: Tensor, x: Tensor, weight: Tensor, image: bool, kernel: bool) -> list[Tensor | None]:
    """The gradient of a convolution by the image and by the kernel, those that are wanted."""
    side = KERNEL // 2
    found = torch.ops.aten.convolution_backward(
        g, x, weight, None, [1, 1], [side, side], [1, 1], False, [0, 0], 1, [image, kernel, False]
    )
    return [found[0] if image else None, found[1] if kernel else None]


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        found: tuple[Tensor | None, ...] = _Kernel.apply(  # type: ignore[no-untyped-call]
            *slopes, *ctx.saved_tensors, *ctx.needs_input_grad
        )
        return found


class _Kernel(torch.autograd.Function):
    """The gradient of a convolution as a function of its own: of ``g``, image and kernel."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, weight: Tensor, image: bool, kernel: bool
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(g, x, weight)
        ctx.set_materialize_grads(False)
        return tuple(_by(g, x, weight, image, kernel))

    @staticmethod
    def backward(ctx: Any, *outer: Tensor | None) -> tuple[Tensor | None, ...]:
        g, x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            return (*_again(_convolve, (g, x, weight), outer), None, None)
        image, kernel = outer
        wanted = ctx.needs_input_grad
        by_g = by_x = by_weight = None
        if image is not None:
            by_g = _convolve(image, weight)
            by_weight = _by(g, image, weight, False, wanted[2])[1]
        if kernel is not None:
            more = _convolve(x, kernel)
            by_g = more if by_g is None else by_g.add_(more)
            by_x = _by(g, x, kernel, wanted[1], False)[0]
        return by_g, by_x, by_weight, None, None


class _Settled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, c: Tensor, bias: Tensor) -> Tensor:
        n, f, h, w = c.shape
        z, _, r = torch.native_group_norm(c, None, None, n, f, h * w, f // GROUP, EPS)
        y = z + bias[:, None, None]
        top, at = maxima(y)
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
            return (*_again(_settle, (g, c, bias), outer), *[None] * 4)
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


def _again(
    function: Callable[..., Tensor], at: tuple[Tensor, ...], outer: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    """The second derivative by the tape, so that it can be differentiated once more.

    Args:
        function: of the last tensors of ``at``; the first one multiplies its gradient.
        at: where.
        outer: by what the first derivatives are multiplied; None: by zero.
    """
    free = [value.view_as(value) for value in at]  # the way from one of them to another is not ours
    free = [value if value.requires_grad else value.detach().requires_grad_() for value in free]
    first = torch.autograd.grad(function(*free[1:]), free[1:], free[0], create_graph=True)
    pairs = [(one, by) for one, by in zip(first, outer, strict=True) if by is not None]
    slopes, by = zip(*pairs, strict=True)
    return torch.autograd.grad(slopes, free, by, create_graph=True, materialize_grads=True)


def maxima(y: Tensor) -> tuple[Tensor, Tensor]:
    """The maxima of 2 x 2 pixels of images ``(N, C, H, W)``, and where they are in ``H W``.

    As ``max_pool2d`` with indices: of equals the first one counts. That one looks at one pixel
    after the other, which took an eighth of the time.
    """
    height, width = (side // POOL * POOL for side in y.shape[2:])
    a, b, c, d = (y[..., i:height:POOL, j:width:POOL] for i in range(POOL) for j in range(POOL))
    up, down = torch.maximum(a, b), torch.maximum(c, d)
    lower = down > up
    right = torch.where(lower, d > c, b > a)
    rows = torch.arange(0, height, POOL, device=y.device) * y.shape[3]
    first = rows[:, None] + torch.arange(0, width, POOL, device=y.device)
    return torch.maximum(up, down), first + y.shape[3] * lower + right


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
