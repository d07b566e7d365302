"""Relation networks: a learned comparison of a query with each class (Sung et al. 2018).

A module g sees the embedding of a query and a class's prototype side by side; ``sigmoid(g)`` is
their relation, trained by the squared error to 1 for the query's class and 0 for others shown
(equations 1 and 2). Trunk and module are shared; the prototypes stay with the user.

The module's hidden units come in pairs that start at opposite directions of the difference of
its two inputs, so that g starts as a falling function of their distance; all of it is learned.
"""

import torch
from torch import Tensor

from fedmeta.inner import Inner
from fedmeta.learner import Learner
from fedmeta.methods.method import INNER_LOOP, Defaults, Method, Setup, no_adaptation
from fedmeta.methods.protonet import trunk_only
from fedmeta.methods.shown import complete, prototypes, shown
from fedmeta.types import Params, Task

UNITS = 32
_W, _V, _B, _O, _C = (
    f"relation/{part}"
    for part in ("query.weight", "class.weight", "hidden.bias", "output.weight", "output.bias")
)


def _start(setup: Setup) -> dict[str, Tensor]:
    width = setup.head["output.weight"].shape[-1]
    half = torch.randn(UNITS // 2, width, generator=setup.generator) * (2.0 / UNITS) ** 0.5
    # relu(a d) + relu(-a d) = |a d|
    first = torch.cat([half, -half])
    return {
        **trunk_only(setup),
        _W: first,
        _V: -first,
        _B: torch.zeros(UNITS),
        _O: torch.full((UNITS,), -4.0 / UNITS**0.5),
        _C: torch.ones(()),
    }


def relations(params: Params, f: Tensor, c: Tensor) -> Tensor:
    """What the module says of queries ``f (H, Q)`` and prototypes ``c (C, H)``, ``(C, Q)``."""
    query, classes = params[_W] @ f, params[_V] @ c.mT
    hidden = torch.relu(query[:, None, :] + classes[:, :, None] + params[_B][:, None, None])
    return torch.einsum("u,ucq->cq", params[_O], hidden) + params[_C]


def _relations(learner: Learner, theta: Params, task: Task) -> Tensor:
    c = prototypes(learner.embed(theta, task.support), shown(task.support))
    return relations(theta, learner.embed(theta, task.query), c)


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    present = shown(task.support).present[:, None]

    def squared_error(at: Params) -> Tensor:
        gap = torch.sigmoid(_relations(learner, at, task)) - task.query.y
        return (torch.where(present, gap, 0.0).square().sum(0) * task.query.weight).sum()

    return learner.through(squared_error, theta)


def _predict(learner: Learner, theta: Params, task: Task, inner: Inner) -> Tensor:
    return complete(_relations(learner, theta, task), shown(task.support))


RELATION = Method(
    name="relation",
    family="metric",
    source="Sung et al. 2018",
    communicates="meta-gradient of the trunk and of the relation module",
    adapt=no_adaptation,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=1, optimizer="adam", server_rate=0.04),
    newcomer="compares with the mean embeddings of the support set's classes",
    cost="one gradient; the module's bytes for the output layer's",
    splits=True,
    start=_start,
    predict=_predict,
    plain=True,
    needs=frozenset({"classes"}),
    ignores=INNER_LOOP,
    tunes=False,
)
