"""A backbone that stays loaded and writes nothing: for texts that come one by one, as served."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fedmeta.backbones import concat, digest, encoder, hashing, models
from fedmeta.backbones.cache import Features
from fedmeta.backbones.errors import BackboneError
from fedmeta.sections.data import BackboneConfig

Encode = Callable[[Sequence[str]], Features]


class Live(NamedTuple):
    """A backbone in memory.

    Attributes:
        sha256: of everything that features depend on beside the inputs.
        encode: texts to features ``(texts, D)``, those of :func:`fedmeta.backbones.features` up to
            rounding; for `identity` there are no texts, and it raises.
    """

    sha256: str
    encode: Encode


def sha256_of(name: str, config: BackboneConfig) -> str:
    """Digest of a backbone: weights, tokenizer, pooling, length; equal means equal features.

    Args:
        name: as :func:`fedmeta.backbones.resolve` gives it.
        config: its settings.

    Raises:
        BackboneError: it cannot be had.
    """
    if name == "identity":
        return digest.of_recipe({"backbone": "identity/1"})
    found = [digest.of_recipe(_recipe(part, config)) for part in concat.parts(name)]
    if len(found) == 1:
        return found[0]
    return digest.of_recipe({f"part {number}": one for number, one in enumerate(found)})


def live(name: str, config: BackboneConfig, device: str = "cpu") -> Live:
    """The backbone, loaded.

    Raises:
        BackboneError: it cannot be had or loaded.
    """
    sha256 = sha256_of(name, config)
    if name == "identity":
        return Live(sha256, _no_texts)
    blocks = [_encode(part, config, device) for part in concat.parts(name)]
    if len(blocks) == 1:
        return Live(sha256, blocks[0])
    return Live(sha256, lambda texts: concat.join([block(texts) for block in blocks]))


def _recipe(name: str, config: BackboneConfig) -> dict[str, str | int]:
    if name == "hashing":
        return hashing.recipe(config.columns)
    return encoder.recipe(models.locate(name), config.max_length, _output(config), config.layers)


def _encode(name: str, config: BackboneConfig, device: str) -> Encode:
    if name == "hashing":
        return lambda texts: hashing.encode(texts, config.columns)
    model, tokenizer = encoder.load(models.locate(name), config.max_length, config.layers)
    model, output = model.to(device), _output(config)
    return lambda texts: encoder.embed(
        texts, model, tokenizer, config.max_length, config.batch, output=output
    )


def _output(config: BackboneConfig) -> str:
    """`auto` is the mean, where a head takes one vector."""
    return "mean" if config.output == "auto" else config.output


def _no_texts(texts: Sequence[str]) -> Features:
    if len(texts):
        raise BackboneError(
            "backbone.name = 'identity' takes numbers, and these are texts: give features"
        )
    return np.empty((0, 0), dtype=np.float32)
