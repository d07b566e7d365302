"""Meta Fine-Tuning: examples that are typical of their class in all domains count more.

An example x with label y of a user in domain d has the weight (Wang et al. 2020, as their code
computes it)

    t(x) = 1/2 [cos(x, c_{d,y}) + cos(x, mean_{k != d} c_{k,y})]

with c the centroids of a class in a domain, of the frozen features. The loss is the mean of
t times the cross-entropy, plus ``method.corruption`` times the cross-entropy of guessing a
*shuffled* domain from the embedding plus a learned vector of the true one: a trunk that cannot
tell shuffled domains apart carries over. The heads that have no trunk go without that term.

Here: users of the first rounds send sums of features and counts, by class, in the rows of their
domain, under the names of the means and counts that the server keeps. A weight below 0 would
reward mistakes without bound, so it is 0. A centroid that is not known (yet) is left out of t; t
is 1 where none is. A new user fine-tunes on the plain loss, as in the paper.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, one_hot

from fedmeta import seeding
from fedmeta.draws import uniform
from fedmeta.inner import Inner, descend, walk
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method, Setup, ending
from fedmeta.objective import Objective
from fedmeta.params import DOMAIN, KEY, is_head, is_trunk, part, subtract
from fedmeta.types import Examples, Params, Task

_MEAN, _COUNT, _PREFIX = "centroid/mean", "centroid/count", "centroid/"
_WEIGHT, _BIAS, _VECTORS = "domain/weight", "domain/bias", "domain/vectors"


def _start(setup: Setup) -> dict[str, Tensor]:
    domains, head = max(setup.domains, 1), setup.head
    some = head["output.bias"]
    theta = {
        **head,
        _MEAN: some.new_zeros(domains, setup.outputs, setup.features),
        _COUNT: some.new_zeros(domains, setup.outputs),
    }
    if any(is_trunk(name) for name in head):
        width = head["output.weight"].shape[1]
        draw = torch.randn(2, domains, width, generator=setup.generator) * width**-0.5
        theta |= {_WEIGHT: draw[0], _BIAS: some.new_zeros(domains), _VECTORS: draw[1]}
    return theta


def _own(theta: Params) -> dict[str, Tensor]:
    nothing = torch.zeros((), dtype=torch.int64, device=theta[_COUNT].device)
    return {DOMAIN: nothing, KEY: nothing}


def typicality(theta: Params, domain: Tensor, examples: Examples) -> Tensor:
    """The weights t of labelled examples of a user in a domain, ``(N,)``."""
    mean, count = theta[_MEAN], theta[_COUNT].clamp(min=0.0)
    own = one_hot(domain, len(mean)).to(mean)
    known = (count > 0).to(mean)  # (domains, classes)
    others = (1 - own)[:, None] * known
    elsewhere = (others[..., None] * mean).sum(0) / others.sum(0).clamp(min=1.0)[:, None]
    sides = (
        (torch.tensordot(own, mean, 1), own @ known),
        (elsewhere, (others.sum(0) > 0).to(mean)),
    )
    total, terms = torch.zeros_like(examples.weight), torch.zeros_like(examples.weight)
    for centroid, there in sides:
        mine = there @ examples.y  # whether the centroid of the example's class is known
        total = total + mine * cosine_similarity(examples.x, examples.y.mT @ centroid, dim=-1)
        terms = terms + mine
    return torch.where(terms > 0, total / terms.clamp(min=1.0), 1.0).clamp(min=0.0)


def _loss(learner: Learner, inner: Inner, home: Tensor, params: Params, told: Examples) -> Tensor:
    """The joint loss; the targets are labels, typicality and the shuffled domain, row by row.

    ``home`` is the user's domain as a vector, 1 at its number.
    """
    classes, domains = params["output.bias"].shape[0], len(home)
    y, typical, shuffled = torch.split(told.y, [classes, 1, domains])
    found = learner.loss(params, Examples(told.x, y, told.weight * typical[0]))
    if _WEIGHT not in params:
        return found
    seen = learner.embed(params, told) + (home @ params[_VECTORS])[:, None]
    guess = torch.log_softmax(params[_WEIGHT] @ seen + params[_BIAS][:, None], 0)
    return found - inner.options.corruption * ((guess * shuffled).sum(0) * told.weight).sum()


def _walk(learner: Learner, theta: Params, task: Task, inner: Inner) -> Iterator[Params]:
    return walk(learner, part(theta, is_head), task.support, inner)


_adapt = ending(_walk)


def _is_trained(name: str) -> bool:
    return is_head(name) or name.startswith("domain/")


def _trained(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    support, domains = task.support, len(theta[_COUNT])
    home = one_hot(theta[DOMAIN], domains).to(support.x)
    stream = seeding.key("corruption", int(inner.progress * 2**32))  # another for each round
    drawn = (uniform(theta[KEY], stream, len(support.x)) * domains).long()
    typical = typicality(theta, theta[DOMAIN], support)
    rows = [support.y, typical[None], one_hot(drawn, domains).mT.to(support.y)]
    joint = Objective(
        learner,
        lambda params, told: _loss(learner, inner, home, params, told),
        _is_trained,
    )
    told = support._replace(y=torch.cat(rows))
    return dict(descend(joint, part(theta, _is_trained), told, inner))


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    sent = subtract(part(theta, _is_trained), _trained(learner, theta, task, inner))
    if inner.progress <= 0 or inner.progress < inner.options.centroid_share:
        x, y, weight = task.support
        mine = one_hot(theta[DOMAIN], len(theta[_COUNT])).to(x)
        present = y * (weight > 0)
        sent[_MEAN] = mine[:, None, None] * (present @ x)
        sent[_COUNT] = mine[:, None] * present.sum(-1)
    return sent


def _finish(mean: Params, meta: Params) -> dict[str, Tensor]:
    """Sums and counts of a round join the running means."""
    found = dict(mean)
    if _MEAN in mean:
        before, new = meta[_COUNT].clamp(min=0.0), mean[_COUNT]
        both = (before + new).clamp(min=torch.finfo(meta[_MEAN].dtype).tiny)[..., None]
        # mean - (before mean + sums) / (before + new), which is what the mean moves by, downwards.
        found[_MEAN] = (new[..., None] * meta[_MEAN] - mean[_MEAN]) / both
        found[_COUNT] = -new
    return found


META_FINE_TUNING = Method(
    name="meta-fine-tuning",
    family="domain-adaptive",
    source="Wang et al. 2020",
    communicates="delta of the head and of the domain classifier; in the first rounds sums of"
    " features and counts by class (a release of their own)",
    adapt=_adapt,
    walk=_walk,
    contribute=_contribute,
    defaults=Defaults(rate=2.0, steps=10),
    keeps="domain",
    cost="as FedAvg in the plain form; the centroids go down, domains x classes x features",
    general=True,
    start=_start,
    own=_own,
    finish=_finish,
    statistics=(_PREFIX,),
    plain_training=True,
    nearest="fedavg-ft",
    needs=frozenset({"classes", "domains", "key"}),
)
