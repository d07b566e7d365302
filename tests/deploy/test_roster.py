"""Who is on which node: found by asking, kept with the run, and not to be taken by another."""

from pathlib import Path

import pytest

from clients import wire
from fedmeta.config import Config, ConfigError, flatten
from fedmeta.data.splits import hashed
from fedmeta.facts import Facts, fields, read, read_fields, write
from fedmeta.seeding import key
from strategies import roster
from strategies.roster import Member, Roster
from tests.deploy.nodes import config

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


def test_nobody_speaks_for_a_user_whom_two_nodes_claim_to_be() -> None:
    said = {3: hello("ann"), 7: hello("ben"), 9: hello("ann")}
    assert roster.undisputed(said) == {7: said[7]}
