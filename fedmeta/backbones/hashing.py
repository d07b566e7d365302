"""Hashed words and word pairs: features of texts that need no download."""

from collections.abc import Callable, Sequence

import numpy as np

from fedmeta.backbones.cache import Features

COLUMNS = 512
BLOCK = 4096
RECIPE: dict[str, str | int] = {
    "backbone": "hashing/1",
    "ngrams": "words, 1 to 2",
    "columns": COLUMNS,
    "norm": "l2",
    "dtype": "float32",
}


def encode(texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Features:
    """Signed counts of hashed words and word pairs, ``(texts, 512)``, each row of length one.

    The row of a text without words is zero.

    >>> encode(["a good idea", "a good idea", "!"]) @ encode(["good idea"]).T > 0
    array([[ True],
           [ True],
           [False]])
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(
        n_features=COLUMNS, ngram_range=(1, 2), norm="l2", dtype=np.float32
    )
    out = np.empty((len(texts), COLUMNS), dtype=np.float32)
    for start in range(0, len(texts), BLOCK):
        stop = min(start + BLOCK, len(texts))
        out[start:stop] = vectorizer.transform(texts[start:stop]).toarray()
        if progress is not None:
            progress(stop, len(texts))
    return out
