"""LG-FedAvg: the representation is each user's own, the output layer everybody's.

The mirror image of FedPer (Liang et al. 2020, algorithm 1): both are trained together, only the
output layer is averaged, and the trunk stays with the user. A newcomer starts from the common
first trunk and the output layer.
"""

from collections.abc import Iterator

from torch import Tensor

from fedmeta.inner import Inner, walk
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method, ending
from fedmeta.params import as_own, is_output, is_trunk, owned, part, subtract
from fedmeta.types import Params, Task


def _own(theta: Params) -> dict[str, Tensor]:
    return as_own(part(theta, is_trunk))


def _walk(learner: Learner, theta: Params, task: Task, inner: Inner) -> Iterator[Params]:
    return walk(learner, {**theta, **owned(theta)}, task.support, inner)


_trained = ending(_walk)


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    phi = _trained(learner, theta, task, inner)
    output = subtract(part(theta, is_output), part(phi, is_output))
    return {**output, **as_own(part(phi, is_trunk))}


LG_FEDAVG = Method(
    name="lg-fedavg",
    family="parameter split",
    source="Liang et al. 2020",
    communicates="delta of the output layer",
    sends=is_output,
    adapt=_trained,
    walk=_walk,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=10),
    keeps="trunk",
    newcomer="adapts the common first trunk and the output layer",
    cost="as FedAvg, less the trunk's bytes",
    own=_own,
    needs=frozenset({"trunk"}),
)
