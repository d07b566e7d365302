"""One user's own data, as his device reads them: the rules of the file sources, for him alone.

In a simulation classes are numbered, users divided and small ones dropped by what all users have.
A device has one user, and takes the numbers from the facts of the run.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmeta.data.files import TABLES, read_frame
from fedmeta.data.labels import encode
from fedmeta.data.prepare import finite, once
from fedmeta.data.raw import DataError, Raw, rows
from fedmeta.data.selection import enough
from fedmeta.data.sources import FILES
from fedmeta.data.store import SPLITS, UserStore
from fedmeta.data.tables import from_frame
from fedmeta.facts import Facts
from fedmeta.sections.data import DataConfig


def find(path: Path) -> Path:
    """The file of data at a path: itself, or the only one in a folder.

    Raises:
        DataError: no such file, or several in the folder.
    """
    if path.is_file():
        return path
    there = sorted(path.iterdir()) if path.is_dir() else []
    found = [one for one in there if one.is_file() and one.name.lower().endswith(tuple(FILES))]
    if len(found) != 1:
        what = f"{len(found)} files" if path.is_dir() else "no file or folder"
        raise DataError(
            f"{path}: {what}; expected a file that ends in {', '.join(FILES)}, or a folder with"
            " exactly one"
        )
    return found[0]


def read(path: Path, name: str, config: DataConfig) -> Raw:
    """The raw columns of one user. Without a column of users all rows are his.

    Raises:
        DataError: what cannot be read, or has no rows of his.
    """
    path = find(path)
    if path.name.lower().removesuffix(".gz").endswith(tuple(TABLES)):
        frame = read_frame(path, config)
        if config.user_column in frame:
            frame = frame[frame[config.user_column].astype(str) == name].reset_index(drop=True)
            if not len(frame):
                raise DataError(
                    f"{path}: column {config.user_column!r} names no row of the user {name!r};"
                    " correct the node's name, or remove the column from a file that is all his"
                )
        return from_frame(frame.assign(**{config.user_column: name}), config, path.name)
    ending = next(one for one in FILES if path.name.lower().endswith(one))
    raw = FILES[ending](path, config)
    if name not in raw.ids:
        raise DataError(f"{path}: no examples of the user {name!r}; correct the node's name")
    code = raw.ids.index(name)
    mine = rows(raw, raw.user == code)
    return mine._replace(
        ids=(name,),
        user=np.zeros(len(mine.user), dtype=np.int64),
        split=None if raw.split is None else raw.split[code : code + 1],
    )


def own(raw: Raw, config: DataConfig, facts: Facts, split: int) -> UserStore | None:
    """The store of one user; None where he has too few examples to take part.

    Args:
        raw: his columns.
        config: how they are used.
        facts: of the run.
        split: 0 train, 1 valid, 2 test.

    Raises:
        DataError: unusable features, labels or domains, or ones that the facts do not name.
    """
    if config.tasks != "user":
        raise DataError(
            f"data.tasks = {config.tasks!r}: a device has the tasks of its one user, 'user'"
        )
    finite(raw)
    raw, repeated = once(raw)
    label = _labels(raw, facts)
    domain = _numbers(raw, facts)
    his = np.array([split], dtype=np.int8)
    keep, able, _ = enough(raw, his, config)
    if not able.all():
        return None
    items, item = raw.items, raw.item[keep]
    used = np.unique(item)
    items = items[used] if isinstance(items, np.ndarray) else tuple(items[i] for i in used)
    return UserStore(
        name=raw.name,
        items=items,
        item=np.searchsorted(used, item),
        label=label[keep],
        offsets=np.array([0, len(item)], dtype=np.int64),
        ids=raw.ids,
        split=his,
        classes=facts.classes,
        fold=None if raw.fold is None else raw.fold[keep],
        domain=None if domain is None else domain[keep],
        domains=facts.domains if domain is not None else (),
        dropped={"repeated examples of a user": repeated} if repeated else {},
    )


def split_of(raw: Raw) -> str:
    """The split that the data name; empty where they do not."""
    return "" if raw.split is None else SPLITS[int(raw.split[0])]


def _labels(raw: Raw, facts: Facts) -> NDArray[np.int64] | NDArray[np.float64]:
    if facts.task == "regression":
        # A single user may well have the same target throughout.
        wide = np.append(raw.label.astype(object), [0.0, 1.0])
        found, _ = encode(wide, "regression", raw.name)
        return found[:-2]
    code, names = encode(raw.label, "classification", raw.name)
    if strange := [name for name in names if name not in facts.classes]:
        raise DataError(
            f"{raw.name}: the label {strange[0]!r:.60} is none of the {len(facts.classes)} classes"
            f" of the run ({', '.join(facts.classes)[:200]}); correct it or remove its rows"
        )
    return np.array([facts.classes.index(name) for name in names], dtype=np.int64)[code]


def _numbers(raw: Raw, facts: Facts) -> NDArray[np.int64] | None:
    if raw.domain is None or not facts.domains:
        return None
    if strange := [name for name in raw.domains if name not in facts.domains]:
        raise DataError(
            f"{raw.name}: the domain {strange[0]!r:.60} is none of the run's"
            f" ({', '.join(facts.domains)[:200]})"
        )
    places = np.array([facts.domains.index(name) for name in raw.domains], dtype=np.int64)
    return np.asarray(places[raw.domain])
