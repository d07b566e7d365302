"""pFedMe: personal models are proximal points of a common one (Dinh et al. 2020, algorithm 1).

A user's objective is the Moreau envelope ``F(w) = min_theta f(theta) + lambda/2 ||theta - w||^2``,
whose gradient is ``lambda (w - theta(w))``. Locally, R times: ``theta`` by K inexact steps on a
minibatch, begun at the last one, then ``w <- w - eta lambda (w - theta)``. Only ``w`` is sent.
"""

from dataclasses import replace

from torch import Tensor

from fedmeta.inner import Inner, approach
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method
from fedmeta.params import add, is_head, part
from fedmeta.types import Params, Task

HALF = 0.5
"""How far the common model follows a personal one where ``method.pfedme-rate`` is open."""


def _proximal(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
    w = part(theta, is_head)
    return add(w, approach(learner, {}, w, task.support, inner, inner.options.pfedme_lambda))


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    options, whole = inner.options, replace(inner, batch=0)
    towards = options.pfedme_rate * options.pfedme_lambda or HALF
    start = part(theta, is_head)
    moved: Params = {}
    gap: Params = {}
    for turn in range(options.local_rounds):
        # One minibatch for all K steps: they solve one proximal problem.
        batch, w = learner.minibatch(task.support, turn, inner.batch), add(start, moved)
        gap = approach(learner, gap, w, batch, whole, options.pfedme_lambda)
        moved = add(moved, gap, towards)
        gap = add(gap, gap, -towards)  # theta stays where it is while w moves towards it
    return {name: -value for name, value in moved.items()}


PFEDME = Method(
    name="pfedme",
    family="delta, personal objective",
    source="Dinh et al. 2020",
    communicates="delta of the head",
    adapt=_proximal,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=10),
    newcomer="takes the proximal point of the global model on the support set",
    cost="method.local-rounds times FedAvg's gradients",
    general=True,
)
