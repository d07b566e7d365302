"""Multi-task training: one trunk for all, one output layer for each group of users.

MT-DNN (Liu et al. 2019, algorithm 1) with a user's domain for the type of his task. A user trains
the trunk with his group's output layer; the trunk is averaged over everybody, an output layer over
its group alone. So a user also says which group he is in, and the server divides the group's sum
by the group's share of the round. A group of which nobody took part stays where it is.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from fedmeta.inner import Inner, descend, walk
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method, Setup, ending
from fedmeta.params import DOMAIN, is_output, is_trunk, part, subtract
from fedmeta.types import Params, Task

_PREFIX = "group/"
_PRESENT = "present/"


def _start(setup: Setup) -> dict[str, Tensor]:
    output = part(setup.head, is_output)
    groups = {
        _named(group, name): value.clone()
        for group in range(setup.domains)
        for name, value in output.items()
    }
    return {**part(setup.head, is_trunk), **groups}


def _named(group: int | str, name: str) -> str:
    return f"{_PREFIX}{group}/{name}"


def _groups(theta: Params) -> list[str]:
    """The groups, as they are called in the names of parameters."""
    return [name.split("/")[1] for name in theta if name.endswith("/output.bias")]


def _own(theta: Params) -> dict[str, Tensor]:
    # Shaped as users are: one, or in the dual form as many as are stacked.
    return {DOMAIN: theta[_named(0, "output.bias")].new_zeros(()).expand(_users(theta))}


def _users(theta: Params) -> torch.Size:
    return theta[_named(0, "output.bias")].shape[:-1]


def _is_mine(theta: Params, group: str) -> Tensor:
    """1 for a user of the group and 0 for others."""
    return (theta[DOMAIN] == int(group)).to(theta[_named(0, "output.bias")].dtype)


def _times(mine: Tensor, value: Tensor) -> Tensor:
    return mine.view(*mine.shape, *(1,) * (value.dim() - mine.dim())) * value


def _mine(theta: Params) -> dict[str, Tensor]:
    """The trunk with the output layer of the user's group."""
    model = part(theta, is_trunk)
    for group in _groups(theta):
        mine = _is_mine(theta, group)
        for name in ("output.weight", "output.bias"):
            term = _times(mine, theta[_named(group, name)])
            model[name] = model[name] + term if name in model else term
    return model


def _walk(learner: Learner, theta: Params, task: Task, inner: Inner) -> Iterator[Params]:
    return walk(learner, _mine(theta), task.support, inner)


_adapt = ending(_walk)


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    start = _mine(theta)
    moved = subtract(start, descend(learner, start, task.support, inner))
    sent = {name: value for name, value in moved.items() if not is_output(name)}
    for group in _groups(theta):
        mine = _is_mine(theta, group)
        sent |= {_named(group, n): _times(mine, v) for n, v in part(moved, is_output).items()}
        sent[_PRESENT + group] = mine
    return sent


def _finish(mean: Params, meta: Params) -> dict[str, Tensor]:
    """Means over everybody turned into means over the groups; absent groups are left out."""
    out = {name: v for name, v in mean.items() if not name.startswith((_PREFIX, _PRESENT))}
    for group in _groups(meta):
        share = mean[_PRESENT + group]
        if float(share) > 0:
            names = (_named(group, name) for name in ("output.weight", "output.bias"))
            out |= {name: mean[name] / share for name in names}
    return out


MULTI_TASK = Method(
    name="multi-task",
    family="multi-task and mixture",
    source="MT-DNN, Liu et al. 2019",
    communicates="delta of the trunk and of the group's output layer; which group it is",
    beside=(_PRESENT,),
    adapt=_adapt,
    walk=_walk,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=10),
    keeps="his domain, which names his group",
    newcomer="starts from his group's output layer (one that nobody trained is the common first)",
    cost="as FedAvg, and one more output layer down for each group",
    start=_start,
    own=_own,
    finish=_finish,
    nearest="fedavg-ft",
    needs=frozenset({"trunk", "domains"}),
)
