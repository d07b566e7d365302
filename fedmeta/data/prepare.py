"""The one gate that every source passes: raw columns in, checked users out."""

from dataclasses import replace

import numpy as np

from fedmeta.data.domains import used as used_domains
from fedmeta.data.labels import encode
from fedmeta.data.raw import DataError, Raw, rows
from fedmeta.data.selection import select
from fedmeta.data.splits import hashed
from fedmeta.data.store import SPLITS, UserStore
from fedmeta.sections.data import DataConfig


def prepare(raw: Raw, config: DataConfig, known: bool = True) -> UserStore:
    """Users sorted by id, each with its examples in the order of the source.

    Users without a given split are divided by a hash of their ids before any is dropped, so
    another ``support`` never moves a user to another split.

    Args:
        raw: what the source delivers.
        config: how it is used.
        known: refuse classes that no train user has.

    Raises:
        DataError: no examples, unusable features or labels, an empty split, a class that no
            train user has, a single class.
    """
    if not len(raw.user):
        raise DataError(f"{raw.name}: no examples; at least three users with examples are needed")
    finite(raw)
    raw, repeated = once(raw)
    label, classes = encode(raw.label, config.task, raw.name)
    split = raw.split if raw.split is not None else hashed(raw.ids, config.seed, raw.name)
    keep, dropped = select(raw, split, config)

    alive = np.bincount(raw.user[keep], minlength=len(raw.ids)) > 0
    order = np.array(sorted(np.flatnonzero(alive).tolist(), key=lambda u: raw.ids[u]))
    rank = np.full(len(raw.ids), -1)
    rank[order] = np.arange(len(order))
    at = np.flatnonzero(keep)
    at = at[np.argsort(rank[raw.user[at]], kind="stable")]
    user, item, label = rank[raw.user[at]], raw.item[at], label[at]

    items = raw.items if isinstance(raw.items, np.ndarray) else tuple(raw.items)
    if not keep.all():  # items that only dropped examples referred to need no encoding
        used = np.zeros(len(items), dtype=bool)
        used[item] = True
        item = (np.cumsum(used) - 1)[item]
        items = (
            items[used]
            if isinstance(items, np.ndarray)
            else tuple(text for text, keep_it in zip(items, used, strict=True) if keep_it)
        )
    domain, domains = used_domains(None if raw.domain is None else raw.domain[at], raw.domains)
    store = UserStore(
        name=raw.name,
        items=items,
        item=item,
        label=label,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(user))]).astype(np.int64),
        ids=tuple(raw.ids[u] for u in order),
        split=split[order],
        classes=classes,
        fold=None if raw.fold is None else raw.fold[at],
        domain=domain,
        domains=domains,
        bayes=None if raw.bayes is None else raw.bayes[order],
        dropped=dropped | ({"repeated examples of a user": repeated} if repeated else {}),
    )
    return _with_train_classes(store) if classes and known else store


def raw_of(store: UserStore) -> Raw:
    """The columns of a store once more, for another way to make tasks of its users."""
    names = np.array(store.classes, dtype=object)
    return Raw(
        name=store.name,
        ids=store.ids,
        user=np.repeat(np.arange(len(store.ids), dtype=np.int64), store.sizes()),
        items=store.items,
        item=store.item,
        label=names[store.label.astype(np.int64)] if store.classes else store.label,
        split=store.split,
        fold=store.fold,
        domain=store.domain,
        domains=store.domains,
        bayes=store.bayes,
    )


def once(raw: Raw) -> tuple[Raw, int]:
    """The columns with each item of a user once, his first, and how many rows were repetitions.

    An item that a user has twice could be in his support and in his query. Rows of numbers are
    items of their own: equal ones may be separate observations.
    """
    _, first = np.unique(np.stack([raw.user, raw.item]), axis=1, return_index=True)
    if len(first) == len(raw.user):
        return raw, 0
    return rows(raw, np.sort(first)), len(raw.user) - len(first)


def finite(raw: Raw) -> None:
    """Refuse features that are not numbers.

    Raises:
        DataError: the first of them.
    """
    if not isinstance(raw.items, np.ndarray):
        return
    bad = ~np.isfinite(raw.items)
    if bad.any():
        item, column = (int(i) for i in np.argwhere(bad)[0])
        row = int(np.flatnonzero(raw.item == item)[0]) + 1
        title = repr(raw.columns[column]) if raw.columns else column
        raise DataError(
            f"{raw.name}: row {row}, feature {title} is {raw.items[item, column]}; features must "
            "be finite float32 numbers: fill or remove these rows, or choose the columns with "
            "--set data.feature-columns=A,B"
        )


def _with_train_classes(store: UserStore) -> UserStore:
    """The store with the classes that remain, every one of them known to train users."""
    code = np.repeat(store.split, store.sizes())
    known = np.bincount(store.label[code == 0].astype(np.int64), minlength=len(store.classes)) > 0
    for index, name in enumerate(SPLITS):
        present = np.unique(store.label[code == index]).astype(np.int64)
        new = present[~known[present]].tolist()
        if new:
            names = ", ".join(store.classes[label] for label in new[:8])
            more = f" and {len(new) - 8} more" if len(new) > 8 else ""
            raise DataError(
                f"{store.name}: labels in {name} never seen in train: {names}{more}; users share "
                "one set of classes: divide the users otherwise (data.split-column, data.seed), "
                "remove these labels, or set data.task=regression if they are numbers to predict"
            )
    if known.sum() < 2:
        raise DataError(
            f"{store.name}: one class only ({store.classes[int(np.argmax(known))]}); "
            "classification needs two: is data.label-column right?"
        )
    position = np.cumsum(known) - 1
    classes = tuple(name for name, used in zip(store.classes, known, strict=True) if used)
    return replace(store, label=position[store.label], classes=classes)
