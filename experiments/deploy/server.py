"""The SuperLink of a deployment: checked, started, told of its nodes."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from experiments.deploy import certificates, flower, layout, link, processes, setup
from experiments.deploy.errors import DeployError, ProcessError
from experiments.deploy.files import write_public
from experiments.deploy.layout import Deployment
from experiments.deploy.processes import Started

PART = "superlink"
PATIENCE = 60.0
"""Seconds until it takes connections."""
Tell = Callable[[str], None]


class Registered(NamedTuple):
    """A node that the SuperLink was told of: its number there, and the digest of its key."""

    node: int
    key: str


def check(deployment: Deployment) -> None:
    """Refuse what could not work, before anything is started.

    Raises:
        DeployError: certificates, keys or ports that cannot be used.
    """
    if not deployment.insecure:
        server = deployment.server
        certificates.check_server(deployment.ca, server / "server.crt", server / "server.key")
        for name in deployment.nodes:
            certificates.check_public(deployment.key(name).with_name(f"{name}.pub"))
    for host, port, what in (
        (deployment.listen, deployment.fleet_port, "the nodes' port (fleet-port"),
        ("127.0.0.1", deployment.control_port, "the control port (control-port"),
    ):
        processes.check_port(host, port, f"{what} in {layout.FILE})")


def start(deployment: Deployment, tell: Tell) -> Started:
    """Start the SuperLink in the background, and wait until it takes nodes.

    Raises:
        DeployError: it runs already, or cannot work.
        ProcessError: it ended at once; the end of its log.
    """
    if (there := processes.find(deployment.folder, PART)) is not None:
        raise DeployError(
            f"the SuperLink runs already as process {there.pid}; `fedmeta deploy stop"
            f" {deployment.folder}` ends it"
        )
    check(deployment)
    setup.refresh(deployment)
    command = flower.superlink(deployment)
    tell(flower.shown(command, deployment.home))
    log = deployment.server / "superlink.log"
    started = processes.start(deployment.folder, PART, command, deployment.home, log)
    wait(deployment, started)
    return started


def run(deployment: Deployment, tell: Tell) -> None:
    """Become the SuperLink; does not return. For systemd and containers."""
    check(deployment)
    setup.refresh(deployment)
    command = flower.superlink(deployment)
    tell(flower.shown(command, deployment.home))
    mark = f"{deployment.folder}:{PART}"
    os.execve(command[0], command, flower.environment(deployment.home, mark))


def wait(deployment: Deployment, started: Started, patience: float = PATIENCE) -> None:
    """Wait until the SuperLink takes nodes and commands.

    Raises:
        ProcessError: it ended, or took too long; the end of its log.
    """
    listen = deployment.listen
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen, listen)
    places = [(host, deployment.fleet_port), ("127.0.0.1", deployment.control_port)]
    deadline = time.monotonic() + patience
    while places:
        if not processes.alive(started):
            raise ProcessError(f"the SuperLink ended:\n{processes.tail(started)}")
        if time.monotonic() > deadline:
            raise ProcessError(
                f"the SuperLink does not take connections after {patience:.0f} s:\n"
                f"{processes.tail(started)}"
            )
        places = [place for place in places if not processes.listens(*place)]
        time.sleep(0.1)


def register(deployment: Deployment, tell: Tell) -> None:
    """Tell the SuperLink of the keys that it should have, and of those that it should not.

    What it was told before is in ``server/registered.json``; its database may be another since.
    """
    if deployment.insecure:
        return
    path = deployment.server / "registered.json"
    known = registered(deployment)
    there = {state.node for state in link.nodes(deployment) if state.status != "unregistered"}
    wanted = {name: _digest(deployment, name) for name in deployment.nodes}
    for name, before in list(known.items()):
        if before.node not in there or wanted.get(name) != before.key:
            if before.node in there:
                link.unregister(deployment, before.node)
                tell(f"node {name} is no more registered under its old key")
            del known[name]
            _write(path, known)
    new = [name for name in wanted if name not in known]
    for name, node in link.register(deployment, new).items():
        known[name] = Registered(node, wanted[name])
        tell(flower.shown(flower.flwr(*link.register_arguments(deployment, name)), deployment.home))
    _write(path, known)


def registered(deployment: Deployment) -> dict[str, Registered]:
    """The nodes that the SuperLink was told of, by name."""
    path = deployment.server / "registered.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: Registered(int(one["node"]), one["key"]) for name, one in content.items()}
    except OSError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DeployError(
            f"{str(path)!r} is damaged; remove it together with the SuperLink's database, and"
            " start the server again: nodes keep their keys"
        ) from None


def running(deployment: Deployment) -> Started:
    """The SuperLink that runs.

    Raises:
        DeployError: none does.
    """
    found = processes.find(deployment.folder, PART)
    if found is None and not processes.listens("127.0.0.1", deployment.control_port):
        raise DeployError(
            f"the SuperLink does not run; start it with `fedmeta deploy server {deployment.folder}`"
        )
    return found or Started(PART, 0, "", "", "", ())


def _digest(deployment: Deployment, name: str) -> str:
    path = deployment.key(name).with_name(f"{name}.pub")
    return hashlib.sha256(path.read_bytes().split(maxsplit=2)[1]).hexdigest()


def _write(path: Path, known: dict[str, Registered]) -> None:
    content = {name: one._asdict() for name, one in sorted(known.items())}
    write_public(path, json.dumps(content, indent=1).encode() + b"\n")
