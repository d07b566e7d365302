"""Ditto: FedAvg, and beside it a personal model that is held near the common one (Li et al. 2021).

``v <- v - rate (grad f(v) + lambda (v - w))`` (algorithm 1), with ``w`` as the round began. ``v``
stays with the user from round to round and does not influence ``w``; what a user predicts with is
``v``. The proximal half of the step is implicit (:func:`fedmeta.inner.approach`), so that lambda
spans all there is between training alone (0) and FedAvg.
"""

from torch import Tensor

from fedmeta.inner import Inner, approach
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method, delta
from fedmeta.params import add, as_own, is_head, owned, part, subtract
from fedmeta.types import Params, Task


def _own(theta: Params) -> dict[str, Tensor]:
    return as_own(part(theta, is_head))


def _personal(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
    w = part(theta, is_head)
    gap = subtract(owned(theta), w)
    return add(w, approach(learner, gap, w, task.support, inner, inner.options.ditto_lambda))


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    sent = delta(learner, part(theta, is_head), task, inner)
    return {**sent, **as_own(_personal(learner, theta, task, inner))}


DITTO = Method(
    name="ditto",
    family="delta, personal objective",
    source="Li et al. 2021",
    communicates="delta of the head",
    adapt=_personal,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=10),
    keeps="a head",
    newcomer="begins at the global model and adapts near it",
    cost="twice FedAvg's gradients",
    general=True,
    own=_own,
)
