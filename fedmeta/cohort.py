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
from torch.func import vmap

from fedmeta.dual import Dual, task_of
from fedmeta.gram import Anchors, Geometry, anchors, each, geometry
from fedmeta.gram import total as sum_over_users
from fedmeta.heads import Tail
from fedmeta.inner import Inner
from fedmeta.learner import Model, Primal, is_aligned
from fedmeta.methods import Method
from fedmeta.methods.method import held
from fedmeta.params import OWN, SHARE, part
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
    tail = _dual_tail(method, model, dual, training=True)

    if tail is None:

        def plain(mine: Task, own: Params) -> dict[str, Tensor]:
            return step(Primal(model, aligned), held(method, theta, own), mine, inner)

        sent: dict[str, Tensor] = vmap(plain)(task, dict(memory or {}))
    else:
        users = Dual(model, tail, gram or geometry(task), anchors(tail, theta, task), aligned)
        start = held(method, users.start(theta), memory or {})
        sent = step(users, start, task_of(task), inner)
    finite = _finite(sent)
    if not bool(finite.all()):
        # Once more without them, so that the sum is bit for bit the one that they are not in.
        rest = None if weight is None else weight[finite]
        if not bool(finite.any()):
            nothing = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in theta.items()}
            return Update(nothing, torch.zeros((), dtype=torch.float64), finite, {})
        own = {name: value[finite] for name, value in (memory or {}).items()}
        others = _of(task, finite)
        left = None if gram is None else Geometry(*(side[finite] for side in gram))
        found = contribute(method, model, theta, others, inner, rest, left, dual, own, apart)
        return found._replace(finite=finite)
    leaves, weights = _weigh(part(sent, _leaves), weight)
    if apart:
        alone = leaves if tail is None else each(tail, leaves, task)
        total: dict[str, Tensor] = {**alone, SHARE: weights}
    elif tail is None:
        total = {name: value.sum(0) for name, value in leaves.items()}
    else:
        total = sum_over_users(tail, leaves, task)
    total = {name: value.double() for name, value in total.items()}
    return Update(total, weights.double().sum(), finite, part(sent, lambda n: not _leaves(n)))


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
    the un-adapted model. The labels of the query are taken away before a
    method sees it: one that looked at them would find NaN.

    Raises:
        ValueError: the dual form is forced where it does not apply.
    """
    tail = _dual_tail(method, model, dual, training=False)
    task = task._replace(query=task.query._replace(y=torch.full_like(task.query.y, torch.nan)))
    if tail is None:
        return [_plainly(method, model, theta, task, trial, memory or {}) for trial in trials]
    parts = geometry(task), anchors(tail, theta, task)
    own = memory or {}
    return [_in_dual(method, model, tail, theta, parts, task, trial, own) for trial in trials]


def _plainly(
    method: Method, model: Model, theta: Params, task: Task, trial: Trial, memory: Params
) -> Tensor:
    limited = Task(first(task.support, trial.shots), task.query)
    learner = Primal(model, is_aligned(limited.support, trial.inner.batch))

    def one(mine: Task, own: Params) -> Tensor:
        start = held(method, theta, own)
        if method.predict is not None:
            return method.predict(learner, start, mine, trial.inner)
        return learner.logits(method.adapt(learner, start, mine, trial.inner), mine.query)

    found: Tensor = vmap(one)(limited, dict(memory))
    return found


def report(
    method: Method,
    model: Model,
    theta: Params,
    task: Task,
    trial: Trial,
    memory: Params | None = None,
) -> dict[str, Tensor]:
    """A method's own figures ``(U,)`` of a chunk of new users after adaptation, by name."""
    if not method.reports:
        return {}
    query = task.query._replace(y=torch.full_like(task.query.y, torch.nan))
    limited = Task(first(task.support, trial.shots), query)
    learner = Primal(model, is_aligned(limited.support, trial.inner.batch))

    def one(mine: Task, own: Params) -> dict[str, Tensor]:
        phi = method.adapt(learner, held(method, theta, own), mine, trial.inner)
        return {name: figure(learner, phi, mine) for name, figure in method.reports.items()}

    found: dict[str, Tensor] = vmap(one)(limited, dict(memory or {}))
    return found


def _in_dual(
    method: Method,
    model: Model,
    tail: Tail,
    theta: Params,
    parts: tuple[Geometry, Anchors],
    task: Task,
    trial: Trial,
    memory: Params,
) -> Tensor:
    limited = Task(first(task.support, trial.shots), task.query)
    aligned = is_aligned(limited.support, trial.inner.batch)
    users, rows = Dual(model, tail, *parts, aligned), task_of(limited)
    start = held(method, users.start(theta), memory)
    if method.predict is not None:
        return method.predict(users, start, rows, trial.inner)
    return users.logits(method.adapt(users, start, rows, trial.inner), rows.query)


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
    plain = method.plain or (method.plain_training if training else method.plain_adapting)
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


def _weigh(leaves: Params, weight: Tensor | None) -> tuple[Params, Tensor]:
    """Leaves times the users' weights, and those weights; a share that was sent is part of them."""
    share = leaves.get(SHARE)
    leaves = part(leaves, lambda name: name != SHARE)
    some = next(iter(leaves.values()))
    if weight is None and share is None:
        return leaves, some.new_ones(len(some))
    weights = some.new_ones(len(some)) if weight is None else weight.to(some)
    weights = weights if share is None else weights * share
    return {
        name: value * weights.view(-1, *(1,) * (value.dim() - 1)) for name, value in leaves.items()
    }, weights
