"""Five nodes or so in one process: the real apps, each with a user's own file and folder."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp

from clients import ledger, wire
from clients.app import app as client_app
from experiments.backends.grid import LocalGrid
from fedmeta.cohort import Trial
from fedmeta.config import Config, Scalar, parse
from fedmeta.facts import facts_of, fields
from fedmeta.problem import Problem, build, initial
from fedmeta.types import Params
from strategies.roster import shipped

USERS = 5
CANARY = "zxcanaryqj"
"""Stands in every text and name of every user; it may stand in nothing that a server sees."""

SMALL: dict[str, Any] = {
    "data": {"support": 4, "query": 6, "split-column": "split"},
    "backbone": {"name": "hashing", "columns": 16},
    "head": {"name": "mlp", "hidden": 5},
    "method": {"name": "fedavg-ft", "steps": 2},
    "federation": {"rounds": 3, "users-per-round": 2, "chunk": 1},
    "evaluation": {"every": 1, "shots": "0,4", "tune": False, "bootstrap": 100},
    "run": {"backend": "inline", "seed": 3},
}


PRIVATE: dict[str, dict[str, Any]] = {
    "example": {"privacy": {"unit": "example", "noise-multiplier": 1.0},
                "method": {"name": "reptile"}},
    "local": {"privacy": {"unit": "user", "mechanism": "local", "noise-multiplier": 4.0}},
}  # fmt: skip
"""Runs whose users pay for what they send."""


def table(users: int = USERS, examples: int = 12, seed: int = 0) -> pd.DataFrame:
    """Users whose labels go by words of their texts, in an order that is nobody's own."""
    draw = np.random.default_rng(seed)
    rows = []
    for row in range(users * examples):
        user = int(draw.integers(users)) if row >= users * 11 else row % users
        words = draw.choice(["red", "blue", "green", "old", "new", "odd"], 3)
        label = int(("red" in words) ^ (user % 2 == 0))
        split = "train" if user < users - 2 else ("valid", "test")[user - users + 2]
        rows.append((f"u{user}-{CANARY}", f"{' '.join(words)} {CANARY} {row}", label, split))
    return pd.DataFrame(rows, columns=["user", "text", "label", "split"])


def numbers(seed: int = 0) -> pd.DataFrame:
    """The same users with three numbers each instead of texts, a target, and domains."""
    frame, draw = table(), np.random.default_rng(seed)
    x = draw.normal(5.0, [1.0, 3.0, 0.2], (len(frame), 3))
    slope = frame["user"].str[1].astype(int)
    frame["label"] = x[:, 0] * slope + x[:, 1] - 7.0
    frame["site"] = np.where(draw.random(len(frame)) < 0.3, "north", "south")
    return frame.drop(columns="text").assign(a=x[:, 0], b=x[:, 1], c=x[:, 2])


def config(source: Path | None = None, **sections: Mapping[str, Scalar]) -> Config:
    """The small config with some sections changed."""
    values = {name: {**given, **sections.get(name, {})} for name, given in SMALL.items()}
    values |= {name: dict(given) for name, given in sections.items() if name not in SMALL}
    if source is not None:
        values["data"]["source"] = str(source)
    return parse(values)


def simulated(tmp: Path, frame: pd.DataFrame | None = None, **sections: Any) -> Problem:
    """The problem of a simulation of all users."""
    path = tmp / "all.csv"
    tmp.mkdir(parents=True, exist_ok=True)
    (table() if frame is None else frame).to_csv(path, index=False)
    settings = {**sections, "backbone": {**sections.get("backbone", {}), "cache": str(tmp)}}
    return build(config(path, **settings))


def divided(tmp: Path, frame: pd.DataFrame | None = None) -> dict[str, Path]:
    """A file for each user, by his name; one keeps the column of users, the others do not."""
    frame = table() if frame is None else frame
    found = {}
    for number, (name, mine) in enumerate(frame.groupby("user")):
        folder = tmp / "data" / str(name)
        folder.mkdir(parents=True, exist_ok=True)
        found[str(name)] = folder / "mine.csv"
        mine = mine if not number else mine.drop(columns="user")
        mine.to_csv(folder / "mine.csv", index=False)
    return found


class NodeGrid(LocalGrid):
    """Nodes with users of their own, and everything that they have ever said.

    Attributes:
        contexts: of the nodes, by number; they are shuffled against the users.
        seen: every reply.
        gone: nodes that are offline.
    """

    def __init__(
        self, tmp: Path, data: Mapping[str, Path], given: Config, app: ClientApp = client_app
    ) -> None:
        """One node for each user."""
        super().__init__(len(data))
        self._app, self.seen, self.gone = app, list[Message](), set[int]()
        self.contexts = {}
        self.folders = {name: tmp / "nodes" / name for name in data}
        for number, name in enumerate(reversed(list(data)), start=11):
            places = {"data": str(data[name]), "folder": str(self.folders[name])}
            self.contexts[number] = Context(
                run_id=1,
                node_id=number,
                node_config={"name": name, **places},
                state=RecordDict(),
                run_config=shipped(given),
            )

    def get_node_ids(self) -> Iterable[int]:
        """Those that are online."""
        return [node for node in self.contexts if node not in self.gone]

    def node_of(self, name: str) -> int:
        """The node of a user."""
        return next(n for n, c in self.contexts.items() if c.node_config["name"] == name)

    def allow(self, name: str, text: str) -> None:
        """Write the policy of a user."""
        self.folders[name].mkdir(parents=True, exist_ok=True)
        (self.folders[name] / "policy.toml").write_text(text)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Replies one by one."""
        for message in messages:
            if message.metadata.dst_node_id in self.gone:
                continue
            reply = self._app(message, self.contexts[message.metadata.dst_node_id])
            self.seen.append(reply)
            yield reply


def said(reply: Message) -> bytes:
    """Everything in a reply that a server can read."""
    text = repr(reply.metadata.__dict__)
    if reply.has_error():
        return (text + repr(reply.error.__dict__)).encode()
    content = reply.content
    text += repr({name: dict(record) for name, record in content.config_records.items()})
    arrays = [a for record in content.array_records.values() for a in record.values()]
    names = [name for record in content.array_records.values() for name in record]
    return (text + repr(names)).encode() + b"".join(array.data for array in arrays)


class One(NamedTuple):
    """The node of the first user, and what it is sent.

    Attributes:
        problem: of the simulation of all users.
        grid: of all nodes.
        name: of the user.
    """

    problem: Problem
    grid: NodeGrid
    name: str

    @property
    def folder(self) -> Path:
        """Of the node."""
        return self.grid.folders[self.name]

    def told(self, **changed: object) -> ConfigRecord:
        """The facts of the run."""
        return wire.told("run", {**fields(facts_of(self.problem)), **changed})

    def message(
        self,
        kind: str,
        order: wire.Order | None = None,
        params: Params | None = None,
        told: ConfigRecord | None = None,
    ) -> Message:
        """What an honest server sends; some of it may be changed."""
        node, told = self.grid.node_of(self.name), told or self.told()
        if kind == wire.HELLO:
            return wire.hello_message(told, node)
        record = wire.arrays(initial(self.problem) if params is None else params)
        trials = [Trial(self.problem.adapt, 4)] if kind != MessageType.TRAIN else []
        order = order or wire.Order(1, 0, [7], clip=self.problem.privacy.clip)
        return wire.order_message(record, order, node, kind, trials, told=told)

    def reply(self, message: Message, **settings: Scalar) -> Message:
        """What the node says; ``settings`` are changed in the config that it is sent."""
        context = self.grid.contexts[message.metadata.dst_node_id]
        given = {**context.run_config, **settings}
        return client_app(message, replace(context, run_config=given))


def one(tmp: Path, **sections: Any) -> One:
    """The node of the first user."""
    problem = simulated(tmp, **sections)
    files = divided(tmp)
    return One(problem, NodeGrid(tmp, files, config(**sections)), next(iter(files)))


def train(node: One, number: int = 1) -> Message:
    """What it says to the order of a round."""
    order = wire.Order(number, 0, [7], clip=node.problem.privacy.clip)
    return node.reply(node.message(MessageType.TRAIN, order))


def charged(node: One) -> int:
    """Releases that its ledger holds."""
    return sum(ledger.history(node.folder, node.name).values())


def why(reply: Message) -> str:
    """The reason of an error; empty if it has none."""
    return reply.error.reason or ""
