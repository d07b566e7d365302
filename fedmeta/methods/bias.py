"""The plainest personalization: one FedAvg model for all, and an offset of the output per user.

What personalization buys beyond a user's base rate has to show against this.
"""

from fedmeta.inner import Inner, descend
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method, delta
from fedmeta.types import Params, Task

_ADAPTED = "output.bias"


def _offset(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
    rates = {
        name: value.new_full(value.shape, inner.rate if name == _ADAPTED else 0.0)
        for name, value in theta.items()
    }
    return descend(learner, theta, task.support, inner, rates)


BIAS = Method(
    name="bias",
    family="baseline",
    source="global model + per-user offset",
    communicates="delta of the head",
    adapt=_offset,
    contribute=delta,
    private=delta,
    defaults=Defaults(rate=1.0, steps=10),
    general=True,
    plain_adapting=True,
)
