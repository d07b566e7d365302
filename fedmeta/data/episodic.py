"""Episodic tasks: few-shot episodes of labelled data without users; each episode is a "user".

An episode has N classes, in an order of its own that numbers them, ``data.support`` support
examples (K of each class) and up to ``data.query`` others to score. The classes of train, valid
and test episodes are disjoint. With ``data.variable`` the number of classes, the size of the
support set and its shares differ, as in Meta-Dataset (Triantafillou et al. 2020, section 3.2).
"""

import numpy as np
from numpy.typing import NDArray

from fedmeta.data.domains import used
from fedmeta.data.labels import encode
from fedmeta.data.prepare import finite
from fedmeta.data.raw import DataError, Raw, rows
from fedmeta.data.rotations import turned
from fedmeta.data.splits import hashed
from fedmeta.data.store import SPLITS, UserStore
from fedmeta.sections.data import DataConfig
from fedmeta.seeding import generator

Indices = NDArray[np.int64]


def episodic(raw: Raw, config: DataConfig) -> UserStore:
    """``data.users`` episodes; an item is one example, whatever users gave it to.

    An episode depends on the seed, its number and the data alone. Its support set comes first,
    one example of each class after the other.

    Raises:
        DataError: a support set that the classes cannot share evenly, too few classes for an
            episode, classes of two splits, targets instead of classes.
    """
    _possible(raw, config)
    finite(raw)
    _, first = np.unique(raw.item, return_index=True)
    repeated = len(raw.item) - len(first)
    raw = rows(raw, np.sort(first))
    label, classes = encode(raw.label, config.task, raw.name)
    if not classes:
        raise DataError(
            f"{raw.name}: data.tasks = 'episodic' needs classes, and the labels are numbers to"
            " predict; set data.task=classification if they are classes"
        )
    group, left = _groups(raw, label.astype(np.int64), classes, config)
    if config.rotations:
        raw, label, group = turned(raw, label.astype(np.int64), group)
    shots = 1 if config.variable else config.support // config.way
    order = np.argsort(label, kind="stable")
    of_class = np.split(order, np.cumsum(np.bincount(label.astype(np.int64)))[:-1])
    enough = np.array([len(examples) > shots for examples in of_class])
    ids = tuple(f"e{number:06d}" for number in range(config.users))
    split = hashed(ids, config.seed, "episodes")
    pools = [np.flatnonzero((group == code) & enough) for code in range(len(SPLITS))]
    for name, members in zip(SPLITS, pools, strict=True):
        if len(members) < config.way:
            raise DataError(
                f"{raw.name}: {len(members)} {name} classes with more than {shots} examples, and"
                f" data.way = {config.way} are needed; lower data.way or data.support"
            )
    drawn = [_episode(name, pools[s], of_class, config) for name, s in zip(ids, split, strict=True)]
    at = np.concatenate([one[0] for one in drawn])
    domain, domains = used(None if raw.domain is None else raw.domain[at], raw.domains)
    dropped = {
        "repeated items": repeated,
        "examples of classes for no split": left,
        f"classes with at most {shots} examples": int((~enough).sum()),
    }
    return UserStore(
        name=raw.name,
        items=raw.items if isinstance(raw.items, np.ndarray) else tuple(raw.items),
        item=raw.item[at],
        label=np.concatenate([one[1] for one in drawn]),
        offsets=np.cumsum([0, *(len(one[0]) for one in drawn)]).astype(np.int64),
        ids=ids,
        split=split,
        classes=tuple(str(number + 1) for number in range(config.way)),
        domain=domain,
        domains=domains,
        query=np.concatenate([one[2] for one in drawn]),
        renamed=True,
        dropped={why: count for why, count in dropped.items() if count},
    )


def _episode(
    name: str, pool: Indices, of_class: list[Indices], config: DataConfig
) -> tuple[Indices, Indices, NDArray[np.bool_]]:
    """Examples of an episode, their labels, and which are its query."""
    rng = generator(config.seed, "episode", name)
    way = int(rng.integers(2, config.way + 1)) if config.variable else config.way
    members = rng.choice(pool, size=way, replace=False)
    sizes = np.array([len(of_class[c]) for c in members])
    shots = np.full(way, config.support // config.way)
    if config.variable:
        extra = int(rng.integers(0, config.support - way + 1))
        share = rng.uniform(np.log(0.5), np.log(2.0), size=way)
        share = np.exp(share) / np.exp(share).sum()
        shots = np.minimum(1 + np.floor(share * extra).astype(np.int64), sizes - 1)
    asked = int(min(max(config.query // config.way, 1), (sizes - shots).min()))
    taken = [
        rng.choice(of_class[c], size=k + asked, replace=False)
        for c, k in zip(members, shots, strict=True)
    ]
    label = np.repeat(np.arange(way, dtype=np.int64), shots + asked)
    turn = np.concatenate([np.arange(k + asked) for k in shots])
    query = turn >= np.repeat(shots, shots + asked)
    order = np.lexsort((label, turn, query))
    return np.concatenate(taken)[order], label[order], query[order]


def _possible(raw: Raw, config: DataConfig) -> None:
    if config.unseen_items:
        raise DataError(
            f"{raw.name}: data.unseen-items = true: the items of an episode's query are never in"
            " its support, and its classes never in training; set data.unseen-items=false"
        )
    least = config.support // config.way * config.way
    if config.support < config.way or (least != config.support and not config.variable):
        near = " or ".join(str(n) for n in (least, least + config.way) if n)
        raise DataError(
            f"data.support = {config.support}: the {config.way} classes of an episode (data.way)"
            f" share it evenly; expected a multiple, such as {near}, or data.variable=true with"
            " at least one each"
        )


def _groups(
    raw: Raw, label: Indices, classes: tuple[str, ...], config: DataConfig
) -> tuple[NDArray[np.int8], int]:
    """The split of each class (-1: none), and how many examples are of classes without one.

    True and False stand for test and train. Where no class is for validation, the classes that a
    hash takes of those for training are.
    """
    if raw.class_split is None:
        return hashed(classes, config.seed, raw.name), 0
    given = [str(value) for value in raw.class_split.tolist()]
    words = [{"True": "test", "False": "train"}.get(word, word) for word in given]
    code = np.array([SPLITS.index(w) if w in SPLITS else -1 for w in words], dtype=np.int8)
    group = np.full(len(classes), -1, dtype=np.int8)
    group[label] = code
    mixed = group[label] != code
    if mixed.any():
        raise DataError(
            f"{raw.name}: class {classes[label[np.argmax(mixed)]]!r} is in several splits (column"
            f" {config.class_split_column!r}); correct it, or divide classes by a hash with"
            " --set data.class-split-column=''"
        )
    if not (group == 1).any():
        apart = hashed(classes, config.seed, raw.name) == 1
        group[apart & (group == 0)] = 1
    return group, int((code < 0).sum())
