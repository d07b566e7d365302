"""Meta-SGD: MAML that learns one inner rate per weight together with the initialization.

``phi = theta - a * grad``, elementwise; the gradient with respect to the rates ``a`` goes
through all steps, and rates may become negative (Li et al. 2017, equation 3).
"""

from collections.abc import Iterator

from torch import Tensor

from fedmeta.inner import Inner, walk
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method, Setup, ending, through
from fedmeta.types import Params, Task

_PREFIX = "rate/"


def _start(setup: Setup) -> dict[str, Tensor]:
    rates = {_PREFIX + n: v.new_full(v.shape, setup.inner.rate) for n, v in setup.head.items()}
    return {**setup.head, **rates}


def _walk(learner: Learner, theta: Params, task: Task, inner: Inner) -> Iterator[Params]:
    rates = {
        name.removeprefix(_PREFIX): value
        for name, value in theta.items()
        if name.startswith(_PREFIX)
    }
    return walk(learner, theta, task.support, inner, rates)


_adapt = ending(_walk)


META_SGD = Method(
    name="meta-sgd",
    family="meta-learning, gradient",
    source="Li et al. 2017",
    communicates="meta-gradient of the head and of its rates",
    adapt=_adapt,
    walk=_walk,
    contribute=through(_adapt),
    defaults=Defaults(rate=1.0, steps=5, optimizer="adam", server_rate=0.04),
    cost="twice the bytes; gradients through all steps",
    splits=True,
    start=_start,
    plain=True,
    ignores=frozenset({"adapt_rate"}),
    tunes=False,
)
