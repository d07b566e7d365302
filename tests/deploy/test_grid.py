"""The grid of a deployment: replies as they come, an end in time, nobody under another's name."""

import time
from collections.abc import Iterable

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo

from clients import wire
from experiments.backends.grid import LocalGrid
from experiments.deploy.grid import Watched
from fedmeta import seeding


@pytest.fixture(autouse=True)
def _in_a_run() -> None:
    Slow({}, ("",))  # messages can be made in a run only


class Slow(LocalGrid):
    """Replies that come one after the other, some never; two nodes with registered names."""

    def __init__(self, replies: dict[int, tuple[float, Message]], names: tuple[str, ...]) -> None:
        super().__init__(len(names))
        self._replies, self._names = replies, names
        self._began = time.monotonic()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [str(number) for number, _ in enumerate(messages, 1)]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        there = []
        for number in list(message_ids):
            after, reply = self._replies.get(int(number), (1e9, None))
            if reply is not None and time.monotonic() - self._began > after:
                reply.metadata.__dict__["_reply_to_message_id"] = number
                there.append(reply)
        return there

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        raise AssertionError("it is the other grid that does this")

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [NodeInfo(node_id=number, name=name) for number, name in enumerate(self._names, 1)]


def _hello(node: int, name: str) -> Message:
    told = wire.told("run", {})
    asked = wire.hello_message(told, node)
    asked.metadata.__dict__["_src_node_id"] = 99
    me = wire.Hello(f"{seeding.key('user', name):016x}", "0" * 16, "", 3, True)
    reply = wire.hello_reply(asked, me)
    reply.metadata.__dict__["_src_node_id"] = node
    return reply


def _asked(grid: Slow, count: int, timeout: float) -> list[tuple[float, Message]]:
    began = time.monotonic()
    messages = [wire.hello_message(ConfigRecord({}), number) for number in range(1, count + 1)]
    got = Watched(grid, poll=0.01).send_and_receive(messages, timeout=timeout)
    return [(time.monotonic() - began, reply) for reply in got]


def test_replies_go_on_as_they_come_and_time_ends_them() -> None:
    grid = Slow({1: (0.0, _hello(1, "ann")), 2: (0.3, _hello(2, "ben"))}, ("ann", "ben", "cem"))
    began = time.monotonic()
    got = _asked(grid, 3, timeout=0.8)
    assert [reply.metadata.src_node_id for _, reply in got] == [1, 2]
    assert got[0][0] < 0.25 < got[1][0]
    assert 0.8 <= time.monotonic() - began < 3.0


def test_a_node_cannot_say_that_it_is_another() -> None:
    grid = Slow({1: (0.0, _hello(1, "ann")), 2: (0.0, _hello(2, "ann"))}, ("ann", "ben"))
    got = {reply.metadata.src_node_id: reply for _, reply in _asked(grid, 2, timeout=5.0)}
    assert wire.read_hello(got[1]).user == f"{seeding.key('user', 'ann'):016x}"
    assert got[2].content == RecordDict()


def test_nodes_without_registered_names_are_believed() -> None:
    grid = Slow({1: (0.0, _hello(1, "ann"))}, ("",))
    ((_, reply),) = _asked(grid, 1, timeout=5.0)
    assert wire.read_hello(reply).examples == 3
