"""DP-SGD of one user on his own device, for any module, through Opacus.

The engine's mechanism, with the engine's constants: the records of a step, its noise and its
divisor come from outside, so that a device does what :mod:`fedmeta.privacy.noisy` does, and the
two can be held against each other. Opacus' own engine is not asked for any of them: it takes rate
and divisor from the number of records, which is private.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence

import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from torch import Tensor, nn

Losses = Callable[[Tensor, Tensor], Tensor]
"""``(outputs (N, ...), targets (N, ...)) -> (N,)``: the loss of each record."""

Noise = Callable[[int, str, torch.Size], Tensor]
"""``(step, parameter's name, shape) -> standard normal numbers``."""


def check_module(module: nn.Module) -> None:
    """Refuse a module whose records' gradients are not each record's own.

    Raises:
        ValueError: batch normalization, statistics that are kept, or tied weights.
    """
    for name, one in module.named_modules():
        if isinstance(one, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"layer {name!r} is {type(one).__name__}: it mixes the records of a batch, so that"
                " no clip of single gradients bounds what one record changes; use nn.GroupNorm or"
                " nn.LayerNorm"
            )
        if getattr(one, "track_running_stats", False):
            raise ValueError(
                f"layer {name!r} keeps running statistics of the records, which get no noise; set"
                " track_running_stats = False"
            )
    names: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if id(parameter) in names and parameter.requires_grad:
            raise ValueError(
                f"parameter {name!r} is {names[id(parameter)]!r} once more (tied weights): the"
                " norms of its two gradients are not that of their sum; give each its own"
            )
        names[id(parameter)] = name


def opacus_descend(
    module: nn.Module,
    losses: Losses,
    x: Tensor,
    y: Tensor,
    chosen: Iterable[Sequence[int] | Tensor],
    noise: Noise,
    *,
    rate: float,
    divisor: float,
    clip: float,
    multiplier: float,
    momentum: float = 0.0,
    ghost: bool = False,
) -> int:
    """Train a module in place; what it is afterwards may leave the device.

    Args:
        module: any module that :func:`check_module` lets pass.
        losses: of each record.
        x: the records, ``(N, ...)``.
        y: their targets, ``(N, ...)``.
        chosen: for each step the records in it: a Poisson sample at a public rate. A step with
            none is a step with noise alone.
        noise: a secret one on a device.
        rate: learning rate.
        divisor: public number that noised sums are divided by, never a count of records.
        clip: largest norm of a record's gradient.
        multiplier: standard deviation of the noise over the clip.
        momentum: heavy-ball momentum, on what is released.
        ghost: never hold the gradients of single records, only their norms, at the price of a
            second backward pass: for large modules.

    Returns:
        Steps taken: what is to be charged.

    Raises:
        ValueError: a module that is refused, or a divisor, clip or noise that is not positive.
    """
    check_module(module)
    for name, value in (("divisor", divisor), ("clip", clip), ("noise multiplier", multiplier)):
        if not value > 0:
            raise ValueError(f"{name} = {value}: it has to be above 0, or nothing is protected")
    module.train()
    step_of = _Ghost if ghost else _Plain
    inside = step_of(module, losses, clip)
    # A sum over the records and the divisor in the rate: "mean" would divide by a count of them.
    inner = torch.optim.SGD(module.parameters(), lr=rate / divisor, momentum=momentum)
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    optimizer = inside.optimizer(
        inner,
        noise_multiplier=multiplier,
        max_grad_norm=clip,
        expected_batch_size=None,
        loss_reduction="sum",
    )
    taken = 0
    try:
        for step, rows in enumerate(chosen):
            at = torch.as_tensor(rows, dtype=torch.int64, device=x.device)
            with warnings.catch_warnings():
                # Features need no gradients, which is as it should be.
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                inside.backward(optimizer, x[at], y[at])
            optimizer.given = [
                noise(step, name, p.shape).to(p) * (multiplier * clip)
                for name, p in zip(names, optimizer.params, strict=True)
            ]
            optimizer.step()
            optimizer.zero_grad()
            taken += 1
    finally:
        inside.wrapped.to_standard_module()
    return taken


class _Given(DPOptimizer):  # type: ignore[misc]
    """Opacus' optimizer with the noise that it is given."""

    given: Sequence[Tensor]

    def add_noise(self) -> None:
        for p, noise in zip(self.params, self.given, strict=True):
            p.grad = (p.summed_grad + noise).view_as(p)


class _GivenFast(DPOptimizerFastGradientClipping):  # type: ignore[misc]
    """The same for sums that are clipped already."""

    given: Sequence[Tensor]

    def add_noise(self) -> None:
        for p, noise in zip(self.params, self.given, strict=True):
            p.grad = (p.summed_grad + noise).view_as(p)


class _Plain:
    """Every record's gradient is held."""

    optimizer = _Given

    def __init__(self, module: nn.Module, losses: Losses, clip: float) -> None:
        self.wrapped = GradSampleModule(module, loss_reduction="sum")
        self.losses = losses

    def backward(self, optimizer: _Given, x: Tensor, y: Tensor) -> None:
        torch.autograd.backward(self.losses(self.wrapped(x), y).sum())
        samples = optimizer.grad_samples
        finite = torch.stack([g.flatten(1).isfinite().all(1) for g in samples]).all(0)
        for p, g in zip(optimizer.params, samples, strict=True):
            # Before the clip: 0 times infinity is not a number, and the record would be seen.
            p.grad_sample = torch.where(finite.view(-1, *(1,) * (g.dim() - 1)), g, 0)


class _Ghost:
    """Only norms are held; the sum is the gradient of a weighted loss."""

    optimizer = _GivenFast

    def __init__(self, module: nn.Module, losses: Losses, clip: float) -> None:
        self.wrapped = GradSampleModuleFastGradientClipping(
            module, loss_reduction="sum", max_grad_norm=clip, use_ghost_clipping=True
        )
        self.losses = losses

    def backward(self, optimizer: _GivenFast, x: Tensor, y: Tensor) -> None:
        if len(x):
            self._first(optimizer, x, y)
            finite = self.wrapped.get_norm_sample().isfinite()
            if not bool(finite.all()):
                x, y = x[finite], y[finite]
                if len(x):
                    self._first(optimizer, x, y)
        if not len(x):
            for p in optimizer.params:
                p.grad = torch.zeros_like(p)
            return
        factor = self.wrapped.get_clipping_coef()
        self.wrapped.disable_hooks()
        torch.autograd.backward((factor * self.losses(self.wrapped(x), y)).sum())
        self.wrapped.enable_hooks()

    def _first(self, optimizer: _GivenFast, x: Tensor, y: Tensor) -> None:
        """The pass for the norms; the gradient that it leaves behind is of no use."""
        torch.autograd.backward(self.losses(self.wrapped(x), y).sum())
        optimizer.zero_grad()
