"""Users and their examples, as flat arrays: the form in which every source delivers them."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class UserStore:
    """Users, their labelled examples, and the items that the examples refer to.

    Several examples may refer to one item (an annotated text), so that a backbone encodes
    each item once. The examples of a user stand together: rows ``offsets[u]:offsets[u + 1]``.

    Attributes:
        name: where the data come from, for messages and artefacts.
        items: distinct texts, or an array ``(items, ...)`` of features or images.
        item: item of each example, int64 ``(examples,)``.
        label: class index (int64) or target (float64) of each example, ``(examples,)``.
        offsets: first example of each user, int64 ``(users + 1,)``.
        ids: stable user ids, sorted.
        split: 0 train, 1 valid, 2 test, int8 ``(users,)``.
        classes: names of the classes; empty for regression.
        fold: item fold of each example, int64 ``(examples,)``, or None.
        domain: domain of each example (a language, a community, a problem), int64
            ``(examples,)``, or None.
        domains: names of the domains; empty where there are none.
        query: which examples are never learned from but scored, and which of training users are
            their query, bool ``(examples,)``; None: support and query are drawn.
        renamed: whether a class number means another thing from user to user.
        bayes: Bayes-optimal accuracy of each user where it is known, float64 ``(users,)``.
        dropped: what was left out and why, for the report.
    """

    name: str
    items: tuple[str, ...] | NDArray[np.float32]
    item: NDArray[np.int64]
    label: NDArray[np.int64] | NDArray[np.float64]
    offsets: NDArray[np.int64]
    ids: tuple[str, ...]
    split: NDArray[np.int8]
    classes: tuple[str, ...]
    fold: NDArray[np.int64] | None = None
    domain: NDArray[np.int64] | None = None
    domains: tuple[str, ...] = ()
    query: NDArray[np.bool_] | None = None
    renamed: bool = False
    bayes: NDArray[np.float64] | None = None
    dropped: dict[str, int] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """A digest of users, items, labels and splits, hexadecimal."""
        found = hashlib.sha256("\0".join(self.ids).encode())
        if isinstance(self.items, tuple):
            found.update("\0".join(self.items).encode())
        else:
            found.update(np.ascontiguousarray(self.items).tobytes())
        for part in (self.item, self.label, self.offsets, self.split):
            found.update(np.ascontiguousarray(part).tobytes())
        return found.hexdigest()

    @property
    def task(self) -> Literal["classification", "regression"]:
        """What is predicted."""
        return "classification" if self.classes else "regression"

    @property
    def modality(self) -> Literal["text", "features"]:
        """Whether items are texts, which need an encoder, or numbers."""
        return "text" if isinstance(self.items, tuple) else "features"

    def users(self, split: str) -> NDArray[np.int64]:
        """Indices of the users of a split, in the order of their ids."""
        return np.flatnonzero(self.split == SPLITS.index(split))

    def sizes(self) -> NDArray[np.int64]:
        """Number of examples of each user."""
        return np.diff(self.offsets)
