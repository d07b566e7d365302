"""FedBABU: the body is averaged, the head stays as it was drawn (Oh et al. 2022, algorithm 1).

Training moves the trunk under an output layer that is the same for all and never changes, so
nothing but the trunk is sent and nothing stays with a user. Personalization moves all of it.
"""

from torch import Tensor

from fedmeta.inner import Inner, descend
from fedmeta.learner import Learner, Noised
from fedmeta.methods.method import Defaults, Method, fine_tune, fine_tuning
from fedmeta.params import is_trunk, part, subtract
from fedmeta.types import Params, Task


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    phi = descend(learner, theta, task.support, inner, block=is_trunk)
    return subtract(part(theta, is_trunk), part(phi, is_trunk))


def _private(learner: Noised, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    phi = descend(learner.only(is_trunk), theta, task.support, inner)
    return subtract(part(theta, is_trunk), part(phi, is_trunk))


FEDBABU = Method(
    name="fedbabu",
    family="parameter split",
    source="Oh et al. 2022",
    communicates="delta of the trunk",
    sends=is_trunk,
    adapt=fine_tune,
    walk=fine_tuning,
    contribute=_contribute,
    private=_private,
    defaults=Defaults(rate=1.0, steps=10, optimizer="adam", server_rate=0.04),
    newcomer="adapts the whole head on the support set",
    cost="as FedAvg, less the output layer's bytes",
    needs=frozenset({"trunk", "output"}),
)
