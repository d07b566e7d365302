"""Features on disk: one file per key, checked before use, replaced as a whole.

A file is an ordinary ``.npy`` followed by a trailer of 128 characters: its key, and the
SHA-256 of all that precedes. One file (and no sidecar) means that array and checksum can
never come from two different writers; readers of ``.npy`` ignore what follows the array.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from fedmeta.backbones.errors import BackboneError

Features = NDArray[np.float32]
HEX = 64  # characters of a SHA-256
BLOCK = 1 << 20


def folder(configured: str) -> Path:
    """The cache folder: the configured one, else $FEDMETA_CACHE, else ``~/.cache/fedmeta``."""
    chosen = configured or os.environ.get("FEDMETA_CACHE") or "~/.cache/fedmeta"
    return Path(chosen).expanduser() / "features"


def cached(
    where: Path, name: str, key: str, rows: int, compute: Callable[[], Features]
) -> Features:
    """The features of a key, memory-mapped; computed only if no valid file is there.

    The map is copy-on-write: torch takes no read-only memory, and the file stays as it is.

    A file that is damaged, cut short, of another key or of another shape is computed anew
    and replaced. Writers may race: each replaces the whole file, so that one of them wins.

    Args:
        where: the folder; made if missing.
        name: beginning of the file's name, for people who look into the folder.
        key: SHA-256 of everything that the features depend on.
        rows: number of rows that the features must have.
        compute: gives float32 ``(rows, D)``.

    Raises:
        BackboneError: the folder cannot be written to. Found out before anything is computed.
    """
    path = where / f"{name}-{key[:16]}.npy"
    found = load(path, key, rows)
    if found is not None:
        return found
    temporary = where / f".{path.name}.{uuid4().hex}"
    try:
        where.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise unwritable(where, error) from error
    try:
        features = compute()
        if features.shape[0] != rows or not np.isfinite(features).all():
            raise BackboneError(
                f"backbone {name!r} gave features of shape {features.shape}, expected finite "
                f"numbers in {rows} rows: its weights are damaged, choose another backbone"
            )
        try:
            _write(temporary, key, features)
            os.replace(temporary, path)
        except OSError as error:
            raise unwritable(where, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    written = load(path, key, rows)
    if written is None:  # someone cleared the folder meanwhile; what was computed is still good
        return features
    return written


def load(path: Path, key: str, rows: int) -> Features | None:
    """The features in a file, or None if the file is not exactly what was written for the key."""
    features = mapped(path, key)
    if features is None or features.dtype != np.float32:
        return None
    return None if features.ndim != 2 or features.shape[0] != rows else features


def mapped(path: Path, key: str) -> NDArray[Any] | None:
    """The array in a file, whatever it is, or None if the file is not what the key stands for."""
    try:
        found: NDArray[Any] | None = (
            np.load(path, mmap_mode="c", allow_pickle=False) if _intact(path, key) else None
        )
    except (OSError, ValueError, EOFError):
        return None
    return found


def _intact(path: Path, key: str) -> bool:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        left = os.fstat(stream.fileno()).st_size - 2 * HEX
        while left > 0 and (block := stream.read(min(BLOCK, left))):
            digest.update(block)
            left -= len(block)
        written = stream.read(HEX)
        digest.update(written)
        return written == key.encode() and stream.read() == digest.hexdigest().encode()


def _write(path: Path, key: str, features: Features) -> None:
    # Ordinary writes rather than a map: on a full disk these raise, a map kills the process.
    with path.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(features, dtype=np.float32))
    seal(path, key)


def seal(path: Path, key: str) -> None:
    """Put the trailer behind the array in a file."""
    with path.open("ab") as stream:
        stream.write(key.encode())
    digest = hashlib.sha256()
    with path.open("r+b") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
        stream.write(digest.hexdigest().encode())


def unwritable(where: Path, error: OSError) -> BackboneError:
    """The error for a folder that takes no features."""
    return BackboneError(
        f"cannot write features to {str(where)!r} ({error.strerror or error}): choose a folder "
        "with room that can be written to, with `--set backbone.cache=DIR` or $FEDMETA_CACHE"
    )
