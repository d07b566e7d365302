"""A frozen transformer as a text encoder: mean over the tokens, then length one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedmeta.backbones import digest
from fedmeta.backbones.cache import Features
from fedmeta.backbones.errors import BackboneError
from fedmeta.backbones.quiet import quiet

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, int], None]


def recipe(
    folder: Path, max_length: int, output: str = "mean", layers: int = 0
) -> dict[str, str | int]:
    """Everything but the texts that the features depend on."""
    return {
        "backbone": "encoder/2",
        "weights": digest.of_files(digest.weight_files(folder)),
        "tokenizer": digest.of_files(digest.text_files(folder)),
        "pooling": f"{output}, l2",
        "max_length": max_length,
        "dtype": "float16" if output == "tokens" else "float32",
        **({"layers": layers} if layers else {}),
    }


def encode(
    texts: Sequence[str],
    folder: Path,
    *,
    max_length: int,
    batch: int,
    device: str = "cpu",
    progress: Progress | None = None,
    output: str = "mean",
    layers: int = 0,
) -> Features:
    """Embeddings ``(texts, D)``, each of Euclidean length one, in the order of the texts.

    A text's embedding does not depend on the others, beyond rounding: padding is masked, and there
    is no dropout. ``output`` is `mean` or `cls`, the first token.

    Raises:
        BackboneError: the model cannot be loaded, is no encoder, or takes fewer tokens.
    """
    if not texts:
        raise BackboneError("there are no texts to encode, expected at least one")
    model, tokenizer = load(folder, max_length, layers)
    return embed(texts, model.to(device), tokenizer, max_length, batch, progress, output)


def embed(
    texts: Sequence[str],
    model: Any,
    tokenizer: Any,
    max_length: int,
    batch: int,
    progress: Progress | None = None,
    output: str = "mean",
) -> Features:
    """:func:`encode` with a model that is loaded, where it is."""
    out = np.empty((len(texts), 0), dtype=np.float32)
    for rows, hidden, mask in _batches(texts, model, tokenizer, max_length, batch, progress):
        vectors = pooled(hidden, mask, output).cpu().numpy()
        if not out.size:
            out = np.empty((len(texts), vectors.shape[1]), dtype=np.float32)
        out[rows] = vectors
    return out


def token_vectors(
    texts: Sequence[str],
    folder: Path,
    *,
    max_length: int,
    batch: int,
    device: str = "cpu",
    progress: Progress | None = None,
    layers: int = 0,
) -> Iterator[tuple[list[int], NDArray[np.float16]]]:
    """Of some texts after others: which, and their tokens ``(texts, tokens, D)``, of length one.

    Positions that a text does not have are zero. Rows are as long as the longest of the batch.
    """
    import torch

    model, tokenizer = load(folder, max_length, layers)
    model.to(device)
    for rows, hidden, mask in _batches(texts, model, tokenizer, max_length, batch, progress):
        vectors = torch.nn.functional.normalize(hidden, dim=-1) * mask.unsqueeze(-1)
        yield rows, vectors.half().cpu().numpy()


def numbers(texts: Sequence[str], folder: Path, max_length: int) -> Features:
    """The numbers of the texts' tokens ``(texts, longest)``, as float32; -1 is padding."""
    found = _tokenizer(folder)(list(texts), truncation=True, max_length=max_length)["input_ids"]
    out = np.full((len(texts), max(map(len, found))), -1.0, dtype=np.float32)
    for row, ids in zip(out, found, strict=True):
        row[: len(ids)] = ids
    return out


def _batches(
    texts: Sequence[str],
    encoder: Any,
    tokenizer: Any,
    max_length: int,
    batch: int,
    progress: Progress | None,
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Rows of some texts, what the last layer says of their tokens ``(B, T, D)``, and which are."""
    import torch

    parts = tokenizer(list(texts), truncation=True, max_length=max_length)
    # Texts of as many tokens share a batch, so that little is computed for padding.
    order = sorted(range(len(texts)), key=lambda i: (len(parts["input_ids"][i]), i))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        some = {name: [values[i] for i in rows] for name, values in parts.items()}
        tokens = tokenizer.pad(some, return_tensors="pt").to(encoder.device)
        with torch.inference_mode():
            hidden = encoder(**tokens).last_hidden_state
        yield rows, hidden, tokens["attention_mask"]
        if progress is not None:
            progress(start + len(rows), len(texts))


def pooled(hidden: Tensor, mask: Tensor, output: str) -> Tensor:
    """One vector of length one from each text's tokens: their mean, or the first (`cls`)."""
    import torch

    if output == "cls":
        mask = torch.zeros_like(mask).index_fill_(1, mask.new_zeros(1), 1)
    return pool(hidden, mask)


def pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``(B, T, D)`` over the tokens where ``mask`` is 1, scaled to length one."""
    import torch

    weight = mask.unsqueeze(-1).to(hidden.dtype)
    mean = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1.0)
    return torch.nn.functional.normalize(mean, dim=1)


def load(
    folder: Path, max_length: int = 1, layers: int = 0, attention: str | None = None
) -> tuple[Any, Any]:
    """The encoder of a folder, in float32 and without dropout, and its tokenizer.

    Args:
        folder: what ``save_pretrained`` of model and tokenizer wrote.
        max_length: tokens that it has to take.
        layers: how many of its layers are kept; 0: all.
        attention: `eager` for attention that is written out, which can be differentiated twice.

    Raises:
        BackboneError: it cannot be loaded, is no encoder, or is too small.
    """
    import torch
    from transformers import AutoModel

    more = {"attn_implementation": attention} if attention else {}
    try:
        # Weights that a file lacks would be drawn: keep the global generator as it was.
        with quiet(), torch.random.fork_rng(devices=[]):
            tokenizer = _tokenizer(folder)
            model, report = AutoModel.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, output_loading_info=True, **more
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
    if layers:
        _cut(model, layers, folder)
    return model.eval(), tokenizer


def width(folder: Path) -> int:
    """The width of the encoder's vectors."""
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(folder, local_files_only=True).hidden_size)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"  # a text's positions must not depend on its batch
    return tokenizer


def _cut(model: Any, layers: int, folder: Path) -> None:
    """Leave out the layers behind some, in place.

    Raises:
        BackboneError: there are not so many, or not in a place that is known.
    """
    inner = getattr(model, "encoder", model)
    where = next((at for at in ("layer", "layers") if hasattr(inner, at)), None)
    if where is None:
        raise BackboneError(
            f"backbone.layers = {layers}: where {type(model).__name__} in {str(folder)!r} has its"
            " layers is not known; use backbone.layers = 0, or a model such as BERT or MPNet"
        )
    there = getattr(inner, where)
    if layers > len(there):
        raise BackboneError(
            f"backbone.layers = {layers}: the model in {str(folder)!r} has {len(there)} layers;"
            f" use 1 to {len(there)}, or 0 for all"
        )
    setattr(inner, where, there[:layers])
