"""Encoders side by side: ``minilm+hashing`` has what a text means and the words that it uses."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedmeta.backbones.cache import Features
from fedmeta.backbones.errors import BackboneError

SIGN = "+"


def parts(name: str) -> list[str]:
    """The encoders that a name joins; one, for a folder that has a ``+`` in its name.

    Raises:
        BackboneError: an encoder is missing beside a ``+``, or stands there twice.

    >>> parts("minilm+hashing")
    ['minilm', 'hashing']
    """
    if Path(name).expanduser().is_dir():
        return [name]
    found = [part.strip() for part in name.split(SIGN)]
    if not all(found) or len(set(found)) < len(found):
        raise BackboneError(
            f"backbone.name = {name!r}: expected different encoders joined by '+': write it like "
            "minilm+hashing"
        )
    return found


def join(blocks: Sequence[Features]) -> Features:
    """The features of each encoder side by side, scaled so that lengths of one stay one.

    Each has the same share in inner products, whatever its width: the kernel of the whole is
    the mean of the kernels.

    >>> join([np.ones((1, 1), np.float32), np.ones((1, 1), np.float32)]).round(3)
    array([[0.707, 0.707]], dtype=float32)
    """
    out = np.empty((len(blocks[0]), sum(block.shape[1] for block in blocks)), dtype=np.float32)
    start = 0
    for block in blocks:
        stop = start + block.shape[1]
        np.multiply(block, np.float32(len(blocks) ** -0.5), out=out[:, start:stop])
        start = stop
    return out
