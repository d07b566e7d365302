"""What a reply must be before it may touch the model: a bad one costs its sender, never the run.

All that can be told from names, headers and lengths is told before an array exists, so that a
reply that lies about its size costs no memory. Nothing here depends on the order of arrival.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message
from numpy.typing import NDArray

from clients import wire
from fedmeta.params import SHARE
from fedmeta.sent import Shapes, Weights
from strategies.norms import fits, squares
from strategies.npy import NotAnArrayError, numbers

LONGEST_REASON = 100_000
"""Most letters of a client's reason for a failure."""


KINDS = {
    "chunk": int, "weight": float, "users": int, "failed": list, "reason": str, "again": int,
    "spent": int,
}  # fmt: skip
"""Fields of a report."""


class RefusedError(ValueError):
    """Why a reply is not taken: a code to count by, and a sentence."""

    def __init__(self, code: str, sentence: str, chunk: int | None = None) -> None:
        """``code`` is one word; ``sentence`` has the name, the value and the rule.

        ``chunk`` is given where the reply is that of the node that was asked for it.
        """
        super().__init__(f"{code}: {sentence}")
        self.code, self.chunk = code, chunk


class Asked(NamedTuple):
    """A chunk as it was sent: to which node, and its users."""

    node: int
    users: list[int]


class Expected(NamedTuple):
    """What honest replies of a round are.

    Attributes:
        group: the round, as the messages name it.
        shapes: gives what one user sends; asked for only when somebody has sent something.
        weights: what his weight may be.
        apart: whether users' contributions come one by one, ``(users, ...)``.
    """

    group: str
    shapes: Callable[[], Shapes]
    weights: Weights
    apart: bool


class Checked(NamedTuple):
    """A reply in which everything is right but perhaps its size.

    Attributes:
        term: what it says; without the rows that are no numbers.
        users: who is in it; a sum may lack some of them, whose budget is spent.
        norms: of the mean contribution ``(1,)``, or of each user's ``(users,)``.
        bad: users whose rows were left out, each with a code.
    """

    term: wire.Sum
    users: NDArray[np.int64]
    norms: NDArray[np.float64]
    bad: list[tuple[int, str]]


def is_failure(reply: Message) -> bool:
    """Whether it is a plain report of a failure; one with content besides is refused.

    Raises:
        RefusedError: both an error and content, or neither.
    """
    if reply.has_error() == reply.has_content():
        raise RefusedError("error", "expected either content or an error")
    return reply.has_error()


def check_sum(reply: Message, asked: Mapping[int, Asked], expected: Expected) -> Checked:
    """The sum in a reply to `train`, with everything checked that needs no other reply.

    Args:
        reply: without an error.
        asked: the chunks that have no reply yet.
        expected: what it must be.

    Raises:
        RefusedError: it is not what was asked for.
    """
    chunk: int | None = None
    try:
        fields = records(reply, wire.SUM, expected.group)
        chunk = sender(reply, fields, asked)
        return _content(reply, chunk, fields, asked[chunk].users, expected)
    except RefusedError as error:
        error.chunk = chunk
        raise
    except Exception as error:  # a foreign message may hold what nobody foresaw
        sentence = f"{type(error).__name__}: {error}"[:300]
        raise RefusedError("unreadable", sentence, chunk) from error


def sender(reply: Message, fields: Mapping[str, object], asked: Mapping[int, Asked]) -> int:
    """The chunk that a reply is for, where it comes from the node that was asked for it."""
    chunk, node = fields.get("chunk"), reply.metadata.src_node_id
    if type(chunk) is not int or chunk not in asked:
        raise RefusedError("chunk", f"chunk {chunk!r:.40} was not asked for, or was answered")
    if asked[chunk].node != node:
        raise RefusedError("sender", f"chunk {chunk} was sent to another node than {node!r:.40}")
    return chunk


def _content(
    reply: Message,
    chunk: int,
    fields: Mapping[str, object],
    everybody: list[int],
    expected: Expected,
) -> Checked:
    users = _report(fields, everybody)
    apart, count = expected.apart, len(users) - int(str(fields["spent"]))
    if apart and 0 < count < len(users):
        raise RefusedError("spent", f"whose rows chunk {chunk} holds is not known")
    one = expected.shapes() if count else {}
    shapes = {name: (count, *shape) if apart else shape for name, shape in one.items()}
    shapes |= {SHARE: (count,)} if apart and count else {}
    record = wire.arrays_in(reply, wire.SUM)
    _names(set(record), set(shapes))
    dtype = wire.dtype_of(count, apart)
    term = wire.read_sum(reply, lambda name, array: numbers_of(name, array, dtype, shapes[name]))
    if not count:
        if term.weight:
            raise RefusedError("weight", f"chunk {chunk} has no users and weight {term.weight!r}")
        return Checked(term, users[:0], np.zeros(0), [])
    if apart:
        return _rows(term, users, expected.weights)
    if not fits(np.array([term.weight]), expected.weights, count)[0]:
        low, high, whole = expected.weights
        raise RefusedError(
            "weight",
            f"chunk {chunk} has weight {term.weight!r}; expected {low:g} to {high:g} for each of"
            f" {count} users{', in all a whole number' if whole else ''}",
        )
    norm = np.sqrt(squares(term.total, 1)) / term.weight
    _finite(norm, term)
    return Checked(term, users, norm, [])


def _rows(term: wire.Sum, users: NDArray[np.int64], weights: Weights) -> Checked:
    """A stack of single contributions, without those users whose rows are no good."""
    share = term.total[SHARE]
    right = fits(share, weights)
    total = {name: value for name, value in term.total.items() if name != SHARE}
    with np.errstate(all="ignore"):
        norms = np.sqrt(squares(total, len(users))) / share
    finite = np.isfinite(norms)
    bad = [(int(user), "weight") for user in users[~right]]
    bad += [(int(user), "finite") for user in users[right & ~finite]]
    checked = Checked(term, users, norms, bad)
    return kept(checked, right & finite) if bad else kept(checked, None)


def kept(checked: Checked, rows: NDArray[np.bool_] | None) -> Checked:
    """A stack with some of its rows (None: all), and the weight that they have."""
    term, users, norms, bad = checked
    total = term.total
    if rows is not None:
        users, norms = users[rows], norms[rows]
        total = {name: value[rows] for name, value in total.items()} if len(users) else {}
    weight = float(total[SHARE].sum()) if total else 0.0
    return Checked(term._replace(total=total, weight=weight, users=len(users)), users, norms, bad)


def records(reply: Message, kind: str, group: str) -> dict[str, object]:
    """The report of a reply that has the records and the round it should have."""
    content = reply.content
    if sorted(content) != sorted((kind, wire.REPORT)):
        names = sorted(content)[:5]
        raise RefusedError("records", f"{names!r:.200}; expected {kind} and {wire.REPORT}")
    if not isinstance(content[kind], ArrayRecord) or not isinstance(
        content[wire.REPORT], ConfigRecord
    ):
        raise RefusedError("records", f"{kind} or {wire.REPORT} is of another kind")
    if reply.metadata.group_id != group:
        raise RefusedError("round", f"of round {reply.metadata.group_id!r:.40}; this is {group}")
    return dict(wire.fields_in(reply, wire.REPORT))


def _report(fields: Mapping[str, object], everybody: list[int]) -> NDArray[np.int64]:
    """The users that have not failed; those whose budget is spent are among them, unnamed."""
    if {name: type(value) for name, value in fields.items()} != KINDS:
        raise RefusedError("report", f"fields {sorted(fields)!r:.200}; expected {sorted(KINDS)}")
    failed, reason, spent = fields["failed"], fields["reason"], fields["spent"]
    if not isinstance(failed, list) or len(failed) > len(everybody):
        raise RefusedError("failed", f"more users failed than the {len(everybody)} asked")
    if len(set(failed)) < len(failed) or not set(failed) <= set(everybody):
        raise RefusedError("failed", f"{failed!r:.200} are not different users of the chunk")
    left = len(everybody) - len(failed)
    if not isinstance(spent, int) or not 0 <= spent <= left or fields["users"] != left - spent:
        counts = f"{fields['users']!r:.40} users and {spent!r:.40} without a budget"
        raise RefusedError("users", f"counts {counts} of {len(everybody)}")
    if not 0 <= int(str(fields["again"])) <= len(everybody):
        raise RefusedError("again", f"{fields['again']!r:.40} batches of {len(everybody)} users")
    if len(str(reason)) > LONGEST_REASON:
        raise RefusedError("reason", f"more than {LONGEST_REASON} letters")
    out = set(failed)
    return np.array([user for user in everybody if user not in out], dtype=np.int64)


def _names(found: set[str], expected: set[str]) -> None:
    if found != expected:
        missing, extra = sorted(expected - found)[:5], sorted(found - expected)[:5]
        raise RefusedError("names", f"missing {missing}, not expected {extra!r:.200}")


def numbers_of(name: str, array: Array, dtype: str, shape: tuple[int, ...]) -> NDArray[np.floating]:
    """The numbers of an array, after its label and its header were compared with the rule."""
    if array.stype != "numpy.ndarray" or array.dtype != dtype:
        raise RefusedError(
            "dtype", f"{name} is {array.stype!r:.40} of {array.dtype!r:.40}; expected {dtype}"
        )
    if tuple(array.shape) != shape:
        raise RefusedError("shape", f"{name} is {array.shape!r:.100}; expected {shape}")
    if not isinstance(array.data, bytes):
        raise RefusedError("header", f"{name} holds {type(array.data).__name__}; expected bytes")
    try:
        return numbers(array.data, dtype, shape)
    except NotAnArrayError as error:
        raise RefusedError("header", f"{name}: {error}") from None


def _finite(norm: NDArray[np.float64], term: wire.Sum) -> None:
    if np.isfinite(norm).all():
        return
    name = next((n for n, v in term.total.items() if not np.isfinite(v).all()), "")
    raise RefusedError("finite", f"{name or 'the norm'} of chunk {term.chunk} has NaN or infinity")
