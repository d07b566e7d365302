"""MMOE: experts are everybody's, the gate over them and the tower are each user's own.

The mixture of Ma et al. (2018, equations 5 to 7) with a user for each of their tasks: all
parameters are trained together, the experts are averaged, and gate and output layer stay with the
user until his next round, as the output layer does in FedPer. A newcomer starts from the common
first gate and tower.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fedmeta.heads.mmoe import gates
from fedmeta.inner import Inner, walk
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method, ending
from fedmeta.params import as_own, owned, part, subtract
from fedmeta.types import Params, Task


def _is_expert(name: str) -> bool:
    return name.startswith("experts.")


def _is_private(name: str) -> bool:
    return name.startswith(("gate.", "output."))


def _own(theta: Params) -> dict[str, Tensor]:
    return as_own(part(theta, _is_private))


def _walk(learner: Learner, theta: Params, task: Task, inner: Inner) -> Iterator[Params]:
    return walk(learner, {**theta, **owned(theta)}, task.support, inner)


_trained = ending(_walk)


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    phi = _trained(learner, theta, task, inner)
    experts = subtract(part(theta, _is_expert), part(phi, _is_expert))
    return {**experts, **as_own(part(phi, _is_private))}


def usage_entropy(learner: Learner, phi: Params, task: Task) -> Tensor:
    """Entropy of how much a user's query asks of each expert, as a share of its largest value.

    1: all experts are used alike; 0: one does everything, or there is but one.
    """
    present = (task.query.weight > 0).to(phi["gate.bias"].dtype)
    asked = gates(phi, task.query.x) @ present / present.sum().clamp(min=1)
    return -torch.xlogy(asked, asked).sum() / max(math.log(len(asked)), 1e-12)


MMOE = Method(
    name="mmoe",
    family="multi-task and mixture",
    source="Ma et al. 2018",
    communicates="delta of the experts",
    sends=_is_expert,
    adapt=_trained,
    walk=_walk,
    contribute=_contribute,
    defaults=Defaults(rate=2.0, steps=20),
    keeps="gate and output layer",
    newcomer="starts from the common first gate and tower, adapts on the support set",
    cost="bytes of FedAvg on the mlp; twice its steps, and the gate's gradients",
    own=_own,
    reports={"usage_entropy": usage_entropy},
    head="mmoe",
)
