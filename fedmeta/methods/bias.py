"""The plainest personalization: one FedAvg model for all, and an offset of the output per user.

What personalization buys beyond a user's base rate has to show against this.
"""

from collections.abc import Iterator

from fedmeta.inner import Inner, walk
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method, delta, ending
from fedmeta.types import Params, Task


def _is_offset(name: str) -> bool:
    return name == "output.bias"


def _walk(learner: Learner, theta: Params, task: Task, inner: Inner) -> Iterator[Params]:
    return walk(learner, theta, task.support, inner, block=_is_offset)


BIAS = Method(
    name="bias",
    family="baseline",
    source="global model + per-user offset",
    communicates="delta of the head",
    adapt=ending(_walk),
    walk=_walk,
    block=_is_offset,
    contribute=delta,
    private=delta,
    defaults=Defaults(rate=1.0, steps=10),
    general=True,
    embeds=True,  # where the output layer is the first one, its offset has no name of its own
)
