"""The grid of a deployment: replies as they come, an end in time, nobody under another's name."""

from collections.abc import Iterable

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo

from clients import wire
from experiments.backends.grid import LocalGrid
from experiments.deploy import grid as grid_module
from experiments.deploy.grid import Watched
from fedmeta import seeding


class Clock:
    """Time that passes when somebody sleeps, and only then."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    monkeypatch.setattr(grid_module, "time", own)
    Slow({}, ("",), own)  # messages can be made in a run only
    return own


class Slow(LocalGrid):
    """Replies that come one after the other, some never; two nodes with registered names."""

    def __init__(
        self, replies: dict[int, tuple[float, Message]], names: tuple[str, ...], clock: Clock
    ) -> None:
        super().__init__(len(names))
        self._replies, self._names, self.clock = replies, names, clock

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [str(number) for number, _ in enumerate(messages, 1)]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        there = []
        for number in list(message_ids):
            after, reply = self._replies.get(int(number), (1e9, None))
            if reply is not None and self.clock.now >= after:
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
    messages = [wire.hello_message(ConfigRecord({}), number) for number in range(1, count + 1)]
    got = Watched(grid, poll=0.01).send_and_receive(messages, timeout=timeout)
    return [(grid.clock.now, reply) for reply in got]


def test_replies_go_on_as_they_come_and_time_ends_them(clock: Clock) -> None:
    replies = {1: (0.0, _hello(1, "ann")), 2: (0.3, _hello(2, "ben"))}
    got = _asked(Slow(replies, ("ann", "ben", "cem"), clock), 3, timeout=0.8)
    assert [reply.metadata.src_node_id for _, reply in got] == [1, 2]
    assert [at for at, _ in got] == pytest.approx([0.0, 0.3], abs=0.011)
    assert clock.now == pytest.approx(0.8, abs=0.011)


def test_a_node_cannot_say_that_it_is_another(clock: Clock) -> None:
    replies = {1: (0.0, _hello(1, "ann")), 2: (0.0, _hello(2, "ann"))}
    got = {
        reply.metadata.src_node_id: reply
        for _, reply in _asked(Slow(replies, ("ann", "ben"), clock), 2, timeout=5.0)
    }
    assert wire.read_hello(got[1]).user == f"{seeding.key('user', 'ann'):016x}"
    assert got[2].content == RecordDict()


def test_nodes_without_registered_names_are_believed(clock: Clock) -> None:
    ((_, reply),) = _asked(Slow({1: (0.0, _hello(1, "ann"))}, ("",), clock), 1, timeout=5.0)
    assert wire.read_hello(reply).examples == 3
