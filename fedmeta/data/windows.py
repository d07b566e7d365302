"""Texts become windows of characters, each labelled by the character that follows it.

The form in which LEAF (Caldas et al. 2018) has its Shakespeare: an example is what stands before a
character, at most ``data.window`` of it, and to say the next one is a classification. A window
holds codes of characters, as numbers: those of ASCII as they are, any other as 127. Where less
text stands before, it begins with -1. A character that follows fewer than ten windows, or
one in 100,000, is of the class `rare`, since users share one set of classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedmeta.data.raw import DataError
from fedmeta.sections.data import DataConfig

if TYPE_CHECKING:
    import pandas as pd

FEWEST, LAST = 10, 127
RARE = "rare"


def windows(frame: pd.DataFrame, config: DataConfig, name: str) -> pd.DataFrame:
    """A table with one window in each row, in the order of the texts, and its label.

    Raises:
        DataError: no column of texts, or no text of two characters.
    """
    import pandas as pd

    if config.text_column not in frame:
        raise DataError(
            f"{name}: data.window = {config.window} cuts texts, and there is no text column"
            f" {config.text_column!r}; name it with --set data.text-column=COLUMN, or set"
            " data.window=0"
        )
    size, stride = config.window, config.stride or config.window
    rows, codes, labels = [], [], []
    for row, text in enumerate(frame[config.text_column].astype(str)):
        code = np.minimum([ord(letter) for letter in text], LAST)
        # The last window ends before the last character, so that no text is without one.
        for end in range(len(text) - 1, 0, -stride):
            window = np.full(size, -1.0, dtype=np.float32)
            before = code[max(0, end - size) : end]
            window[size - len(before) :] = before
            rows.append(row)
            codes.append(window)
            labels.append(text[end])
    if not rows:
        raise DataError(f"{name}: no text has two characters; set data.window=0")
    label = pd.Series(labels, dtype=object)
    few = label.map(label.value_counts()) < max(FEWEST, len(label) * 1e-5)
    columns = (config.user_column, config.split_column, config.fold_column, config.domain_column)
    kept = frame[[column for column in columns if column in frame]]
    out = kept.iloc[rows].reset_index(drop=True)
    numbers = pd.DataFrame(np.stack(codes), columns=[f"code{at}" for at in range(size)])
    return pd.concat([out, numbers, label.where(~few, RARE).rename(config.label_column)], axis=1)
