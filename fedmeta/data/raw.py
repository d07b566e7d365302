"""What a source delivers, before users are filtered and split: raw columns and their error."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class DataError(ValueError):
    """Data that cannot be used; the message names the thing, its value, the rule, the remedy."""


class Raw(NamedTuple):
    """Examples in the order of the source, ``E`` of them, of ``U`` users.

    Attributes:
        name: where the data come from.
        ids: distinct user ids, ``U``, in any order.
        user: index into ``ids`` of each example, int64 ``(E,)``.
        items: distinct texts, or features ``(items, F)``.
        item: index into ``items`` of each example, int64 ``(E,)``.
        label: labels as they were found, ``(E,)`` of any dtype; None, NaN and "" are missing.
        split: 0 train, 1 valid, 2 test of each user, int8 ``(U,)``; None: not given.
        fold: item fold of each example, int64 ``(E,)``; None: not given.
        domain: index into ``domains`` of each example, int64 ``(E,)``; None: not given.
        domains: names of the domains.
        bayes: best possible accuracy of each user, float64 ``(U,)``; None: not known.
        class_split: which of train, valid and test the example's class is for, in words, ``(E,)``.
        columns: names of the features, for messages; may be empty.
    """

    name: str
    ids: tuple[str, ...]
    user: NDArray[np.int64]
    items: Sequence[str] | NDArray[np.float32]
    item: NDArray[np.int64]
    label: NDArray[Any]
    split: NDArray[np.int8] | None = None
    fold: NDArray[np.int64] | None = None
    domain: NDArray[np.int64] | None = None
    domains: tuple[str, ...] = ()
    bayes: NDArray[np.float64] | None = None
    class_split: NDArray[Any] | None = None
    columns: tuple[str, ...] = ()


def rows(raw: Raw, keep: NDArray[Any]) -> Raw:
    """The columns with some of the examples only: where ``keep`` is true, or at its indices."""
    return raw._replace(
        user=raw.user[keep],
        item=raw.item[keep],
        label=raw.label[keep],
        fold=None if raw.fold is None else raw.fold[keep],
        domain=None if raw.domain is None else raw.domain[keep],
        class_split=None if raw.class_split is None else raw.class_split[keep],
    )


def nearest(wanted: str, known: Iterable[str]) -> str:
    """A hint at the known name that is most like the wanted one, or "".

    >>> nearest("usr", ["user", "text"])
    "; did you mean 'user'?"
    """
    near = difflib.get_close_matches(wanted, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def missing_column(name: str, what: str, wanted: str, key: str, found: Iterable[str]) -> DataError:
    """The error for a column that is not there: what was found, and the key that names another."""
    found = list(found)
    return DataError(
        f"{name}: no {what} column {wanted!r}; columns found: {', '.join(found)}"
        f"{nearest(wanted, found)}; name another with --set data.{key}=COLUMN"
    )
