"""Scikit-learn's handwritten digits, divided among users who write some digits more often."""

import numpy as np

from fedmeta.data.domains import without_domains
from fedmeta.data.partition import partition
from fedmeta.data.raw import Raw
from fedmeta.sections.data import DataConfig


def digits(config: DataConfig) -> Raw:
    """1,797 images of 8x8 pixels in 0 to 1, of ten classes, partitioned over ``data.users``.

    Raises:
        DataError: more users than the examples suffice for (85 with ``data.support`` 20).
    """
    from sklearn.datasets import load_digits

    images, label = load_digits(return_X_y=True)
    rows = partition(label, config, "digits")
    sizes = [len(part) for part in rows]
    taken = np.concatenate(rows)
    raw = Raw(
        name="digits",
        ids=tuple(f"u{user:05d}" for user in range(len(rows))),
        user=np.repeat(np.arange(len(rows), dtype=np.int64), sizes),
        items=(images[taken] / 16).astype(np.float32),
        item=np.arange(len(taken), dtype=np.int64),
        label=label[taken],
    )
    if config.domain_column:
        raise without_domains(raw, config.domain_column, ())
    return raw
