"""Rows of users' examples: in the data's order or a seeded one, and as padded, stacked examples."""

import numpy as np
import torch
from numpy.typing import NDArray

from fedmeta import seeding
from fedmeta.population import Population, Rows
from fedmeta.types import Examples

Indices = NDArray[np.int64]


def every_row(population: Population) -> Rows:
    """All rows of all users."""
    offsets = population.store.offsets
    return Rows(np.arange(offsets[-1], dtype=np.int64), offsets)


def permuted(population: Population, users: Indices, stream: int) -> tuple[Indices, Indices]:
    """Positions among each user's examples in a seeded order, ``(U, longest)``, and the sizes."""
    position, sizes = padded(population.learn, users)
    every = np.arange(position.shape[1], dtype=np.int64)[None, :]
    score = seeding.scores(stream, population.keys[users][:, None], every)
    score[every >= sizes[:, None]] = np.iinfo(np.uint64).max  # padding goes last
    return np.take_along_axis(position, np.argsort(score, axis=1, kind="stable"), axis=1), sizes


def padded(rows: Rows, users: Indices) -> tuple[Indices, Indices]:
    """Positions ``(U, longest)``, padded with the first, and the sizes."""
    sizes = rows.sizes(users)
    position = np.arange(sizes.max(initial=0), dtype=np.int64)[None, :]
    return np.where(position < sizes[:, None], position, 0), sizes


def rows_of(rows: Rows, users: Indices, position: Indices) -> Indices:
    """Row indices of the users' examples at positions; a user without any gets another's."""
    at = rows.offsets[users][:, None] + position
    found: Indices = rows.examples[np.minimum(at, len(rows.examples) - 1)]
    return found


def examples_at(population: Population, rows: Indices, sizes: Indices) -> Examples:
    """Stacked examples of rows ``(U, longest)``, of which the first ``sizes`` of a user count."""
    width = int(sizes.max(initial=0))
    device = population.features.device
    index = torch.from_numpy(np.ascontiguousarray(rows[:, :width])).to(device)
    present = torch.from_numpy(np.arange(width)[None, :] < sizes[:, None]).to(device)
    item, label = population.item[index], population.target[index]
    x = population.features.index_select(0, item.flatten()).view(
        *item.shape, population.features.shape[1]
    )
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # from half precision, if that
    if population.store.task == "classification":
        y = x.new_zeros(len(label), population.outputs, width).scatter_(1, label[:, None, :], 1.0)
    else:
        y = label[:, None, :].to(x.dtype)
    count = torch.from_numpy(np.maximum(sizes, 1))[:, None].to(x)
    return Examples(x, y, present.to(x.dtype) / count)
