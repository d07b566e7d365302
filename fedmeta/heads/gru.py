"""A small recurrent model of characters, adapted as a whole: no backbone before it.

An example is a window of character codes, as numbers, and its label the character that follows;
below 0 is padding, which leaves the state as it is. The cell is that of Cho et al. (2014) in the
form of torch.nn.GRU (the reset gate after the product), written out, because torch's own cannot be
mapped over users nor differentiated twice.
"""

import torch
from torch import Tensor

from fedmeta.heads.head import USUAL, Given, Head, HeadError
from fedmeta.types import Params


def gru(
    features: int, outputs: int, hidden: int = 64, experts: int = 0, given: Given = USUAL
) -> Head:
    """A recurrent cell over windows of characters, adapted as a whole.

    Args:
        features: characters of a window.
        outputs: characters that can follow, or other classes; 1 for regression.
        hidden: width of the state.
        experts: not used.
        given: `vocabulary` and `embedding` are used.

    Raises:
        HeadError: examples that are several vectors.
    """
    vocabulary, width = given.options.vocabulary, given.options.embedding
    if given.tokens > 1:
        raise HeadError(
            "head.name = 'gru' takes windows of character codes (data.window), and an example here"
            f" is {given.tokens} vectors: use head.name = 'ph-transformer'"
        )

    def init(generator: torch.Generator) -> dict[str, Tensor]:
        def drawn(*shape: int) -> Tensor:
            uniform: Tensor = (2 * torch.rand(*shape, generator=generator) - 1) * hidden**-0.5
            return uniform

        return {
            "embedding.weight": torch.randn(vocabulary, width, generator=generator),
            "cell.input": drawn(3 * hidden, width),
            "cell.state": drawn(3 * hidden, hidden),
            "cell.input_bias": drawn(3 * hidden),
            "cell.state_bias": drawn(3 * hidden),
            "output.weight": drawn(outputs, hidden),
            "output.bias": torch.zeros(outputs),
        }

    def logits(params: Params, x: Tensor) -> Tensor:
        return params["output.weight"] @ embed(params, x) + params["output.bias"][:, None]

    body = ("embedding.", "cell.")
    return Head("gru", init, logits, embed, None, body, {"cpu": 2, "cuda": 32})


def embed(params: Params, x: Tensor) -> Tensor:
    """The last state ``(H, N)`` of windows ``(N, T)``; a code beyond the last one counts as it."""
    codes = x.long()
    table = params["embedding.weight"]
    there = (codes >= 0)[..., None]
    letters = table[codes.clamp(0, len(table) - 1)]
    # All inputs meet their weights at once; only the state needs a step of its own.
    inputs = letters @ params["cell.input"].mT + params["cell.input_bias"]
    weight, bias = params["cell.state"], params["cell.state_bias"]
    h = inputs.new_zeros(len(x), weight.shape[1])
    for step in range(x.shape[1]):
        i_r, i_z, i_n = inputs[:, step].chunk(3, -1)
        h_r, h_z, h_n = (h @ weight.mT + bias).chunk(3, -1)
        z = torch.sigmoid(i_z + h_z)
        n = torch.tanh(i_n + torch.sigmoid(i_r + h_r) * h_n)
        h = torch.where(there[:, step], n + z * (h - n), h)
    return h.mT
