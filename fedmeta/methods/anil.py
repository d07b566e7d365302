"""MAML with an inner loop over a part of the head: ANIL and BOIL.

ANIL (Raghu et al. 2020) adapts the output layer on a trunk that users share; BOIL (Oh et al.
2021) adapts the trunk under an output layer that they share. Either way the meta-gradient is that
of all parameters, exact through all inner steps. On a head that is an output layer alone, ANIL
is MAML.
"""

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from fedmeta.inner import Inner, descend, walk
from fedmeta.learner import Learner, Noised
from fedmeta.methods.maml import MAML
from fedmeta.methods.method import ending, through
from fedmeta.params import is_output, is_trunk
from fedmeta.types import Params, Task


def _output(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
    alone = learner.output(theta, task)
    phi = descend(alone.learner, alone.params, alone.task.support, inner)
    return {**theta, **alone.whole(phi)}


def _through_output(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    def outer_loss(start: Params) -> Tensor:
        # The trunk stays where it is: embed once, and descend on the embeddings.
        alone = learner.output(start, task)
        phi = descend(alone.learner, alone.params, alone.task.support, inner)
        return alone.learner.loss(phi, alone.task.query)

    return learner.through(outer_loss, theta)


def _private(learner: Noised, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    # First order: an exact gradient goes through the support, where it has no sum over examples.
    # The adapted output layer is made of noised gradients, and the trunk is the server's, so the
    # query's gradient is a sum of one term for each of its examples.
    phi = descend(learner.only(is_output), theta, task.support, inner)
    return learner.grad(phi, task.query)


def _trunk_walk(learner: Learner, theta: Params, task: Task, inner: Inner) -> Iterator[Params]:
    return walk(learner, theta, task.support, inner, block=is_trunk)


_trunk = ending(_trunk_walk)


ANIL = replace(
    MAML,
    name="anil",
    source="Raghu et al. 2020",
    adapt=_output,
    walk=None,
    block=is_output,
    contribute=_through_output,
    private=_private,
    defaults=replace(MAML.defaults, rate=2.0),
    newcomer="adapts the output layer on the support set",
    cost="as FedAvg",
)

BOIL = replace(
    MAML,
    name="boil",
    source="Oh et al. 2021",
    adapt=_trunk,
    walk=_trunk_walk,
    block=is_trunk,
    contribute=through(_trunk),
    newcomer="adapts the trunk on the support set",
    needs=frozenset({"trunk"}),
)
