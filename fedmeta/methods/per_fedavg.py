"""Per-FedAvg: a user takes several meta-steps of his own before he reports (Fallah et al. 2020).

Each of ``method.local-steps`` takes three independent batches D, D', D'' of the user's examples:
``w~ = w - alpha grad f(w; D)`` and ``g = grad f(w~; D')``; the user's w then moves by

- first order (FO): ``-beta g``;
- Hessian-free (HF): ``-beta (g - alpha d)``, ``d = [grad f(w + delta g; D'') - grad f(w - delta g;
  D'')] / 2 delta``, which tends to the Hessian times g as delta -> 0.

The server takes the mean of where users end up, each counted once (`federation.weighting =
"uniform"`, the default). The paper has one alpha-step; with more, HF treats one after the other,
from the last to the first. One local step of FO is FOMAML with an SGD server at rate beta,
support D and query D'.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fedmeta.inner import Inner, path
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method, fine_tune, fine_tuning
from fedmeta.params import add, subtract
from fedmeta.types import Examples, Params, Task

BATCHES = 3


def hands(learner: Learner, examples: Examples, number: int, batch: int) -> Sequence[Examples]:
    """The batches D, D', D'' of local step ``number``: no example is in two of them.

    Minibatches of size ``batch`` follow each other in the user's (seeded) order; a user with
    fewer examples than three of them meets some twice. Without a size the examples are dealt out
    in three hands, which change their roles from step to step; an empty hand is that of a user
    with fewer than three examples, who takes all of them instead.
    """
    if batch:
        first = BATCHES * number
        return [learner.minibatch(examples, first + i, batch) for i in range(BATCHES)]
    weight = examples.weight
    turn = (torch.arange(weight.shape[-1], device=weight.device) + number) % BATCHES
    dealt = []
    for i in range(BATCHES):
        mine = (weight > 0) & (turn == i)
        mine = torch.where(mine.any(-1, keepdim=True), mine, weight > 0).to(weight.dtype)
        count = mine.sum(-1, keepdim=True).clamp(min=1)
        dealt.append(examples._replace(weight=mine / count))
    return dealt


def _meta_gradient(
    learner: Learner, w: Params, batches: Sequence[Examples], inner: Inner
) -> dict[str, Tensor]:
    d, d1, d2 = batches
    points = [w, *path(learner, w, d, replace(inner, batch=0))]
    g = learner.grad(points[-1], d1)
    if not inner.options.hessian_free:
        return g
    delta = inner.options.difference
    for point in reversed(points[:-1]):
        ahead = learner.grad(add(point, g, delta), d2)
        behind = learner.grad(add(point, g, -delta), d2)
        g = add(g, subtract(ahead, behind), -inner.rate / (2 * delta))
    return g


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    w: Params = theta
    rate = inner.options.local_rate or inner.rate
    for number in range(inner.options.local_steps):
        batches = hands(learner, task.support, number, inner.batch)
        w = add(w, _meta_gradient(learner, w, batches, inner), -rate)
    return subtract(theta, w)


PER_FEDAVG = Method(
    name="per-fedavg",
    moves=False,
    family="meta-learning, delta",
    source="Fallah et al. 2020",
    communicates="delta of the head",
    adapt=fine_tune,
    walk=fine_tuning,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=1),
    newcomer="takes one step on the support set",
    cost="as FedAvg with two gradients per local step; Hessian-free: four",
)
