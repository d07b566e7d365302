"""Prototypical networks: the class whose mean embedding is nearest (Snell et al. 2017).

The logits of a query are ``-||f(x) - c_k||^2`` (equation 2), up to ``||f(x)||^2``, which is common
to all classes and so leaves probabilities and gradients as they are. There is no inner loop: what
is learned and sent is the trunk f alone, by the gradient of the query loss, which reaches f through
the queries and through the prototypes. The prototypes never leave the user.

``protonet-frozen`` is the baseline without any learning: prototypes of the encoder's features.
"""

from torch import Tensor

from fedmeta.inner import Inner
from fedmeta.learner import Learner
from fedmeta.methods.method import INNER_LOOP, Defaults, Method, Setup, no_adaptation, through
from fedmeta.methods.shown import complete, prototype_layer, prototypes, shown
from fedmeta.params import is_trunk, part
from fedmeta.types import Params, Task


def trunk_only(setup: Setup) -> dict[str, Tensor]:
    """What the server of a method holds whose output layer is made of a user's own support."""
    return part(setup.head, is_trunk)


def _adapt(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
    seen = shown(task.support)
    c = prototypes(learner.embed(theta, task.support), seen)
    return {**theta, **prototype_layer(c, seen)}


def _frozen(learner: Learner, theta: Params, task: Task, inner: Inner) -> Tensor:
    seen = shown(task.support)
    gaps = task.query.x[None] - prototypes(task.support.x.mT, seen)[:, None]
    return complete(-gaps.square().sum(-1), seen)


PROTONET = Method(
    name="protonet",
    makes="proto",
    family="metric",
    source="Snell et al. 2017",
    communicates="meta-gradient of the trunk",
    adapt=_adapt,
    contribute=through(_adapt),
    defaults=Defaults(rate=1.0, steps=1, optimizer="adam", server_rate=0.04),
    newcomer="averages the embeddings of each class of the support set",
    cost="one gradient; less the output layer's bytes",
    splits=True,
    start=trunk_only,
    embeds=True,
    needs=frozenset({"trunk", "classes"}),
    ignores=INNER_LOOP,
    tunes=False,
)

PROTONET_FROZEN = Method(
    name="protonet-frozen",
    family="baseline",
    source="prototypes of frozen features",
    communicates="nothing",
    adapt=no_adaptation,
    contribute=None,
    defaults=Defaults(rate=1.0, steps=1),
    newcomer="averages the features of each class of the support set",
    cost="no bytes, no training",
    predict=_frozen,
    plain=True,
    needs=frozenset({"classes"}),
    ignores=INNER_LOOP,
    tunes=False,
)
