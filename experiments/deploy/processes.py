"""Processes of a deployment: started apart, known by their start time, ended with all they began.

Flower's SuperLink and SuperNode start processes of their own, some of them in sessions of their
own. All of them carry the mark of the deployment in their environment, by which they are found.
Where the system has no ``/proc``, the process groups are all that is known.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.deploy.errors import DeployError, ProcessError
from experiments.deploy.files import write_public
from experiments.deploy.flower import MARK, environment, quick

GRACE = 10.0
"""Seconds between asking a process to end and ending it."""
PROC = Path("/proc")
_OURS: list["subprocess.Popen[bytes]"] = []
"""Children of this process, which it has to take leave of."""


class Started(NamedTuple):
    """A process that was started.

    Attributes:
        part: `superlink`, or `node-NAME`.
        pid: of the first process, which leads its group.
        born: its start time as the system counts it, since numbers are used again.
        mark: what it and all it started have in their environment.
        log: the file of its output.
        command: how it was started.
    """

    part: str
    pid: int
    born: str
    mark: str
    log: str
    command: tuple[str, ...]


def start(
    folder: Path, part: str, command: Sequence[str], home: Path, log: Path, **more: str
) -> Started:
    """Start a command in the background, in a group of its own, with a log.

    Args:
        folder: of the deployment.
        part: its name there.
        command: the program and its arguments.
        home: Flower's folder.
        log: to which output is added.
        more: of the environment.

    Raises:
        DeployError: it runs already, or its log cannot be written.
    """
    if (there := find(folder, part)) is not None:
        raise DeployError(
            f"{part} runs already as process {there.pid}; stop it first with"
            f" `fedmeta deploy stop {folder}`"
        )
    mark = f"{folder}:{part}"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("ab")
    except OSError as error:
        raise DeployError(f"{str(log)!r} cannot be written: {error.strerror}") from None
    with output:
        process = subprocess.Popen(
            quick(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(home, mark, more),
            start_new_session=True,
        )
    _OURS.append(process)
    started = Started(part, process.pid, _born(process.pid), mark, str(log), tuple(command))
    note(folder, started)
    return started


def note(folder: Path, started: Started) -> None:
    """Write down what was started, for `status` and `stop`."""
    content = json.dumps(started._asdict(), indent=1).encode()
    write_public(folder / "run" / f"{started.part}.json", content + b"\n")


def find(folder: Path, part: str) -> Started | None:
    """A process of the deployment, if it is alive."""
    path = folder / "run" / f"{part}.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        found = Started(**fields | {"command": tuple(fields["command"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if alive(found) else None


def every(folder: Path) -> list[Started]:
    """All processes of the deployment that are alive, nodes before the server."""
    names = sorted(path.stem for path in (folder / "run").glob("*.json"))
    found = [find(folder, name) for name in names]
    return sorted((one for one in found if one), key=lambda one: one.part == "superlink")


def alive(started: Started) -> bool:
    """Whether it is this process that has the number, and it has not ended."""
    for process in _OURS:
        process.poll()  # of a child of ours that ended, a zombie is left else
    return _born(started.pid) == started.born != ""


def stop(folder: Path, started: Sequence[Started], grace: float = GRACE) -> None:
    """End processes and all that they started, gently first; return when none is left.

    Raises:
        ProcessError: some of them could not be ended.
    """
    for how in (signal.SIGTERM, signal.SIGKILL):
        left = members(started)
        # The first of each first: it ends its own; what it leaves gets the signal after.
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        deadline = time.monotonic() + grace
        while members(started) and time.monotonic() < deadline:
            time.sleep(0.1)
        if not members(started):
            break
    if left := members(started):
        raise ProcessError(f"processes {', '.join(map(str, left))} could not be ended")
    ended = {one.pid for one in started}
    for process in _OURS:
        if process.pid in ended:
            process.wait(timeout=grace)
    for one in started:
        (folder / "run" / f"{one.part}.json").unlink(missing_ok=True)


def stop_all(folder: Path, started: Sequence[Started], grace: float = GRACE) -> None:
    """End processes, nodes first: they take leave of the SuperLink as long as it is there."""
    first = [one for one in started if one.part != "superlink"]
    for some in (first, [one for one in started if one not in first]):
        stop(folder, some, grace)


def members(started: Sequence[Started]) -> list[int]:
    """Processes of these that are there: they themselves, and what has their mark."""
    marks = {f"{MARK}={one.mark}".encode() for one in started}
    found = [one.pid for one in started if alive(one)]
    for path in PROC.iterdir() if PROC.is_dir() else ():
        if path.name.isdigit() and int(path.name) not in found:
            with contextlib.suppress(OSError):
                if marks & set((path / "environ").read_bytes().split(b"\0")):
                    found.append(int(path.name))
    return found


def tail(started: Started, lines: int = 15) -> str:
    """The end of a process's log."""
    try:
        text = Path(started.log).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def listens(host: str, port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def check_port(host: str, port: int, what: str) -> None:
    """Refuse a port that is in use, before anything is started.

    Raises:
        DeployError: it is in use, or not one that this user may have.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise DeployError(
                f"{what} {host}:{port} cannot be had: {error.strerror}; end what uses it, or choose"
                " another port"
            ) from None


def free_port() -> int:
    """A port of this machine that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _born(pid: int) -> str:
    """When a process began, or "" if there is none; the text means something on one boot only."""
    if not PROC.is_dir():
        try:
            os.kill(pid, 0)
        except OSError:
            return ""
        return "unknown"
    try:
        # The name, in brackets, may hold spaces; of the rest the first is the state.
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
