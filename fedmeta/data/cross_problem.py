"""Cross-problem tasks: problems of different label spaces in training, a new one in test."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedmeta.data.prepare import prepare, raw_of
from fedmeta.data.raw import DataError, Raw, rows
from fedmeta.data.store import UserStore
from fedmeta.sections.data import DataConfig


def problems_of(config: DataConfig) -> list[str]:
    """The sources of ``data.problems``, the one that is met in test only last.

    Raises:
        DataError: fewer than two, or one of them twice.
    """
    names = [part.strip() for part in config.problems.split(",") if part.strip()]
    places = {Path(name).expanduser().resolve() for name in names}
    if len(names) < 2 or len(places) < len(names):
        raise DataError(
            f"data.problems = {config.problems!r}: data.tasks = 'cross-problem' needs at least two"
            " different sources, comma-separated; the last is met in test only"
        )
    return names


def cross_problem(raws: Sequence[Raw], config: DataConfig) -> UserStore:
    """Users of several problems; those of the last are for test, the others' never.

    A user's labels are class numbers of his own problem, and there are as many outputs as the
    largest problem has classes. Problems are the domains. Of the problems for training, valid
    users stay valid users and all others train. A text of the last problem is left out of the
    others, if it stands there too.

    Raises:
        DataError: problems that one model cannot have in common, or what :func:`prepare` finds
            wrong with one of them.
    """
    if config.unseen_items:
        raise DataError(
            "data.unseen-items = true: with data.tasks = 'cross-problem' every item of the test"
            " problem is unseen; set data.unseen-items=false"
        )
    given, repeated = _without_the_last(raws)
    stores = [prepare(raw, config) for raw in given]
    for store in stores:
        if not store.classes:
            raise DataError(
                f"data.problems: {store.name} is a regression, and problems with different"
                " numbers of classes are mixed; leave it out, or set data.task=classification"
            )
        if kind(store) != kind(stores[0]):
            raise DataError(
                f"data.problems: {stores[0].name} has {kind(stores[0])} and {store.name} has"
                f" {kind(store)}; one model needs the same inputs: all texts, or features of"
                " one width"
            )
    parts = [raw_of(store) for store in stores]
    last = len(parts) - 1
    titles = [f"{number}:{part.name}" for number, part in enumerate(parts, start=1)]
    users = np.cumsum([0, *(len(part.ids) for part in parts)])
    items = np.cumsum([0, *(len(part.items) for part in parts)])
    texts = stores[0].modality == "text"
    joined = Raw(
        name=" + ".join(part.name for part in parts),
        ids=tuple(
            f"{title}/{name}" for title, p in zip(titles, parts, strict=True) for name in p.ids
        ),
        user=np.concatenate([part.user + users[n] for n, part in enumerate(parts)]),
        items=[text for part in parts for text in part.items]
        if texts
        else np.concatenate([np.reshape(part.items, (len(part.items), -1)) for part in parts]),
        item=np.concatenate([part.item + items[n] for n, part in enumerate(parts)]),
        label=np.concatenate([store.label for store in stores]).astype(np.int64),
        split=np.concatenate(
            [
                np.where(s.split == 1, 1, 0) if n < last else np.full(len(s.ids), 2)
                for n, s in enumerate(stores)
            ]
        ).astype(np.int8),
        domain=np.repeat(np.arange(len(parts), dtype=np.int64), [len(p.user) for p in parts]),
        domains=tuple(titles),
    )
    told = config.model_copy(update={"task": "classification"})
    store = prepare(joined, told, known=False)
    dropped: dict[str, int] = {}
    for title, one in zip(titles, stores, strict=True):
        dropped |= {f"{reason} ({title})": count for reason, count in one.dropped.items()}
    dropped |= {
        f"texts of the test problem ({title})": count
        for title, count in zip(titles, repeated, strict=False)
        if count
    }
    renamed = len({one.classes for one in stores}) > 1
    return replace(store, dropped=dropped, renamed=renamed)


def _without_the_last(raws: Sequence[Raw]) -> tuple[list[Raw], list[int]]:
    """The problems, the others without texts of the last, and how many examples each has lost.

    Rows of numbers stay: equal ones may be separate observations.

    Raises:
        DataError: a problem with no other texts.
    """
    *others, last = raws
    if isinstance(last.items, np.ndarray):
        return list(raws), []
    met = {last.items[item] for item in np.unique(last.item).tolist()}
    given, lost = [], []
    for raw in others:
        texts = [] if isinstance(raw.items, np.ndarray) else raw.items
        keep = ~np.isin(raw.item, [n for n, text in enumerate(texts) if text in met])
        if not keep.any():
            raise DataError(
                f"data.problems: all texts of {raw.name} are in {last.name}, the problem that is"
                " to be met in test only; name another for training, or another last"
            )
        given.append(rows(raw, keep))
        lost.append(int((~keep).sum()))
    return [*given, last], lost


def kind(store: UserStore) -> str:
    """What the inputs are, in words."""
    if isinstance(store.items, tuple):
        return "texts"
    return f"{int(np.prod(store.items.shape[1:]))} features"
