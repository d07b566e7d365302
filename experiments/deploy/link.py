"""What the running SuperLink is asked: its nodes, its runs; and told: register, run, stop."""

import json
import subprocess
import sys
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


def register(deployment: Deployment, names: Sequence[str]) -> dict[str, int]:
    """Tell the SuperLink of nodes' keys; their numbers there, by name.

    Raises:
        ProcessError: it refuses a key, as one that it has already.
    """
    answers = _asked(deployment, *(register_arguments(deployment, name) for name in names))
    return {name: int(one["node-id"]) for name, one in zip(names, answers, strict=True)}


def register_arguments(deployment: Deployment, name: str) -> list[str]:
    """What :func:`register` gives to Flower's command for one of them."""
    public = deployment.key(name).with_name(f"{name}.pub")
    return ["supernode", "register", str(public), flower.LINK, "--name", name]


def unregister(deployment: Deployment, node: int) -> None:
    """Tell the SuperLink that a node's key is good no more.

    Raises:
        ProcessError: it does not know the node.
    """
    _asked(deployment, ["supernode", "unregister", str(node), flower.LINK])


def nodes(deployment: Deployment) -> list[NodeState]:
    """The nodes that the SuperLink knows, in the order in which they were registered."""
    (answer,) = _asked(deployment, ["supernode", "list", flower.LINK])
    return [NodeState(int(node["node-id"]), node["status"]) for node in answer["nodes"]]


def runs(deployment: Deployment) -> list[RunState]:
    """The runs that the SuperLink knows, the newest first."""
    (answer,) = _asked(deployment, ["list", flower.LINK])
    return [RunState(int(run["run-id"]), str(run["status"])) for run in answer["runs"]]


def begin(deployment: Deployment, app: Path, config: Path) -> int:
    """Start a run of an app with the settings in a TOML file; its number.

    Raises:
        ProcessError: the SuperLink does not take it.
    """
    (answer,) = _asked(deployment, begin_arguments(app, config))
    return int(answer["run-id"])


def begin_arguments(app: Path, config: Path) -> list[str]:
    """What :func:`begin` gives to Flower's command."""
    return ["run", str(app), flower.LINK, "--run-config", str(config)]


def end(deployment: Deployment, run: int) -> None:
    """Stop a run."""
    _asked(deployment, ["stop", str(run), flower.LINK])


def output(deployment: Deployment, run: int) -> str:
    """What the ServerApp of a run has printed."""
    command = flower.flwr("log", str(run), flower.LINK, "--show")
    return _called(deployment, command).stdout


def _asked(deployment: Deployment, *commands: Sequence[str]) -> list[dict[str, Any]]:
    if not commands:
        return []
    all_of_them = json.dumps([[*one, "--format", "json"] for one in commands])
    several = flower.quick([sys.executable, "-m", "experiments.deploy.several"], "several")
    done = _called(deployment, [*several, all_of_them])
    answers = _documents(done.stdout)
    bad = next((one for one in answers if not one.get("success")), None)
    if bad is not None or done.returncode or len(answers) < len(commands):
        why = (bad or {}).get("error-message") or _last(done.stderr, done.stdout)
        which = commands[min(len(answers) - (bad is not None), len(commands) - 1)]
        raise ProcessError(f"`flwr {' '.join(which[:2])}` failed: {why}")
    return answers


def _documents(text: str) -> list[dict[str, Any]]:
    """The JSON objects in a text; lines for people may stand before them."""
    found, decoder, at = [], json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            content, end = decoder.raw_decode(text, at)
        except ValueError:
            end = at + 1
        else:
            found.append(content)
        at = text.find("{", end)
    return found


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
        lines = [line.strip(" │╭╰─╮╯") for line in text.splitlines()]
        if said := [line for line in lines if line]:
            return " ".join(said[-3:])
    return "it said nothing"
