"""APFL: each user mixes a model of his own with the common one (Deng et al. 2020, algorithm 1).

The mixture ``m = alpha v + (1 - alpha) w`` is one of parameters. In every local step ``w`` takes
FedAvg's step, ``v`` a step on ``f(m)``, whose gradient carries a factor ``alpha``, and ``alpha``
one along its own gradient ``<v - w, grad f(m)>`` (equation 10), clipped to [0, 1]. Only ``w``
is sent. A newcomer leaves ``w`` as it is, so that for alpha = 0 he is FedAvg's.
"""

from torch import Tensor

from fedmeta.inner import Inner
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method
from fedmeta.params import OWN, add, as_own, is_head, owned, part, subtract, times
from fedmeta.types import Params, Task

OFFSET = "mix/offset"
"""What a user keeps of alpha: how far it is from where ``method.mix`` lets it begin."""


def mixture(w: Params, v: Params, alpha: Tensor) -> dict[str, Tensor]:
    """``alpha v + (1 - alpha) w``."""
    return add(times(alpha, v), times(1.0 - alpha, w))


def _steps(
    learner: Learner, theta: Params, task: Task, inner: Inner, shared: bool
) -> tuple[Params, Params, Tensor]:
    """``w``, ``v`` and ``alpha`` after the inner loop; ``shared``: whether ``w`` moves."""
    w: Params = part(theta, is_head)
    v: Params = part(owned(theta), is_head)
    alpha = (theta[OWN + OFFSET] + inner.options.mix).clamp(0.0, 1.0)
    of_w: Params = {}
    of_v: Params = {}
    for step in range(inner.steps):
        batch = learner.minibatch(task.support, step, inner.batch)
        at_mixture = learner.grad(mixture(w, v, alpha), batch)
        turn = learner.dot(subtract(v, w), at_mixture)
        g_v: Params = times(alpha, at_mixture)
        if inner.momentum:
            of_v = g_v = add(g_v, of_v, inner.momentum)
        v = add(v, g_v, -inner.rate)
        if shared:
            g_w: Params = learner.grad(w, batch)
            if inner.momentum:
                of_w = g_w = add(g_w, of_w, inner.momentum)
            w = add(w, g_w, -inner.rate)
        alpha = (alpha - inner.options.mix_rate * turn).clamp(0.0, 1.0)
    return w, v, alpha


def _own(theta: Params) -> dict[str, Tensor]:
    head = part(theta, is_head)
    return as_own({**head, OFFSET: next(iter(head.values())).new_zeros(())})


def _adapt(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
    return mixture(*_steps(learner, theta, task, inner, shared=False))


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    w, v, alpha = _steps(learner, theta, task, inner, shared=True)
    sent = subtract(part(theta, is_head), w)
    return {**sent, **as_own({**v, OFFSET: alpha - inner.options.mix})}


APFL = Method(
    name="apfl",
    moves=False,
    family="delta, personal objective",
    source="Deng et al. 2020",
    communicates="delta of the head",
    adapt=_adapt,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=10),
    keeps="a head and its share in the mixture",
    newcomer="mixes the global model with one that begins there and adapts",
    cost="twice FedAvg's gradients",
    general=True,
    own=_own,
    embeds=True,  # a newcomer's mixture in the dual form needs parameters behind the first layer
)
