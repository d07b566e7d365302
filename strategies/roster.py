"""Who the users of a deployment are, and on which node each of them is.

The server has none of their data. Each node says who its user is by a hash of his name, and the
roster of a run is what they said before its first round. It is kept with the run: a node that
joins later takes no part, and one that comes back under another number is found again.
"""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from flwr.app import ConfigRecord
from flwr.serverapp import Grid
from numpy.typing import NDArray

from clients import wire
from clients.disk import sync_file
from clients.refused import code_of
from fedmeta import facts
from fedmeta.config import Config, ConfigError, Scalar, flatten
from fedmeta.data.splits import cut
from fedmeta.data.store import SPLITS, UserStore
from fedmeta.facts import Facts
from fedmeta.population import Population, Rows
from strategies.nodes import Route

FILE = "roster.json"
QUICK = 30.0
"""Seconds to wait for the answers of nodes that came in the middle of a run."""
TRIES = 3
"""How often a node that does not answer is asked: it may not yet know that the server is back."""
LOCAL = ("data.source", "data.public", "data.problems", "backbone.cache", "devices.trace")
"""Keys that name places on the server's disk."""


class Member(NamedTuple):
    """A user: his pseudonym, the index of his split, how many examples he is known to have."""

    user: str
    split: int
    examples: int


class Found(NamedTuple):
    """What came of asking some nodes who is there.

    Attributes:
        there: answers by node.
        refused: refusals by code.
        heard: the nodes that have answered or refused.
    """

    there: dict[int, wire.Hello]
    refused: dict[str, int]
    heard: set[int]


def shipped(config: Config) -> dict[str, Scalar]:
    """The settings that nodes are sent: all but places on the server's disk, and how it runs."""
    usual = flatten(Config())
    return {
        key: usual[key] if key in LOCAL or (key.startswith("run.") and key != "run.seed") else value
        for key, value in flatten(config).items()
    }


def ask(grid: Grid, nodes: Iterable[int], told: ConfigRecord, timeout: float) -> Found:
    """Ask nodes who is there."""
    there, refused, heard = {}, dict[str, int](), set[int]()
    messages = [wire.hello_message(told, node) for node in nodes]
    for reply in grid.send_and_receive(messages, timeout=timeout):
        heard.add(reply.metadata.src_node_id)
        code = "node-unreadable"
        if reply.has_error():
            code = code_of(reply.error.reason or "")
        else:
            try:
                there[reply.metadata.src_node_id] = wire.read_hello(reply)
                continue
            except (KeyError, TypeError, ValueError):
                pass
        refused[code] = refused.get(code, 0) + 1
    return Found(there, refused, heard)


def undisputed(said: dict[int, wire.Hello]) -> dict[int, wire.Hello]:
    """The answers without those of users whom several nodes claim to be.

    A pseudonym is no secret. Nobody can tell whose it is, and none of them may speak for him.
    """
    times = Counter(one.user for one in said.values())
    return {node: one for node, one in said.items() if times[one.user] == 1}


def members(said: Iterable[wire.Hello]) -> list[Member]:
    """The users of a run, in the order of their pseudonyms.

    A split that data name counts; where no data do, users are divided by the ranks that they
    gave, as those of a table are by theirs. Users with too few examples are left out after that.

    Raises:
        ConfigError: a split without users.
    """
    ordered = sorted({one.user: one for one in said}.values(), key=lambda one: one.user)
    names = tuple(one.user for one in ordered)
    if any(one.split for one in ordered):
        split = [SPLITS.index(one.split or "train") for one in ordered]
    elif len(ordered) < len(SPLITS):
        split = [0] * len(ordered)
    else:
        rank = np.array([int(one.rank, 16) for one in ordered], dtype=np.uint64)
        split = cut(rank, names, "nodes").tolist()
    found = [
        Member(one.user, at, one.examples)
        for one, at in zip(ordered, split, strict=True)
        if one.enough
    ]
    if empty := [name for at, name in enumerate(SPLITS) if at not in {m.split for m in found}]:
        raise ConfigError(
            f"no {' and no '.join(empty)} user among {len(found)} nodes that take part (and"
            f" {len(ordered) - len(found)} with too few examples); a run needs one at least for"
            " each of train, valid and test"
        )
    return found


class Roster:
    """The users of a run and their nodes.

    Attributes:
        run: what the run is called to nodes.
        facts: of the run.
        users: in the order of their indices.
    """

    def __init__(self, run: str, found: Facts, users: list[Member]) -> None:
        """``found`` need not know the number of training users."""
        self.run, self.users = run, users
        training = sum(one.split == 0 for one in users)
        self.facts = found._replace(training=training)
        self.told = wire.told(run, facts.fields(self.facts))
        self._node: dict[str, int] = {}
        self._met: set[int] = set()
        self._asked: Counter[int] = Counter()

    def place(self, said: dict[int, wire.Hello], online: set[int]) -> None:
        """Note where users are. A user who is online stays where he is, whoever claims him."""
        known = {one.user for one in self.users}
        for node, one in sorted(said.items()):
            if one.user in known and self._node.get(one.user, -1) not in online - {node}:
                self._node[one.user] = node
        self._met |= set(said)

    def route(self, grid: Grid) -> Route:
        """Each user's messages go to his own node; nodes that are new are asked who is there."""
        online = set(grid.get_node_ids())
        self._met &= online  # a number that was gone may be somebody else's
        self._asked = Counter({node: self._asked[node] for node in online})
        if new := [one for one in sorted(online - self._met) if self._asked[one] < TRIES]:
            self._asked.update(new)
            found = ask(grid, new, self.told, QUICK)
            self.place(found.there, online)
            self._met |= found.heard

        def node_of(number: int, users: NDArray[np.int64]) -> int | None:
            (user,) = users.tolist()
            node = self._node.get(self.users[user].user)
            return node if node in online else None

        return node_of

    def away(self, grid: Grid) -> int:
        """How many users have no node that is online and known."""
        node_of = self.route(grid)
        return sum(node_of(0, np.array([user])) is None for user in range(len(self.users)))

    def population(self) -> Population:
        """The users without their data, for a server to draw from."""
        width, numbers = self.facts.width, self.facts.backbone == "identity"
        sizes = [one.examples for one in self.users]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        none = np.empty(0, dtype=np.int64)
        store = UserStore(
            name="nodes",
            items=np.empty((0, width), dtype=np.float32) if numbers else (),
            item=none,
            label=none,
            offsets=offsets,
            ids=tuple(one.user for one in self.users),
            split=np.array([one.split for one in self.users], dtype=np.int8),
            classes=self.facts.classes,
            domains=self.facts.domains,
        )
        return Population(
            store=store,
            features=torch.empty(0, width),
            item=torch.empty(0, dtype=torch.int64),
            target=torch.empty(0),
            units=facts.units_of(self.facts),
            learn=Rows(none, offsets),
            judge=None,
            keys=np.array([int(one.user, 16) for one in self.users], dtype=np.uint64),
            home=np.full(len(self.users), -1),
            training=self.facts.training,
        )

    def write(self, folder: Path) -> None:
        """Keep the roster with the run."""
        folder.mkdir(parents=True, exist_ok=True)
        body = {
            "run": self.run,
            "facts": facts.fields(self.facts),
            "users": [list(one) for one in self.users],
        }
        beside = folder / f".{FILE}.part"
        sync_file(beside, (json.dumps(body, indent=1) + "\n").encode())
        beside.replace(folder / FILE)


def read(folder: Path) -> Roster | None:
    """The roster of a run that was begun; None: there is none.

    Raises:
        ConfigError: it is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        body = json.loads(path.read_bytes())
        found = facts.read_fields(body["facts"])
        return Roster(body["run"], found, [Member(*one) for one in body["users"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{str(path)!r} cannot be read ({error}); start the run anew in another folder"
        ) from None
