"""What the running SuperLink is asked: its nodes, its runs; and told: register, run, stop."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.deploy import flower
from experiments.deploy.errors import ProcessError
from experiments.deploy.layout import Deployment

PATIENCE = 120.0
"""Seconds for one of Flower's commands."""


class NodeState(NamedTuple):
    """A node as the SuperLink knows it: its number, and `registered`, `online` or `offline`."""

    node: int
    status: str


class RunState(NamedTuple):
    """A run as the SuperLink knows it, such as `running` or `finished:completed`."""

    run: int
    status: str


def register(deployment: Deployment, name: str) -> int:
    """Tell the SuperLink of a node's key; its number there.

    Raises:
        ProcessError: it refuses the key, as one that it has already.
    """
    public = deployment.key(name).with_name(f"{name}.pub")
    answer = _asked(
        deployment, "supernode", "register", str(public), flower.LINK, "--name", name
    )
    return int(answer["node-id"])


def unregister(deployment: Deployment, node: int) -> None:
    """Tell the SuperLink that a node's key is good no more.

    Raises:
        ProcessError: it does not know the node.
    """
    _asked(deployment, "supernode", "unregister", str(node), flower.LINK)


def nodes(deployment: Deployment) -> list[NodeState]:
    """The nodes that the SuperLink knows, in the order in which they were registered."""
    answer = _asked(deployment, "supernode", "list", flower.LINK)
    return [NodeState(int(node["node-id"]), node["status"]) for node in answer["nodes"]]


def runs(deployment: Deployment) -> list[RunState]:
    """The runs that the SuperLink knows, the newest first."""
    answer = _asked(deployment, "list", flower.LINK)
    return [RunState(int(run["run-id"]), str(run["status"])) for run in answer["runs"]]


def begin(deployment: Deployment, app: Path, config: Path) -> int:
    """Start a run of an app with the settings in a TOML file; its number.

    Raises:
        ProcessError: the SuperLink does not take it.
    """
    answer = _asked(deployment, *begin_arguments(app, config))
    return int(answer["run-id"])


def begin_arguments(app: Path, config: Path) -> list[str]:
    """What :func:`begin` gives to Flower's command."""
    return ["run", str(app), flower.LINK, "--run-config", str(config)]


def end(deployment: Deployment, run: int) -> None:
    """Stop a run."""
    _asked(deployment, "stop", str(run), flower.LINK)


def output(deployment: Deployment, run: int) -> str:
    """What the ServerApp of a run has printed."""
    command = flower.flwr("log", str(run), flower.LINK, "--show")
    return _called(deployment, command).stdout


def _asked(deployment: Deployment, *arguments: str) -> dict[str, Any]:
    command = flower.flwr(*arguments, "--format", "json")
    done = _called(deployment, command)
    try:
        # Lines for people may stand before it.
        answer: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    except ValueError:
        answer = {}
    if done.returncode or not answer.get("success"):
        why = answer.get("error-message") or _last(done.stderr, done.stdout)
        raise ProcessError(f"`flwr {' '.join(arguments[:2])}` failed: {why}")
    return answer


def _called(deployment: Deployment, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            list(command),
            env=flower.environment(deployment.home, f"{deployment.folder}:command"),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProcessError(
            f"`{' '.join(command[:3])}` had no answer in {PATIENCE:.0f} s; look at"
            f" {str(deployment.server / 'superlink.log')!r}"
        ) from None


def _last(*texts: str) -> str:
    for text in texts:
        if lines := [line.strip(" │╭╰─╮╯") for line in text.splitlines()]:
            if said := [line for line in lines if line]:
                return " ".join(said[-3:])
    return "it said nothing"
