"""Alpha MAML: MAML that finds both of its rates while it trains (Behl et al. 2019).

The inner rate alpha belongs to what the server learns and has its own gradient, for one step
``d loss / d alpha = -grad L_S(theta) . grad L_Q(phi)``, with more steps through all of them. The
server holds its logarithm: alpha stays positive whatever the outer step, and a rate that is ten
times too large or too small is equally far away. The outer rate follows ``g_t . g_{t-1}`` over
all parameters: see `hypergradient` in :mod:`fedmeta.outer`.
"""

import math
from dataclasses import replace

from torch import Tensor

from fedmeta.inner import Inner, descend
from fedmeta.learner import Learner
from fedmeta.methods.maml import MAML
from fedmeta.methods.method import Defaults, Setup
from fedmeta.types import Params, Task

LOG_ALPHA = "rate/log-alpha"


def _start(setup: Setup) -> dict[str, Tensor]:
    some = next(iter(setup.head.values()))
    return {**setup.head, LOG_ALPHA: some.new_full((), math.log(setup.inner.rate))}


def _adapt(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
    alpha = theta[LOG_ALPHA].exp()
    return descend(learner, theta, task.support, inner, lambda name, step: alpha)


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    def outer_loss(start: Params) -> Tensor:
        return learner.loss(_adapt(learner, start, task, inner), task.query)

    return learner.through(outer_loss, theta)


ALPHA_MAML = replace(
    MAML,
    name="alpha-maml",
    source="Behl et al. 2019",
    communicates="meta-gradient of the head and of the inner rate",
    adapt=_adapt,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=5, optimizer="hypergradient", server_rate=1.0),
    newcomer="adapts on the support set with the learned rate",
    start=_start,
    tunes=False,
)
