"""Where a node's user lives: his name, his data and his folder, and the log that nobody else sees.

Flower hands over what the owner has said with ``--node-config``. It stays on the node.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from flwr.app import Context

from clients.refused import RefusedError

LOG = "node.log"
LARGEST_LOG = 2**20
"""Bytes after which a log is put aside; the one before it is forgotten."""


class Home(NamedTuple):
    """A user and his places.

    Attributes:
        name: of the user.
        data: his file, or the folder of it.
        folder: of the node.
    """

    name: str
    data: Path
    folder: Path


def is_deployed(context: Context) -> bool:
    """Whether this is the node of one user, and not one that plays many."""
    return bool(context.node_config.get("data"))


def home_of(context: Context) -> Home:
    """The user of a node.

    Raises:
        RefusedError: a key of the node's config is missing.
    """
    given = {key: context.node_config.get(key) for key in Home._fields}
    if missing := [key for key, value in given.items() if not isinstance(value, str) or not value]:
        raise RefusedError(
            "node", f"--node-config lacks {', '.join(missing)}; a node needs name, data and folder"
        )
    texts = {key: str(value) for key, value in given.items()}
    data, folder = (Path(texts[key]).expanduser() for key in ("data", "folder"))
    return Home(texts["name"], data, folder)


def run_folder(home: Home, run: str) -> Path:
    """The folder of what a run leaves with the user. A hash: the server names its runs."""
    return home.folder / "runs" / hashlib.sha256(run.encode()).hexdigest()[:32]


def note(home: Home | None, text: str) -> None:
    """Write to the node's log; a disk that is full does not make it worse."""
    if home is None:
        return
    with suppress(OSError):
        home.folder.mkdir(parents=True, exist_ok=True)
        path = home.folder / LOG
        if path.exists() and path.stat().st_size > LARGEST_LOG:
            path.replace(path.with_suffix(".log.1"))
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S")
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "a", encoding="utf-8") as file:
            file.write(f"{stamp} {text.rstrip()}\n")


@contextmanager
def alone(home: Home) -> Iterator[None]:
    """One message at a time: two processes of one user wait for each other.

    Raises:
        RefusedError: the folder cannot be written.
    """
    try:
        home.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (home.folder / ".lock").open("w")
    except OSError as error:
        raise RefusedError("disk", f"{home.folder}: {error}") from None
    with file:
        with suppress(ImportError):  # Windows has none; Flower's nodes take one message at a time
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
