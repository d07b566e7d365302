"""Has a program started by :mod:`experiments.deploy.forker`, and stands for it until it ends.

``python -I -S standin.py SOCKET PROGRAM ARGUMENT...``, with PROGRAM a script of Python or ``-m``.
It hands on signals and ends as the program does; who ends it for good ends the program. Where
nobody forks it becomes the program itself. It imports what is there in a moment, and no more.
"""

import json
import os
import signal
import socket
import sys

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def main(path: str, argv: "list[str]") -> int:
    """The exit code of the program; that of the shell, where a signal ended it."""
    # A signal that comes before it can be handed on waits until then.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    connection = _asked(path, argv)
    if connection is None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        cold = [sys.executable, *argv] if argv[0] == "-m" else argv
        os.execv(cold[0], cold)
    told = set()

    def hand_on(number: int, frame: object) -> None:
        if number not in told:  # a second one would cut short what the first has begun
            told.add(number)
            connection.send(bytes([number]))

    for number in SIGNALS:
        signal.signal(number, hand_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        code = connection.recv(1)
    except OSError:
        code = b""
    return code[0] if code else 1


def _asked(path: str, argv: "list[str]") -> "socket.socket | None":
    """The connection to who has started the program; None: nobody has."""
    content = json.dumps({"argv": argv, "env": dict(os.environ), "cwd": os.getcwd()}).encode()
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
        socket.send_fds(connection, [len(content).to_bytes(4, "big")], [0, 1, 2])
        connection.sendall(content)
        return connection if connection.recv(1) else None
    except OSError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
