"""A user's personal model, apart from the run that it was made in: what it is, and what it says.

Most methods leave a user with parameters of the head. Methods that predict from his examples
(prototypes, neighbours, memories) leave him with these: his support set, beside the server's
parameters. Either way a personal model is named tensors, users' stack, and it says what
:func:`fedmeta.cohort.predict` says.
"""

import torch
from torch import Tensor
from torch.func import vmap

from fedmeta.cohort import has_dual
from fedmeta.dual import Dual, task_of
from fedmeta.gram import anchors, each, geometry
from fedmeta.inner import Inner
from fedmeta.learner import Model, Primal, is_aligned
from fedmeta.methods import Method
from fedmeta.methods.method import held
from fedmeta.params import OWN, add, is_head, part
from fedmeta.types import Examples, Params, Task

SUPPORT = "support/"
"""Prefix of the examples in a personal model that has them."""


def remembers(method: Method) -> bool:
    """Whether a personal model is the user's examples rather than parameters made of them."""
    return method.predict is not None


def personalize(
    method: Method,
    model: Model,
    theta: Params,
    support: Examples,
    inner: Inner,
    memory: Params | None = None,
    dual: bool | None = None,
) -> dict[str, Tensor]:
    """The personal models ``(U, ...)`` of users who have these examples.

    Args:
        method: the method.
        model: head and loss.
        theta: the server's parameters.
        support: what they learn from, stacked over the U users.
        inner: how they descend.
        memory: what they own, ``(U, ...)`` each.
        dual: False forbids the dual form of the first layer; None: where it applies.

    Returns:
        The head's parameters; for methods of which that is not all, what :func:`remembers` says.
    """
    own = dict(memory or {})
    if remembers(method):
        found = {SUPPORT + name: value for name, value in support._asdict().items()}
        return {**found, **own}
    nothing = Examples(support.x[:, :0], support.y[..., :0], support.weight[:, :0])
    task, tail = Task(support, nothing), model.head.tail
    aligned = is_aligned(support, inner.batch)
    with torch.no_grad():
        if tail is None or dual is False or not has_dual(method, model, training=False):

            def one(mine: Task, own: Params) -> dict[str, Tensor]:
                start = held(method, theta, own)
                return part(method.adapt(Primal(model, aligned), start, mine, inner), is_head)

            plain: dict[str, Tensor] = vmap(one)(task, own)
            return plain
        users = Dual(model, tail, geometry(task), anchors(tail, theta, task), aligned)
        start = held(method, users.start(theta), own)
        moved = each(tail, part(method.adapt(users, start, task_of(task), inner), is_head), task)
        # In dual coordinates the first layer is where it differs from the server's.
        first = {
            name: theta[name].expand(len(support.weight), *theta[name].shape)
            for name in (f"{tail.layer}.weight", f"{tail.layer}.bias")
        }
        return add(moved, first)


def answer(
    method: Method, model: Model, theta: Params, mine: Params, x: Tensor, inner: Inner
) -> Tensor:
    """Logits ``(U, C, Q)`` of personal models ``mine`` for features ``x (U, Q, ...)``.

    ``theta`` and ``inner`` count for methods alone whose users' models :func:`remembers` says are
    their examples.
    """
    tail = model.head.tail
    if tail is not None and not remembers(method):
        weight, bias = mine[f"{tail.layer}.weight"], mine[f"{tail.layer}.bias"]
        return tail.forward(mine, torch.baddbmm(bias[..., None], weight, x.mT))

    def one(mine: Params, x: Tensor) -> Tensor:
        return alone(method, model, theta, mine, x, inner)

    found: Tensor = vmap(one)(dict(mine), x)
    return found


def alone(
    method: Method, model: Model, theta: Params, mine: Params, x: Tensor, inner: Inner
) -> Tensor:
    """:func:`answer` of one user, ``(C, Q)``, without the axis of users."""
    if method.predict is None:
        return model.head.logits(mine, x)
    support = Examples(*(mine[SUPPORT + name] for name in Examples._fields))
    # The labels of the query are NaN, as they are to every method that predicts.
    # A shape is free where the function is exported, a len() would be fixed.
    queries = x.shape[0]
    y = x.new_full((support.y.shape[0], queries), torch.nan)
    query = Examples(x, y, x.new_full((queries,), 1.0))
    own = part(mine, lambda name: name.startswith(OWN))
    start = held(method, theta, own)
    return method.predict(Primal(model), start, Task(support, query), inner)
