"""A public set: items without labels that every participant may see (FedMD)."""

import numpy as np
import torch
from torch import Tensor

from fedmeta import seeding
from fedmeta.population import Population


def sample(population: Population, seed: int, count: int) -> Tensor:
    """Features ``(n, D)`` of a seeded sample, without replacement, of training users' items.

    Only rows that training may use count, so that an item that belongs to users who are judged
    alone, or to the held-out fold of ``data.unseen-items``, is never made public. There are
    fewer than ``count`` where there are not so many.
    """
    store, learn = population.store, population.learn
    rows = [
        learn.examples[learn.offsets[user] : learn.offsets[user + 1]]
        for user in store.users("train").tolist()
    ]
    items = np.unique(store.item[np.concatenate(rows)]) if rows else np.empty(0, dtype=np.int64)
    rng = seeding.generator(seed, "public")
    chosen = rng.choice(items, size=min(count, len(items)), replace=False)
    return population.features[torch.from_numpy(chosen).to(population.features.device)].cpu()
