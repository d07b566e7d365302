"""The inner loop: gradient descent on one user's support set."""

from collections.abc import Callable
from dataclasses import dataclass, field

from fedmeta.learner import Learner
from fedmeta.params import add, subtract
from fedmeta.sections.method import MethodConfig
from fedmeta.types import Examples, Params


@dataclass(frozen=True)
class Inner:
    """How a user descends.

    Attributes:
        rate: learning rate.
        steps: number of steps.
        batch: minibatch size; 0 is the full batch.
        momentum: heavy-ball momentum.
        mu: weight of the proximal term ``mu / 2 ||phi - theta||^2`` (FedProx).
        options: settings of single methods.
        progress: share of the rounds that are done, in [0, 1): what schedules go by.
    """

    rate: float
    steps: int
    batch: int = 0
    momentum: float = 0.0
    mu: float = 0.0
    options: MethodConfig = field(default_factory=MethodConfig)
    progress: float = 0.0


def approach(
    learner: Learner,
    gap: Params,
    anchor: Params,
    examples: Examples,
    inner: Inner,
    weight: float,
) -> Params:
    """Descend on ``loss(phi) + weight / 2 ||phi - anchor||^2`` (Ditto, pFedMe).

    Of each step the proximal half is implicit: ``phi`` solves ``phi = phi_0 - rate (g +
    weight (phi - anchor))``, which is a step of rate ``rate / (1 + rate weight)``. It has the
    fixed point of the explicit step and is stable for any weight: 0 is :func:`descend`, and as
    the weight grows ``phi`` tends to the anchor.

    Args:
        learner: the user's model.
        gap: ``phi - anchor`` at the start. All is in gaps, because the difference of two nearly
            equal parameters would have few digits.
        anchor: what ``phi`` is held near.
        examples: what it learns from.
        inner: rate, steps, minibatches and momentum (of the loss's gradient alone).
        weight: of the proximal term.

    Returns:
        ``phi - anchor`` after ``inner.steps`` steps.
    """
    velocity: Params = {}
    shrink = 1.0 / (1.0 + inner.rate * weight)
    for step in range(inner.steps):
        g = learner.grad(add(anchor, gap), learner.minibatch(examples, step, inner.batch))
        if inner.momentum:
            velocity = g = add(g, velocity, inner.momentum)
        gap = {name: shrink * value for name, value in add(gap, g, -inner.rate).items()}
    return gap


def descend(
    learner: Learner,
    theta: Params,
    examples: Examples,
    inner: Inner,
    rates: Params | None = None,
    block: Callable[[str], bool] | None = None,
) -> Params:
    """A user's parameters after ``inner.steps`` steps from ``theta``; differentiable throughout.

    ``rates`` replaces ``inner.rate`` by one learned rate per weight (Meta-SGD). ``block`` says by
    name which parameters move; the others stay where they are (ANIL, BOIL).
    """
    phi: Params = theta
    velocity: Params = {}
    plain = rates is None and block is None and not inner.mu and not inner.momentum
    for step in range(inner.steps):
        mine = learner.minibatch(examples, step, inner.batch)
        if plain:
            phi = learner.step(phi, mine, inner.rate, ours=step > 0)
            continue
        g = learner.grad(phi, mine)
        if block is not None:
            g = {name: value for name, value in g.items() if block(name)}
        if inner.mu:
            g = add(
                g, {name: gap for name, gap in subtract(phi, theta).items() if name in g}, inner.mu
            )
        if inner.momentum:
            velocity = g = add(g, velocity, inner.momentum)
        if rates is not None:
            g = {name: rates[name] * value for name, value in g.items()}
        phi = add(phi, g, -1.0 if rates is not None else -inner.rate)
    return phi
