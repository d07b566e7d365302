"""R2D2: each user's output layer is a ridge regression in closed form (Bertinetto et al. 2019).

With H the embeddings of a user's examples less their mean, Y the labels (one-hot) less theirs,

    W = (H^T H + lambda I)^-1 H^T Y = H^T (H H^T + lambda I)^-1 Y

and the offset is what passes through the means, unpenalized. The second form (Woodbury) is smaller
where a user has fewer examples than the embedding is wide. The logits are ``scale * (W f + offset)
+ bias``. Lambda, scale and bias, and the trunk if there is one, are learned across users by the
gradient of the query loss through the solution; lambda and scale by their logarithms, so that they
stay positive. On the linear head only these three are learned.
"""

import torch
from torch import Tensor

from fedmeta.inner import Inner
from fedmeta.learner import Learner
from fedmeta.methods.method import INNER_LOOP, Defaults, Method, Setup, through
from fedmeta.params import is_trunk, part
from fedmeta.types import Examples, Params, Task

LAMBDA, SCALE, BIAS = "ridge/log-lambda", "ridge/log-scale", "ridge/bias"
FIRST_LAMBDA = 0.1
FIRST_SCALE = 4.0
"""Of classification, where predictions of one-hot labels, in about [0, 1], are to be logits."""


def _start(setup: Setup) -> dict[str, Tensor]:
    bias = setup.head["output.bias"]
    scale = FIRST_SCALE if setup.outputs > 1 else 1.0
    return {
        **part(setup.head, is_trunk),
        LAMBDA: bias.new_tensor(FIRST_LAMBDA).log(),
        SCALE: bias.new_tensor(scale).log(),
        BIAS: torch.zeros_like(bias),
    }


def ridge(h: Tensor, examples: Examples, penalty: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``(C, H)`` and offsets ``(C,)`` of the ridge regression from ``h (H, N)``.

    An example counts as its weight in the mean times the number of examples, so 1 where all weigh
    the same: lambda is held against a sum over examples, as in the paper and scikit-learn.
    """
    weight = examples.weight
    count = (weight > 0).sum()
    mean_h, mean_y = h @ weight, examples.y @ weight
    root = (weight * count).sqrt()
    rows = ((h - mean_h[:, None]) * root).mT
    target = ((examples.y - mean_y[:, None]) * root).mT
    n, width = rows.shape
    if n < width:
        gram = rows @ rows.mT + penalty * torch.eye(n, dtype=h.dtype, device=h.device)
        w = rows.mT @ torch.linalg.solve(gram, target)
    else:
        gram = rows.mT @ rows + penalty * torch.eye(width, dtype=h.dtype, device=h.device)
        w = torch.linalg.solve(gram, rows.mT @ target)
    return w.mT, mean_y - w.mT @ mean_h


def _adapt(learner: Learner, theta: Params, task: Task, inner: Inner) -> Params:
    h = learner.embed(theta, task.support)
    w, offset = ridge(h, task.support, theta[LAMBDA].exp())
    scale = theta[SCALE].exp()
    return {**theta, "output.weight": scale * w, "output.bias": scale * offset + theta[BIAS]}


RIDGE = Method(
    name="ridge",
    makes="ridge",
    family="closed form",
    source="Bertinetto et al. 2019",
    communicates="meta-gradient of the trunk and of lambda, scale and bias",
    adapt=_adapt,
    contribute=through(_adapt),
    defaults=Defaults(rate=1.0, steps=1, optimizer="adam", server_rate=0.04),
    newcomer="solves a ridge regression on the support set",
    cost="one gradient and one solve; less the output layer's bytes",
    splits=True,
    start=_start,
    plain=True,
    ignores=INNER_LOOP,
    tunes=False,
)
