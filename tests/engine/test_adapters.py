"""Adapters inside the encoder are what their papers say: other weights, or more tokens."""

import torch
from torch.nn import functional as F

from fedmeta.inner import Inner
from fedmeta.methods import METHODS
from tests.engine.cases import theta_of
from tests.engine.whole import (
    OPTIONS,
    folder,
    whole_model,
    whole_tasks,
)

EXACT = 1e-10
"""Relative, in float64: derivatives through a normalization lose two more digits."""
INNER = Inner(0.1, 2)


def test_low_rank_adapters_are_the_encoder_with_other_weights() -> None:
    """W + (alpha / r) B A in the encoder itself gives what the adapters beside it give."""
    model, plain = whole_model("lora"), whole_model("encoder")
    theta = theta_of(METHODS["maml"], model, 3)
    weights = plain.head.init(torch.Generator())
    merged = {n: v.double() for n, v in weights.items()}
    adapted = [name for name in theta if "lora_A" in name]
    for a in adapted:
        layer = a.removeprefix("base_model.model.").replace(".lora_A.default", "")
        step = 2.0 * theta[a.replace("lora_A", "lora_B")] @ theta[a]
        merged[layer] = merged[layer] + step
    merged |= {n: theta[n] for n in ("output.weight", "output.bias")}
    x = whole_tasks("lora", 1).support.x[0]
    assert adapted
    expected = plain.head.logits(merged, x)
    assert torch.allclose(model.head.logits(theta, x), expected, atol=1e-10)
    without = plain.head.logits(
        {
            **merged,
            **{
                n: weights[n].double() for n in weights if n not in ("output.weight", "output.bias")
            },
        },
        x,
    )
    assert (without - expected).abs().max() > 1e-3


def test_soft_prompts_stand_before_the_text() -> None:
    from pathlib import Path

    from fedmeta.backbones import encoder

    model = whole_model("prompt")
    theta = theta_of(METHODS["maml"], model, 3)
    (name,) = (n for n in theta if n.startswith("prompt"))
    module, _ = encoder.load(Path(folder()))
    module = module.double()
    x = whole_tasks("prompt", 1).support.x[0]
    for row, found in zip(x, model.head.embed(theta, x).mT, strict=True):
        words = module.get_input_embeddings()(row[row >= 0].long())
        both = torch.cat([theta[name], words])[None]
        hidden = module(inputs_embeds=both).last_hidden_state[0, OPTIONS.prompt :]
        assert torch.allclose(found, F.normalize(hidden.mean(0), dim=0), atol=1e-8)
