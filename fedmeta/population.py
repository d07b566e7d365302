"""Users with their features: the data of a run, ready for the engine.

Statistics that scale features or targets are taken from training users only. They are
constants of the population that deployed clients would have to be given; under differential
privacy they are a release of their own.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmeta import seeding
from fedmeta.data.selection import UNSEEN_FOLD
from fedmeta.data.store import UserStore
from fedmeta.kept import Kept, room
from fedmeta.sections.data import DataConfig


class Rows(NamedTuple):
    """Example indices per user: those of user u are ``examples[offsets[u]:offsets[u + 1]]``."""

    examples: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def sizes(self, users: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of examples of each of the users."""
        sizes: NDArray[np.int64] = self.offsets[users + 1] - self.offsets[users]
        return sizes


class Scaling(NamedTuple):
    """Mean and standard deviation ``(D,)`` of the features of training users' examples."""

    mean: NDArray[np.floating]
    spread: NDArray[np.floating]


class Units(NamedTuple):
    """Constants of a population, the same for all of its users.

    Attributes:
        scaling: how features are scaled; None: not at all.
        centre: what is taken from a target before it is divided by ``scale``; 0 of classes.
        scale: unit of a scaled target; 1 for classification.
    """

    scaling: Scaling | None = None
    centre: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Population:
    """A user store with features, targets and the rows that each purpose may use.

    Attributes:
        store: the users.
        features: ``(items, D)`` float32, on the device of the run.
        item: item of each example, int64, on the device.
        target: class index (int64) or scaled target (float32) of each example, on the device.
        units: by which features and targets are scaled, for others that come in.
        learn: rows to train and adapt on.
        judge: rows to score, or None where they are what adaptation left over.
        keys: stable 64-bit identity of each user.
        home: the domain of most of the examples that a training user learns from, int64
            ``(users,)``; -1 for others, whose support set alone may say it; 0 without domains.
        across: whether support and query of a training user come from different domains.
        kept: inner products of training users' features, filled as they are met.
        tokens: positions of an item, whose vectors stand one behind the other in its features,
            in half precision until a task is made of them; 1: one vector.
        training: training users in all, where the store has one user alone; None: those of it.
    """

    store: UserStore
    features: Tensor
    item: Tensor
    target: Tensor
    units: Units
    learn: Rows
    judge: Rows | None
    keys: NDArray[np.uint64]
    home: NDArray[np.int64]
    across: bool = False
    kept: Kept | None = None
    tokens: int = 1
    training: int | None = None

    @property
    def scale(self) -> float:
        """Unit of a scaled target; 1 for classification."""
        return self.units.scale

    @property
    def scaling(self) -> Scaling | None:
        """How features were scaled; None: not at all."""
        return self.units.scaling

    @property
    def centre(self) -> float:
        """What is 0 as a scaled target; 0 for classification."""
        return self.units.centre

    @property
    def trainers(self) -> int:
        """Training users, a public number."""
        return len(self.store.users("train")) if self.training is None else self.training

    @property
    def outputs(self) -> int:
        """Classes, or 1 for regression."""
        return len(self.store.classes) or 1


def populate(
    store: UserStore,
    features: NDArray[np.floating],
    config: DataConfig,
    device: torch.device | None = None,
    units: Units | None = None,
) -> Population:
    """A population from a store and the features ``(items, D)``, or ``(items, tokens, D)``.

    ``units`` are given where the store has a part of the users only; None: training users' own.

    Raises:
        ValueError: features that are not one finite row per item.
    """
    tokens = features.shape[1] if features.ndim == 3 else 1
    features = features.reshape(len(features), -1) if features.ndim == 3 else features
    if features.ndim != 2 or len(features) != len(store.items):
        raise ValueError(
            f"features of {store.name!r} have shape {features.shape};"
            f" expected one row for each of {len(store.items)} items"
        )
    # Tokens may be larger than the memory, and were checked when they were written.
    if tokens == 1 and not np.isfinite(features).all():
        row = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
        raise ValueError(f"features of {store.name!r} are not finite at item {row}")
    held_out = store.query
    if config.unseen_items and store.fold is not None:
        held_out = np.equal(store.fold, UNSEEN_FOLD)
    if units is None:
        train = np.repeat(store.split == 0, store.sizes())
        if held_out is not None:
            train &= ~held_out
        units = _units(store, features, train, config, tokens)
    features = scaled(features, units.scaling)
    target: NDArray[np.int64] | NDArray[np.floating] = store.label
    if store.task == "regression":
        target = ((store.label - units.centre) / units.scale).astype(np.float32)
    learn = _rows(store, None if held_out is None else ~held_out)
    training = np.where(store.split == 0, np.diff(learn.offsets), 0)
    return Population(
        store=store,
        features=torch.from_numpy(features).to(device),
        item=torch.from_numpy(store.item).to(device),
        target=torch.from_numpy(target).to(device),
        units=units,
        learn=learn,
        judge=None if held_out is None else _rows(store, held_out),
        keys=seeding.keys(store.ids, "user"),
        home=_home(store, learn),
        across=config.tasks == "domain-generalization",
        kept=room(training, device),
        tokens=tokens,
    )


def _units(
    store: UserStore,
    features: NDArray[np.floating],
    train: NDArray[np.bool_],
    config: DataConfig,
    tokens: int,
) -> Units:
    wanted, scaling = config.standardize, None
    plain = store.modality == "features" and not config.window
    if tokens == 1 and (wanted == "features" or (wanted == "auto" and plain)):
        scaling = _scaling(features, store.item[train])
    if store.task == "classification":
        return Units(scaling)
    label = store.label[train]
    return Units(scaling, float(label.mean()), float(label.std()) or 1.0)


def _scaling(features: NDArray[np.floating], item: NDArray[np.int64]) -> Scaling:
    # Items are weighted by how often they occur rather than gathered, which could fill the memory.
    share = np.bincount(item, minlength=len(features)) / len(item)
    mean = share @ features
    spread = np.sqrt(share @ np.square(features - mean))
    spread[spread < 1e-12] = 1.0
    return Scaling(mean, spread)


def scaled(features: NDArray[np.floating], by: Scaling | None) -> NDArray[np.floating]:
    """Features ``(n, D)`` in the units of the population; None leaves them as they are.

    Divided by sqrt(D) as well, so that vectors have about unit norm, as those of encoders do:
    one inner learning rate then suits both. Outliers are cut to that norm, because a squared
    loss diverges for a user whose largest eigenvalue, at most ``||x||^2 + 1``, exceeds 2 / rate.
    """
    if by is None:
        return features
    found = (features - by.mean) / (by.spread * np.sqrt(features.shape[1]))
    norm = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.maximum(norm, 1.0), dtype=np.float32)


def _rows(store: UserStore, keep: NDArray[np.bool_] | None) -> Rows:
    if keep is None:
        return Rows(np.arange(len(store.item), dtype=np.int64), store.offsets)
    before = np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)
    return Rows(np.flatnonzero(keep), before[store.offsets])


def homes(
    store: UserStore, user: NDArray[np.int64], rows: NDArray[np.int64], users: int
) -> NDArray[np.int64]:
    """The domain of most of some users' examples, ``(users,)``; of equals the first, 0 of none.

    Args:
        store: their store.
        user: whose each example is, from 0 to ``users - 1``.
        rows: the examples, as many.
        users: how many users there are.
    """
    if store.domain is None:
        return np.zeros(users, dtype=np.int64)
    counts = np.zeros((users, len(store.domains)), dtype=np.int64)
    np.add.at(counts, (user, store.domain[rows]), 1)
    found: NDArray[np.int64] = counts.argmax(axis=1)
    return found


def _home(store: UserStore, learn: Rows) -> NDArray[np.int64]:
    user = np.repeat(np.arange(len(store.ids)), np.diff(learn.offsets))
    found = homes(store, user, learn.examples, len(store.ids))
    return found if store.domain is None else np.where(store.split == 0, found, -1)
