"""A Meta-Network that maps a user's support set to the initialization of his head.

The fast weights of Munkhdalai and Yu (2017), for the start of an inner loop instead of an answer:
the gradient of each support example's loss with respect to the output layer goes through a learned
map, coordinate by coordinate (``sum_j v_j tanh(u_j g)``), and the mean over the support is added to
the common output layer. From there the user descends on his support set as in MAML; head and map
are learned by the gradient of the query loss through all of it. With heights v of 0 it is MAML.

The map has 8 numbers and no place for a class or a user: permuting classes permutes what it makes.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from fedmeta.inner import Inner, walk
from fedmeta.learner import Learner
from fedmeta.methods.meta_networks import first_map, with_one
from fedmeta.methods.method import Defaults, Method, Setup, ending, through
from fedmeta.params import is_head, part
from fedmeta.types import Params, Task

_SLOPES, _HEIGHTS = "meta-init/slopes", "meta-init/heights"


def _start(setup: Setup) -> dict[str, Tensor]:
    slopes, heights = first_map()
    return {**setup.head, _SLOPES: slopes, _HEIGHTS: heights}


def initialization(learner: Learner, theta: Params, task: Task) -> dict[str, Tensor]:
    """The head that the network makes of the support set."""
    support = task.support
    h = with_one(learner.embed(theta, support))
    error = torch.softmax(learner.logits(theta, support), -2) - support.y
    gradient = error.mT[..., :, None] * h.mT[..., None, :]  # of each example, (N, C, H + 1)
    slopes, heights = (theta[name][..., None, None, None, :] for name in (_SLOPES, _HEIGHTS))
    fast = (torch.tanh(gradient[..., None] * slopes) * heights).sum(-1)
    made = (fast * support.weight[..., None, None]).sum(-3)
    return {
        **part(theta, is_head),
        "output.weight": theta["output.weight"] + made[..., :-1],
        "output.bias": theta["output.bias"] + made[..., -1],
    }


def _walk(learner: Learner, theta: Params, task: Task, inner: Inner) -> Iterator[Params]:
    return walk(learner, initialization(learner, theta, task), task.support, inner)


META_INIT = Method(
    name="meta-init",
    family="generated initialization",
    source="fast weights of Munkhdalai and Yu 2017, as a start",
    communicates="meta-gradient of the head and of the map to its start",
    adapt=ending(_walk),
    walk=_walk,
    contribute=through(ending(_walk)),
    defaults=Defaults(rate=1.0, steps=5, optimizer="adam", server_rate=0.04),
    newcomer="starts from what the map makes of the support set, then adapts on it",
    cost="as MAML, and a gradient through the output layer per example",
    splits=True,
    start=_start,
    embeds=True,
    needs=frozenset({"trunk", "classes"}),
)
