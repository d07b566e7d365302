"""A domain classifier that the trunk works against (Ganin et al. 2016), shared by all users.

A softmax regression D on what the trunk makes of the features guesses the user's domain. D descends
on its cross-entropy over all of a user's examples, labelled or not, and the trunk ascends on it,
``method.adversary`` times, grown over the rounds by ``2 / (1 + exp(-10 p)) - 1`` (their section
5.2.2; p: the share of the rounds that is over).

A user is of one domain, so several steps of his own would teach D that domain alone. Both gradients
are therefore those at the server's parameters, and the sum over users of all domains is the step.
"""

import math

import torch
from torch import Tensor

from fedmeta.inner import Inner
from fedmeta.learner import Learner
from fedmeta.methods.method import Setup
from fedmeta.params import DOMAIN, is_trunk, part
from fedmeta.types import Params, Task

_PREFIX = "adversary/"
_WEIGHT, _BIAS = f"{_PREFIX}weight", f"{_PREFIX}bias"


def classifier(setup: Setup) -> dict[str, Tensor]:
    """D's first parameters ``(domains, H)`` and ``(domains,)``, zero; nothing if there is no need.

    There is none without a second domain, without a trunk, or with ``method.adversary = 0``.
    """
    needed = setup.domains > 1 and setup.inner.options.adversary > 0
    if not needed or not part(setup.head, is_trunk):
        return {}
    layer = setup.head["output.weight"]
    return {
        _WEIGHT: layer.new_zeros(setup.domains, layer.shape[-1]),
        _BIAS: layer.new_zeros(setup.domains),
    }


def own(theta: Params) -> dict[str, Tensor]:
    """A domain, which is the user's own, where the server holds a classifier of domains."""
    if _BIAS not in theta:
        return {}
    users = theta[_BIAS].shape[:-1]  # none, or in the dual form as many as are stacked
    return {DOMAIN: torch.zeros(users, dtype=torch.int64, device=theta[_BIAS].device)}


def opposed(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    """Directions of descent beside the method's own, of D and of the trunk against it.

    They have the length of ``inner.steps`` steps of ``inner.rate``, as a user's delta has. Empty
    where the server holds no classifier.
    """
    if _BIAS not in theta:
        return {}
    support = task.support

    def domain_loss(params: Params) -> Tensor:
        z = params[_WEIGHT] @ learner.embed(params, support) + params[_BIAS][..., None]
        mine = torch.arange(z.shape[-2], device=z.device) == theta[DOMAIN][..., None]
        chosen = torch.where(mine[..., None], torch.log_softmax(z, -2), 0.0).sum(-2)
        return -(chosen * support.weight).sum(-1)

    free = part(theta, lambda name: is_trunk(name) or name.startswith(_PREFIX))
    length = inner.rate * inner.steps
    against = -inner.options.adversary * (2.0 / (1.0 + math.exp(-10.0 * inner.progress)) - 1.0)
    found = learner.through(domain_loss, free)
    return {
        name: length * (value if name in (_WEIGHT, _BIAS) else against * value)
        for name, value in found.items()
        if not name.endswith("@query")  # of which the domain's loss knows nothing
    }
