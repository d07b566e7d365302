"""A public set: items without labels that every participant may see (FedMD)."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmeta import backbones, seeding
from fedmeta.config import Config, ConfigError
from fedmeta.data.messages import pool
from fedmeta.data.sources import inputs
from fedmeta.population import Population, scaled
from fedmeta.sections.data import DataConfig

Items = tuple[str, ...] | NDArray[np.float32]


def is_private(data: DataConfig) -> bool:
    """Whether the public set has to be made of items that training users brought with them."""
    generated = data.source == "preferences" and data.tasks != "cross-problem"
    return not data.public and not generated


def sample(population: Population, config: Config) -> Tensor:
    """Features ``(n, D)`` of the public set, ``n`` at most ``method.public-examples``.

    They are a seeded sample, without replacement, of the file ``data.public``. Without one,
    ``preferences`` makes messages that no user has; of other sources they are a sample of training
    users' items, of rows that training may use, which a deployment could not make public.

    Raises:
        ConfigError: public items that are not what users' items are, or none.
    """
    count, rng = config.method.public_examples, seeding.generator(config.run.seed, "public")
    device = population.features.device
    if is_private(config.data):
        items = _of_training_users(population)
        chosen = rng.choice(items, size=min(count, len(items)), replace=False)
        return population.features[torch.from_numpy(chosen).to(device)].cpu()
    found = check(population, config)
    picked = rng.choice(len(found), size=min(count, len(found)), replace=False)
    some: Items = tuple(found[at] for at in picked) if isinstance(found, tuple) else found[picked]
    store = replace(population.store, name=config.data.public or "public messages", items=some)
    features = backbones.features(store, config.backbone, config.run.device)
    return torch.from_numpy(np.array(scaled(features, population.scaling)))


def check(population: Population, config: Config) -> Items:
    """The items of the public set, before anything is run; nothing where they are private.

    Raises:
        ConfigError: as :func:`sample`.
    """
    if is_private(config.data):
        return ()
    found, store = _items(config.data, config.method.public_examples), population.store
    where = f"data.public = {config.data.public!r}"
    if not len(found):
        raise ConfigError(f"{where}: no items; a public set needs at least one")
    if isinstance(found, tuple) is not isinstance(store.items, tuple) or (
        not isinstance(found, tuple)
        and not isinstance(store.items, tuple)
        and found.shape[1:] != store.items.shape[1:]
    ):
        raise ConfigError(
            f"{where} holds {_kind(found)}, and users of {store.name!r} have {_kind(store.items)};"
            " a public set needs the same inputs: name its columns as those of the data"
        )
    return found


@lru_cache(maxsize=1)
def _items(data: DataConfig, count: int) -> Items:
    if data.public:
        return inputs(Path(data.public).expanduser(), data)
    # A smaller pool begins a larger one, so what follows users' messages is nobody's.
    return pool(data.messages + count, data.seed).texts[data.messages :]


def _of_training_users(population: Population) -> NDArray[np.int64]:
    store, learn = population.store, population.learn
    rows = [
        learn.examples[learn.offsets[user] : learn.offsets[user + 1]]
        for user in store.users("train").tolist()
    ]
    return np.unique(store.item[np.concatenate(rows)]) if rows else np.empty(0, dtype=np.int64)


def _kind(items: Items) -> str:
    if isinstance(items, tuple):
        return "texts"
    return f"{' x '.join(map(str, items.shape[1:]))} features"
