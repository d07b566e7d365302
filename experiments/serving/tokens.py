"""Who may ask for whom: a file of tokens, one in a line with the name of its user.

::

    # TOKEN USER: `openssl rand -hex 32` makes a good token; * may ask for everybody
    3f0c...91 ann
    77ab...02 *
"""

import hashlib
import logging
import stat
import time
from collections.abc import Callable
from pathlib import Path

from experiments.serving.limits import Refusal
from fedmeta.config import ConfigError

log = logging.getLogger("fedmeta.serve")

SHORTEST = 16
"""Letters of a token: fewer can be guessed."""
FRESH = 1.0
"""Seconds for which the file is not looked at again."""
EVERYBODY = "*"


def read(path: Path) -> dict[bytes, set[str]]:
    """The names that each token stands for, by the token's digest.

    Raises:
        ConfigError: no such file, one that others can read, or a line that is none.
    """
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--tokens {str(path)!r} cannot be read: {error}") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(
            f"--tokens {str(path)!r} can be read by others (mode {stat.S_IMODE(mode):o}): it holds"
            f" secrets; `chmod 600 {path}`"
        )
    found: dict[bytes, set[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or len(words[0]) < SHORTEST:
            raise ConfigError(
                f"--tokens {str(path)!r}, line {number}: expected a token of {SHORTEST} letters at"
                " least, a space, and the name of its user (* for all)"
            )
        found.setdefault(_digest(words[0]), set()).add(words[1])
    if not found:
        raise ConfigError(f"--tokens {str(path)!r} has no token: nobody could ask")
    return found


class Tokens:
    """The tokens of a file, which is read again when it has changed."""

    def __init__(self, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        """``now`` is the clock.

        Raises:
            ConfigError: as :func:`read`.
        """
        self._path, self._now = path, now
        self._seen, self._signature = now(), self._signed()
        self._known = read(path)

    def check(self, given: str | None, user: str) -> None:
        """Refuse who may not ask for a user, whether or not there is one of that name.

        Args:
            given: the header `Authorization`.
            user: for whom is asked.

        Raises:
            Refusal: 401, no token or none that is known; 403, it is somebody else's.
        """
        self._look()
        kind, _, token = (given or "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise Refusal(401, "no_token", "give a token: `Authorization: Bearer TOKEN`")
        names = self._known.get(_digest(token.strip()))
        if names is None:
            raise Refusal(401, "bad_token", "the token is not known")
        if user not in names and EVERYBODY not in names:
            raise Refusal(403, "other_user", "the token is that of another user")

    def _look(self) -> None:
        if self._now() - self._seen < FRESH:
            return
        self._seen, signature = self._now(), self._signed()
        if signature == self._signature:
            return
        try:
            self._known, self._signature = read(self._path), signature
        except ConfigError as error:
            log.error("tokens stay as they were: %s", error)

    def _signed(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_mtime_ns, found.st_size, found.st_ino)


def _digest(token: str) -> bytes:
    # Looked up by its digest, a token cannot be guessed letter by letter from the time it takes.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
