"""Ways to spoil a reply, by name."""

from collections.abc import Callable
from random import Random

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)

from clients import wire
from tests.federation.honest import stale

WORTH = 64 << 20


"""Bytes of a bomb."""


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
