"""The Personalization Head: one encoder layer of a transformer over an encoder's token features.

Kang et al. 2022 (arXiv 2203.06668), with the layer that its authors' company ships: attention and
a feed-forward part, each with a residual connection and a layer normalization behind it, then a
linear layer. Their form sees one vector, the [CLS] of bert-base: with ``head.width = 0``, 8
attention heads and 512 feed-forward units it has 3,160,842 parameters at 768 numbers and 10
classes. Over a single position attention is the identity on the values, so that queries and keys,
37 % of those weights, never get a gradient; they would still be sent, and get noise. Over the
tokens (``backbone.output = tokens``) they work. Dropout is left out: an inner loop of few steps is
to descend, and the same numbers must come out twice.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from fedmeta.heads.head import USUAL, Given, Head, HeadError
from fedmeta.types import Params


def ph_transformer(
    features: int, outputs: int, hidden: int = 0, experts: int = 0, given: Given = USUAL
) -> Head:
    """The Personalization Head: a transformer's encoder layer over tokens, then a linear layer.

    Args:
        features: numbers of an example: those of a position times the positions.
        outputs: classes, or 1 for regression.
        hidden: not used.
        experts: not used.
        given: `tokens`; `width`, `feed_forward` and `attention_heads` of the options.

    Raises:
        HeadError: attention heads that do not divide the width.
    """
    options, tokens = given.options, given.tokens
    each = features // tokens
    width, parts = options.width or each, options.attention_heads
    if width % parts:
        raise HeadError(
            f"head.attention-heads = {parts} does not divide the width {width}"
            f" ({'head.width' if options.width else 'that of the features'}); use a divisor of it"
        )

    def init(generator: torch.Generator) -> dict[str, Tensor]:
        def drawn(rows: int, columns: int) -> Tensor:  # Glorot and Bengio 2010
            reach = (6.0 / (rows + columns)) ** 0.5
            uniform: Tensor = (2 * torch.rand(rows, columns, generator=generator) - 1) * reach
            return uniform

        first = {"project.weight": drawn(width, each), "project.bias": torch.zeros(width)}
        return {
            **(first if options.width else {}),
            "attention.weight": torch.cat([drawn(width, width) for _ in range(3)]),
            "attention.bias": torch.zeros(3 * width),
            "join.weight": drawn(width, width),
            "join.bias": torch.zeros(width),
            "norm.weight": torch.ones(width),
            "norm.bias": torch.zeros(width),
            "widen.weight": drawn(options.feed_forward, width),
            "widen.bias": torch.zeros(options.feed_forward),
            "narrow.weight": drawn(width, options.feed_forward),
            "narrow.bias": torch.zeros(width),
            "last.weight": torch.ones(width),
            "last.bias": torch.zeros(width),
            "output.weight": drawn(outputs, width),
            "output.bias": torch.zeros(outputs),
        }

    def embed(params: Params, x: Tensor) -> Tensor:
        h = x.reshape(len(x), tokens, each)
        # An encoder's vectors are never zero: a position of zeros is one that the text has not.
        there = (h != 0).any(-1) if tokens > 1 else h.new_ones(len(x), 1, dtype=torch.bool)
        if options.width:
            h = _affine(params, "project", h)
        h = _normed(params, "norm", h + _attention(params, h, there, parts))
        wide = torch.relu(_affine(params, "widen", h))
        h = _normed(params, "last", h + _affine(params, "narrow", wide))
        share = there.to(h.dtype) / there.sum(-1, keepdim=True).clamp(min=1)
        return (h * share[..., None]).sum(1).mT

    def logits(params: Params, x: Tensor) -> Tensor:
        return params["output.weight"] @ embed(params, x) + params["output.bias"][:, None]

    return Head("ph-transformer", init, logits, embed, users={"cpu": 2, "cuda": 32})


def _affine(params: Params, layer: str, h: Tensor) -> Tensor:
    return h @ params[f"{layer}.weight"].mT + params[f"{layer}.bias"]


def _normed(params: Params, layer: str, h: Tensor) -> Tensor:
    return F.layer_norm(h, h.shape[-1:], params[f"{layer}.weight"], params[f"{layer}.bias"])


def _attention(params: Params, h: Tensor, there: Tensor, parts: int) -> Tensor:
    """What each of the positions ``(N, T, W)`` takes from those that are ``there (N, T)``."""
    n, tokens, width = h.shape
    q, k, v = (
        part.reshape(n, tokens, parts, width // parts).transpose(1, 2)
        for part in _affine(params, "attention", h).chunk(3, -1)
    )
    scores = q @ k.mT * (width // parts) ** -0.5
    # A number and not -inf: where a text has no position at all, no NaN must come of it.
    scores = torch.where(there[:, None, None], scores, torch.finfo(h.dtype).min)
    taken = torch.softmax(scores, -1) @ v
    return _affine(params, "join", taken.transpose(1, 2).reshape(n, tokens, width))
