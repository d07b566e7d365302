"""DaMSTF: self-training on a user's own unlabelled examples, with meta-learned weights.

Of the support set the last ``method.unlabelled-share`` have their labels hidden: they stand for
what a user has and did not label. Query examples, which are scored, are never among them.

1. The user trains on his labelled examples; the model's probabilities are the pseudo-labels (its
   best guesses, as labels, cost validation users of ``preferences`` 2 points of accuracy).
2. Their weights are those by which a step on them would lower the labelled loss L. With
   ``phi(w) = theta - sum_j w_j grad l_j(theta)``, l_j the loss of example j with its pseudo-label,

       -d L(phi(w)) / d w_j  at w = 0  =  a_j = <grad L(theta), grad l_j(theta)>,

   so ``w_j = max(a_j, 0)``, scaled to sum 1 (derived; the idea is Ren et al. 2018).
3. He trains from theta again, on ``L + method.pseudo-weight * sum_j w_j l_j``.

After Lu et al. 2023. Where users have domains and the head a trunk, the trunk also works against a
classifier of their domains (:mod:`fedmeta.methods.adversary`). The weights are those of the full
batch.
"""

from dataclasses import replace

import torch
from torch import Tensor

from fedmeta.inner import Inner, descend
from fedmeta.learner import Learner
from fedmeta.methods import adversary
from fedmeta.methods.method import Defaults, Method, Setup
from fedmeta.params import is_head, part, subtract
from fedmeta.types import Examples, Params, Task


def labelled(weight: Tensor, share: float) -> Tensor:
    """Which examples keep their labels, bool ``(..., N)``: the first of those that are present.

    >>> labelled(torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0]), 0.5)
    tensor([ True,  True, False, False, False])
    """
    present = weight > 0
    count = present.sum(-1, keepdim=True)
    hidden = (count.double() * share).floor()
    return present & (present.cumsum(-1) <= count - hidden)


def alignments(learner: Learner, theta: Params, known: Examples, guessed: Examples) -> Tensor:
    """The inner products a of the gradients of single examples with that of the labelled loss."""
    downhill = learner.grad(theta, known)

    def along(free: Params) -> Tensor:
        weighted = learner.grad(theta, guessed._replace(weight=free["weight"]))
        return learner.dot(downhill, weighted)

    # The gradient of a weighted loss is linear in the weights: its derivative is all of them.
    return learner.through(along, {"weight": torch.ones_like(guessed.weight)})["weight"]


def _trained(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
    theta, support, inner = part(theta, is_head), task.support, replace(inner, batch=0)
    known = labelled(support.weight, inner.options.unlabelled_share).to(support.weight)
    hidden = (support.weight > 0).to(known) - known
    known = known / known.sum(-1, keepdim=True).clamp(min=1.0)
    # From here on nothing can look at the labels that are hidden.
    y = torch.where((known > 0)[..., None, :], support.y, 0.0)
    given = Examples(support.x, y, known)
    phi = descend(learner, theta, given, inner)
    guess = torch.softmax(learner.logits(phi, support), -2) * hidden[..., None, :]
    pull = alignments(learner, theta, given, Examples(support.x, guess, hidden)).clamp(min=0.0)
    pull = pull * hidden
    share = pull / pull.sum(-1, keepdim=True).clamp(min=torch.finfo(pull.dtype).tiny)
    both = Examples(support.x, y + guess, known + inner.options.pseudo_weight * share)
    return descend(learner, theta, both, inner)


def _start(setup: Setup) -> dict[str, Tensor]:
    return {**setup.head, **adversary.classifier(setup)}


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    sent = subtract(part(theta, is_head), _trained(learner, theta, task, inner))
    for name, value in adversary.opposed(learner, theta, task, inner).items():
        sent[name] = sent[name] + value if name in sent else value
    return sent


DAMSTF = Method(
    name="damstf",
    moves=False,
    family="domain-adaptive",
    source="after Lu et al. 2023",
    communicates="delta of the head; with domains, the gradient of a classifier of them",
    keeps="domain",
    adapt=_trained,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=10),
    newcomer="trains himself on the support set, of which a part counts as unlabelled",
    cost="bytes as FedAvg; twice the gradients, and one for each example",
    general=True,
    batches=False,
    start=_start,
    own=adversary.own,
    needs=frozenset({"classes"}),
    takes=frozenset({"domains"}),
)
