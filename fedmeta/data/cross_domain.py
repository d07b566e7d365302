"""Cross-domain tasks: train, valid and test users come from disjoint domains of one problem."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedmeta.data.prepare import prepare
from fedmeta.data.raw import DataError, Raw, rows
from fedmeta.data.splits import hashed
from fedmeta.data.store import SPLITS, UserStore
from fedmeta.sections.data import DataConfig


def cross_domain(raw: Raw, config: DataConfig) -> UserStore:
    """Users of whom no domain is in two splits.

    The domains are divided 60 / 15 / 25 % by a seeded hash of their names, at least one for each
    split; a split of the users is not looked at. A user belongs to the split of whose
    domains he has most in comparison with the mean user, and his examples of the others' domains
    are left out: users of one domain keep all, and users of all domains are divided among splits.

    Raises:
        DataError: fewer than three domains, or what :func:`prepare` finds wrong.
    """
    domain = domains_of(raw, config, len(SPLITS))
    present = np.unique(domain)
    side = np.full(len(raw.domains), -1, dtype=np.int8)
    side[present] = hashed(tuple(raw.domains[d] for d in present), config.seed, raw.name)
    counts = np.zeros((len(raw.ids), len(SPLITS)), dtype=np.int64)
    np.add.at(counts, (raw.user, side[domain]), 1)
    share = counts / counts.sum(axis=1, keepdims=True)
    split = (share / share.mean(axis=0)).argmax(axis=1).astype(np.int8)
    keep = side[domain] == split[raw.user]
    store = prepare(rows(raw, keep)._replace(split=split), config)
    left = int((~keep).sum())
    why = {"examples of domains of another split than their user's": left} if left else {}
    return replace(store, dropped=store.dropped | why)


def domains_of(raw: Raw, config: DataConfig, least: int) -> NDArray[np.int64]:
    """The domain of each example, where there are enough of them.

    Raises:
        DataError: no domains, or fewer than ``least``.
    """
    found = 0 if raw.domain is None else len(np.unique(raw.domain))
    if raw.domain is None or found < least:
        raise DataError(
            f"{raw.name}: data.tasks = {config.tasks!r} needs at least {least} domains and there"
            f" are {found}: name their column with --set data.domain-column=COLUMN (preferences:"
            " data.domains=N, or a column out of topic, tone, urgency, sender)"
        )
    return raw.domain
