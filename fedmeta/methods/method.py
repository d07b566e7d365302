"""What a method is: four choices, as data and pure functions of one user.

The same functions run in the dual form of the first layer (see :mod:`fedmeta.dual`), so they treat
parameters linearly (sums, differences, multiples) and leave everything else to the learner: a
norm or an inner product of weights would mean something else in other coordinates. A method that
needs the weights themselves says so with ``plain``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fedmeta.inner import Inner, descend, walk
from fedmeta.learner import Downhill, Learner, Noised
from fedmeta.params import subtract
from fedmeta.sections.method import MethodConfig
from fedmeta.types import Params, Task

Adapt = Callable[[Learner, Params, Task, Inner], Params]
"""``(learner, theta, task, inner) -> phi``: a user's own parameters, from the support set."""

Walk = Callable[[Learner, Params, Task, Inner], Iterator[Params]]
"""As :data:`Adapt`, step by step: where it starts, and what the user has after each of
``inner.steps`` steps, of which one may write over the one before."""

Contribute = Callable[[Learner, Params, Task, Inner], dict[str, Tensor]]
"""``(learner, theta, task, inner) -> what leaves the user`` (a direction of descent) ``and what
stays with him`` (under ``own/``)."""

Private = Callable[[Noised, Params, Task, Inner], dict[str, Tensor]]
"""``contribute`` where all that can be had of the examples is noised gradients."""

Predict = Callable[[Learner, Params, Task, Inner], Tensor]
"""``(learner, theta, task, inner) -> query logits (C, Q)``; the labels of the query are NaN."""

Report = Callable[[Learner, Params, Task], Tensor]
"""``(learner, phi, task) -> scalar``: what a method tells of one adapted user beside scores."""


ADAPTING = frozenset({"adapt_rate", "adapt_steps"})
"""Settings of a new user's steps: not read where he takes none."""

INNER_LOOP = ADAPTING | {"rate", "steps", "batch", "momentum"}
"""Settings of an inner loop: not read by a method without one."""


@dataclass(frozen=True)
class Defaults:
    """Settings that a method takes where the config leaves them open (zero or auto).

    They were chosen on validation users of the ``preferences`` generator.
    """

    rate: float
    steps: int
    optimizer: Literal["sgd", "momentum", "adam", "yogi", "hypergradient"] = "sgd"
    server_rate: float = 1.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"


class Generator(NamedTuple):
    """How a server makes what each training user is sent; rows ``(U,)`` are numbers of the users.

    Attributes:
        issue: ``(server's parameters, rows) -> parameters of the users``, ``(U, ...)`` each.
        collect: ``(server's parameters, rows, what they have sent (U, ...)) -> sum`` of directions
            of descent for the server's parameters; what they have sent is times their weights,
            which stand under ``share/``.
        public: ``server's parameters -> what a new user is sent``.
    """

    issue: Callable[[Params, Tensor], dict[str, Tensor]]
    collect: Callable[[Params, Tensor, Params], dict[str, Tensor]]
    public: Callable[[Params], dict[str, Tensor]]


class Setup(NamedTuple):
    """What a method may know when it makes the parameters that the server starts from.

    Attributes:
        head: fresh parameters of the head.
        inner: the inner loop of training.
        features: width of the features.
        outputs: classes, or 1 for regression.
        generator: a seeded stream of its own.
        domains, users: how many there are; 1 domain where none are told, users of training.
        public: features ``(n, D)`` of the public set, for methods that need one.
    """

    head: Params
    inner: Inner
    features: int
    outputs: int
    generator: torch.Generator
    domains: int = 1
    users: int = 1
    public: Tensor = torch.empty(0, 0)


@dataclass(frozen=True)
class Method:
    """A federated personalization method.

    Names of parameters say where they live. What begins with ``own/`` stays with the user from
    round to round; ``contribute`` is given it and returns it changed. All else that is returned
    leaves the user and is summed. Names with a ``/`` are not the head's.

    Attributes:
        name: its name in the registry.
        family: its kind, for tables.
        source: the paper.
        communicates: what leaves a user, in words.
        adapt: how a new user personalizes; it never sees labels of the query.
        walk: ``adapt`` step by step, where more steps are the same descent, continued: the n-th
            that it yields is what ``adapt`` gives for n steps. None where that is not so.
        contribute: what a training user sends, a direction of descent: for ``theta - phi`` one step
            of SGD at rate 1 is federated averaging. None where there is no federation.
        defaults: its settings where the config leaves them open.
        sends: which of the server's parameters a user sends, by name; the wire is checked for it.
        beside: prefixes of the names of what leaves beside them (counts, sums).
        keeps, newcomer: what stays with the user, and how a new one is handled, in words.
        cost: bytes and gradients in comparison with FedAvg, in words.
        splits: whether training parts support and query; otherwise on all examples of a user.
        general: whether its un-adapted model is made to be used as it is, as one model for all.
        start: all that the server holds, from a :class:`Setup`; None: the head.
        own: what a newcomer owns before his first round, from the server's parameters.
        predict: logits of the query where they are not the head's at the adapted parameters.
        finish: ``(mean contribution, server's parameters) -> mean contribution`` to step by.
        statistics: prefixes of what the server moves by just what ``finish`` gives.
        generator: how the server makes what each user is sent; None: all are sent the same.
        reports: figures of an adapted user that are reported beside his scores, by name.
        plain: whether it needs the weights themselves (rates, norms, products): no dual form.
        plain_training: whether training alone does, where users descend on the query, say.
        embeds: whether it asks for what the trunk makes: no dual form where there is no trunk.
        batches: whether it can take minibatches.
        needs: what it cannot do without: `trunk` (before the output layer), `output` (that is not
            zero at first), `classes`, `domains`, `public` (examples without labels that all may
            see), `key` (a number to draw by), `names` (classes that mean the same to every user).
        takes: what training uses where there is any: `domains`.
        block: of which parameters its inner loop moves some alone, those; None: of all.
        moves: whether ``head.adapt`` may keep its inner loop from some parameters.
        makes: what it makes a user's output layer of, which is then none of the head's: `proto`
            or `ridge`, the heads that need such a method; empty: it is learned.
        head: the only head it works with, which `head.name = auto` then takes; None: any.
        private: what a training user sends under example-level privacy, through noised gradients
            alone (:mod:`fedmeta.privacy.noisy`); None: it cannot.
        weighs: whether a user's weight depends on his data: the sum of weights then tells of him.
        shares: where it weighs, the least and the most share of a user; a server refuses others.
        nearest: the method to take instead where user-level privacy does not cover this one.
        proximal: whether the inner loop is held near theta with weight ``method.mu``.
        ignores: settings of every inner loop that it does not read, of :data:`INNER_LOOP`.
        personalizes: whether ``adapt`` does anything.
        tunes: whether rate and steps of personalization are worth choosing on validation users.
    """

    name: str
    family: str
    source: str
    communicates: str
    adapt: Adapt
    contribute: Contribute | None
    defaults: Defaults
    sends: Callable[[str], bool] = lambda name: True
    beside: tuple[str, ...] = ()
    keeps: str = "nothing"
    newcomer: str = "adapts on the support set"
    cost: str = "as FedAvg"
    walk: Walk | None = None
    splits: bool = False
    general: bool = False
    start: Callable[[Setup], dict[str, Tensor]] | None = None
    own: Callable[[Params], dict[str, Tensor]] | None = None
    predict: Predict | None = None
    finish: Callable[[Params, Params], dict[str, Tensor]] | None = None
    statistics: tuple[str, ...] = ()
    generator: Generator | None = None
    reports: Mapping[str, Report] = field(default_factory=dict)
    plain: bool = False
    plain_training: bool = False
    embeds: bool = False
    batches: bool = True
    needs: frozenset[str] = frozenset()
    takes: frozenset[str] = frozenset()
    head: str | None = None
    block: Callable[[str], bool] | None = None
    moves: bool = True
    makes: str = ""
    private: Private | None = None
    weighs: bool = False
    shares: Callable[[MethodConfig], tuple[float, float]] | None = None
    nearest: str = ""
    proximal: bool = False
    ignores: frozenset[str] = frozenset()
    personalizes: bool = True
    tunes: bool = True


def held(method: Method, theta: Params, memory: Params) -> dict[str, Tensor]:
    """All that a user works with: the server's parameters and his own, a newcomer's if new."""
    fresh = method.own(theta) if method.own else {}
    return {**theta, **fresh, **memory}


def fine_tune(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
    """The adaptation of most methods: descend on the support set."""
    return descend(learner, theta, task.support, inner)


def fine_tuning(learner: Learner, theta: Params, task: Task, inner: Inner) -> Iterator[Params]:
    """:func:`fine_tune` step by step."""
    return walk(learner, theta, task.support, inner)


def ending(steps: Walk) -> Adapt:
    """The adaptation that is the end of a walk."""

    def adapt(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
        phi = theta
        for after in steps(learner, theta, task, inner):
            phi = after
        return phi

    return adapt


def no_adaptation(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
    """One model for everybody."""
    return theta


def delta(learner: Downhill, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    """``theta - phi`` after the inner loop: what FedAvg and Reptile send."""
    return subtract(theta, descend(learner, theta, task.support, inner))


def through(adapt: Adapt) -> Contribute:
    """Contribute the gradient of the query loss after ``adapt``, through all that it computes."""

    def meta_gradient(
        learner: Learner, theta: Params, task: Task, inner: Inner
    ) -> dict[str, Tensor]:
        def outer_loss(start: Params) -> Tensor:
            return learner.loss(adapt(learner, start, task, inner), task.query)

        return learner.through(outer_loss, theta)

    return meta_gradient
