"""What a node says of its user is held against its form before anything is made of it."""

from types import SimpleNamespace
from typing import cast

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from clients import wire

GOOD = wire.Hello("00112233445566aa", "ffeeddccbbaa0099", "", 12, True)


def said(me: wire.Hello) -> Message:
    content = RecordDict({"hello": ConfigRecord(me._asdict())})
    return cast(Message, SimpleNamespace(content=content))


def test_what_is_well_formed_is_read() -> None:
    assert wire.read_hello(said(GOOD)) == GOOD


@pytest.mark.parametrize(
    "bad",
    [
        GOOD._replace(user="-0112233445566aa"),  # a number, but none of 64 bits without a sign
        GOOD._replace(user="0x112233445566aa"),
        GOOD._replace(user=GOOD.user + GOOD.rank[:15], rank="f"),  # 124 bits and 4
        GOOD._replace(rank="0011_2233445566a"),
        GOOD._replace(examples=2**62),  # two of them are past what an int64 holds
        GOOD._replace(examples=-1),
        GOOD._replace(split="all"),
    ],
)
def test_what_no_population_can_be_made_of_is_refused(bad: wire.Hello) -> None:
    with pytest.raises(ValueError, match=r"hello|hexadecimal|split"):
        wire.read_hello(said(bad))
