"""Domain generalization: a training user's support and query come from different domains.

Which domains are which side's is drawn anew in each round, where tasks are made
(:mod:`fedmeta.across`); here users without a second domain are left out of training. Users who
are judged adapt and are scored on their own mixture, as ever.
"""

from dataclasses import replace

import numpy as np

from fedmeta.data.cross_domain import domains_of
from fedmeta.data.prepare import prepare, raw_of
from fedmeta.data.raw import DataError, Raw, rows
from fedmeta.data.store import UserStore
from fedmeta.sections.data import DataConfig


def generalization(raw: Raw, config: DataConfig) -> UserStore:
    """Users of whom those for training have examples of at least two domains.

    Raises:
        DataError: fewer than two domains, no training user with two, or what :func:`prepare`
            finds wrong.
    """
    domains_of(raw, config, 2)
    store = prepare(raw, config)
    again = raw_of(store)
    first = np.full(len(store.ids), len(store.domains))
    last = np.full(len(store.ids), -1)
    np.minimum.at(first, again.user, domains_of(again, config, 2))
    np.maximum.at(last, again.user, domains_of(again, config, 2))
    alone = (first == last) & (store.split == 0)
    if not alone.any():
        return store
    if alone.sum() == (store.split == 0).sum():
        raise DataError(
            f"{raw.name}: data.tasks = 'domain-generalization' needs training users with examples"
            f" of two domains, and each of the {int(alone.sum())} here has one only; use"
            " data.tasks = 'cross-domain', or another data.domain-column"
        )
    told = config.model_copy(update={"task": store.task})
    kept = prepare(rows(again, ~alone[again.user]), told)
    return replace(
        kept, dropped=store.dropped | {"train users with examples of one domain": int(alone.sum())}
    )
