"""Hostile replies to the real strategy: none is taken, none ends the run, not a bit changes."""

import gc
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    Metadata,
    MetricRecord,
    RecordDict,
)

from clients import wire
from clients.app import app
from experiments.backends.inline import InlineGrid
from experiments.summary import weights_sha256
from fedmeta import sent
from fedmeta.config import flatten
from fedmeta.problem import Problem
from fedmeta.types import Params
from strategies.federated import Federated
from tests.engine.cases import problem

WORTH = 64 << 20
"""Bytes of a bomb."""


@cache
def given(name: str = "maml") -> Problem:
    return problem(
        method__name=name,
        federation__chunk=1,
        federation__rounds=2,
        federation__weighting="examples",
        run__on_client_error="fail",  # which is about failures: a bad reply is none
    )


class Replies:
    """Honest replies of a round, as raw parts, of which any number of messages can be made."""

    def __init__(self, run: Problem, number: int = 1) -> None:
        grid = InlineGrid(app, flatten(run.config), 2)
        strategy = Federated(run)
        strategy._before = number - 1
        arrays = wire.arrays(strategy.state.meta)
        self.sent = list(strategy.configure_train(1, arrays, ConfigRecord(), grid))
        self.honest = list(grid.send_and_receive(self.sent))

    def copy(self, at: int) -> Message:
        """A message of its own that nobody else holds."""
        old = self.honest[at]
        content = RecordDict(
            {
                wire.SUM: ArrayRecord(dict(old.content.array_records[wire.SUM])),
                wire.REPORT: ConfigRecord(dict(old.content.config_records[wire.REPORT])),
            }
        )
        keys = (
            "run_id", "message_id", "src_node_id", "dst_node_id", "reply_to_message_id",
            "group_id", "created_at", "ttl", "message_type",
        )  # fmt: skip
        made = Message(content, dst_node_id=1, message_type="train")
        made.__dict__["_metadata"] = Metadata(**{key: getattr(old.metadata, key) for key in keys})
        return made


@cache
def replies(name: str = "maml") -> Replies:
    return Replies(given(name))


@cache
def stale() -> Replies:
    return Replies(given(), 2)


def aggregated(arrived: list[Message], name: str = "maml") -> Federated:
    """The strategy after a round with these replies."""
    run = given(name)
    strategy = Federated(run)
    strategy._shapes = known(name)
    grid = InlineGrid(app, flatten(run.config), 2)
    list(strategy.configure_train(1, wire.arrays(strategy.state.meta), ConfigRecord(), grid))
    strategy.aggregate_train(1, iter(arrived))
    return strategy


@cache
def known(name: str) -> Callable[[Params, int], sent.Shapes]:
    """They are the same for all strategies here, and take longer to find out than all the rest."""
    return sent.remembered(given(name))


def some(reply: Message, draw: Random) -> tuple[ArrayRecord, str, Array]:
    record = reply.content.array_records[wire.SUM]
    name = draw.choice(sorted(record))
    return record, name, record[name]


def report(reply: Message) -> ConfigRecord:
    return reply.content.config_records[wire.REPORT]


Mutator = Callable[[Message, Random], Message]


def array(change: Callable[[np.ndarray, Random], np.ndarray]) -> Mutator:
    """Other numbers under the same name, as numpy would write them."""

    def mutate(reply: Message, draw: Random) -> Message:
        record, name, old = some(reply, draw)
        with np.errstate(all="ignore"):
            record[name] = Array(change(old.numpy().copy(), draw))
        return reply

    return mutate


def raw(change: Callable[[Array, Random], tuple[object, object, object, object]]) -> Mutator:
    """Other fields of an array, past all checks of Flower's."""

    def mutate(reply: Message, draw: Random) -> Message:
        record, name, old = some(reply, draw)
        made = Array(old.dtype, tuple(old.shape), old.stype, old.data)
        made.dtype, made.shape, made.stype, made.data = change(old, draw)  # type: ignore[assignment]
        record[name] = made
        return reply

    return mutate


def header(
    descr: str, shape: str, body: Callable[[Array], bytes], fortran: str = "False"
) -> Mutator:
    """A file whose header lies."""

    def change(old: Array, draw: Random) -> tuple[object, ...]:
        of = str(tuple(old.shape))
        text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape or of}, }}"
        text = text.ljust(117) + "\n"
        start = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
        return old.dtype, old.shape, old.stype, start + body(old)

    return raw(change)  # type: ignore[arg-type]


def field(name: str, value: Callable[[object, Random], object]) -> Mutator:
    def mutate(reply: Message, draw: Random) -> Message:
        # Past Flower's own checks of types.
        report(reply).__dict__["_data"][name] = value(report(reply)[name], draw)
        return reply

    return mutate


def one(value: float) -> Mutator:
    def change(numbers: np.ndarray, draw: Random) -> np.ndarray:
        numbers.reshape(-1)[draw.randrange(numbers.size)] = value
        return numbers

    return array(change)


def metadata(name: str, value: Callable[[object, Random], object]) -> Mutator:
    def mutate(reply: Message, draw: Random) -> Message:
        reply.metadata.__dict__[f"_{name}"] = value(getattr(reply.metadata, name), draw)
        return reply

    return mutate


def parts(change: Callable[[RecordDict, Random], None]) -> Mutator:
    """Other records; ``change`` may do to them what it likes."""

    def mutate(reply: Message, draw: Random) -> Message:
        change(reply.content, draw)
        return reply

    return mutate


def names(change: Callable[[ArrayRecord, str], None]) -> Mutator:
    def mutate(reply: Message, draw: Random) -> Message:
        record, name, _ = some(reply, draw)
        change(record, name)
        return reply

    return mutate


def both(reply: Message, draw: Random) -> Message:
    reply.__dict__["_error"] = Error(2, "and yet here is something")
    return reply


def neither(reply: Message, draw: Random) -> Message:
    reply.__dict__["_content"] = None
    return reply


def late(reply: Message, draw: Random) -> Message:
    """The reply of the same node for the same chunk, in another round."""
    return next(
        old for old in map(stale().copy, range(len(stale().honest)))
        if report(old)["chunk"] == report(reply)["chunk"]
    )  # fmt: skip


def bytes_of(change: Callable[[bytes, Random], bytes]) -> Mutator:
    return raw(lambda old, draw: (old.dtype, old.shape, old.stype, change(old.data, draw)))


def cut(data: bytes, draw: Random) -> bytes:
    return data[: draw.randrange(len(data))]


def flip(data: bytes, draw: Random) -> bytes:
    """One bit of the header: magic, version, length, or text up to the end of the shape."""
    at = draw.randrange(data.index(b"}"))
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def body(old: Array) -> bytes:
    return old.data[128:]


def rows(old: Array) -> bytes:
    return bytes(8)


MUTATORS: dict[str, Mutator] = {
    "a NaN": one(np.nan),
    "an infinity": one(-np.inf),
    "1e30": one(1e30),
    "the largest": one(3.4e38),
    "all NaN": array(lambda x, d: x * np.nan),
    "scaled": array(lambda x, d: x * 0 + 10.0 ** d.randrange(4, 30)),
    "float64": array(lambda x, d: x.astype(np.float64)),
    "float16": array(lambda x, d: x.astype(np.float16)),
    "integers": array(lambda x, d: x.astype(d.choice([np.int8, np.int32, np.int64, np.uint16]))),
    "booleans": array(lambda x, d: x > 0),
    "complex": array(lambda x, d: x.astype(np.complex64)),
    "text": array(lambda x, d: x.astype("U8")),
    "big-endian": array(lambda x, d: x.astype(">f4")),
    "dates": array(lambda x, d: x.astype("int64").astype("datetime64[s]")),
    "scalar": array(lambda x, d: np.array(x.sum())),
    "flat": array(lambda x, d: np.append(x.reshape(-1), x.dtype.type(0))),
    "one more axis": array(lambda x, d: x[None]),
    "empty": array(lambda x, d: x[:0]),
    "one row more": array(lambda x, d: np.concatenate([x, x[:1]])),
    "no type": header("'|V0'", "(1000000000000,)", rows),
    "objects": header("'|O'", "", lambda old: b"\x80\x04cos\nsystem\n."),
    "2^40 numbers": header("'<f4'", "(1099511627776,)", body),
    "40 axes": header("'<f4'", str((1,) * 40), body),
    "negative": header("'<f4'", "(-1,)", body),
    "other shape inside": header("'<f4'", "(3, 3, 3)", body),
    "an expression": header("'<f4'", "(__import__('os').getpid(),)", body),
    "no end": header("'<f4'", "(" * 60, body),
    "fields": header("[('a', '<f4')]", "", body),
    "not an order": header("'<f4'", "", body, "2"),
    "label lies of shape": raw(lambda o, d: (o.dtype, (2**40, 2**40), o.stype, o.data)),
    "label lies of type": raw(lambda o, d: ("float64", o.shape, o.stype, o.data)),
    "label is of no kind": raw(lambda o, d: (7, None, d.random(), o.data)),
    "another store": raw(lambda o, d: (o.dtype, o.shape, "pickle", o.data)),
    "not bytes": raw(lambda o, d: (o.dtype, o.shape, o.stype, d.choice([None, "x", 3, [1]]))),
    "cut": bytes_of(cut),
    "a bit of the header": bytes_of(flip),
    "more bytes": bytes_of(lambda data, d: data + d.randbytes(d.randrange(1, 99))),
    "noise": bytes_of(lambda data, d: d.randbytes(len(data))),
    "another version": bytes_of(lambda data, d: data[:6] + bytes([d.randrange(2, 9)]) + data[7:]),
    "a zip": bytes_of(lambda data, d: b"PK\x03\x04" + data),
    "a pickle": bytes_of(lambda data, d: b"\x80\x04cos\nsystem\n(S'true'\ntR."),
    "header of 64 kB": bytes_of(lambda data, d: data[:8] + b"\xff\xff" + data[10:] + bytes(70_000)),
    "64 MB of numbers": bytes_of(lambda data, d: data + bytes(WORTH)),
    "64 MB of reason": field("reason", lambda v, d: "x" * WORTH),
    "64 MB besides": parts(lambda c, d: c.__setitem__("more", ConfigRecord({"x": bytes(WORTH)}))),
    "a name less": names(lambda r, n: r.__delitem__(n)),
    "a name more": names(lambda r, n: r.__setitem__("own/secret", r[n])),
    "another name": names(lambda r, n: r.__setitem__(n + "_", r.pop(n))),
    "no names": names(lambda r, n: r.clear()),
    "a list for an array": names(lambda r, n: r.__dict__["_data"].__setitem__(n, [1.0])),
    "weight": field("weight", lambda v, d: d.choice([-39.0, 0.0, np.nan, np.inf, 1e18, 1e-9])),
    "some weight": field("weight", lambda v, d: float(v) + d.choice([0.5, 1000.0])),  # type: ignore[arg-type]
    "weight of a kind": field("weight", lambda v, d: d.choice([None, [1.0], "1", 2, True])),
    "users": field("users", lambda v, d: d.choice([-1, 0, 2, 2**62, 1.0, True, None])),
    "chunk": field("chunk", lambda v, d: d.choice([-1, 99, 2**62, 0.0, True, None, "0"])),
    # Of the other node: which of its own chunks a node answers first cannot be told.
    "a neighbour's chunk": field("chunk", lambda v, d: int(v) + 1 if int(v) < 6 else 5),  # type: ignore[call-overload]
    "failed": field("failed", lambda v, d: d.choice([[0, 0], [-5], [2**62], None, "x", [[1]]])),
    "many failed": field("failed", lambda v, d: list(range(100_000))),
    "a field more": parts(lambda c, d: c.config_records[wire.REPORT].__setitem__("x", 1)),
    "a field less": parts(lambda c, d: c.config_records[wire.REPORT].__delitem__(
        d.choice(["chunk", "weight", "users", "failed", "reason"]))),
    "no report": parts(lambda c, d: c.__delitem__(wire.REPORT)),
    "no sum": parts(lambda c, d: c.__delitem__(wire.SUM)),
    "a record more": parts(lambda c, d: c.__setitem__("m", MetricRecord({"num-examples": 1}))),
    "a report of metrics": parts(lambda c, d: c.__setitem__(wire.REPORT, MetricRecord({"a": 1}))),
    "another node": metadata("src_node_id", lambda v, d: d.choice([3, 0, -1, 2**63, None, "1"])),
    "the other node": metadata("src_node_id", lambda v, d: 3 - int(v)),  # type: ignore[call-overload]
    "another round": metadata("group_id", lambda v, d: d.choice(["0", "2", "", "x" * 999, None])),
    "late": late,
    "error and content": both,
    "neither": neither,
}  # fmt: skip


@pytest.fixture(scope="module")
def expected() -> dict[int, str]:
    """The weights after a round that lacks one of the replies, by the place of that one."""
    honest, out = replies().honest, {}
    for at in range(len(honest)):
        silent = Message(Error(2, "gone"), reply_to=replies().sent[at])
        run = given()
        quiet = run._replace(config=run.config.model_copy(update={
            "run": run.config.run.model_copy(update={"on_client_error": "skip"})}))  # fmt: skip
        strategy = Federated(quiet)
        strategy._shapes = known("maml")
        grid = InlineGrid(app, flatten(run.config), 2)
        list(strategy.configure_train(1, wire.arrays(strategy.state.meta), ConfigRecord(), grid))
        there = [replies().copy(i) for i in range(len(honest)) if i != at]
        strategy.aggregate_train(1, iter([silent, *there]))
        out[at] = weights_sha256(strategy.state.meta)
    out[-1] = weights_sha256(aggregated([replies().copy(i) for i in range(len(honest))]).state.meta)
    assert len(set(out.values())) == len(honest) + 1
    return out


def peak_mb() -> float:
    """Peak resident memory of this process since :func:`forget`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def forget(thoroughly: bool) -> float:
    """Count peak memory from now on; what is resident, without the bombs of before."""
    if thoroughly:
        gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()


def refuses(name: str, seed: int, expected: dict[int, str]) -> None:
    draw = Random(f"{name} {seed}")
    count = len(replies().honest)
    arrived = [replies().copy(i) for i in range(count)]
    at = draw.randrange(count)
    arrived[at] = MUTATORS[name](arrived[at], draw)
    draw.shuffle(arrived)
    before = forget(name.startswith("64 MB"))
    strategy = aggregated(arrived)
    assert peak_mb() - before < 100 - (WORTH >> 20), (name, seed)
    assert weights_sha256(strategy.state.meta) == expected[at], (name, seed)
    assert sum(strategy._last.refused.values()) == 1
    assert (strategy._last.users, strategy._last.failed) == (count - 1, 1)
    assert 0 < len(strategy._last.why) < 1000


@pytest.mark.parametrize("name", MUTATORS)
def test_a_bad_reply_costs_its_sender_and_nobody_else(name: str, expected: dict[int, str]) -> None:
    refuses(name, 0, expected)


@pytest.mark.slow
def test_all_of_them(expected: dict[int, str]) -> None:
    assert 25 * len(MUTATORS) >= 1000
    for name in MUTATORS:
        for seed in range(25):
            refuses(name, seed, expected)


def test_a_second_reply_counts_for_nothing(expected: dict[int, str]) -> None:
    arrived = [replies().copy(i) for i in (0, 0, 1, 2, 3, 2, 4, 5, 6)]
    strategy = aggregated(arrived)
    assert weights_sha256(strategy.state.meta) == expected[-1]
    assert strategy._last.refused == {"chunk": 2}
    assert strategy._last.failed == 0
