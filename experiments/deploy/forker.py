"""Starts programs by forking: ``python -m experiments.deploy.forker SOCKET MODULE...``.

Flower starts a process for every message, and a process that imports Flower and PyTorch needs
seconds of a processor. This one has imported them once. A program that is asked for
(:mod:`experiments.deploy.standin`) is run in a fork of it: a process of its own as before, that
shares nothing with others but what nobody writes to. It ends when its standard input does, and
then all that it has started is ended too.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

_LIBRARY = ctypes.CDLL(None)
_DIES_WITH_PARENT, _NAME = 1, 15
"""`PR_SET_PDEATHSIG` and `PR_SET_NAME` of Linux."""
_BLOCKED = (signal.SIGTERM, signal.SIGINT)
"""Blocked here and not ignored, so that none is lost that a fork is sent as it begins."""
PATIENCE = 10.0
"""Seconds in which a request must have come whole."""


class Asked(NamedTuple):
    """A program that is asked for: its command line, environment, folder, and standard files."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    files: list[int]


class Started(NamedTuple):
    """A fork, and the connection to who asked for it."""

    pid: int
    handle: int
    connection: socket.socket


def serve(listening: socket.socket, modules: Sequence[str]) -> Asked | None:
    """Fork for all who ask.

    Args:
        listening: where they ask.
        modules: to be imported meanwhile.

    Returns:
        In a fork what it is to run; in this process None, when it has nothing more to do.
    """
    pending, started = list(modules), dict[int, Started]()
    with selectors.DefaultSelector() as selector, listening:
        selector.register(listening, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(0 if pending else None):
                if key.fd == 0:
                    return None  # who started us has gone
                if key.fileobj is not listening:
                    _heard(selector, started, key.data, key.fd)
                    continue
                asked, connection = _accept(listening)
                if asked is None:
                    connection.close()
                    continue
                if not (pid := os.fork()):
                    _leave(selector, listening, connection, started)
                    return asked
                _note(selector, started, pid, asked, connection)
            if pending:
                with contextlib.suppress(ImportError):
                    importlib.import_module(pending.pop(0))
                gc.collect()
                gc.freeze()  # so that no fork copies pages to count what is in them


def run(asked: Asked, parent: int) -> None:
    """Become the program; ends as it does."""
    _LIBRARY.prctl(_DIES_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    _LIBRARY.prctl(_NAME, Path(asked.argv[asked.argv[0] == "-m"]).name.encode()[:15], 0, 0, 0)
    os.setpgid(0, 0)
    for number, file in enumerate(asked.files):
        os.dup2(file, number)
        os.close(file)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)  # one that came before this has waited
    os.chdir(asked.cwd)
    os.environ.clear()
    os.environ.update(asked.env)
    if asked.argv[0] == "-m":
        sys.argv = asked.argv[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = asked.argv
        runpy.run_path(sys.argv[0], run_name="__main__")


def _accept(listening: socket.socket) -> tuple[Asked | None, socket.socket]:
    connection, _ = listening.accept()
    connection.settimeout(PATIENCE)
    try:
        head, files, _, _ = socket.recv_fds(connection, 4, 3)
        left, parts = int.from_bytes(head, "big"), list[bytes]()
        while left and (part := connection.recv(min(left, 1 << 16))):
            parts.append(part)
            left -= len(part)
        fields: dict[str, Any] = json.loads(b"".join(parts))
        connection.settimeout(None)
        return Asked(**fields, files=files), connection
    except (OSError, ValueError, TypeError):
        return None, connection  # it starts the program itself


def _note(
    selector: selectors.BaseSelector,
    started: dict[int, Started],
    pid: int,
    asked: Asked,
    connection: socket.socket,
) -> None:
    for file in asked.files:
        os.close(file)
    one = Started(pid, os.pidfd_open(pid), connection)
    started[pid] = one
    selector.register(one.handle, selectors.EVENT_READ, one)
    selector.register(connection, selectors.EVENT_READ, one)
    with contextlib.suppress(OSError):
        connection.sendall(b"+")


def _heard(
    selector: selectors.BaseSelector, started: dict[int, Started], one: Started, source: int
) -> None:
    """A fork has ended, or who asked for it hands on a signal or is gone."""
    if one.pid not in started:
        return
    if source == one.handle:
        _, status = os.waitpid(one.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(OSError):
            one.connection.sendall(bytes([code if code >= 0 else 128 - code]))
        del started[one.pid]
        for file in (one.handle, one.connection):
            with contextlib.suppress(KeyError):
                selector.unregister(file)
        one.connection.close()
        os.close(one.handle)
        return
    try:
        signals = one.connection.recv(64)
    except OSError:
        signals = b""
    for number in signals or (signal.SIGKILL,):
        os.kill(one.pid, number)
    if not signals:  # its end is heard by its handle
        selector.unregister(one.connection)


def _leave(
    selector: selectors.BaseSelector,
    listening: socket.socket,
    connection: socket.socket,
    started: dict[int, Started],
) -> None:
    """In a fork: let go of what is the parent's, so that others' ends are seen."""
    selector.close()
    listening.close()
    connection.close()
    for one in started.values():
        one.connection.close()
        os.close(one.handle)


def main(arguments: Sequence[str]) -> None:
    """Serve at the socket with the number of the first argument, with the modules of the others."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)  # its standard input says when to end
    parent = os.getpid()
    listening = socket.socket(fileno=int(arguments[0]))
    if (asked := serve(listening, arguments[1:])) is not None:
        run(asked, parent)


if __name__ == "__main__":
    main(sys.argv[1:])
