"""``fedmeta deploy demo``: all of it on this machine, from certificates to the table, and no trace.

Generated users, one to a node, each with a file that nobody else reads. Whatever happens, Ctrl-C
included, all processes that were started are ended before the command returns.
"""

import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd

from experiments import settings
from experiments.deploy import layout, node, processes, running, runs, server, setup, warm
from experiments.deploy.errors import DeployError
from experiments.deploy.layout import Deployment
from experiments.deploy.server import Tell
from fedmeta import facts
from fedmeta.config import Config
from fedmeta.data.store import SPLITS, UserStore
from fedmeta.problem import build

SMALL = (
    "data.support=5",
    "evaluation.every=100",
    "evaluation.tune=false",
    "evaluation.shots=0,5",
    "evaluation.bootstrap=200",
    "data.messages=300",
    "method.name=reptile",
)


def demo(
    nodes: int, rounds: int, sets: Sequence[str], keep: Path | None, tell: Tell
) -> tuple[dict[str, Any], str]:
    """Run the demonstration: the summary of its run, and the table.

    Args:
        nodes: how many, one user each.
        rounds: of the run.
        sets: other settings, as ``key=value``.
        keep: a new folder that is to stay; None: one that goes.
        tell: told what is done.

    Raises:
        DeployError, ProcessError: what went wrong; nothing is left running.
    """
    with _folder(keep) as folder, _endable():
        deployment = layout.Deployment(
            folder / "deployment",
            ("127.0.0.1",),
            fleet_port=processes.free_port(),
            control_port=processes.free_port(),
            nodes=tuple(f"user{number:02d}" for number in range(1, nodes + 1)),
        )
        config = settings.read(None, [*SMALL, f"federation.rounds={rounds}", *sets])
        with _starter(deployment):  # it loads what it needs while users are generated
            setup.init(deployment)
            tell(f"{nodes} users are generated, one for each node")
            given = scatter(config, deployment, folder / "users")
            with up(deployment, folder / "users", tell):
                known = facts.read(deployment.folder / runs.FACTS)
                return running.run(deployment, runs.plan(deployment, given, known, "demo"), tell)


@contextmanager
def up(deployment: Deployment, data: Path, tell: Tell) -> Iterator[None]:
    """The SuperLink and all nodes as long as the block lasts; a folder has each one's NAME.csv."""
    with _starter(deployment):
        try:
            server.start(deployment, tell)
            server.register(deployment, tell)
            for name in deployment.nodes:
                node.start(deployment, node.place(deployment, name, data / f"{name}.csv"), tell)
            node.wait_online(deployment)
            tell(f"{len(deployment.nodes)} nodes are online")
            yield
        finally:
            _deaf()
            processes.stop_all(deployment.folder, processes.every(deployment.folder))
            tell("all that was started has ended")


def scatter(config: Config, deployment: Deployment, folder: Path) -> Config:
    """Give each node a user of the config's data, in a file of its own; write the facts.

    Three of five users train, as `fedmeta simulate` divides them.

    Returns:
        The config, with what the files have in their columns.

    Raises:
        DeployError: fewer users than nodes, or data that fit no table.
    """
    problem = build(config)
    store = problem.population.store
    chosen = _chosen(store, len(deployment.nodes))
    folder.mkdir(parents=True, exist_ok=True)
    for name, user in zip(deployment.nodes, chosen, strict=True):
        table(store, user, name).to_csv(folder / f"{name}.csv", index=False)
    facts.write(deployment.folder / runs.FACTS, facts.facts_of(problem)._replace(training=0))
    return config


def table(store: UserStore, user: int, name: str) -> pd.DataFrame:
    """The examples of a user as a table that only his node reads."""
    rows = slice(int(store.offsets[user]), int(store.offsets[user + 1]))
    label = store.label[rows]
    columns: dict[str, Any] = {"user": [name] * len(label)}
    columns["split"] = [SPLITS[int(store.split[user])]] * len(label)
    items = store.item[rows]
    if isinstance(store.items, tuple):
        columns["text"] = [store.items[item] for item in items.tolist()]
    elif store.items.ndim == 2:
        columns |= {f"x{at}": store.items[items, at] for at in range(store.items.shape[1])}
    else:
        raise DeployError(f"{store.name!r} has images; the demonstration takes texts and numbers")
    columns["label"] = [store.classes[int(code)] for code in label] if store.classes else label
    return pd.DataFrame(columns)


def _chosen(store: UserStore, nodes: int) -> list[int]:
    """Users of all three splits, three of five for training."""
    test = valid = max(1, nodes // 5)
    wanted = {"train": nodes - test - valid, "valid": valid, "test": test}
    found: list[int] = []
    for split, count in wanted.items():
        there = store.users(split).tolist()
        if len(there) < count:
            raise DeployError(
                f"{store.name!r} has {len(there)} users for {split}, and {nodes} nodes need"
                f" {count}: ask for fewer --nodes"
            )
        found += there[:count]
    return found


def _starter(deployment: Deployment) -> AbstractContextManager[None]:
    """One process for server and nodes that has loaded what all of them need."""
    modules = (*warm.MODULES, *warm.SERVER, *warm.ENCODER)
    return warm.starter(f"{deployment.folder}:warm", modules)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        folder = keep.expanduser().absolute()
        if folder.exists() and any(folder.iterdir()):
            raise DeployError(f"--keep {str(folder)!r} is not empty: name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="fedmeta-demo-") as name:
        yield Path(name)


@contextmanager
def _endable() -> Iterator[None]:
    """A request to end is as good as Ctrl-C: what was started is ended first."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    interrupted = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupted)


def _deaf() -> None:
    """From now on nothing keeps us from ending what was started, a second Ctrl-C neither."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
