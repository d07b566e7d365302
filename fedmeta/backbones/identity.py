"""Numbers as they are."""

import numpy as np
from numpy.typing import NDArray

from fedmeta.backbones.cache import Features


def flatten(items: NDArray[np.float32]) -> Features:
    """Items ``(items, ...)`` as rows ``(items, D)``; a view where that is possible.

    >>> flatten(np.zeros((3, 28, 28), dtype=np.float32)).shape
    (3, 784)
    """
    return np.asarray(items, dtype=np.float32).reshape(len(items), -1)
