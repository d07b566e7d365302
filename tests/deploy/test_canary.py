"""What stands in a user's records stands in nothing that leaves his node, whatever goes wrong."""

from pathlib import Path
from typing import Any

import pytest
from flwr.app import MessageType

import clients.node
import clients.own_data
from clients import answers, charging, own_model, policy, wire
from fedmeta import backbones, evaluation, facts, loop
from fedmeta.data import own
from tests.deploy.nodes import CANARY, One, one, said

KINDS = (wire.HELLO, MessageType.TRAIN, MessageType.EVALUATE, wire.PERSONALIZE)
ERRORS: list[BaseException] = [
    *(kind(f"{CANARY} in the way")
     for kind in (
        ValueError, TypeError, KeyError, IndexError, RuntimeError, OSError, MemoryError,
        ZeroDivisionError, ArithmeticError, AssertionError, AttributeError, ImportError,
        NameError, NotImplementedError, RecursionError, StopIteration, TimeoutError,
        ConnectionError, UserWarning,
    )),
    UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, CANARY),
]  # fmt: skip
PLACES: list[tuple[Any, str, tuple[str, ...]]] = [
    (policy, "read", KINDS),
    (facts, "read_fields", KINDS),
    (clients.node, "raw_of", KINDS),
    (own, "own", KINDS),
    (backbones, "features", KINDS),
    (clients.own_data, "populate", KINDS),
    (clients.node, "initial", KINDS[1:]),
    (charging, "admitted", KINDS[1:2]),
    (loop, "prepared", KINDS[1:2]),
    (answers, "keep", KINDS[1:2]),
    (evaluation, "evaluate", KINDS[2:3]),
    (own_model, "make", KINDS[3:]),
    (own_model, "write", KINDS[3:]),
]
"""Where it goes wrong: in reading, encoding, charging, computing, keeping."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> One:
    return one(tmp_path_factory.mktemp(CANARY))


def test_the_data_are_full_of_it(node: One) -> None:
    context = node.grid.contexts[node.grid.node_of(node.name)]
    assert Path(str(context.node_config["data"])).read_text().count(CANARY) > 10
    assert CANARY in node.name
    assert CANARY in str(node.folder)


@pytest.mark.parametrize("kind", KINDS)
def test_honest_replies_do_not_hold_it(kind: str, node: One) -> None:
    reply = node.reply(node.message(kind))
    assert reply.has_content()
    assert CANARY.encode() not in said(reply)


@pytest.mark.parametrize("place", PLACES, ids=[f"{m.__name__}.{n}" for m, n, _ in PLACES])
def test_no_error_tells_it(
    place: tuple[Any, str, tuple[str, ...]], node: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirteen places times twenty kinds of errors times the messages that come there."""
    module, name, kinds = place
    for error in ERRORS:

        def fails(*args: object, _error: BaseException = error, **more: object) -> None:
            raise _error

        with monkeypatch.context() as patch:
            patch.setattr(module, name, fails)
            for kind in kinds:
                order = wire.Order(2, 0, [7])
                reply = node.reply(node.message(kind, order if kind != wire.HELLO else None))
                text = said(reply)
                assert CANARY.encode() not in text, (name, error)
                assert b"Traceback" not in text
                failed = reply.has_error() or wire.read_sum(reply).failed == [7]
                assert failed, (name, kind)
    assert CANARY in (node.folder / "node.log").read_text()


def test_data_that_cannot_be_read_do_not_tell_it(tmp_path: Path) -> None:
    other = one(tmp_path)
    path = Path(str(other.grid.contexts[other.grid.node_of(other.name)].node_config["data"]))
    for text in (
        f"text,label\n{CANARY},{CANARY}\n" * 9,
        f"{CANARY},label\n{CANARY},1\n",
        f'text,label\n"{CANARY}',
        f"text,label,split\nx,1,{CANARY}\n",
        f"user,text,label\n{CANARY},x,1\n",
    ):
        path.write_text(text)
        for kind in KINDS:
            reply = other.reply(other.message(kind))
            assert reply.has_error()
            assert CANARY.encode() not in said(reply)
    assert CANARY in (other.folder / "node.log").read_text()
