"""Alpha MAML: MAML that finds both of its rates while it trains (Behl et al. 2019).

The inner rate alpha belongs to what the server learns and has its own gradient, for one step
``d loss / d alpha = -grad L_S(theta) . grad L_Q(phi)``, with more steps through all of them. The
server holds ``u = log(alpha) / s``: alpha stays positive whatever the outer step, and a rate ten
times too large is as far away as one ten times too small; s (``method.alpha-speed``) is how
much faster than a weight log(alpha) moves, the paper's rate of its own. A user sends his slope
squashed to [-1, 1], since where a rate is far too large slopes are astronomic and the memory of
an adaptive server would not get over them. The outer rate follows
``g_t . g_{t-1}`` over all parameters: see `hypergradient` in :mod:`fedmeta.outer`.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from fedmeta.inner import Inner, walk
from fedmeta.learner import Learner
from fedmeta.methods.maml import MAML
from fedmeta.methods.method import Defaults, Setup, ending, through
from fedmeta.types import Params, Task

ALPHA = "rate/alpha"
SOFT = 0.3
"""Slope at which a user pulls half as much as he can."""


def _start(setup: Setup) -> dict[str, Tensor]:
    some = next(iter(setup.head.values()))
    start = math.log(setup.inner.rate) / setup.inner.options.alpha_speed
    return {**setup.head, ALPHA: some.new_full((), start)}


def alpha_of(theta: Params, inner: Inner) -> Tensor:
    """The inner rate."""
    return (inner.options.alpha_speed * theta[ALPHA]).exp()


def _walk(learner: Learner, theta: Params, task: Task, inner: Inner) -> Iterator[Params]:
    alpha = alpha_of(theta, inner)
    return walk(learner, theta, task.support, inner, lambda name, step: alpha)


_adapt = ending(_walk)


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    sent = through(_adapt)(learner, theta, task, inner)
    return {**sent, ALPHA: squashed(sent[ALPHA])}


def squashed(slope: Tensor) -> Tensor:
    """A user's pull at the inner rate, between -1 and 1: steep losses of a few do not decide."""
    return slope / (SOFT + slope.abs())


ALPHA_MAML = replace(
    MAML,
    name="alpha-maml",
    source="Behl et al. 2019",
    communicates="meta-gradient of the head and of the inner rate",
    adapt=_adapt,
    walk=_walk,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=10, optimizer="hypergradient", server_rate=0.04),
    newcomer="adapts on the support set with the learned rate",
    start=_start,
    ignores=frozenset({"adapt_rate"}),
    tunes=False,
)
