"""The inner loop: gradient descent on one user's support set."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from torch import Tensor

from fedmeta.learner import Downhill
from fedmeta.params import add, along, part, subtract
from fedmeta.sections.method import MethodConfig
from fedmeta.types import Examples, Params

Rates = Callable[[str, int], Tensor]
"""``(parameter's name, step) -> its learned rate``, of which leading axes are the parameter's."""


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
        moves: names of the parameters that may move (``head.adapt``), of those that the method
            moves; None: all of them.
    """

    rate: float
    steps: int
    batch: int = 0
    momentum: float = 0.0
    mu: float = 0.0
    options: MethodConfig = field(default_factory=MethodConfig)
    progress: float = 0.0
    moves: frozenset[str] | None = None


def approach(
    learner: Downhill,
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
        g: Params = learner.grad(add(anchor, gap), learner.minibatch(examples, step, inner.batch))
        if inner.moves is not None:
            g = part(g, inner.moves.__contains__)
        if inner.momentum:
            velocity = g = add(g, velocity, inner.momentum)
        gap = {name: shrink * value for name, value in add(gap, g, -inner.rate).items()}
    return gap


def descend(
    learner: Downhill,
    theta: Params,
    examples: Examples,
    inner: Inner,
    rates: Params | Rates | None = None,
    block: Callable[[str], bool] | None = None,
    first_order: bool = False,
) -> Params:
    """A user's parameters after ``inner.steps`` steps from ``theta``: the end of :func:`walk`."""
    phi = theta
    for after in walk(learner, theta, examples, inner, rates, block, first_order):
        phi = after
    return phi


def walk(
    learner: Downhill,
    theta: Params,
    examples: Examples,
    inner: Inner,
    rates: Params | Rates | None = None,
    block: Callable[[str], bool] | None = None,
    first_order: bool = False,
) -> Iterator[Params]:
    """``theta``, and a user's parameters after each step from there, for one look at each.

    A step may write over what the one before it has yielded. Arguments as of :func:`path`, whose
    yields stay what they are.
    """
    yield theta
    plain = rates is None and block is None and inner.moves is None
    if plain and not (inner.mu or inner.momentum or first_order):
        yield from learner.run(theta, examples, inner.rate, inner.steps, inner.batch)
    else:
        yield from path(learner, theta, examples, inner, rates, block, first_order)


def path(
    learner: Downhill,
    theta: Params,
    examples: Examples,
    inner: Inner,
    rates: Params | Rates | None = None,
    block: Callable[[str], bool] | None = None,
    first_order: bool = False,
) -> Iterator[Params]:
    """A user's parameters after each of ``inner.steps`` steps from ``theta``.

    Args:
        learner: his model.
        theta: where he starts.
        examples: what he learns from.
        inner: how he descends.
        rates: learned rates in place of ``inner.rate``: one for each weight by its name
            (Meta-SGD), or whatever a function gives for a name and a step.
        block: says by name which parameters move; the others stay where they are (ANIL, BOIL).
        first_order: take the gradients of the steps for constants where the result is
            differentiated; otherwise derivatives go through them.
    """
    phi: Params = theta
    velocity: Params = {}
    for step in range(inner.steps):
        at = {name: value.detach() for name, value in phi.items()} if first_order else phi
        g = learner.grad(at, learner.minibatch(examples, step, inner.batch))
        if block is not None:
            g = part(g, block)
        if inner.moves is not None:
            g = part(g, inner.moves.__contains__)
        if inner.mu:
            g = add(
                g, {name: gap for name, gap in subtract(phi, theta).items() if name in g}, inner.mu
            )
        if inner.momentum:
            velocity = g = add(g, velocity, inner.momentum)
        if rates is not None:
            g = {name: _scaled(value, rates, name, step) for name, value in g.items()}
        phi = add(phi, g, -1.0 if rates is not None else -inner.rate)
        yield phi


def _scaled(value: Tensor, rates: Params | Rates, name: str, step: int) -> Tensor:
    """The gradient times its rate; axes match from the first on, in the dual form the users'."""
    rate = rates(name, step) if callable(rates) else rates[name]
    return along(rate, value) * value
