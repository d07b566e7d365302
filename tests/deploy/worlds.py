"""Small deployments on loopback, for tests that run real processes of Flower."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from experiments import settings
from experiments.deploy import demo, layout, link, processes, runs, setup
from experiments.deploy.layout import Deployment
from experiments.deploy.runs import Plan
from fedmeta import facts
from fedmeta.config import Config

NODES = ("ann", "ben", "cem", "dot", "eve")
"""Three of them train; their ids sort as their names do."""
SMALL = [
    *demo.SMALL,
    "data.users=12",
    "data.examples=20",
    "backbone.name=hashing",
    "backbone.columns=64",
    "federation.rounds=2",
    "run.backend=inline",
    "run.timeout=600.0",  # the machine may have other work
]


def quiet(line: str) -> None:
    """Nobody is told."""


def config_of(*sets: str) -> Config:
    """A run that takes a moment."""
    return settings.read(None, [*SMALL, *sets])


def make(folder: Path, nodes: tuple[str, ...] = NODES, **more: Any) -> Deployment:
    """A deployment on free ports, with keys of its nodes and nothing running."""
    deployment = layout.Deployment(
        folder / "deployment",
        ("127.0.0.1",),
        fleet_port=processes.free_port(),
        control_port=processes.free_port(),
        nodes=nodes,
        **more,
    )
    return setup.init(deployment)


@contextmanager
def running(folder: Path, *sets: str, training: int = 3) -> Iterator[tuple[Deployment, Config]]:
    """Five nodes with the users of a config, online; all ended afterwards, and seen to be."""
    deployment = make(folder)
    config = config_of(*sets)
    demo.scatter(config, deployment, folder / "users")
    if training != 3:
        everybody_trains(folder / "users", training)
    try:
        with demo.up(deployment, folder / "users", quiet):
            yield deployment, config
    finally:
        left = leftovers(deployment)
        assert not left, left


def everybody_trains(folder: Path, training: int) -> None:
    """Give the first nodes' users to training; of the last both others are made, by its rows."""
    for number, path in enumerate(sorted(folder.glob("*.csv"))):
        frame = pd.read_csv(path)
        frame["split"] = "train" if number < training else ("valid", "test")[number - training]
        frame.to_csv(path, index=False)


def leftovers(deployment: Deployment) -> list[str]:
    """Processes with the deployment's mark, and its ports that are still open."""
    mark = f"{deployment.folder}:".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        if b"FEDMETA_DEPLOYMENT=" + mark in content and int(path.parent.name) != os.getpid():
            found.append(f"process {path.parent.name}")
    for port in (deployment.fleet_port, deployment.control_port):
        if processes.listens("127.0.0.1", port):
            found.append(f"port {port}")
    return found


def begun(deployment: Deployment, config: Config, name: str) -> tuple[Plan, int]:
    """A run that was begun by Flower's own command."""
    given = facts.read(deployment.folder / runs.FACTS)
    plan = runs.plan(deployment, config, given, name)
    return plan, runs.begin(deployment, plan, quiet)


def ended(deployment: Deployment, plan: Plan, number: int) -> dict[str, Any]:
    """Its summary, when it has come to its end."""
    for _ in runs.follow(deployment, plan, number):
        pass
    return runs.summary(plan)


def alone(folder: Path, name: str = "all.csv") -> Path:
    """All users of the nodes in one table, for a simulation of the same."""
    frames = [pd.read_csv(path) for path in sorted((folder / "users").glob("*.csv"))]
    pd.concat(frames).to_csv(folder / name, index=False)
    return folder / name


def until(true: Callable[[], Any], patience: float = 120.0, every: float = 0.1) -> Any:
    """What a question gives as soon as it is not empty."""
    deadline = time.monotonic() + patience
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(every)
    return found


def rounds_of(plan: Plan) -> list[dict[str, Any]]:
    """The rounds that have ended so far."""
    path = plan.folder / "rounds.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def online(deployment: Deployment) -> int:
    """How many nodes the SuperLink has online."""
    return sum(state.status == "online" for state in link.nodes(deployment))
