"""Who is on which node: found by asking, kept with the run, and not to be taken by another."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message, MessageType

from clients import wire
from experiments.summary import summarize
from fedmeta.config import Config, ConfigError, flatten
from fedmeta.data.splits import hashed
from fedmeta.facts import Facts, facts_of, fields, read, read_fields, write
from fedmeta.head_file import weights_sha256
from fedmeta.seeding import key
from strategies import deployed, roster
from strategies.app import Outcome
from strategies.roster import Member, Roster
from tests.deploy.nodes import NodeGrid, config, divided, simulated, table

FACTS = Facts("classification", ("0", "1"), 16, "hashing")


def hello(name: str, split: str = "", enough: bool = True) -> wire.Hello:
    user, rank = key("user", name), key(0, "user-split", name)
    return wire.Hello(f"{user:016x}", f"{rank:016x}", split, 0, enough)


def test_users_are_divided_as_those_of_a_table() -> None:
    names = tuple(f"user {n}" for n in range(40))
    wanted = dict(zip(names, hashed(names, 0, "table").tolist(), strict=True))
    by_user = {one.user: one.split for one in roster.members([hello(name) for name in names])}
    assert by_user == {f"{key('user', name):016x}": split for name, split in wanted.items()}


def test_who_has_too_little_is_left_out_after_the_split() -> None:
    names = [f"user {n}" for n in range(12)]
    everybody = {one.user: one.split for one in roster.members([hello(n) for n in names])}
    some = roster.members([hello(n, enough=n != "user 3") for n in names])
    assert len(some) == 11
    assert all(everybody[one.user] == one.split for one in some)


def test_a_split_without_users_is_refused() -> None:
    with pytest.raises(ConfigError, match="no valid and no test user among 2"):
        roster.members([hello("a"), hello("b")])
    with pytest.raises(ConfigError, match="no valid"):
        roster.members([hello("a", "train"), hello("b", "test"), hello("c", "test")])


def test_a_user_who_is_online_stays_where_he_is() -> None:
    users = [Member(hello(name).user, 0, 0) for name in "abc"]
    there = Roster("run", FACTS, users)
    there.place({1: hello("a"), 2: hello("b"), 3: hello("x")}, {1, 2, 3})
    there.place({4: hello("a")}, {1, 2, 3, 4})
    assert there._node == {users[0].user: 1, users[1].user: 2}
    there.place({5: hello("a")}, {2, 3, 5})
    assert there._node[users[0].user] == 5


def test_a_roster_is_read_as_it_was_written(tmp_path: Path) -> None:
    there = Roster("run", FACTS, [Member(hello(name).user, 0, 3) for name in "abc"])
    there.write(tmp_path)
    again = roster.read(tmp_path)
    assert again is not None
    assert (again.run, again.facts, again.users) == (there.run, there.facts, there.users)
    (tmp_path / roster.FILE).write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        roster.read(tmp_path)


def test_facts_are_read_as_they_were_written(tmp_path: Path) -> None:
    rich = Facts("regression", (), 2, "identity", 7, ("x",), (0.1, 1 / 3), (2.0, 3.0), -0.7, 1.3)
    for given in (FACTS, rich):
        write(tmp_path / "facts.json", given)
        assert read(tmp_path / "facts.json") == given
    with pytest.raises(ConfigError, match="spread"):
        read_fields({**fields(rich), "spread": [0.0, 1.0]})


def test_nothing_of_the_servers_disk_is_shipped() -> None:
    given = config(Path("/home/operator/all.csv"), backbone={"cache": "/cache"},
                   run={"out": "/runs", "seed": 5})  # fmt: skip
    sent = roster.shipped(given)
    assert set(sent) == set(flatten(Config()))
    assert not [value for value in sent.values() if "/" in str(value)]
    assert (sent["run.seed"], sent["data.support"]) == (5, 4)


def deployed_run(grid: NodeGrid, facts: Facts, folder: Path, given: Config) -> Outcome:
    return deployed.run(grid, given, facts, folder, 5, patience=1)


class Dying(NodeGrid):
    """Somebody's node is gone as soon as users are asked to train."""

    dies = ""

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        for message in messages:
            if message.metadata.message_type == MessageType.TRAIN:
                self.gone = {self.node_of(self.dies)}
            yield from super().send_and_receive([message], timeout=timeout)


class StopError(Exception):
    """Somebody ends the run."""


def stopped_in_round_two(grid: NodeGrid, facts: Facts, folder: Path) -> None:
    """A run that is left there."""

    def stop(event: object) -> None:
        if getattr(event, "round", 0) == 2:
            raise StopError

    with pytest.raises(StopError):
        deployed.run(grid, config(), facts, folder, 5, stop, patience=1)


def test_a_dead_node_costs_its_user_alone(tmp_path: Path) -> None:
    """With one of three training users gone the aggregate is that of the others, bit for bit."""
    federation = {"rounds": 2, "users-per-round": 3}
    problem = simulated(tmp_path, federation=federation)
    given, files = config(federation=federation), divided(tmp_path)
    names = sorted(files)
    whole = NodeGrid(tmp_path / "whole", files, given)
    dying = Dying(tmp_path / "dying", files, given)
    dying.dies = names[0]
    runs = [
        deployed_run(grid, facts_of(problem), tmp_path / f"run {at}", given)
        for at, grid in enumerate((dying, whole))
    ]
    assert [event.users for event in runs[0].history] == [2, 2]
    assert [event.failed for event in runs[0].history] == [1, 1]
    # The two others alone, from the beginning.
    every = table()
    two = every[every["user"] != names[0]]
    rest = NodeGrid(tmp_path / "rest", divided(tmp_path / "two", two), given)
    alone = deployed.run(rest, given, facts_of(problem), tmp_path / "alone", 4, patience=1)
    assert weights_sha256(runs[0].last) == weights_sha256(alone.last)
    assert weights_sha256(runs[0].last) != weights_sha256(runs[1].last)


def test_a_node_that_comes_back_under_another_number_is_found(tmp_path: Path) -> None:
    problem, files = simulated(tmp_path), divided(tmp_path)

    class Moving(NodeGrid):
        def send_and_receive(
            self, messages: Iterable[Message], *, timeout: float | None = None
        ) -> Iterator[Message]:
            given = list(messages)
            yield from super().send_and_receive(given, timeout=timeout)
            if any(one.metadata.message_type == wire.HELLO for one in given):
                return
            context = self.contexts.pop(min(self.contexts))
            new = max(self.contexts) + 7
            self.contexts[new] = replace(context, node_id=new)

    moving = Moving(tmp_path / "moving", files, config())
    still = NodeGrid(tmp_path / "still", files, config())
    runs = [deployed_run(one, facts_of(problem), tmp_path / str(at), config())
            for at, one in enumerate((moving, still))]  # fmt: skip
    assert weights_sha256(runs[0].last) == weights_sha256(runs[1].last)
    assert [event.users for event in runs[0].history] == [2, 2, 2]


def test_refusals_are_counted_and_the_run_goes_on(tmp_path: Path) -> None:
    problem, given = simulated(tmp_path), config(federation={"users-per-round": 3})
    grid = NodeGrid(tmp_path, divided(tmp_path), given)

    class Changing(NodeGrid):
        def send_and_receive(
            self, messages: Iterable[Message], *, timeout: float | None = None
        ) -> Iterator[Message]:
            yield from super().send_and_receive(messages, timeout=timeout)
            self.allow(next(iter(self.folders)), "max-steps = 1")  # after the first questions

    changing = Changing(tmp_path, divided(tmp_path), given)
    outcome = deployed_run(changing, facts_of(problem), tmp_path / "run", given)
    assert [dict(event.refused) for event in outcome.history] == [{"node-policy": 1}] * 3
    assert [event.users for event in outcome.history] == [2, 2, 2]
    assert "node-policy" not in outcome.history[0].why
    assert grid.nodes == 5


def test_a_run_goes_on_under_its_own_roster(tmp_path: Path) -> None:
    problem = simulated(tmp_path)
    whole = NodeGrid(tmp_path / "whole", divided(tmp_path), config())
    once = deployed_run(whole, facts_of(problem), tmp_path / "once", config())

    grid = NodeGrid(tmp_path / "twice", divided(tmp_path), config())
    stopped_in_round_two(grid, facts_of(problem), tmp_path / "run")
    outcome = deployed_run(grid, facts_of(problem), tmp_path / "run", config())
    assert outcome.before >= 1
    assert weights_sha256(outcome.last) == weights_sha256(once.last)
    speed = {"wall_s": 1.0}
    assert summarize(outcome, speed)["weights_sha256"] == weights_sha256(once.last)


def test_a_node_that_answers_late_after_a_resume_is_asked_again(tmp_path: Path) -> None:
    """It had lost the server, and tries again when others have answered already."""
    problem = simulated(tmp_path)
    whole = NodeGrid(tmp_path / "whole", divided(tmp_path), config())
    once = deployed_run(whole, facts_of(problem), tmp_path / "once", config())
    withheld: list[int] = []

    class Late(NodeGrid):
        late = False

        def send_and_receive(
            self, messages: Iterable[Message], *, timeout: float | None = None
        ) -> Iterator[Message]:
            for reply in super().send_and_receive(messages, timeout=timeout):
                node = reply.metadata.src_node_id
                if self.late and reply.metadata.message_type == wire.HELLO and not withheld:
                    withheld.append(node)
                else:
                    yield reply

    grid = Late(tmp_path / "twice", divided(tmp_path), config())
    stopped_in_round_two(grid, facts_of(problem), tmp_path / "run")
    grid.late = True
    outcome = deployed_run(grid, facts_of(problem), tmp_path / "run", config())
    assert withheld
    assert [event.failed for event in outcome.history] == [0, 0, 0]
    assert weights_sha256(outcome.last) == weights_sha256(once.last)


def test_who_never_answers_is_not_asked_for_ever(tmp_path: Path) -> None:
    problem, asked = simulated(tmp_path, federation={"rounds": 5}), list[int]()
    given = config(federation={"rounds": 5})

    class Mute(NodeGrid):
        def send_and_receive(
            self, messages: Iterable[Message], *, timeout: float | None = None
        ) -> Iterator[Message]:
            mute = max(self.contexts)
            for reply in super().send_and_receive(messages, timeout=timeout):
                if reply.metadata.message_type != wire.HELLO:
                    yield reply
                elif reply.metadata.src_node_id == mute:
                    asked.append(mute)
                else:
                    yield reply

    files = divided(tmp_path)
    mute = Mute(tmp_path / "mute", files | {"zoe": files[min(files)]}, given)
    deployed.run(mute, given, facts_of(problem), tmp_path / "run", 6, patience=1)
    assert len(asked) == 1 + roster.TRIES


def test_noise_of_a_server_is_never_the_same(tmp_path: Path) -> None:
    private: dict[str, Any] = {"privacy": {"unit": "user", "noise-multiplier": 0.5}}
    problem = simulated(tmp_path, **private)
    runs = [
        deployed_run(
            NodeGrid(tmp_path / str(at), divided(tmp_path), config(**private)),
            facts_of(problem), tmp_path / f"run {at}", config(**private),
        )
        for at in range(2)
    ]  # fmt: skip
    assert weights_sha256(runs[0].last) != weights_sha256(runs[1].last)
    assert all(bool(value.isfinite().all()) for value in runs[0].last.values())


def test_nobody_speaks_for_a_user_whom_two_nodes_claim_to_be() -> None:
    said = {3: hello("ann"), 7: hello("ben"), 9: hello("ann")}
    assert roster.undisputed(said) == {7: said[7]}
