"""A frozen transformer as a text encoder: mean over the tokens, then length one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedmeta.backbones import digest
from fedmeta.backbones.cache import Features
from fedmeta.backbones.errors import BackboneError
from fedmeta.backbones.quiet import quiet

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, int], None]


def recipe(folder: Path, max_length: int) -> dict[str, str | int]:
    """Everything but the texts that the features depend on."""
    return {
        "backbone": "encoder/1",
        "weights": digest.of_files(digest.weight_files(folder)),
        "tokenizer": digest.of_files(digest.text_files(folder)),
        "pooling": "mean, l2",
        "max_length": max_length,
        "dtype": "float32",
    }


def encode(
    texts: Sequence[str],
    folder: Path,
    *,
    max_length: int,
    batch: int,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Features:
    """Embeddings ``(texts, D)``, each of Euclidean length one, in the order of the texts.

    A text's embedding does not depend on the other texts, beyond rounding: tokens that pad a
    batch are masked, and there is no dropout.

    Raises:
        BackboneError: the folder's model cannot be loaded, is no encoder, or takes fewer
            tokens than ``max_length``.
    """
    model, tokenizer = load(folder, max_length)
    found = embed(texts, model.to(device), tokenizer, max_length, batch, progress)
    if not len(found):
        raise BackboneError("there are no texts to encode, expected at least one")
    return found


def embed(
    texts: Sequence[str],
    model: Any,
    tokenizer: Any,
    max_length: int,
    batch: int,
    progress: Progress | None = None,
) -> Features:
    """:func:`encode` with a model that is loaded, on the device where it is."""
    import torch

    # Texts of similar length share a batch, so that little is computed for padding.
    order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
    out = np.empty((len(texts), 0), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            tokens = tokenizer(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=max_length,
                return_tensors="pt",
            ).to(model.device)
            hidden = model(**tokens).last_hidden_state
            vectors = pool(hidden, tokens["attention_mask"]).cpu().numpy()
            if not start:
                out = np.empty((len(texts), vectors.shape[1]), dtype=np.float32)
            out[rows] = vectors
            if progress is not None:
                progress(start + len(rows), len(texts))
    return out


def pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``(B, T, D)`` over the tokens where ``mask`` is 1, scaled to length one."""
    import torch

    weight = mask.unsqueeze(-1).to(hidden.dtype)
    mean = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1.0)
    return torch.nn.functional.normalize(mean, dim=1)


def load(folder: Path, max_length: int) -> tuple[Any, Any]:
    """Model and tokenizer of a folder.

    Raises:
        BackboneError: as :func:`encode`.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    try:
        # Weights that a file lacks would be drawn: keep the global generator as it was.
        with quiet(), torch.random.fork_rng(devices=[]):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model, report = AutoModel.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
    except Exception as error:  # each library on the way has exceptions of its own
        raise BackboneError(
            f"cannot load the model in {str(folder)!r} ({error}): name a folder that "
            "`save_pretrained` of model and tokenizer wrote to"
        ) from error
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing or report["mismatched_keys"]:
        raise BackboneError(
            f"the weights in {str(folder)!r} lack {missing[:3] or report['mismatched_keys']} of "
            f"{type(model).__name__}: config.json and weights must be of one model"
        )
    if model.config.is_encoder_decoder:
        raise BackboneError(
            f"{type(model).__name__} in {str(folder)!r} is an encoder and a decoder, expected "
            "an encoder only: choose a model such as BERT, MPNet or ModernBERT"
        )
    limits = (tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None))
    limit = min(int(value) for value in limits if value)
    if max_length > limit:
        raise BackboneError(
            f"backbone.max-length = {max_length}, but the model in {str(folder)!r} takes at most "
            f"{limit} tokens: use `--set backbone.max-length={limit}`"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"  # a text's positions must not depend on its batch
    return model.eval(), tokenizer
