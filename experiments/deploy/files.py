"""Small files that must be whole, and private where they are secrets."""

import os
from pathlib import Path

from experiments.deploy.errors import DeployError


def write_private(path: Path, content: bytes) -> None:
    """A file that only its owner can read, at any moment of its life."""
    _write(path, content, 0o600)


def write_public(path: Path, content: bytes) -> None:
    """A file that everybody may read."""
    _write(path, content, 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise DeployError(f"{str(path)!r} cannot be written: {error.strerror}") from None
