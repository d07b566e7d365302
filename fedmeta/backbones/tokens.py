"""The vectors of all tokens, on disk: some fifty times what one vector of a text takes.

They are kept in half precision and memory-mapped, written row by row as they are computed, so that
they never are in memory as a whole. How much it will be is said before anything is computed, and
what would not fit on the disk is refused.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from fedmeta.backbones.cache import mapped, seal, unwritable
from fedmeta.backbones.errors import BackboneError

Tokens = NDArray[np.float16]
Batches = Iterator[tuple[list[int], Tokens]]

KEPT_FREE = 1 << 30
"""Bytes that are left free on a disk: a full one stops everything else on the machine."""

log = logging.getLogger(__name__)


def cached(
    where: Path, key: str, shape: tuple[int, int, int], compute: Callable[[], Batches]
) -> Tokens:
    """The token vectors ``(texts, tokens, D)`` of a key, memory-mapped; computed if not there.

    Args:
        where: the folder; made if missing.
        key: SHA-256 of everything that they depend on.
        shape: texts, most tokens, and the width of a vector.
        compute: gives rows, and their vectors, of which positions may be missing at the end.

    Raises:
        BackboneError: they would not fit on the disk, or the folder cannot be written to.
    """
    path = where / f"tokens-{key[:16]}.npy"
    found = mapped(path, key)
    if found is not None and found.dtype == np.float16 and found.shape == shape:
        return found
    try:
        where.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(where).free
    except OSError as error:
        raise unwritable(where, error) from error
    texts, tokens, width = shape
    size = 2 * texts * tokens * width
    what = (
        f"the tokens of {texts:,} texts, up to {tokens} of {width} numbers each in half precision,"
        f" take {_gigabytes(size)} in {str(where)!r}, where {_gigabytes(free)} are free"
    )
    if size + KEPT_FREE > free:
        raise BackboneError(
            f"{what}, of which {_gigabytes(KEPT_FREE)} stay so: use a smaller backbone.max-length,"
            " another disk with --set backbone.cache=DIR, or one vector for each text with"
            " backbone.output = mean"
        )
    log.warning(what)
    temporary = where / f".{path.name}.{uuid4().hex}"
    try:
        _write(temporary, shape, compute())
        seal(temporary, key)
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(where, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    written = mapped(path, key)
    if written is None:
        raise BackboneError(f"{str(path)!r} is gone as soon as it was written: leave the cache be")
    return written


def _write(path: Path, shape: tuple[int, int, int], batches: Batches) -> None:
    """The array of a shape, zero where no row has something; raises where the disk is full."""
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    each = 2 * shape[1] * shape[2]
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        start = stream.tell()
        for rows, vectors in batches:
            if not np.isfinite(vectors).all():
                raise BackboneError(
                    "the encoder gave vectors that are not finite: its weights are damaged, choose"
                    " another backbone"
                )
            for row, vector in zip(rows, vectors, strict=True):
                stream.seek(start + row * each)
                stream.write(np.ascontiguousarray(vector, dtype="<f2").tobytes())
        stream.truncate(start + shape[0] * each)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"
