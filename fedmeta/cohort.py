"""The engine: a chunk of users adapts in one batched program.

The functions of a method are written for one user. In the dual form of the first layer, where
the head and the method allow it, they take stacked users as they are; in the plain form they are
mapped over the users of a chunk with ``torch.func.vmap``. Users are independent, so padding,
permuting or re-chunking them changes nothing, and a real client is a chunk of one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fedmeta.dual import Dual, task_of
from fedmeta.gram import Geometry, anchors, each, geometry, those
from fedmeta.gram import total as sum_over_users
from fedmeta.heads import Tail
from fedmeta.inner import Inner
from fedmeta.learner import Model, Primal, is_aligned
from fedmeta.mapped import mapped
from fedmeta.methods import Method
from fedmeta.methods.method import held
from fedmeta.own_layer import parted, whole
from fedmeta.params import OWN, SHARE, part, weighed
from fedmeta.privacy.clip import Clip, Coordinates, clipped
from fedmeta.trials import Answer, Course, courses, said
from fedmeta.types import Examples, Params, Task, Update


class Trial(NamedTuple):
    """One way to personalize: how to descend, on how many of the support examples."""

    inner: Inner
    shots: int


def contribute(
    method: Method,
    model: Model,
    theta: Params,
    task: Task,
    inner: Inner,
    weight: Tensor | None = None,
    gram: Geometry | None = None,
    dual: bool | None = None,
    memory: Params | None = None,
    apart: bool = False,
    clip: Clip | None = None,
) -> Update:
    """The weighted sum of the contributions of a chunk of users.

    Args:
        method: must have a ``contribute``.
        model: head and loss.
        theta: the server's parameters.
        task: stacked over the U users of the chunk.
        inner: the inner loop.
        weight: weights of the users ``(U,)``; None: 1 each.
        gram: :func:`fedmeta.gram.geometry` of the task, if it is at hand.
        dual: force or forbid the dual form; None: where it applies.
        memory: what the users own, ``(U, ...)`` each; None: newcomers all.
        apart: return the contributions ``(finite users, ...)`` times their weights, which stand
            under ``share/``, instead of the sum.
        clip: the bound on what each user sends, over all names, before it is summed; None: none.

    Returns:
        Sums in float64, without users whose contribution is not finite; what the others keep.

    Raises:
        ValueError: the method contributes nothing, or the dual form is forced where it does
            not apply.
    """
    if method.contribute is None:
        raise ValueError(f"method {method.name!r} does not federate: it has nothing to contribute")
    step = method.contribute
    aligned = is_aligned(task.support, inner.batch)
    tail, gap = _dual_tail(method, model, dual, training=True), None
    if tail is None:

        def plain(mine: Task, own: Params) -> dict[str, Tensor]:
            return step(Primal(model, aligned), held(method, theta, own), mine, inner)

        sent: dict[str, Tensor] = mapped(plain, model.head, task, dict(memory or {}))
    else:
        mine, gap = parted(tail, theta, memory or {})
        own = None if gap is None else gap.anchors(task)
        gram = gram or geometry(task)
        users = Dual(model, tail, gram, anchors(tail, theta, task), aligned, own)
        start = held(method, users.start(theta), mine)
        sent = step(users, start, task_of(task), inner)
    finite = _finite(sent)
    if not bool(finite.all()):
        # Once more without them, so that the sum is bit for bit the one that they are not in.
        rest = None if weight is None else weight[finite]
        if not bool(finite.any()):
            nothing = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in theta.items()}
            return Update(nothing, torch.zeros((), dtype=torch.float64), finite, {})
        others, had = _of(task, finite), {n: v[finite] for n, v in (memory or {}).items()}
        left = None if gram is None else those(gram, finite)
        found = contribute(method, model, theta, others, inner, rest, left, dual, had, apart, clip)
        return found._replace(finite=finite)
    kept = part(sent, lambda name: not _leaves(name))
    if tail is not None and f"{OWN}{tail.layer}.weight" in held(method, theta, {}):
        kept = whole(tail, theta, kept, gap, task)
    leaves, weights = weighed(part(sent, _leaves), weight)
    if clip is not None:
        leaves = clipped(leaves, clip, Coordinates(tail, task, gram) if tail and gram else None)
    if apart:
        alone = leaves if tail is None else each(tail, leaves, task)
        total: dict[str, Tensor] = {**alone, SHARE: weights}
    elif tail is None:
        total = {name: value.sum(0) for name, value in leaves.items()}
    else:
        total = sum_over_users(tail, leaves, task)
    total = {name: value.double() for name, value in total.items()}
    return Update(total, weights.double().sum(), finite, kept)


def predict(
    method: Method,
    model: Model,
    theta: Params,
    task: Task,
    trials: Sequence[Trial],
    memory: Params | None = None,
    dual: bool | None = None,
) -> list[Tensor]:
    """Query logits ``(U, C, Q)`` of a chunk of new users after adaptation, for each trial.

    ``memory`` is what the users own, ``(U, ...)`` each, None for nothing. A trial with 0 shots is
    the un-adapted model. A method that looked at the labels of the query would find NaN.

    Raises:
        ValueError: the dual form is forced where it does not apply.
    """
    return [one.logits for one in answers(method, model, theta, task, trials, memory, dual)]


def answers(
    method: Method,
    model: Model,
    theta: Params,
    task: Task,
    trials: Sequence[Trial],
    memory: Params | None = None,
    dual: bool | None = None,
    figures: bool = False,
) -> list[Answer]:
    """:func:`predict`, with the method's own figures ``(U,)`` of the users where asked for.

    They may look at features, so they are taken in the plain form.
    """
    plainly = figures and bool(method.reports)
    tail = None if plainly else _dual_tail(method, model, dual, training=False)
    task = task._replace(query=task.query._replace(y=torch.full_like(task.query.y, torch.nan)))
    own = memory or {}
    parts = None if tail is None else (geometry(task), anchors(tail, theta, task))
    found: dict[int, Answer] = {}
    for course in courses(method, trials):
        limited = Task(first(task.support, course.shots), task.query)
        aligned = is_aligned(limited.support, course.inner.batch)
        if tail is None or parts is None:
            said_of = _plainly(method, Primal(model, aligned), theta, limited, course, own, figures)
        else:
            users = Dual(model, tail, *parts, aligned)
            start = held(method, users.start(theta), own)
            said_of = said(method, users, start, task_of(limited), course)
        found |= {n: said_of[at] for n, at in zip(course.trials, course.at, strict=True)}
    return [found[number] for number in range(len(trials))]


def _plainly(
    method: Method,
    learner: Primal,
    theta: Params,
    task: Task,
    course: Course,
    memory: Params,
    figures: bool,
) -> list[Answer]:
    def one(mine: Task, own: Params) -> list[Answer]:
        return said(method, learner, held(method, theta, own), mine, course, figures)

    return mapped(one, learner.head, task, dict(memory))


def first(support: Examples, shots: int) -> Examples:
    """A stacked support set of which only the first ``shots`` examples of a user count."""
    present = (support.weight > 0) & (
        torch.arange(support.weight.shape[-1], device=support.weight.device) < shots
    )
    count = present.sum(-1, keepdim=True).clamp(min=1)
    return support._replace(weight=present.to(support.weight.dtype) / count)


def has_dual(method: Method, model: Model, training: bool) -> bool:
    """Whether the dual form of the first layer serves the method with the head."""
    tail = model.head.tail
    plain = method.plain or (training and method.plain_training)
    return tail is not None and not plain and not (method.embeds and tail.embed is None)


def _dual_tail(method: Method, model: Model, dual: bool | None, training: bool) -> Tail | None:
    possible = has_dual(method, model, training)
    if dual and not possible:
        raise ValueError(
            f"the dual form needs a head with an affine first layer and a method without"
            f" per-weight rates; got head {model.head.name!r} and a method that is"
            f" {'plain' if method.plain or method.plain_training else 'not plain'}"
        )
    return model.head.tail if possible and dual is not False else None


def _leaves(name: str) -> bool:
    """Whether a contribution of this name leaves the user."""
    return not name.startswith(OWN)


def _finite(leaves: Params) -> Tensor:
    """Which users have finite numbers only, bool ``(U,)``."""
    sums = torch.stack([value.reshape(len(value), -1).sum(1) for value in leaves.values()])
    return sums.isfinite().all(0)


def _of(task: Task, users: Tensor) -> Task:
    """The stacked tasks of some users."""
    return Task(*(Examples(*(field[users] for field in side)) for side in task))
