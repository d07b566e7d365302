"""Images of training classes, turned by a quarter, a half and three quarters, as further classes.

The usual augmentation of Omniglot (Santoro et al. 2016; Vinyals et al. 2016): a turned character is
another character. Classes of validation and test stay as they are.
"""

import math

import numpy as np
from numpy.typing import NDArray

from fedmeta.data.raw import DataError, Raw

Indices = NDArray[np.int64]


def turned(
    raw: Raw, label: Indices, group: NDArray[np.int8]
) -> tuple[Raw, Indices, NDArray[np.int8]]:
    """The columns, labels and splits of classes with the turned images behind them.

    Args:
        raw: items are square images of one channel, a row each.
        label: class of each example.
        group: split of each class, 0 for training.

    Raises:
        DataError: the items are no such images.
    """
    items = raw.items
    side = math.isqrt(items.shape[1]) if isinstance(items, np.ndarray) else 0
    if not isinstance(items, np.ndarray) or side * side != items.shape[1]:
        raise DataError(
            f"{raw.name}: data.rotations = true turns square images, and the items are none; set"
            " data.rotations=false"
        )
    mine = np.flatnonzero(group[label] == 0)
    classes = np.flatnonzero(group == 0)
    rank = np.full(len(group), -1, dtype=np.int64)
    rank[classes] = np.arange(len(classes))
    images = items[raw.item[mine]].reshape(-1, side, side)
    found = [np.rot90(images, turn, axes=(1, 2)).reshape(len(mine), -1) for turn in (1, 2, 3)]
    new_label = [label, *(len(group) + t * len(classes) + rank[label[mine]] for t in range(3))]
    number = np.arange(3 * len(mine), dtype=np.int64)
    three = np.concatenate([mine] * 3)
    raw = raw._replace(
        user=np.concatenate([raw.user, raw.user[three]]),
        items=np.concatenate([items, *found]),
        item=np.concatenate([raw.item, len(items) + number]),
        label=np.concatenate([raw.label, raw.label[three]]),
        fold=None,
        domain=None if raw.domain is None else np.concatenate([raw.domain, raw.domain[three]]),
        class_split=None,
    )
    return (
        raw,
        np.concatenate(new_label),
        np.concatenate([group, np.zeros(3 * len(classes), np.int8)]),
    )
