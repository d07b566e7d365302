"""A process of its own that is gone between two calls of what it does."""

import os
import sys
from collections.abc import Callable
from types import FrameType

GONE = 9
"""Exit code of a process that was killed."""


def killed_at(most: int, act: Callable[[], object]) -> int:
    """Do something in a forked process that is gone at its ``most``-th call or return.

    Returns:
        How many it came to; ``most`` where it did not come to its end.
    """
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, GONE), "it raised"
        with os.fdopen(read) as answer:
            return int(answer.read() or most)
    made = 0

    def count(frame: FrameType | None, event: str, arg: object) -> None:
        nonlocal made
        made += 1
        if made > most:
            os._exit(GONE)

    sys.setprofile(count)
    try:
        act()
        sys.setprofile(None)
        os.write(write, str(made).encode())
        os._exit(0)
    finally:
        os._exit(1)  # what is raised must not come back as a second test run
