"""Hashed words and word pairs: features of texts that need no download."""

from collections.abc import Callable, Sequence

import numpy as np

from fedmeta.backbones.cache import Features

BLOCK = 4096


def recipe(columns: int) -> dict[str, str | int]:
    """Everything that the features depend on beside the texts."""
    return {
        "backbone": "hashing/1",
        "ngrams": "words, 1 to 2",
        "columns": columns,
        "norm": "l2",
        "dtype": "float32",
    }


def encode(
    texts: Sequence[str], columns: int, progress: Callable[[int, int], None] | None = None
) -> Features:
    """Signed counts of hashed words and word pairs, ``(texts, columns)``, rows of length one.

    The row of a text without words is zero.

    >>> encode(["a good idea", "a good idea", "!"], 512) @ encode(["good idea"], 512).T > 0
    array([[ True],
           [ True],
           [False]])
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(
        n_features=columns, ngram_range=(1, 2), norm="l2", dtype=np.float32
    )
    out = np.empty((len(texts), columns), dtype=np.float32)
    for start in range(0, len(texts), BLOCK):
        stop = min(start + BLOCK, len(texts))
        out[start:stop] = vectorizer.transform(texts[start:stop]).toarray()
        if progress is not None:
            progress(stop, len(texts))
    return out
