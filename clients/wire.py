"""What crosses the wire: the only place that knows the keys of Flower's records.

A message to a client holds the server's parameters and an order; a reply to `train` holds one
sum over users, a reply to `evaluate` one row of scores per user.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from numpy.typing import NDArray

from fedmeta.cohort import Trial
from fedmeta.params import SHARE
from fedmeta.types import Params

META = "meta"
SUM, SCORES, REPORT = "sum", "scores", "report"
HELLO, PERSONALIZE = (f"{MessageType.QUERY}.{name}" for name in ("hello", "personalize"))
_ORDER, _MADE, _TOLD, _HELLO = "order", "made", "told", "hello"
_KEY = re.compile(r"[0-9a-f]{16}")
MOST_EXAMPLES = 2**31
"""What a user may say that he has is less: sums over all users are to stay numbers."""

Read = Callable[[str, Array], NDArray[np.floating]]


class Order(NamedTuple):
    """What a client is asked to do.

    Attributes:
        round: the round; it keys every random draw.
        chunk: number of the chunk in the round, by which replies are put in order.
        users: indices of the users.
        rates, steps, shots: for `evaluate`, the trials.
        clip: for `train`, the largest norm of what a user sends; 0: no bound.
    """

    round: int
    chunk: int
    users: list[int]
    rates: Sequence[float] = ()
    steps: Sequence[int] = ()
    shots: Sequence[int] = ()
    clip: float = 0.0


class Sum(NamedTuple):
    """A reply to `train`: a sum over the users of a chunk.

    Attributes:
        chunk: number of the chunk.
        total: weighted sum of the contributions, or where the server needs them one by one (it
            makes each user's parameters, or a robust rule) they themselves, ``(users, ...)``.
        weight: sum of the weights.
        users: users in the sum.
        failed: indices of users that are not in it.
        reason: why the first of them failed, with the traceback; else why a batch raised.
        again: batches that raised and were computed again user by user.
        spent: users who take no part since it would pass their privacy budget; not named.
    """

    chunk: int
    total: dict[str, NDArray[np.floating]]
    weight: float
    users: int
    failed: list[int]
    reason: str
    again: int = 0
    spent: int = 0


def arrays_in(message: Message, name: str) -> ArrayRecord:
    """A record of arrays. Flower's views by type copy all records every time they are looked at.

    Raises:
        TypeError: the record is of another type.
    """
    record = message.content[name]
    if not isinstance(record, ArrayRecord):
        raise TypeError(f"{name!r} is {type(record).__name__}; expected ArrayRecord")
    return record


def fields_in(message: Message, name: str) -> ConfigRecord:
    """A record of fields; see :func:`arrays_in`."""
    record = message.content[name]
    if not isinstance(record, ConfigRecord):
        raise TypeError(f"{name!r} is {type(record).__name__}; expected ConfigRecord")
    return record


class Hello(NamedTuple):
    """What a node says of its user.

    Attributes:
        user: his pseudonym, the 64 bits of his key in hexadecimal.
        rank: 64 bits by which users are split, in hexadecimal.
        split: the one that his data name; empty: none.
        examples: how many he has; 0 where that is not told.
        enough: whether he can take part with them.
    """

    user: str
    rank: str
    split: str
    examples: int
    enough: bool


def arrays(params: Params) -> ArrayRecord:
    """The server's parameters as a record."""
    return ArrayRecord({name: Array(value.cpu().numpy()) for name, value in params.items()})


def params(record: ArrayRecord, device: torch.device | None = None) -> dict[str, torch.Tensor]:
    """The parameters in a record."""
    return {name: torch.from_numpy(array.numpy()).to(device) for name, array in record.items()}


def order_message(
    record: ArrayRecord,
    order: Order,
    node: int,
    message_type: str,
    trials: Sequence[Trial] = (),
    made: ArrayRecord | None = None,
    told: ConfigRecord | None = None,
) -> Message:
    """A message to a node: the server's parameters, an order, what was made for its users.

    ``told`` is what real nodes cannot know otherwise (:func:`told`).
    """
    fields = order._asdict() | {
        "rates": [trial.inner.rate for trial in trials],
        "steps": [trial.inner.steps for trial in trials],
        "shots": [trial.shots for trial in trials],
    }
    content = RecordDict({META: record, _ORDER: ConfigRecord(fields)})
    if made is not None:
        content[_MADE] = made
    if told is not None:
        content[_TOLD] = told
    return Message(content, dst_node_id=node, message_type=message_type, group_id=str(order.round))


def told(run: str, facts: Mapping[str, Any]) -> ConfigRecord:
    """The name of a run and its public facts, as a record of their own."""
    return ConfigRecord({"run": run, **facts})


def read_told(message: Message) -> tuple[str, dict[str, Any]]:
    """The name of the run and its facts."""
    fields: dict[str, Any] = dict(message.content.config_records[_TOLD])
    run = fields.pop("run")
    if type(run) is not str or not 0 < len(run) <= 200:
        raise ValueError(f"run = {run!r:.60}: expected a text of at most 200 letters")
    return run, fields


def hello_message(told: ConfigRecord, node: int) -> Message:
    """The question who is there."""
    return Message(RecordDict({_TOLD: told}), dst_node_id=node, message_type=HELLO)


def hello_reply(message: Message, me: Hello) -> Message:
    """The answer."""
    return Message(RecordDict({_HELLO: ConfigRecord(me._asdict())}), reply_to=message)


def done_reply(message: Message) -> Message:
    """The answer that what was asked is done, and nothing more."""
    return Message(RecordDict({_HELLO: ConfigRecord({"done": True})}), reply_to=message)


def read_hello(message: Message) -> Hello:
    """What a node has said.

    Raises:
        KeyError, TypeError, ValueError: something else.
    """
    me = Hello(**message.content.config_records[_HELLO])  # type: ignore[arg-type]
    types = [type(one) for one in me]
    if types != [str, str, str, int, bool] or not 0 <= me.examples < MOST_EXAMPLES:
        raise ValueError("no answer to a hello")
    if not all(_KEY.fullmatch(one) for one in (me.user, me.rank)):
        raise ValueError("user or rank is not 64 bits in hexadecimal")
    if me.split not in ("", "train", "valid", "test"):
        raise ValueError(f"split {me.split!r:.40}")
    return me


def read_order(message: Message) -> tuple[ArrayRecord, Order]:
    """The parameters and the order in a message."""
    fields = dict(fields_in(message, _ORDER))
    return arrays_in(message, META), Order(**fields)  # type: ignore[arg-type]


def read_made(message: Message) -> ArrayRecord:
    """What was made for each user of the order, ``(U, ...)``; nothing for most methods."""
    return message.content.array_records.get(_MADE, ArrayRecord())


def dtype_of(users: int, apart: bool) -> str:
    """The type of the numbers in a reply to `train`: single users' are as they were made."""
    return "float32" if users == 1 or apart else "float64"


def sum_reply(message: Message, reply: Sum) -> Message:
    """A reply to `train`. What single users sent goes in the precision it was made in."""
    dtype = dtype_of(reply.users, SHARE in reply.total)
    total = {name: Array(value.astype(dtype)) for name, value in reply.total.items()}
    fields = reply._asdict()
    del fields["total"]
    content = RecordDict({SUM: ArrayRecord(total), REPORT: ConfigRecord(fields)})
    return Message(content, reply_to=message)


def read_sum(message: Message, read: Read = lambda name, array: array.numpy()) -> Sum:
    """The sum in a reply to `train`, in float64; ``read`` makes numbers of an array."""
    record = arrays_in(message, SUM)
    total = {name: read(name, array).astype(np.float64) for name, array in record.items()}
    fields = dict(fields_in(message, REPORT))
    return Sum(total=total, **fields)  # type: ignore[arg-type]


def scores_reply(message: Message, users: list[int], scores: NDArray[np.float64]) -> Message:
    """A reply to `evaluate`: scores ``(trials, columns, users)`` of the users."""
    content = RecordDict(
        {SCORES: ArrayRecord({SCORES: Array(scores)}), REPORT: ConfigRecord({"users": users})}
    )
    return Message(content, reply_to=message)


def read_scores(
    message: Message, read: Read = lambda name, array: array.numpy()
) -> tuple[list[int], NDArray[np.floating]]:
    """Users and scores in a reply to `evaluate`; ``read`` makes numbers of the array."""
    users = fields_in(message, REPORT)["users"]
    return users, read(SCORES, arrays_in(message, SCORES)[SCORES])  # type: ignore[return-value]
