"""What a method is: four choices, as data and pure functions of one user.

The same functions run in the dual form of the first layer (see :mod:`fedmeta.dual`), so they treat
parameters linearly (sums, differences, multiples) and leave everything else to the learner: a
norm or an inner product of weights would mean something else in other coordinates. A method that
needs the weights themselves says so with ``per_weight_rates``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fedmeta.inner import Inner, descend
from fedmeta.learner import Learner
from fedmeta.params import subtract
from fedmeta.types import Params, Task

Adapt = Callable[[Learner, Params, Task, Inner], Params]
"""``(learner, theta, task, inner) -> phi``: a user's own parameters, from the support set."""

Contribute = Callable[[Learner, Params, Task, Inner], dict[str, Tensor]]
"""``(learner, theta, task, inner) -> what leaves the user``: a direction of descent."""


@dataclass(frozen=True)
class Defaults:
    """Settings that a method takes where the config leaves them open (zero or auto).

    They were chosen on validation users of the ``preferences`` generator.
    """

    rate: float
    steps: int
    optimizer: Literal["sgd", "momentum", "adam", "yogi"] = "sgd"
    server_rate: float = 1.0


@dataclass(frozen=True)
class Method:
    """A federated personalization method.

    Attributes:
        name: its name in the registry.
        family: its kind, for tables.
        source: the paper.
        communicates: what leaves a user, in words.
        adapt: how a new user personalizes.
        contribute: what a training user sends; None where there is no federation. It is always
            a direction of descent, so that for ``theta - phi`` one step of SGD at rate 1 is
            federated averaging.
        defaults: its settings where the config leaves them open.
        splits: whether training needs disjoint support and query sets; a method that does not
            trains on all examples of a user.
        extend: what the server learns beside the head, from the head's parameters and the
            inner rate; its names contain a ``/``.
        per_weight_rates: whether inner updates scale single weights, which rules out the dual
            form of the first layer.
        proximal: whether the inner loop is held near theta with weight ``method.mu``.
        personalizes: whether ``adapt`` does anything.
    """

    name: str
    family: str
    source: str
    communicates: str
    adapt: Adapt
    contribute: Contribute | None
    defaults: Defaults
    splits: bool = False
    extend: Callable[[Params, float], dict[str, Tensor]] | None = None
    per_weight_rates: bool = False
    proximal: bool = False
    personalizes: bool = True


def fine_tune(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
    """The adaptation of most methods: descend on the support set."""
    return descend(learner, theta, task.support, inner)


def no_adaptation(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
    """One model for everybody."""
    return theta


def delta(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    """``theta - phi`` after the inner loop: what FedAvg and Reptile send."""
    return subtract(theta, descend(learner, theta, task.support, inner))
