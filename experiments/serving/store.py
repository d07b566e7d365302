"""Heads of many users: read when they are asked for, kept as long as there is room."""

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from experiments.serving import heads
from experiments.serving.heads import Head, HeadError
from experiments.serving.opened import Opened
from fedmeta.config import ConfigError

SUFFIX = ".safetensors"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,127}")
"""Users' names: no separator of folders can be in them, nor a dot at the start."""

FRESH = 1.0
"""Seconds for which a file that was looked at is not looked at again."""

Signature = tuple[int, int, int]


class Kept(NamedTuple):
    """A head in memory, the file that it came from as it was, and when that was looked at."""

    head: Head
    signature: Signature
    seen: float


class HeadStore:
    """The heads in a folder, ``NAME.safetensors`` each.

    A file that was replaced is read again when its user asks next, :data:`FRESH` seconds later at
    most; one that is gone is forgotten. To be used by one thread.
    """

    def __init__(
        self, opened: Opened, folder: Path, room: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        """``room``: bytes that heads may take, the one in use aside; ``now``: the clock.

        Raises:
            ConfigError: no such folder.
        """
        if not folder.is_dir():
            raise ConfigError(
                f"--heads {str(folder)!r} is no folder; make heads in one with `fedmeta"
                f" personalize RUN --data FILE --out {folder}/NAME{SUFFIX}`"
            )
        self.opened, self.folder, self.room, self.now = opened, folder, room, now
        self.bytes = self.loads = self.evictions = 0
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, user: str) -> Head:
        """The head of a user.

        Raises:
            HeadError: ``bad_name`` or ``unknown_user``, or what is wrong with his file.
        """
        if NAME.fullmatch(user) is None:
            raise HeadError(
                "bad_name",
                "user: expected 1 to 128 letters, digits or ._@+-, and no dot or sign at the start",
            )
        kept, now = self._kept.get(user), self.now()
        if kept is not None and now - kept.seen < FRESH:
            self._kept.move_to_end(user)
            return kept.head
        path = self.folder / f"{user}{SUFFIX}"
        try:
            stat = path.stat()
        except FileNotFoundError:
            self._forget(user)
            raise HeadError("unknown_user", f"user {user!r} has no head here") from None
        except OSError as error:
            raise HeadError(
                "unreadable", f"{path.name} cannot be read ({error.strerror})"
            ) from None
        signature = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if kept is None or kept.signature != signature:
            self._forget(user)
            kept = Kept(heads.read(path, self.opened), signature, now)
            self.bytes += kept.head.bytes
            self.loads += 1
        self._kept[user] = kept._replace(seen=now)
        self._kept.move_to_end(user)
        self._make_room()
        return kept.head

    def _make_room(self) -> None:
        while self.bytes > self.room and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= oldest.head.bytes
            self.evictions += 1

    def _forget(self, user: str) -> None:
        kept = self._kept.pop(user, None)
        if kept is not None:
            self.bytes -= kept.head.bytes
