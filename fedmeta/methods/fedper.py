"""FedPer: the trunk is everybody's, the output layer each user's own (Arivazhagan et al. 2019).

Both are trained together; only the trunk is averaged, and the output layer stays with the user
until his next round. A newcomer starts from the common first output layer and the trunk.
"""

from collections.abc import Iterator

from torch import Tensor

from fedmeta.inner import Inner, walk
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method, ending
from fedmeta.params import as_own, is_output, is_trunk, owned, part, subtract
from fedmeta.types import Params, Task


def _own(theta: Params) -> dict[str, Tensor]:
    return as_own(part(theta, is_output))


def _walk(learner: Learner, theta: Params, task: Task, inner: Inner) -> Iterator[Params]:
    return walk(learner, {**theta, **owned(theta)}, task.support, inner)


_trained = ending(_walk)


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    phi = _trained(learner, theta, task, inner)
    trunk = subtract(part(theta, is_trunk), part(phi, is_trunk))
    return {**trunk, **as_own(part(phi, is_output))}


FEDPER = Method(
    name="fedper",
    family="parameter split",
    source="Arivazhagan et al. 2019",
    communicates="delta of the trunk",
    sends=is_trunk,
    adapt=_trained,
    walk=_walk,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=10, optimizer="adam", server_rate=0.04),
    keeps="output layer",
    newcomer="adapts the trunk and the common first output layer",
    cost="as FedAvg, less the output layer's bytes",
    own=_own,
    needs=frozenset({"trunk"}),
)
