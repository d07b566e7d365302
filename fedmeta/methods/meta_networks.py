"""Meta Networks: fast weights made of gradients, read by attention (Munkhdalai and Yu 2017).

The slow base learner is the head. For every support example, the gradient of its loss with respect
to the output layer goes through a learned map m, coordinate by coordinate, and becomes that
example's fast output layer; it is kept in a memory beside the example's representation. A query
reads the memory by the cosine similarity of representations, and what it reads, W*, is added to
the slow layer: logits ``W f + W* f`` (algorithm 1, "layer augmentation").

The representation is ``relu(Q f) + relu(Q* f)``, slow weights Q and the user's fast weights Q*,
which a second map d makes of the gradient with respect to Q of the representation's own loss on the
support: cross-entropy of a linear read-out. Head, Q, the read-out and both maps are learned by the
gradient of the query loss; fast weights and memory are the user's, made anew from his support.

The paper gives every layer fast weights; here the representation and the output layer have them.
Its maps are an LSTM and a three-layer network; here each is a sum of ``v_j tanh(u_j g)``, of which
a gradient of 0 makes a fast weight of 0, started as a step of descent.
"""

import torch
from torch import Tensor

from fedmeta.inner import Inner
from fedmeta.learner import Learner
from fedmeta.methods.method import INNER_LOOP, Defaults, Method, Setup, no_adaptation
from fedmeta.methods.shown import normalized
from fedmeta.types import Params, Task

WIDTH = 32
"""Of a representation."""
SLOPES = (0.5, 2.0, 8.0, 32.0)
"""First slopes u of a map, for gradients of different sizes."""
STEP = 2.0
"""A map's first step: small gradients g become about ``-STEP g``."""
_PREFIX = "meta-networks/"


def first_map() -> tuple[Tensor, Tensor]:
    """Slopes and heights of a new map."""
    slopes = torch.tensor(SLOPES)
    return slopes, -STEP / (len(SLOPES) * slopes)


def with_one(h: Tensor) -> Tensor:
    """Representations ``(..., H, N)`` with a feature that is 1 everywhere, for the bias."""
    return torch.cat([h, torch.ones_like(h[..., :1, :])], -2)


def _start(setup: Setup) -> dict[str, Tensor]:
    width, outputs = setup.head["output.weight"].shape[-1], setup.outputs
    slopes, heights = first_map()
    random = setup.generator
    own = {
        "key": torch.randn(WIDTH, width, generator=random) * (2.0 / WIDTH) ** 0.5,
        "read-out": torch.randn(outputs, WIDTH, generator=random) * WIDTH**-0.5,
        "key-map.slopes": slopes,
        "key-map.heights": heights.clone(),
        "output-map.slopes": slopes.clone(),
        "output-map.heights": heights,
        "log-sharpness": torch.tensor(10.0).log(),
    }
    return {**setup.head, **{_PREFIX + name: value for name, value in own.items()}}


def fast(params: Params, name: str, gradient: Tensor) -> Tensor:
    """Fast weights of a gradient, coordinate by coordinate."""
    slopes, heights = (params[f"{_PREFIX}{name}-map.{part}"] for part in ("slopes", "heights"))
    return torch.tanh(gradient[..., None] * slopes) @ heights


def _logits(learner: Learner, params: Params, task: Task) -> Tensor:
    support, f = task.support, learner.embed(params, task.support)
    asked = learner.embed(params, task.query)

    key, read_out = params[f"{_PREFIX}key"], params[f"{_PREFIX}read-out"]
    slow = key @ f
    on = (slow > 0).to(f.dtype)
    error = (torch.softmax(read_out @ (slow * on), 0) - support.y) * support.weight
    fast_key = fast(params, "key", ((read_out.mT @ error) * on) @ f.mT)

    def represent(h: Tensor) -> Tensor:
        return normalized((torch.relu(key @ h) + torch.relu(fast_key @ h)).mT)

    likeness = represent(asked) @ represent(f).mT
    # Weights of 0 leave padding out, and sum to 0 where there is no example at all.
    likeness = torch.exp(params[f"{_PREFIX}log-sharpness"].exp() * (likeness - 1)) * support.weight
    tiny = torch.finfo(f.dtype).tiny
    attention = likeness / likeness.sum(-1, keepdim=True).clamp(min=tiny)

    error = torch.softmax(learner.logits(params, support), 0) - support.y
    layers = fast(params, "output", error.mT[:, :, None] * with_one(f).mT[:, None, :])
    augmented = torch.einsum("nch,hq,qn->cq", layers, with_one(asked), attention)
    return learner.logits(params, task.query) + augmented


def _contribute(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
    def query_loss(params: Params) -> Tensor:
        z = _logits(learner, params, task)
        return -(torch.log_softmax(z, 0) * task.query.y).sum(0) @ task.query.weight

    return learner.through(query_loss, theta)


def _predict(learner: Learner, theta: Params, task: Task, inner: Inner) -> Tensor:
    return _logits(learner, theta, task)


META_NETWORKS = Method(
    name="meta-networks",
    family="memory",
    source="Munkhdalai and Yu 2017",
    communicates="meta-gradient of the head, the representation and the maps to fast weights",
    adapt=no_adaptation,
    contribute=_contribute,
    defaults=Defaults(rate=1.0, steps=1, optimizer="adam", server_rate=0.04),
    newcomer="makes fast weights from the support set",
    cost="a gradient through a layer per example; the maps' bytes",
    splits=True,
    start=_start,
    predict=_predict,
    plain=True,
    needs=frozenset({"classes"}),
    ignores=INNER_LOOP,
    tunes=False,
)
