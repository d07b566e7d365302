"""DaMSTF: self-training on a user's own unlabelled examples, with meta-learned weights.

Of the support set the last ``method.unlabelled-share`` have their labels hidden: they stand for
what a user has and did not label. Query examples, which are scored, are never among them.

1. The user trains on his labelled examples; the model's best guesses are the pseudo-labels.
2. Their weights are those by which a step on them would lower the labelled loss L. With
   ``phi(w) = theta - sum_j w_j grad l_j(theta)``, l_j the loss of example j with its pseudo-label,

       -d L(phi(w)) / d w_j  at w = 0  =  a_j = <grad L(theta), grad l_j(theta)>,

   so ``w_j = max(a_j, 0)``, scaled to sum 1 (derived; the idea is Ren et al. 2018).
3. He trains from theta again, on ``L + method.pseudo-weight * sum_j w_j l_j``.

After Lu et al. 2023, without their domain adversary: in training, a user's examples are of one
domain here, and an adversary would need those of others.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedmeta.inner import Inner, descend
from fedmeta.learner import Learner
from fedmeta.methods.method import Defaults, Method
from fedmeta.objective import Objective
from fedmeta.params import is_head, part, subtract
from fedmeta.types import Examples, Params, Task


def labelled(weight: Tensor, share: float) -> Tensor:
    """Which examples keep their labels, bool ``(N,)``: the first of those that are present.

    >>> labelled(torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0]), 0.5)
    tensor([ True,  True, False, False, False])
    """
    present = weight > 0
    hidden = (present.sum().double() * share).floor()
    return present & (present.cumsum(0) <= present.sum() - hidden)


def alignments(learner: Learner, theta: Params, known: Examples, guessed: Examples) -> Tensor:
    """The inner products a of the gradients of single examples with that of the labelled loss."""
    downhill = learner.grad(theta, known)

    def along(free: Params) -> Tensor:
        weighted = learner.grad(theta, guessed._replace(weight=free["weight"]))
        return torch.stack([(weighted[n] * v).sum() for n, v in downhill.items()]).sum()

    # The gradient of a weighted loss is linear in the weights: its derivative is all of them.
    return learner.through(along, {"weight": torch.ones_like(guessed.weight)})["weight"]


def _trained(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
    x, y, weight = task.support
    known = labelled(weight, inner.options.unlabelled_share).to(x)
    hidden = (weight > 0).to(x) - known
    y = y * known  # from here on nothing can look at the labels that are hidden
    count = known.sum().clamp(min=1.0)
    # The mean over all examples of this is the mean over the labelled ones.
    first = known * (weight > 0).sum() / count
    phi = _descended(learner, theta, Examples(x, y, weight), first, inner)
    guess = one_hot(learner.logits(phi, task.support).argmax(0), len(y)).mT.to(y) * hidden
    pull = alignments(
        learner, theta, Examples(x, y, known / count), Examples(x, guess, weight)
    ).clamp(min=0.0)
    pull = pull * hidden
    share = pull / pull.sum().clamp(min=torch.finfo(pull.dtype).tiny)
    both = first + inner.options.pseudo_weight * (weight > 0).sum() * share
    return _descended(learner, theta, Examples(x, y + guess, weight), both, inner)


def _descended(
    learner: Learner, theta: Params, examples: Examples, importance: Tensor, inner: Inner
) -> Params:
    """Descend on the mean of importance times loss."""

    def loss(params: Params, told: Examples) -> Tensor:
        return learner.loss(params, Examples(told.x, told.y[:-1], told.weight * told.y[-1]))

    told = examples._replace(y=torch.cat([examples.y, importance[None]]))
    return descend(Objective(learner, loss), theta, told, inner)


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    return subtract(theta, part(_trained(learner, theta, task, inner), is_head))


DAMSTF = Method(
    name="damstf",
    family="domain-adaptive",
    source="after Lu et al. 2023",
    communicates="delta of the head",
    adapt=_trained,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=10),
    newcomer="trains himself on the support set, of which a part counts as unlabelled",
    cost="bytes as FedAvg; twice the gradients and one by example, in the plain form",
    general=True,
    plain=True,
    needs=frozenset({"classes"}),
)
