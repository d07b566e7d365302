"""MAML++: MAML with learned rates and three schedules (Antoniou et al. 2019).

Each is a switch of its own:

- one rate for each layer and step, learned with the initialization (``method.learned-rates``);
  steps beyond those of training take the rate of the last;
- the query loss after every step, not the last alone, whose weight grows over the first rounds
  (``method.multi-step-share``);
- first-order gradients in the first rounds (``method.first-order-share``);
- an outer rate that falls as a cosine (``server.schedule``).

What the paper does to batch normalization has no object here.
"""

from torch import Tensor

from fedmeta.inner import Inner, Rates, descend, path
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method, Setup
from fedmeta.types import Params, Task

_PREFIX = "rate/"
FLOOR = 0.03
"""Least weight of a step, as a share of the uniform one, while the losses of all steps count."""


def layer_rates(setup: Setup) -> dict[str, Tensor]:
    """Rates to learn: ``rate/<layer>``, one for each step, where they are switched on.

    A layer's weight and bias share theirs, so that the dual form of the first layer holds.
    """
    if not setup.inner.options.learned_rates:
        return {}
    some, steps = next(iter(setup.head.values())), setup.inner.steps
    layers = dict.fromkeys(name.partition(".")[0] for name in setup.head)
    return {_PREFIX + layer: some.new_full((steps,), setup.inner.rate) for layer in layers}


def rates_of(theta: Params) -> Rates | None:
    """The learned rates among the parameters; None where there are none."""
    if not any(name.startswith(_PREFIX) for name in theta):
        return None

    def rate(name: str, step: int) -> Tensor:
        rates = theta[_PREFIX + name.partition(".")[0]]
        return rates[..., min(step, rates.shape[-1] - 1)]

    return rate


def step_weights(steps: int, progress: float, share: float) -> list[float]:
    """Weights of the query losses after each step; they sum to 1.

    Args:
        steps: inner steps.
        progress: share of the rounds that are done.
        share: of the rounds over which the weights go from uniform to the last step alone.

    >>> step_weights(2, 0.0, 0.1), step_weights(2, 0.05, 0.1), step_weights(2, 0.1, 0.1)
    ([0.5, 0.5], [0.25, 0.75], [0.0, 1.0])
    """
    if progress >= share:
        return [0.0] * (steps - 1) + [1.0]
    done, least = progress / share, FLOOR / steps
    early = max((1.0 - done) / steps, least)
    last = min((1.0 + done * (steps - 1)) / steps, 1.0 - (steps - 1) * least)
    return [early] * (steps - 1) + [last]


def _start(setup: Setup) -> dict[str, Tensor]:
    return {**setup.head, **layer_rates(setup)}


def _adapt(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
    return descend(learner, theta, task.support, inner, rates_of(theta))


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    options = inner.options
    weights = step_weights(inner.steps, inner.progress, options.multi_step_share)
    first_order = inner.progress < options.first_order_share

    def outer_loss(start: Params) -> Tensor:
        points = path(learner, start, task.support, inner, rates_of(start), first_order=first_order)
        losses = [
            weight * learner.loss(phi, task.query)
            for phi, weight in zip(points, weights, strict=True)
            if weight
        ]
        return sum(losses[1:], losses[0])

    return learner.through(outer_loss, theta)


MAML_PP = Method(
    name="maml-pp",
    family="meta-learning, gradient",
    source="Antoniou et al. 2019",
    communicates="meta-gradient of the head and of one rate per layer and step",
    adapt=_adapt,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=10, optimizer="adam", server_rate=0.08, schedule="cosine"),
    newcomer="adapts on the support set with the learned rates",
    cost="gradients through all steps: about twice the time",
    splits=True,
    start=_start,
    tunes=False,
)
