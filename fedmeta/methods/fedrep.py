"""FedRep: a common trunk under output layers of the users' own (Collins et al. 2021, algorithm 1).

FedPer's split, trained in turns: first the output layer with the trunk frozen, for long, then the
trunk under the new output layer. A newcomer learns an output layer on the trunk as it is.
"""

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from fedmeta.inner import Inner, descend, walk
from fedmeta.learner import Learner
from fedmeta.methods.fedper import FEDPER
from fedmeta.methods.method import Defaults, ending
from fedmeta.params import as_own, is_output, is_trunk, owned, part, subtract
from fedmeta.types import Params, Task


def _walk(learner: Learner, theta: Params, task: Task, inner: Inner) -> Iterator[Params]:
    mine = {**theta, **owned(theta)}
    return walk(learner, mine, task.support, inner, block=is_output)


_fitted = ending(_walk)


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    long = replace(inner, steps=inner.options.head_steps or inner.steps)
    fitted = _fitted(learner, theta, task, long)
    phi = descend(learner, fitted, task.support, inner, block=is_trunk)
    trunk = subtract(part(theta, is_trunk), part(phi, is_trunk))
    return {**trunk, **as_own(part(phi, is_output))}


FEDREP = replace(
    FEDPER,
    name="fedrep",
    source="Collins et al. 2021",
    adapt=_fitted,
    walk=_walk,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=10, optimizer="adam", server_rate=0.04),
    newcomer="learns an output layer on the common trunk",
    cost="FedAvg's gradients and method.head-steps more; less the output layer's bytes",
)
