"""Sums over a user's examples of their gradients, each clipped: two ways, one result.

``sum_i g_i min(1, C / (||g_i|| + 1e-6))`` over the examples that are in, ``g_i`` the gradient of
example i alone (Abadi et al. 2016, algorithm 1; the small number as in Opacus). One example moves
it by at most C. A gradient that is not finite counts zero: clipped, it would still be not finite,
and one example would be visible in all that follows.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, vmap

from fedmeta.heads import Tail
from fedmeta.learner import Model
from fedmeta.params import along, is_head, part
from fedmeta.types import Examples, Params

SMALL = 1e-6
"""Added to norms before C is divided by them."""

Clipped = Callable[
    [Model, Params, Examples, float, Callable[[str], bool], Tensor | None], dict[str, Tensor]
]
"""``(model, parameters, examples, C, wanted, squares) -> sums``: parameters ``(U, ...)``, examples
stacked over users, in where their weight is positive; gradients are by the wanted parameters;
squared lengths of the features ``(U, N)``, which stay over steps, where they are known."""


def clipped_sum(
    model: Model,
    params: Params,
    examples: Examples,
    clip: float,
    wanted: Callable[[str], bool],
    squares: Tensor | None = None,
) -> dict[str, Tensor]:
    """The way that suits the head."""
    way = by_examples if model.head.tail is None else by_factors
    return way(model, params, examples, clip, wanted, squares)


def by_examples(
    model: Model,
    params: Params,
    examples: Examples,
    clip: float,
    wanted: Callable[[str], bool],
    squares: Tensor | None = None,
) -> dict[str, Tensor]:
    """For any head: every example's gradient is made, by automatic differentiation."""
    free = part(params, lambda name: is_head(name) and wanted(name))
    fixed = part(params, lambda name: is_head(name) and name not in free)

    def loss(mine: Params, others: Params, x: Tensor, y: Tensor) -> Tensor:
        logits = model.head.logits({**others, **mine}, x[None])
        return model.loss.value(logits, y[:, None], logits.new_ones(1))

    each = vmap(vmap(grad(loss), in_dims=(None, None, 0, 1)))
    found: dict[str, Tensor] = each(dict(free), dict(fixed), examples.x, examples.y)
    norms = torch.stack([g.square().flatten(2).sum(-1) for g in found.values()]).sum(0)
    finite, factor = _factors(norms, examples.weight, clip)
    return {
        name: (along(factor, g) * torch.where(along(finite, g), g, 0)).sum(1)
        for name, g in found.items()
    }


def by_factors(
    model: Model,
    params: Params,
    examples: Examples,
    clip: float,
    wanted: Callable[[str], bool],
    squares: Tensor | None = None,
) -> dict[str, Tensor]:
    """For heads with an affine first layer, whose gradients are never made one by one.

    An example's gradient by that layer is the product of the error at its outputs, ``(H,)``, and
    the features (1 for the bias): the norm of the product is the product of the norms (Goodfellow
    2015), and to clip it is to scale the error.
    """
    tail = model.head.tail
    if tail is None:
        raise ValueError(f"head {model.head.name!r} has no affine first layer")
    weight, bias = f"{tail.layer}.weight", f"{tail.layer}.bias"
    x = examples.x
    z = torch.baddbmm(params[bias][..., None], params[weight], x.mT)
    error, rest = _errors(model, tail, params, z, examples.y)
    rest = part(rest, wanted)
    length = lengths(x) if squares is None else squares
    norms = error.square().sum(-2) * (length * wanted(weight) + float(wanted(bias)))
    for g in rest.values():
        norms = norms + g.square().flatten(2).sum(-1)
    finite, factor = _factors(norms, examples.weight, clip)
    error = error * factor[:, None]
    if not bool(finite.all()):
        error = torch.where(finite[:, None], error, 0)
        x = torch.where(finite[..., None], x, 0)
        rest = {name: torch.where(along(finite, g), g, 0) for name, g in rest.items()}
    out = {name: torch.einsum("un,un...->u...", factor, g) for name, g in rest.items()}
    if wanted(weight):
        out[weight] = error @ x
    if wanted(bias):
        out[bias] = error.sum(-1)
    return out


def lengths(x: Tensor) -> Tensor:
    """Squared lengths of features, ``(U, N, D) -> (U, N)``."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return length.square()


def _errors(
    model: Model, tail: Tail, params: Params, z: Tensor, y: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Errors at the first layer's outputs ``(U, H, N)``; each example's tail gradients."""
    behind = part(params, lambda name: is_head(name) and not name.startswith(f"{tail.layer}."))
    if not behind:
        ones = z.new_ones(z.shape[0], z.shape[-1])
        return tail.backward(behind, z, lambda logits: model.loss.error(logits, y, ones))
    # Each example is taken for a user of its own, so that what is a sum over one's examples in
    # the tail's derivative is one example's.
    ones = z.new_ones(z.shape[0], z.shape[-1], 1)
    error, rest = tail.backward(
        {name: value[:, None] for name, value in behind.items()},
        z.mT[..., None],
        lambda logits: model.loss.error(logits, y.mT[..., None], ones),
    )
    return error[..., 0].mT, rest


def _factors(norms: Tensor, weight: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """Which gradients are finite, and what each is multiplied by, from squared norms ``(U, N)``."""
    finite = norms.isfinite()
    factor = (clip / (norms.sqrt() + SMALL)).clamp(max=1.0)
    return finite, torch.where(finite & (weight > 0), factor, 0)
