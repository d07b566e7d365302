"""FedRecon: private parameters are rebuilt in every round, not stored (Singhal et al. 2021).

A user learns an output layer from its common first values on the support set, then moves the
trunk on the query with that output layer fixed, and sends the trunk's change (algorithm 1). It
is first-order meta-learning of a trunk on which output layers are learned well. Users keep
nothing, so a newcomer does what everybody does.
"""

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from fedmeta.inner import Inner, descend, walk
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method, ending
from fedmeta.params import is_output, is_trunk, part, subtract
from fedmeta.types import Params, Task


def _walk(learner: Learner, theta: Params, task: Task, inner: Inner) -> Iterator[Params]:
    return walk(learner, theta, task.support, inner, block=is_output)


_reconstructed = ending(_walk)


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    first = replace(inner, steps=inner.options.head_steps or inner.steps)
    rebuilt = _reconstructed(learner, theta, task, first)
    # The query is met whole: what is said of minibatches holds for support sets.
    then = replace(inner, batch=0, rate=inner.options.trunk_rate or inner.rate)
    phi = descend(learner, rebuilt, task.query, then, block=is_trunk)
    return subtract(part(theta, is_trunk), part(phi, is_trunk))


FEDRECON = Method(
    name="fedrecon",
    family="parameter split",
    source="Singhal et al. 2021",
    communicates="delta of the trunk",
    sends=is_trunk,
    adapt=_reconstructed,
    walk=_walk,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=10, optimizer="adam", server_rate=0.04),
    newcomer="reconstructs an output layer on the support set",
    cost="FedAvg's gradients and method.head-steps more; less the output layer's bytes",
    splits=True,
    plain_training=True,
    needs=frozenset({"trunk"}),
)
