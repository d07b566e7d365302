"""What a node pays for: each release once, before it leaves, whatever becomes of the node."""

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, MessageType

import clients.node
from clients import answers, charging, ledger, wire
from clients.refused import code_of
from fedmeta.privacy.chance import SECURE
from tests.deploy.nodes import CANARY, PRIVATE, charged, one, said, train, why


@pytest.mark.parametrize("name", PRIVATE)
def test_a_repeated_message_gets_the_same_bytes_and_is_not_charged(
    name: str, tmp_path: Path
) -> None:
    node = one(tmp_path, **PRIVATE[name])
    first = train(node)
    assert charged(node) == 1
    again = train(node)
    assert said(first)[-200:] == said(again)[-200:]
    sums = [wire.read_sum(reply).total for reply in (first, again)]
    assert all(np.array_equal(sums[0][n], sums[1][n]) for n in sums[0])
    assert charged(node) == 1
    # Without what was kept it is another release, with other noise, and paid for again.
    shutil.rmtree(next(node.folder.rglob("answers")))
    other = wire.read_sum(train(node)).total
    assert any(not np.array_equal(sums[0][n], other[n]) for n in other)
    assert charged(node) == 2


@pytest.mark.parametrize("name", PRIVATE)
def test_noise_is_the_operating_systems(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only numbers that differ between two nodes of the same user are the secret ones."""
    node = one(tmp_path, **PRIVATE[name])
    asked: list[object] = []

    def normal(shape: tuple[int, ...], path: Any) -> Any:
        asked.append(path)
        return SECURE.normal(shape, path)

    monkeypatch.setattr(clients.node, "source", lambda seed, deployed: SECURE._replace(
        normal=normal) if seed is None and deployed else None)  # fmt: skip
    train(node)
    assert asked


def test_noise_of_the_seed_takes_the_owners_consent(tmp_path: Path) -> None:
    node = one(tmp_path, privacy={**PRIVATE["local"]["privacy"], "test-noise": True})
    assert "(test-noise)" in why(train(node))
    assert not charged(node)
    node.grid.allow(node.name, "test-noise = true")
    first = wire.read_sum(train(node)).total
    shutil.rmtree(node.folder)
    node.grid.allow(node.name, "test-noise = true")
    again = wire.read_sum(train(node)).total
    assert all(np.array_equal(first[n], again[n]) for n in first)


def test_the_owners_budget_holds_over_rounds_and_runs(tmp_path: Path) -> None:
    node = one(tmp_path, **PRIVATE["local"])
    node.grid.allow(node.name, "epsilon-budget = 4.0")
    sent = [wire.read_sum(train(node, number)) for number in range(1, 6)]
    took = [reply.users for reply in sent]
    assert took == sorted(took, reverse=True)
    assert 0 < sum(took) < 5
    assert charged(node) == sum(took)
    assert all(not reply.total and reply.spent == 1 for reply in sent if not reply.users)


def test_a_charge_comes_before_the_answer_whatever_happens_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = one(tmp_path, **PRIVATE["local"])

    def fails(*args: object) -> None:
        raise OSError(errno.ENOSPC, f"No space left on device {CANARY}")

    with monkeypatch.context() as patch:
        patch.setattr(clients.node, "contribution", fails)
        assert code_of(train(node).error.reason) == "node-disk"
    assert charged(node) == 1
    with monkeypatch.context() as patch:
        patch.setattr(answers, "keep", fails)
        assert code_of(train(node).error.reason) == "node-disk"
    assert charged(node) == 2
    assert wire.read_sum(train(node)).users == 1
    assert charged(node) == 3


class Killed(BaseException):
    """As if the process were gone."""


POINTS = [
    (charging, "admitted"),
    (clients.node, "contribution"),
    (answers, "sync_file"),
    (answers, "sync"),
    (wire, "sum_reply"),
]


def test_no_crash_leaves_a_release_without_a_charge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty crashes, before and after each step of the way; the message comes again after each."""
    node = one(tmp_path, **PRIVATE["local"])
    node.grid.allow(node.name, "epsilon-budget = 0.0")
    released: set[bytes] = set()
    crashes = 0
    for number in range(1, 6):
        for module, name in POINTS:
            for after in (False, True):
                real = getattr(module, name)

                def dies(*args: Any, _real: Any = real, _after: bool = after, **more: Any) -> Any:
                    if _after:
                        _real(*args, **more)
                    raise Killed

                with monkeypatch.context() as patch:
                    patch.setattr(module, name, dies)
                    try:
                        released.add(sums(train(node, number)))
                    except Killed:
                        crashes += 1
        released.add(sums(train(node, number)))
        assert charged(node) >= len(released)
    # Once an answer is on the disk nothing is made anew, and fewer of the points are come by.
    assert crashes >= 25
    assert len(released) == 5


def sums(reply: Message) -> bytes:
    return b"".join(value.tobytes() for _, value in sorted(wire.read_sum(reply).total.items()))


def test_damaged_answers_are_no_answers(tmp_path: Path) -> None:
    node = one(tmp_path, **PRIVATE["local"])
    train(node)
    path = next(node.folder.rglob("answers/*.safetensors"))
    path.write_bytes(path.read_bytes()[:-7])
    assert wire.read_sum(train(node)).users == 1
    assert charged(node) == 2


def test_another_split_of_the_examples_is_another_run_to_the_ledger(tmp_path: Path) -> None:
    """Who changes the shares of support and query moves examples from one to the other."""
    given = {"unit": "example", "noise-multiplier": 4.0}
    node = one(tmp_path, privacy=given, method={"name": "fomaml", "steps": 1})
    for number, query in ((1, 6), (2, 6), (3, 3)):
        order = wire.Order(number, 0, [7], clip=1.0)
        asked = node.message(MessageType.TRAIN, order)
        assert node.reply(asked, **{"data.query": query}).has_content()
    past = ledger.history(node.folder, node.name)
    assert sorted(past.values()) == [1, 2]
    # An example of the support under one and of the query under the other has paid for both.
    assert len(ledger.total(past)) == 4
