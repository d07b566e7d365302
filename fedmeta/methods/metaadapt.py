"""MetaAdapt: users whose meta-gradient points where the target domain's points count more.

The weight of user i in the mean is ``softmax_i(cos(g_i, g_ref) / temperature)``, with g_i his
meta-gradient (MAML's, exact) and g_ref that of the users of the target domain (after Yue et al.
2023, who rescale the gradients of source tasks by their similarity to the target's).

Here the reference is the mean meta-gradient of the target domain's users of earlier rounds, a
moving average that the server sends along. A user can then compute ``exp(cos / temperature)``
himself, and the weighted mean stays a sum over users; before there is a reference everybody's
weight is 1. As its weights depend on data, a bound on each gradient does not bound what one user
does to the mean.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fedmeta.inner import Inner, walk
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method, Setup, ending
from fedmeta.params import DOMAIN, SHARE, is_head, part
from fedmeta.sections.method import MethodConfig
from fedmeta.types import Params, Task

_PREFIX, _USERS = "reference/", "reference/users"
_KEPT = 0.9
"""What the reference keeps of itself in a round with users of the target domain: the mean of one
cohort is so noisy that weights follow the noise (chosen on validation users)."""


def _start(setup: Setup) -> dict[str, Tensor]:
    reference = {_PREFIX + name: torch.zeros_like(value) for name, value in setup.head.items()}
    return {**setup.head, **reference}


def _own(theta: Params) -> dict[str, Tensor]:
    return {DOMAIN: torch.zeros((), dtype=torch.int64, device=next(iter(theta.values())).device)}


def cosine(a: Params, b: Params) -> Tensor:
    """Cosine of two sets of parameters; 0 where one of them is 0."""
    names = sorted(a)
    one, other = (torch.cat([side[name].flatten() for name in names]) for side in (a, b))
    norms = torch.linalg.vector_norm(one) * torch.linalg.vector_norm(other)
    found: Tensor = (one @ other) / norms.clamp(min=torch.finfo(norms.dtype).tiny)
    return found


def _walk(learner: Learner, theta: Params, task: Task, inner: Inner) -> Iterator[Params]:
    return walk(learner, part(theta, is_head), task.support, inner)


_adapt = ending(_walk)


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    def outer_loss(start: Params) -> Tensor:
        return learner.loss(_adapt(learner, start, task, inner), task.query)

    g = learner.through(outer_loss, part(theta, is_head))
    reference = {name: theta[_PREFIX + name] for name in g}
    share = torch.exp(cosine(g, reference) / inner.options.temperature)
    # All that is sent is weighted by the share; the reference is a plain mean of target users.
    target = (theta[DOMAIN] == inner.options.target_domain).to(share) / share
    return {
        **g,
        **{_PREFIX + name: target * value for name, value in g.items()},
        _USERS: target,
        SHARE: share,
    }


def _shares(options: MethodConfig) -> tuple[float, float]:
    """The share at a cosine of -1 and of 1."""
    most = math.exp(min(1.0 / options.temperature, 700.0))  # past that it is no number
    return 1.0 / most, most


def _finish(mean: Params, meta: Params) -> dict[str, Tensor]:
    """The reference moves towards the mean gradient of the round's target users, if any."""
    users = mean[_USERS]
    some = users.clamp(min=torch.finfo(users.dtype).tiny)
    moved = {
        name: (users > 0).to(users) * (1 - _KEPT) * (meta[name] - mean[name] / some)
        for name in meta
        if name.startswith(_PREFIX)
    }
    return {**part(mean, is_head), **moved}


METAADAPT = Method(
    name="metaadapt",
    family="domain-adaptive",
    source="Yue et al. 2023",
    communicates="meta-gradient of the head, once more from users of the target domain, and a"
    " weight",
    beside=(_USERS,),
    adapt=_adapt,
    walk=_walk,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=10, optimizer="adam", server_rate=0.04),
    keeps="domain",
    cost="as MAML in the plain form; twice the bytes",
    splits=True,
    start=_start,
    own=_own,
    finish=_finish,
    statistics=(_PREFIX,),
    plain_training=True,
    needs=frozenset({"domains"}),
    nearest="maml",
    weighs=True,
    shares=_shares,
)
