"""Siamese networks: are two examples of the same class? (Koch et al. 2015, section 3.1).

The similarity of two examples is ``sigmoid(w . |f(a) - f(b)| + b)``, trained by binary
cross-entropy on all pairs of a query and a support example. A query is given the class of the
support example that it resembles most. The trunk and w are shared; support examples are not.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from fedmeta.inner import Inner
from fedmeta.learner import Learner
from fedmeta.methods.method import INNER_LOOP, Defaults, Method, Setup, no_adaptation
from fedmeta.methods.protonet import trunk_only
from fedmeta.methods.shown import complete, shown
from fedmeta.types import Params, Task

_WEIGHT, _BIAS = "siamese/weight", "siamese/bias"


def _start(setup: Setup) -> dict[str, Tensor]:
    width = setup.head["output.weight"].shape[-1]
    # The larger the distance, the less alike.
    return {
        **trunk_only(setup),
        _WEIGHT: torch.full((width,), -8.0 / width**0.5),
        _BIAS: torch.full((), 4.0),
    }


def similarities(params: Params, query: Tensor, support: Tensor) -> Tensor:
    """Logits that examples ``(H, Q)`` and ``(H, S)`` are of the same class, ``(S, Q)``."""
    gap = (support[:, :, None] - query[:, None, :]).abs()
    return torch.einsum("h,hsq->sq", params[_WEIGHT], gap) + params[_BIAS]


def _similarities(learner: Learner, theta: Params, task: Task) -> Tensor:
    return similarities(theta, learner.embed(theta, task.query), learner.embed(theta, task.support))


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    same = task.support.y.mT @ task.query.y
    weight = task.support.weight[:, None] * task.query.weight

    def entropy(at: Params) -> Tensor:
        z = _similarities(learner, at, task)
        return ((softplus(z) - same * z) * weight).sum()

    return learner.through(entropy, theta)


def _predict(learner: Learner, theta: Params, task: Task, inner: Inner) -> Tensor:
    seen, z = shown(task.support), _similarities(learner, theta, task)
    lowest = torch.finfo(z.dtype).min
    among = torch.where((seen.share > 0)[:, :, None], z, lowest)
    # A row of the lowest number, for a support set without examples.
    nearest = torch.cat([among, torch.full_like(among[:, :0].sum(1)[:, None], lowest)], 1).amax(1)
    return complete(nearest, seen)


SIAMESE = Method(
    name="siamese",
    family="metric",
    source="Koch et al. 2015",
    communicates="meta-gradient of the trunk and of the weights of the distance",
    adapt=no_adaptation,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=1, optimizer="adam", server_rate=0.04),
    newcomer="takes the class of the most similar support example",
    cost="one gradient over all pairs; the distance's bytes for the output layer's",
    splits=True,
    start=_start,
    predict=_predict,
    plain=True,
    needs=frozenset({"classes"}),
    ignores=INNER_LOOP,
    tunes=False,
)
