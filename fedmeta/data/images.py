"""Images become rows of pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedmeta.data.raw import DataError

if TYPE_CHECKING:
    import pandas as pd


def flat_images(values: NDArray[Any]) -> NDArray[np.float32]:
    """Images ``(N, ...)`` as float32 rows ``(N, pixels)``.

    Integers of 0 to 255 are taken for bytes and divided by 255, unless they are only 0 and 1;
    other numbers stay as they are.
    """
    flat = values.reshape(len(values), -1)
    as_bytes = flat.dtype.kind in "iu" and flat.size and flat.min() >= 0 and 1 < flat.max() <= 255
    return flat.astype(np.float32) / np.float32(255 if as_bytes else 1)


def stack_images(values: pd.Series[Any], name: str) -> NDArray[np.float32]:
    """A column of nested lists of numbers, all of one shape, as float32 rows ``(N, pixels)``.

    Raises:
        DataError: something else than numbers, or several shapes.
    """
    try:
        return flat_images(np.stack([_dense(value) for value in values]))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name}: column {values.name!r} does not hold images of one shape, as nested lists "
            f"of numbers ({error}); resize them or choose another with --set "
            "data.image-column=COLUMN"
        ) from None


def _dense(value: Any) -> NDArray[Any]:
    # Parquet gives nested lists as object arrays of arrays, which numpy will not join by itself.
    if isinstance(value, np.ndarray) and value.dtype == object:
        return np.stack([_dense(part) for part in value])
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.ndim == 0:
        raise ValueError(f"{value!r:.40} is no list of numbers")
    return array
