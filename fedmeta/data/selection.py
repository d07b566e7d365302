"""Which examples are used: enough of them per user, and unseen items kept unseen."""

import numpy as np
from numpy.typing import NDArray

from fedmeta.data.raw import DataError, Raw
from fedmeta.data.store import SPLITS
from fedmeta.sections.data import DataConfig

UNSEEN_FOLD = 4


def select(
    raw: Raw, split: NDArray[np.int8], config: DataConfig
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """The examples to keep, bool ``(E,)``, and what was dropped and why.

    Raises:
        DataError: a split without users; unseen items asked for without a column of folds.
    """
    keep, able, dropped = enough(raw, split, config)
    _populated(raw.name, split, able, dropped, config)
    return keep & able[raw.user], dropped


def enough(
    raw: Raw, split: NDArray[np.int8], config: DataConfig
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], dict[str, int]]:
    """Examples that may be used ``(E,)``, users who have enough ``(U,)``, what was dropped.

    A user needs ``support + 1`` examples, or ``min_examples`` if that is more. With
    ``unseen_items`` train users give up item fold 4, and the others need ``support`` examples
    outside it and one inside it. An item that stands in fold 4 and in another fold too (the
    same text twice in the corpus) is not unseen: its examples in fold 4 are dropped.

    Raises:
        DataError: unseen items asked for without a column of folds.
    """
    keep = np.ones(len(raw.user), dtype=bool)
    dropped: dict[str, int] = {}
    users = len(raw.ids)
    least = max(config.support + 1, config.min_examples)
    if config.unseen_items:
        fold = _fold(raw, config)
        unseen = fold == UNSEEN_FOLD
        seen_item = np.zeros(len(raw.items), dtype=bool)
        seen_item[raw.item[~unseen]] = True
        training = split[raw.user] == 0
        twice = unseen & seen_item[raw.item] & ~training
        keep = ~(twice | (unseen & training))
        dropped[f"examples of item fold {UNSEEN_FOLD} of train users"] = int(
            (unseen & training).sum()
        )
        dropped[f"examples of item fold {UNSEEN_FOLD} that stand in another fold too"] = int(
            twice.sum()
        )
        outside = np.bincount(raw.user[keep & ~unseen], minlength=users)
        inside = np.bincount(raw.user[keep & unseen], minlength=users)
        able = (outside + inside >= least) & (
            (split == 0) | ((outside >= config.support) & (inside >= 1))
        )
        why = f"users with fewer than {least} examples, or too few in or outside item fold 4"
    else:
        able = np.bincount(raw.user, minlength=users) >= least
        why = f"users with fewer than {least} examples"
    dropped[why] = int((~able).sum())
    return keep, able, {reason: count for reason, count in dropped.items() if count}


def _fold(raw: Raw, config: DataConfig) -> NDArray[np.int64]:
    if raw.fold is None:
        raise DataError(
            f"{raw.name}: data.unseen-items = true needs item folds, but there is no column "
            f"{config.fold_column!r}; name it with --set data.fold-column=COLUMN, or set "
            "data.unseen-items=false"
        )
    return raw.fold


def _populated(
    name: str,
    split: NDArray[np.int8],
    enough: NDArray[np.bool_],
    dropped: dict[str, int],
    config: DataConfig,
) -> None:
    empty = [label for code, label in enumerate(SPLITS) if not (enough & (split == code)).any()]
    if not empty:
        return
    reasons = "; ".join(f"dropped {count} {reason}" for reason, count in dropped.items())
    remedy = (
        f"lower data.support (now {config.support}) or data.min-examples "
        f"(now {config.min_examples})"
        if (~enough).any()
        else f"every split needs users: correct the column {config.split_column!r}"
    )
    raise DataError(
        f"{name}: no {' and no '.join(empty)} user among {len(split)} users"
        f"{f' ({reasons})' if reasons else ''}; {remedy}"
    )
