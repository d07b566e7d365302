"""Conv4, the network of few-shot image classification: a whole model, adapted without a backbone.

Four blocks of a 3x3 convolution, a normalization, ReLU and a 2x2 maximum (Vinyals et al. 2016;
Finn et al. 2017), then a linear layer. Published versions normalize by the statistics of the batch
at hand: at the query that is transductive, it lets one example see another, and what pads a batch
would count. Here it is group normalization (Wu and He 2018), of each image by itself: nothing runs
along, no image meets another, and a user alone gets what he gets among others. Group statistics
have no scale of their own, since the next layer is linear behind a shift; the shift is the bias.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fedmeta.heads.head import USUAL, Given, Head, HeadError
from fedmeta.heads.settled import GROUP, KERNEL, POOL, plain, settled
from fedmeta.types import Params

BLOCKS = 4
LEAST = POOL**BLOCKS
"""Least height and width of an image, of which one pixel is left."""


def conv4(
    features: int, outputs: int, hidden: int = 0, experts: int = 0, given: Given = USUAL
) -> Head:
    """Four convolutions for square images, `head.filters` wide, adapted as a whole.

    Args:
        features: pixels of an image, times its channels (`head.channels`).
        outputs: classes, or 1 for regression.
        hidden: not used.
        experts: not used.
        given: `filters` and `channels` are used.

    Raises:
        HeadError: images that are not square, or too small.
    """
    filters, channels = given.options.filters, given.options.channels
    side = math.isqrt(features // channels)
    if side * side * channels != features or side < LEAST or given.tokens > 1:
        raise HeadError(
            f"head.name = 'conv4' takes square images of {LEAST} x {LEAST} pixels or more, such as"
            f" 28 x 28; an example has {features} numbers, which with head.channels = {channels}"
            " is no such image: resize the images, correct head.channels, or use head.name = 'mlp'"
        )
    if filters % GROUP:
        raise HeadError(
            f"head.filters = {filters}: channels are normalized in groups of {GROUP}; use a"
            f" multiple of {GROUP}, such as 32"
        )
    left = side // LEAST

    def init(generator: torch.Generator) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        for block in range(BLOCKS):
            into = filters if block else channels
            spread = (2.0 / (KERNEL**2 * into)) ** 0.5
            out[f"conv{block}.weight"] = spread * torch.randn(
                filters, into, KERNEL, KERNEL, generator=generator
            )
            out[f"conv{block}.bias"] = torch.zeros(filters)
        width = filters * left**2
        out["output.weight"] = torch.randn(outputs, width, generator=generator) * width**-0.5
        out["output.bias"] = torch.zeros(outputs)
        return out

    def through(block: Callable[..., Tensor], params: Params, x: Tensor) -> Tensor:
        if not len(x):  # there is no convolution of nothing
            return x.new_zeros(filters * left**2, 0)
        h = x.reshape(len(x), channels, side, side)
        for number in range(BLOCKS):
            h = block(h, params[f"conv{number}.weight"], params[f"conv{number}.bias"])
        return h.flatten(1).mT

    embed, alone = partial(through, plain), partial(through, settled)

    def logits(params: Params, x: Tensor) -> Tensor:
        return params["output.weight"] @ embed(params, x) + params["output.bias"][:, None]

    users = {"cpu": 1, "cuda": 8}
    return Head("conv4", init, logits, embed, None, ("conv",), users, alone)
