"""FedMD: heads of different architectures learn from each other by their public logits.

The server holds the consensus, the mean of the users' logits on a public set without labels (see
:mod:`fedmeta.public`). In a round a user

1. digests: descends on the cross-entropy to softmax(consensus), ``method.digest-steps`` steps;
2. revisits: trains on his own examples;
3. sends his logits on the public set (Li and Wang 2019). His whole head stays with him.

Heads differ in width: a user has a share of the hidden units between ``method.least-width`` and
all, drawn by his key. The others' output weights are 0 and stay 0, so that no gradient reaches
them; one program still serves all users. A head without a trunk is the same for everybody.

A new user digests the consensus from a fresh head, and adapts. Before there is a consensus nobody
digests. The paper starts from training on *labelled* public data, which there are not.
The public features are a parameter that never moves: it goes down in each round, as do the fresh
head's, 4 n D bytes; a deployment would ship them once.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from fedmeta import seeding
from fedmeta.draws import uniform
from fedmeta.inner import Inner, descend, walk
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method, Setup, ending
from fedmeta.params import KEY, as_own, is_head, is_trunk, owned, part
from fedmeta.types import Examples, Params, Task

_X, _LOGITS = "public/x", "public/logits"
_WIDTH = seeding.key("width")


def _start(setup: Setup) -> dict[str, Tensor]:
    consensus = setup.head["output.bias"].new_zeros(setup.outputs, len(setup.public))
    return {**setup.head, _X: setup.public, _LOGITS: consensus}


def _own(theta: Params) -> dict[str, Tensor]:
    key = torch.zeros((), dtype=torch.int64, device=theta[_X].device)
    return {KEY: key, **as_own(part(theta, is_head))}


def _is_consensus(name: str) -> bool:
    return name == _LOGITS


def mask(head: Params, key: Tensor, least: float) -> Tensor:
    """Which of a user's hidden units there are, 1 or 0, ``(H,)``."""
    last = head["output.weight"]
    if not any(is_trunk(name) for name in head):
        return last.new_ones(last.shape[1])
    share = least + (1 - least) * uniform(key, _WIDTH, 1)
    width = (last.shape[1] * share).ceil().clamp(min=1)
    return (torch.arange(last.shape[1], device=last.device) < width).to(last)


def digest(learner: Learner, theta: Params, head: Params, inner: Inner, rates: Params) -> Params:
    """The head after its steps towards the consensus; as it is where there is none yet."""
    there = (theta[_LOGITS] != 0).any().to(theta[_X])
    weight = there * theta[_X].new_full((len(theta[_X]),), 1.0 / max(len(theta[_X]), 1))
    public = Examples(theta[_X], torch.softmax(theta[_LOGITS], 0), weight)
    slowly = replace(inner, steps=inner.options.digest_steps, batch=0, mu=0.0)
    return descend(learner, head, public, slowly, rates)


def _walk(learner: Learner, theta: Params, task: Task, inner: Inner) -> Iterator[Params]:
    head = owned(part(theta, lambda name: name != KEY))
    units = mask(head, theta[KEY], inner.options.least_width)
    head["output.weight"] = head["output.weight"] * units
    open_ = {name: torch.ones_like(value) for name, value in head.items()}
    open_["output.weight"] = open_["output.weight"] * units
    rate = inner.options.digest_rate or inner.rate
    told = digest(learner, theta, head, inner, {n: rate * v for n, v in open_.items()})
    rates = {name: inner.rate * value for name, value in open_.items()}
    return walk(learner, told, task.support, inner, rates)


_trained = ending(_walk)


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    head = _trained(learner, theta, task, inner)
    none = theta[_X].new_zeros(len(theta[_X]))
    logits = learner.logits(head, Examples(theta[_X], theta[_LOGITS], none))
    return {_LOGITS: theta[_LOGITS] - logits, KEY: theta[KEY], **as_own(head)}


FEDMD = Method(
    name="fedmd",
    family="domain-adaptive",
    source="Li and Wang 2019",
    communicates="logits on the public set",
    sends=_is_consensus,
    adapt=_trained,
    walk=_walk,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=10),
    keeps="head, of a width of his own",
    newcomer="digests the consensus from a fresh head, then adapts on the support set",
    cost="public examples x classes up; in the plain form, digest-steps more gradients",
    start=_start,
    own=_own,
    plain=True,
    needs=frozenset({"classes", "public", "key", "names"}),
)
