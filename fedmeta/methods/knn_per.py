"""kNN-Per: one FedAvg model, and a memory of the user's own examples (Marfoq et al. 2022).

    p = lambda p_knn + (1 - lambda) p_global

mixes probabilities with probabilities. ``p_knn(y)`` is the share of class y among the user's
k nearest support examples, each with weight ``exp(-distance / method.knn-scale)``, where the
distance is Euclidean between the global model's embeddings. Nothing is trained for a new user, and
training sends what FedAvg sends.

Lambda is ``method.knn-weight`` or, by default, the user's own: of a grid, the weight under which
his support examples are most likely, each judged by the neighbours among the others (he has no
other labels). A user without neighbours is given the global model.
"""

import torch
from torch import Tensor

from fedmeta.inner import Inner
from fedmeta.learner import Learner
from fedmeta.methods.method import ADAPTING, Defaults, Method, delta, no_adaptation
from fedmeta.types import Examples, Params, Task

GRID = tuple(step / 10 for step in range(1, 10))
"""Both parts always count a little: a class that no neighbour has keeps a probability."""


def neighbours(distance: Tensor, there: Tensor, y: Tensor, k: int, scale: float) -> Tensor:
    """Class probabilities ``(C, Q)`` by weighted votes of the k nearest; 0 without any.

    Args:
        distance: ``(Q, S)``; like all arguments, maybe with a leading axis of users.
        there: which of them may vote, bool ``(Q, S)``.
        y: one-hot labels ``(C, S)``.
        k: most votes.
        scale: what is a unit of distance.
    """
    far = torch.where(there, distance, torch.inf)
    near, at = far.topk(min(k, distance.shape[-1]), dim=-1, largest=False)
    # The votes are relative: from the nearest on, so that they cannot all vanish.
    first = torch.where(near.isfinite(), near, 0.0)[..., :1]
    votes = torch.exp(-(near - first) / scale)
    total = torch.zeros_like(distance).scatter(-1, at, votes) @ y.mT
    return (total / total.sum(-1, keepdim=True).clamp(min=torch.finfo(y.dtype).tiny)).mT


def _distance(a: Tensor, b: Tensor) -> Tensor:
    # Differences, and not the expanded square, whose cancellation would decide who is near.
    return (a.mT[..., :, None, :] - b.mT[..., None, :, :]).square().sum(-1).sqrt()


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=torch.finfo(p.dtype).tiny).log()


def _own_weight(votes: Tensor, alone: Tensor, able: Tensor, support: Examples) -> Tensor:
    """The weight of the grid under which a user's support examples are most likely."""
    true_votes, true_alone = ((p * support.y).sum(-2)[..., None, :] for p in (votes, alone))
    grid = support.weight.new_tensor(GRID)
    share = grid[:, None] * able[..., None, :]
    likelihood = _log(share * true_votes + (1 - share) * true_alone) * support.weight[..., None, :]
    return grid[likelihood.sum(-1).argmax(-1)]


def _mixture(learner: Learner, theta: Params, task: Task, inner: Inner) -> Tensor:
    support, options = task.support, inner.options
    memory, there = learner.embed(theta, support), (support.weight > 0)[..., None, :]

    def parts(asked: Examples, may: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The votes, the global model's probabilities, and whom anybody votes for."""
        gaps = _distance(learner.embed(theta, asked), memory)
        votes = neighbours(gaps, may, support.y, options.neighbours, options.knn_scale)
        return votes, torch.softmax(learner.logits(theta, asked), -2), may.any(-1)

    if options.knn_weight < 0:
        n = support.weight.shape[-1]
        others = there & ~torch.eye(n, dtype=torch.bool, device=there.device)
        weight = _own_weight(*parts(support, others), support)
    else:
        weight = support.weight.new_full(support.weight.shape[:-1], options.knn_weight)
    queries = task.query.weight.shape[-1]
    may = there.expand(*there.shape[:-2], queries, there.shape[-1])
    votes, alone, able = parts(task.query, may)
    share = (weight[..., None] * able)[..., None, :]
    return _log(share * votes + (1 - share) * alone)


KNN_PER = Method(
    name="knn-per",
    family="metric",
    source="Marfoq et al. 2022",
    communicates="delta of the head",
    adapt=no_adaptation,
    contribute=delta,
    defaults=Defaults(rate=1.0, steps=10),
    newcomer="remembers the embeddings of the support set",
    cost="as FedAvg; a memory of his examples for each user",
    general=True,
    predict=_mixture,
    embeds=True,
    needs=frozenset({"classes"}),
    ignores=ADAPTING,
    tunes=False,
)
