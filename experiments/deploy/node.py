"""A node: its SuperNode is started, kept alive, and told from one that can never connect.

A node that is started again before the SuperLink has noticed that it was gone is refused with code
2004; it tries again until it is let in. What cannot be mended by waiting ends with the reason.
"""

import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from experiments.deploy import certificates, flower, link, processes, reach, warm
from experiments.deploy.errors import DeployError, ProcessError
from experiments.deploy.layout import Deployment
from experiments.deploy.processes import Started

AGAIN = "code: 2004"
"""What Flower says where a node is online already, as one that was just killed seems to be."""
PATIENCE = 90.0
"""Seconds for which a node that is refused so tries again; the SuperLink notices within 60."""
PAUSE = 5.0
DRAINED = 10.0
"""Seconds in which what an ended process has said is read."""
LOG = "supernode.log"
REASONS = {
    "Invalid timestamp": "the clock of this machine and that of the server are minutes apart: set"
    " them right",
    "Invalid signature": "the server does not take this node's signature: is its key damaged?",
    "Invalid node ID": "the server knows this key under another number: register it again",
    "Missing authentication metadata": "the server wants nodes to have keys: start this one"
    " without --insecure",
    AGAIN: "the server does not know this node's key, or another process is online with it: on the"
    " server `fedmeta deploy add DIR --name NAME --key NAME.pub`, or `fedmeta deploy status DIR`",
    # Flower ends a node by a signal to itself, and says nothing, where its requests are not taken.
    "SuperNode terminated gracefully": "the server does not take this node's requests: the clock of"
    " this machine and that of the server are minutes apart (set them right), or its key is good no"
    " more (`fedmeta deploy status DIR` on the server)",
}
"""What Flower says, and what it means."""
Tell = Callable[[str], None]


class Place(NamedTuple):
    """A node on this machine.

    Attributes:
        name: by which the server knows it.
        data: file of its examples.
        folder: its own: policy, ledger, memory, features.
        port: of its own processes, on loopback.
    """

    name: str
    data: Path
    folder: Path
    port: int


def place(
    deployment: Deployment, name: str, data: Path, folder: Path | None = None, port: int = 0
) -> Place:
    """A node with everything checked that can be checked here.

    Raises:
        DeployError: no key, no certificate, or a port in use.
        DataError: no data, or a folder of several files.
    """
    if not deployment.insecure:
        certificates.check_dates(deployment.ca)
        if not deployment.key(name).exists():
            raise DeployError(
                f"no key {str(deployment.key(name))!r}: make one with `fedmeta deploy key"
                f" {deployment.folder} --name {name}`, or bring it from where it was made"
            )
        certificates.load_key(deployment.key(name))
    from fedmeta.data import own  # and PyTorch with it, which who keeps a node alive does without

    data = data.expanduser().absolute()
    own.find(data)
    folder = (folder or deployment.node(name)).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise DeployError(f"folder {str(folder)!r} cannot be used: {error.strerror}") from None
    if port:
        processes.check_port("127.0.0.1", port, "the node's own port (--port)")
    return Place(name, data, folder, port or processes.free_port())


def command_of(deployment: Deployment, here: Place) -> list[str]:
    """Flower's command for a node."""
    return flower.supernode(deployment, here.name, here.data, here.folder, here.port)


def part(name: str) -> str:
    """The name of a node's process."""
    return f"node-{name}"


def start(deployment: Deployment, here: Place, tell: Tell) -> Started:
    """Start a node in the background, with one process that keeps it alive.

    Raises:
        DeployError: it runs already, or the server is another than it should be.
    """
    reach.check(deployment, tell)
    tell(flower.shown(command_of(deployment, here), _home(here)))
    keeper = [
        *(sys.executable, "-m", "experiments.deploy.keeper"),
        *(str(deployment.folder), here.name, str(here.data), str(here.folder), str(here.port)),
    ]
    log = here.folder / LOG
    return processes.start(deployment.folder, part(here.name), keeper, _home(here), log)


def run(deployment: Deployment, here: Place, tell: Tell) -> None:
    """Run a node in the foreground, for systemd and containers; returns when it is told to end.

    Raises:
        DeployError: the server is another than it should be.
        ProcessError: it cannot connect, and waiting does not help; why.
    """
    reach.check(deployment, tell)
    tell(flower.shown(command_of(deployment, here), _home(here)))
    keep(deployment, here, tell)


def wait_online(deployment: Deployment, patience: float = 120.0) -> None:
    """Wait until the nodes of this machine are known to the SuperLink as online.

    Raises:
        ProcessError: one of them ended, or it took too long.
    """
    deadline = time.monotonic() + patience
    while True:
        for name in deployment.nodes:
            started = processes.find(deployment.folder, part(name))
            if started is None:
                log = deployment.node(name) / LOG
                end = log.read_text(errors="replace").splitlines()[-5:] if log.exists() else []
                raise ProcessError(f"node {name} ended: {' '.join(end)}")
        states = [state.status for state in link.nodes(deployment)]
        if states.count("online") >= len(deployment.nodes):
            return
        if time.monotonic() > deadline:
            raise ProcessError(
                f"{states.count('online')} of {len(deployment.nodes)} nodes are online after"
                f" {patience:.0f} s; look at their logs in {str(deployment.folder / 'nodes')!r}"
            )
        time.sleep(1.0)


def keep(deployment: Deployment, here: Place, tell: Tell) -> None:
    """Run a node in the foreground until it is told to end.

    Raises:
        ProcessError: it cannot connect, and waiting does not help; why.
    """
    with warm.starter(f"{deployment.folder}:warm-{here.name}"):
        _keep(deployment, here, tell)


def _keep(deployment: Deployment, here: Place, tell: Tell) -> None:
    command = command_of(deployment, here)
    mark = f"{deployment.folder}:{part(here.name)}"
    began = time.monotonic()
    while True:
        process = subprocess.Popen(
            flower.quick(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=flower.environment(_home(here), mark),
        )
        ending = _hand_on(process)
        said = _listen(process)
        code = process.returncode
        if ending.is_set():
            return
        if AGAIN in said and time.monotonic() - began < PATIENCE:
            tell(
                f"node {here.name} is online already as the server sees it, or its key is not"
                " registered; trying again"
            )
            time.sleep(PAUSE)
            continue
        raise ProcessError(f"node {here.name} ended with code {code}: {why(said)}")


def why(said: str) -> str:
    """The reason in what a SuperNode has said, and the remedy where it is known."""
    for pattern, meaning in REASONS.items():
        if re.search(pattern, said):
            return meaning
    lines = [line for line in said.splitlines() if line.strip()]
    return " ".join(lines[-4:]) or "it said nothing"


def _listen(process: "subprocess.Popen[str]") -> str:
    """Pass on what a process says until it ends; the last of it.

    Its own processes write to the same pipe, and end when they see that it is gone: which they do
    once it has been waited for, so that is not left until the pipe is empty.
    """
    # Where its processes are interrupted as they begin, each ends with a long traceback.
    last: deque[str] = deque(maxlen=400)

    def pass_on() -> None:
        if process.stdout is None:  # pragma: no cover - it was asked for
            return
        with process.stdout as lines:
            for line in lines:
                print(line, end="", flush=True)
                last.append(line)

    reading = threading.Thread(target=pass_on, daemon=True)
    reading.start()
    process.wait()
    reading.join(DRAINED)
    return "".join(last)


def _hand_on(process: "subprocess.Popen[str]") -> threading.Event:
    """Hand signals to end on to a process; the event tells that there was one."""
    ending = threading.Event()

    def hand_on(number: int, frame: FrameType | None) -> None:
        ending.set()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, hand_on)
        signal.signal(signal.SIGINT, hand_on)
    return ending


def _home(here: Place) -> Path:
    return here.folder / "flwr"
