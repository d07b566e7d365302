"""Programs of Flower's that start in a moment, since a process has loaded them before.

In a :func:`starter`'s block Flower's commands are found first as scripts that ask
:mod:`experiments.deploy.forker`; so are those that they start themselves, by their bare names.
Where it cannot be done (another system than Linux, a folder without programs) all is started as
ever.
"""

import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from experiments.deploy import flower, standin

VARIABLE = flower.WARM
MODULES = ("flwr.supernode.cli", "flwr.supercore.cli", "clients.app", "pandas")
"""What every node needs."""
SERVER = ("flwr.superlink.cli", "flwr.cli.app", "experiments.deploy.server_app")
"""What a server needs besides."""
ENCODER = (
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert_fast",
    "transformers.models.auto.modeling_auto",
)
"""What nodes need whose users' texts a transformer encodes."""
PROGRAMS = (
    "flower-superlink", "flower-supernode", "flower-superexec", "flwr-clientapp", "flwr-serverapp",
)  # fmt: skip
PATIENCE = 10.0
"""Seconds in which the process that forks has to end."""


@contextmanager
def starter(mark: str, modules: Sequence[str] = MODULES) -> Iterator[None]:
    """Start programs by forking as long as the block lasts; nothing where that is done already.

    Args:
        mark: of the process that forks.
        modules: what it loads.
    """
    if sys.platform != "linux" or os.environ.get(VARIABLE):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="fedmeta-") as name:
        folder = Path(name)
        listening = _prepared(folder)
        command = [sys.executable, "-P", "-m", "experiments.deploy.forker"]
        process = subprocess.Popen(
            [*command, str(listening.fileno()), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[listening.fileno()],
            env=flower.environment(Path(os.environ.get("FLWR_HOME", name)), mark),
            start_new_session=True,
        )
        listening.close()  # theirs alone: who asks is told at once where they are gone
        os.environ[VARIABLE] = name
        try:
            yield
        finally:
            del os.environ[VARIABLE]
            _end(process)


def _prepared(folder: Path) -> socket.socket:
    """The socket at which forks are asked for, and the scripts that ask."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "socket"))
    listening.listen(64)
    for name in PROGRAMS:
        _script(folder / name, [flower.program(name)])
    _script(folder / "several", ["-m", "experiments.deploy.several"])
    return listening


def _script(path: Path, program: Sequence[str]) -> None:
    standing = [sys.executable, "-I", "-S", str(standin.__file__), str(path.parent / "socket")]
    path.write_text(f'#!/bin/sh\nexec {shlex.join([*standing, *program])} "$@"\n')
    path.chmod(0o700)


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
