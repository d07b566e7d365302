"""MAML (exact, through all inner steps) and its first-order variant.

The contribution of a user is the gradient of the query loss after adaptation with respect to
the initialization: ``[prod_k (I - alpha H_k)] g``, with g the query gradient at the adapted
parameters and H_k the Hessian of the support loss at step k. FOMAML keeps g alone.
"""

from dataclasses import replace

from torch import Tensor

from fedmeta.inner import Inner, descend
from fedmeta.learner import Downhill
from fedmeta.methods.method import Defaults, Method, fine_tune, fine_tuning, through
from fedmeta.types import Params, Task


def _first_order(learner: Downhill, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    return learner.grad(descend(learner, theta, task.support, inner), task.query)


MAML = Method(
    name="maml",
    family="meta-learning, gradient",
    source="Finn et al. 2017",
    communicates="meta-gradient of the head",
    adapt=fine_tune,
    walk=fine_tuning,
    contribute=through(fine_tune),
    defaults=Defaults(rate=1.0, steps=10, optimizer="adam", server_rate=0.04),
    cost="gradients through all steps: about twice the time",
    splits=True,
)

FOMAML = replace(
    MAML, name="fomaml", contribute=_first_order, cost="as FedAvg", private=_first_order
)
