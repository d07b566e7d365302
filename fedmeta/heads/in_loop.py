"""Heads with the encoder in the loop, through PEFT: low-rank adapters and soft prompts.

What users adapt stands inside the encoder (LoRA, Hu et al. 2022) or before its input (prompt
tuning, Lester et al. 2021), and so every step is a forward and a backward pass of the whole
encoder: no feature is cached, and users run one after the other. That is another class of cost;
`fedmeta bench heads` says which. An example is the numbers of its tokens; below 0 is padding.

`encoder` adapts the encoder itself, the fine-tuning that small heads are held against.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from fedmeta.backbones import encoder
from fedmeta.heads.head import USUAL, Given, Head, HeadError
from fedmeta.types import Params

if TYPE_CHECKING:
    from torch.nn import Module

ONE_BY_ONE = {"cpu": 1, "cuda": 1}
PROMPT = "prompt_encoder.default.embedding.weight"


class Body(NamedTuple):
    """An encoder with something in it to adapt.

    Attributes:
        module: the encoder, frozen but for that.
        free: names of what is adapted.
        prompt: positions that are put before the text.
    """

    module: Module
    free: tuple[str, ...]
    prompt: int


def lora(
    features: int, outputs: int, hidden: int = 0, experts: int = 0, given: Given = USUAL
) -> Head:
    """Slow class: low-rank adapters in the encoder's attention, and a linear layer (PEFT).

    Args:
        features: most tokens of a text.
        outputs: classes, or 1 for regression.
        hidden: not used.
        experts: not used.
        given: the encoder's `folder`; `rank` of the options.

    Raises:
        HeadError: PEFT is not installed, or there is no encoder to put them in.
    """
    return _head("lora", outputs, given, given.options.rank)


def prompt(
    features: int, outputs: int, hidden: int = 0, experts: int = 0, given: Given = USUAL
) -> Head:
    """Slow class: soft prompts before the text, and a linear layer (PEFT).

    Args:
        features: most tokens of a text.
        outputs: classes, or 1 for regression.
        hidden: not used.
        experts: not used.
        given: the encoder's `folder`; `prompt` of the options.

    Raises:
        HeadError: PEFT is not installed, or there is no encoder to put them before.
    """
    return _head("prompt", outputs, given, given.options.prompt)


def whole(
    features: int, outputs: int, hidden: int = 0, experts: int = 0, given: Given = USUAL
) -> Head:
    """Slow class: the encoder itself, all of it, and a linear layer.

    Args:
        features: most tokens of a text.
        outputs: classes, or 1 for regression.
        hidden: not used.
        experts: not used.
        given: the encoder's `folder`.

    Raises:
        HeadError: there is no encoder.
    """
    return _head("encoder", outputs, given, 0)


def _head(name: str, outputs: int, given: Given, size: int) -> Head:
    if not given.folder:
        raise HeadError(
            f"head.name = {name!r} adapts a text encoder, and there is none here: use texts with"
            " backbone.name = minilm, a hub id or a folder, or head.name = 'mlp'"
        )
    body = body_of(name, given.folder, size, given.layers)

    def init(generator: torch.Generator) -> dict[str, Tensor]:
        module = dict(body.module.named_parameters())
        width = body.module.config.hidden_size  # type: ignore[union-attr]
        return {
            **{n: _fresh(n, module[n], generator) for n in body.free},
            "output.weight": torch.zeros(outputs, int(width)),  # type: ignore[arg-type]
            "output.bias": torch.zeros(outputs),
        }

    def embed(params: Params, x: Tensor) -> Tensor:
        if not len(x):
            return x.new_zeros(params["output.weight"].shape[1], 0)
        mine = {n: params[n] for n in body.free}
        some = params["output.weight"]
        fixed = _fixed(body, some.device, some.dtype)
        there = (x >= 0).long()
        tokens = {"input_ids": x.long().clamp(min=0), "attention_mask": there}
        hidden = functional_call(body.module, {**fixed, **mine}, (), tokens).last_hidden_state
        return encoder.pool(hidden[:, -x.shape[1] :], there).mT

    def logits(params: Params, x: Tensor) -> Tensor:
        return params["output.weight"] @ embed(params, x) + params["output.bias"][:, None]

    return Head(name, init, logits, embed, None, body.free, ONE_BY_ONE)


def _fresh(name: str, like: Tensor, generator: torch.Generator) -> Tensor:
    """As PEFT begins, from a generator of our own: A uniform, B zero, prompts standard normal."""
    if "lora_A" in name:
        reach = like.shape[1] ** -0.5
        uniform: Tensor = (2 * torch.rand(like.shape, generator=generator) - 1) * reach
        return uniform
    if "lora_B" in name:
        return torch.zeros(like.shape)
    if name == PROMPT:
        return torch.randn(like.shape, generator=generator)
    return like.detach().float().cpu().clone()


@lru_cache(maxsize=2)
def _fixed(body: Body, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors of an encoder on a device, those that are numbers in a precision."""
    # What is made inside of a derivative is part of it and dies with it: these are to stay.
    with torch._C._DisableFuncTorch():
        return {
            name: value.detach().to(device, dtype if value.is_floating_point() else value.dtype)
            for name, value in (*body.module.named_parameters(), *body.module.named_buffers())
        }


@lru_cache(maxsize=2)
def body_of(name: str, folder: str, size: int, layers: int = 0) -> Body:
    """The encoder of a folder with what a head adapts in it; kept, since loading takes long.

    Raises:
        HeadError: PEFT is not installed, or does not know where to put adapters.
        BackboneError: the folder's encoder cannot be loaded.
    """
    # Written-out attention, of which second derivatives exist.
    module, _ = encoder.load(Path(folder), layers=layers, attention="eager")
    if name != "encoder":
        module = _with(name, module, size)
    module.eval()
    free = []
    for at, parameter in module.named_parameters():
        if parameter.requires_grad and "pooler" not in at:
            free.append(at)
        parameter.requires_grad_(False)
    return Body(module, tuple(free), size if name == "prompt" else 0)


def _with(name: str, module: Any, size: int) -> Any:
    try:
        import peft
    except ImportError as error:
        raise HeadError(
            f"head.name = {name!r} needs PEFT, which is not installed: `pip install"
            " 'fedmeta[peft]'`, or use a head over cached features, such as ph-transformer or mlp"
        ) from error
    task = peft.TaskType.FEATURE_EXTRACTION
    make: dict[str, Callable[[], Any]] = {
        "lora": lambda: peft.LoraConfig(
            task_type=task, r=size, lora_alpha=2 * size, lora_dropout=0.0
        ),
        "prompt": lambda: peft.PromptTuningConfig(task_type=task, num_virtual_tokens=size),
    }
    # PEFT draws: the global generator stays as it was. It asks transformers for an old name.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            return peft.get_peft_model(module, make[name]())
        except ValueError as error:
            raise HeadError(
                f"head.name = {name!r}: PEFT cannot put it into a {type(module).__name__}"
                f" ({error}); use head.name = 'encoder', 'ph-transformer', or another backbone"
            ) from error
