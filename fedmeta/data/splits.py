"""Which users are for training, validation and test."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmeta.data.raw import DataError
from fedmeta.data.store import SPLITS
from fedmeta.seeding import keys


def hashed(ids: tuple[str, ...], seed: int, name: str) -> NDArray[np.int8]:
    """A split for each id, int8 ``(users,)``: 60 / 15 / 25 %, at least one user in each.

    Users are ranked by a seeded hash of their id and the ranking is cut, so the split depends
    on the set of ids only, not on their order or examples; the rank of a user may cross a cut
    when users are added.

    Raises:
        DataError: fewer than three users.
    """
    return cut(keys(ids, seed, "user-split"), ids, name)


def cut(rank: NDArray[np.uint64], ids: tuple[str, ...], name: str) -> NDArray[np.int8]:
    """The same from the users' ranks; of equal ones by id.

    Raises:
        DataError: fewer than three users.
    """
    users = len(ids)
    if users < len(SPLITS):
        raise DataError(
            f"{name}: {users} user(s), but train, valid and test need at least one each; "
            "is --set data.user-column=COLUMN the column of the user id?"
        )
    train = min(max(round(0.6 * users), 1), users - 2)
    valid = min(max(round(0.75 * users), train + 1), users - 1)
    split = np.empty(users, dtype=np.int8)
    ranking = np.lexsort((np.array(ids), rank))
    split[ranking[:train]] = 0
    split[ranking[train:valid]] = 1
    split[ranking[valid:]] = 2
    return split


def named(
    values: NDArray[Any], user: NDArray[np.int64], ids: tuple[str, ...], column: str, name: str
) -> NDArray[np.int8]:
    """The split of each user, int8 ``(users,)``, from a column ``train`` / ``valid`` / ``test``.

    Args:
        values: one name per example, ``(examples,)``.
        user: index into ``ids`` of each example.
        ids: user ids.
        column: name of the column, for messages.
        name: name of the data, for messages.

    Raises:
        DataError: another value, or a user with several splits.
    """
    ignore = "or ignore the column and split users by a hash with --set data.split-column=''"
    found = [str(value) for value in values.tolist()]
    unknown = sorted(set(found).difference(SPLITS))
    if unknown:
        raise DataError(
            f"{name}: column {column!r} contains {', '.join(map(repr, unknown[:5]))}; it must be "
            f"{' / '.join(SPLITS)}: rename the values, {ignore}"
        )
    code = np.array([SPLITS.index(value) for value in found], dtype=np.int8)
    split = np.zeros(len(ids), dtype=np.int8)
    split[user] = code
    mixed = split[user] != code
    if mixed.any():
        someone = ids[int(user[np.argmax(mixed)])]
        raise DataError(
            f"{name}: user {someone!r} has examples in several splits (column {column!r}); "
            f"users are divided as a whole: correct the column, {ignore}"
        )
    return split
