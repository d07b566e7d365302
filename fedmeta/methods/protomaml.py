"""ProtoMAML: MAML whose output layer starts at the user's prototypes (Triantafillou et al. 2020).

``W_k = 2 c_k`` and ``b_k = -||c_k||^2`` (section 3) is ProtoNet as a linear layer, so with 0 inner
steps the two predict alike. The inner loop moves trunk and output layer; the meta-gradient goes
back through its steps and through the prototypes to the trunk, which is all that is shared.
ProtoMAMLn takes prototypes of unit norm (van der Heijden et al. 2021): all biases are then equal.
With ``method.first-order`` the gradients of the inner loop count as constants; the prototypes
still do not, unless ``method.detach-prototypes``.
"""

from dataclasses import replace

from torch import Tensor

from fedmeta.inner import Inner, descend
from fedmeta.learner import Learner
from fedmeta.methods.method import Adapt, Contribute, Defaults, Method
from fedmeta.methods.protonet import trunk_only
from fedmeta.methods.shown import normalized, prototype_layer, prototypes, shown
from fedmeta.params import add, subtract
from fedmeta.types import Params, Task


def _start(learner: Learner, theta: Params, task: Task, inner: Inner, unit: bool) -> Params:
    seen = shown(task.support)
    c = prototypes(learner.embed(theta, task.support), seen)
    c = normalized(c) if unit else c
    if inner.options.detach_prototypes:
        c = c.detach()
    return {**theta, **prototype_layer(c, seen, inner.options.prototype_bias == "squared")}


def _adapter(unit: bool) -> Adapt:
    def adapt(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
        start = _start(learner, theta, task, inner, unit)
        if not inner.options.first_order:
            return descend(learner, start, task.support, inner)
        constant = {name: value.detach() for name, value in start.items()}
        moved = subtract(descend(learner, constant, task.support, inner), constant)
        return add(start, moved)

    return adapt


def _contributor(adapt: Adapt) -> Contribute:
    def contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
        def outer_loss(start: Params) -> Tensor:
            return learner.loss(adapt(learner, start, task, inner), task.query)

        return learner.through(outer_loss, theta)

    return contribute


PROTOMAML = Method(
    name="protomaml",
    makes="proto",
    family="metric",
    source="Triantafillou et al. 2020",
    communicates="meta-gradient of the trunk",
    adapt=_adapter(unit=False),
    contribute=_contributor(_adapter(unit=False)),
    defaults=Defaults(rate=1.0, steps=5, optimizer="adam", server_rate=0.04),
    newcomer="starts at prototypes of the support set, then adapts on it",
    cost="gradients through all steps; less the output layer's bytes",
    splits=True,
    start=trunk_only,
    embeds=True,
    needs=frozenset({"trunk", "classes"}),
)

PROTOMAMLN = replace(
    PROTOMAML,
    name="protomamln",
    source="van der Heijden et al. 2021",
    adapt=_adapter(unit=True),
    contribute=_contributor(_adapter(unit=True)),
)
