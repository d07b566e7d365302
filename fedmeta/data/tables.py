"""Tables (a pandas frame with one example per row) become raw columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedmeta.data.domains import numbered
from fedmeta.data.images import stack_images
from fedmeta.data.partition import partition
from fedmeta.data.raw import DataError, Raw, missing_column
from fedmeta.data.splits import named
from fedmeta.sections.data import DataConfig

if TYPE_CHECKING:
    import pandas as pd


def from_frame(frame: pd.DataFrame, config: DataConfig, name: str) -> Raw:
    """Raw columns of a frame, one example per row, by the ``*_column`` names of the config.

    Inputs are ``feature_columns`` where they are named, else the text column, else the image
    column, else all numeric columns that are nothing else. Equal texts become one item. The
    columns of the split and of the item fold are optional unless their name was changed; there
    is a column of domains only where it is named.

    Raises:
        DataError: no rows, a missing column, a missing user id or text, an unusable feature,
            split or fold.
    """
    import pandas as pd

    if not len(frame):
        raise DataError(f"{name}: the table has no rows; at least three users are needed")
    frame = _with_users(frame, config, name)
    user = _column(frame, config.user_column, "user", "user-column", name)
    label = _column(frame, config.label_column, "label", "label-column", name)
    _present(user, "user id", name)
    code, ids = pd.factorize(user.astype(str))
    code = code.astype(np.int64)
    items, item, columns = _inputs(frame, config, name)
    split = _optional(frame, config.split_column, "split", "split-column", name)
    fold = _optional(frame, config.fold_column, "fold", "fold-column", name)
    group = _optional(frame, config.class_split_column, "class_split", "class-split-column", name)
    home = _optional(frame, config.domain_column, "domain", "domain-column", name)
    domain, domains = (
        (None, ())
        if home is None
        else numbered(home.to_numpy(dtype=object), config.domain_column, name)
    )
    names = tuple(str(value) for value in ids)
    return Raw(
        name=name,
        ids=names,
        user=code,
        items=items,
        item=item,
        label=_labels(label),
        split=None
        if split is None
        else named(split.to_numpy(dtype=object), code, names, config.split_column, name),
        fold=None if fold is None else _folds(fold, name),
        domain=domain,
        domains=domains,
        class_split=None if group is None else group.to_numpy(dtype=object),
        columns=columns,
    )


def inputs_of(
    frame: pd.DataFrame, config: DataConfig, name: str
) -> list[str] | NDArray[np.float32]:
    """The inputs in a frame, of texts each one once, whatever else is in it.

    Raises:
        DataError: no inputs, a missing text, features that are not finite numbers.
    """
    items, _, _ = _inputs(frame, config, name)
    if isinstance(items, np.ndarray) and not np.isfinite(items).all():
        raise DataError(f"{name}: features must be finite float32 numbers; fill or remove the rows")
    return items


def divided(frame: pd.DataFrame, config: DataConfig, name: str) -> pd.DataFrame:
    """The rows divided among ``data.users`` made users, by their labels.

    Raises:
        DataError: no labels, or too few examples for so many users.
    """
    label = _column(frame, config.label_column, "label", "label-column", name)
    rows = partition(label.to_numpy(), config, name)
    users = np.repeat([f"u{user:05d}" for user in range(len(rows))], [len(r) for r in rows])
    frame = frame.iloc[np.concatenate(rows)].reset_index(drop=True)
    # A split by examples says nothing about made users.
    frame = frame.drop(columns=[config.split_column], errors="ignore")
    return frame.assign(**{config.user_column: users})


def _with_users(frame: pd.DataFrame, config: DataConfig, name: str) -> pd.DataFrame:
    """The frame with users where the tasks can do without those of the data."""
    if config.tasks == "episodic":
        frame = frame.drop(columns=[config.split_column], errors="ignore")
        return frame.assign(**{config.user_column: "all"})
    if config.tasks == "cross-problem" and config.user_column not in frame:
        return divided(frame, config, name)
    return frame


def _inputs(
    frame: pd.DataFrame, config: DataConfig, name: str
) -> tuple[list[str] | NDArray[np.float32], NDArray[np.int64], tuple[str, ...]]:
    import pandas as pd

    each = np.arange(len(frame), dtype=np.int64)
    columns = _named_features(frame, config, name)
    if columns is None and config.text_column in frame:
        text = frame[config.text_column]
        _present(text, "text", name)
        item, items = pd.factorize(text.astype(str))
        return [str(value) for value in items], item.astype(np.int64), ()
    if columns is None and config.image_column in frame:
        return stack_images(frame[config.image_column], name), each, ()
    if columns is None:
        roles = {
            config.user_column,
            config.label_column,
            config.split_column,
            config.fold_column,
            config.domain_column,
            config.class_split_column,
        }
        numeric = frame.select_dtypes(include=["number", "bool"]).columns
        columns = [str(column) for column in numeric if column not in roles]
    if not columns:
        raise DataError(
            f"{name}: no inputs: there is no text column {config.text_column!r}, no image column "
            f"{config.image_column!r} and no numeric feature column; columns found: "
            f"{', '.join(map(str, frame.columns))}; name them with --set data.text-column=COLUMN "
            "or --set data.feature-columns=A,B"
        )
    with np.errstate(over="ignore"):  # too large for float32: reported by prepare, as infinite
        features = frame[columns].to_numpy(dtype=np.float64, na_value=np.nan).astype(np.float32)
    return features, each, tuple(columns)


def _named_features(frame: pd.DataFrame, config: DataConfig, name: str) -> list[str] | None:
    from pandas.api.types import is_numeric_dtype

    if config.feature_columns == "auto":
        return None
    columns = [part.strip() for part in config.feature_columns.split(",") if part.strip()]
    for column in columns:
        if not is_numeric_dtype(_column(frame, column, "feature", "feature-columns", name).dtype):
            raise DataError(
                f"{name}: feature column {column!r} is not numeric (its first value is "
                f"{frame[column].iloc[0]!r}); features must be numbers: correct the values or "
                "choose other columns with --set data.feature-columns=A,B"
            )
    return columns


def _column(frame: pd.DataFrame, wanted: str, what: str, key: str, name: str) -> pd.Series[Any]:
    if wanted not in frame:
        raise missing_column(name, what, wanted, key, map(str, frame.columns))
    return frame[wanted]


def _optional(
    frame: pd.DataFrame, wanted: str, what: str, key: str, name: str
) -> pd.Series[Any] | None:
    default = DataConfig.model_fields[f"{what}_column"].default
    if not wanted or (wanted == default and wanted not in frame):
        return None
    return _column(frame, wanted, what, key, name)


def _present(values: pd.Series[Any], what: str, name: str) -> None:
    gone = values.isna().to_numpy()
    if gone.any():
        raise DataError(
            f"{name}: row {int(np.argmax(gone)) + 1} has no {what} (column {values.name!r}); "
            "every example needs one: fill or remove these rows"
        )


def _labels(label: pd.Series[Any]) -> NDArray[Any]:
    if label.dtype.kind in "biuf" and not label.isna().any():
        return label.to_numpy()
    return label.astype(object).where(label.notna(), None).to_numpy(dtype=object)


def _folds(fold: pd.Series[Any], name: str) -> NDArray[np.int64]:
    import pandas as pd

    numbers = pd.to_numeric(fold, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~(numbers == np.floor(numbers))  # NaN is unequal to itself
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{name}: row {row + 1} has the item fold {fold.iloc[row]} (column {fold.name!r}); "
            "folds are whole numbers from 0 to 4: correct it, or ignore the column with "
            "--set data.fold-column=''"
        )
    return numbers.astype(np.int64)
