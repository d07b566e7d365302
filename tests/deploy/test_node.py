"""A node alone: what is kept, charged, told, and what becomes of a message that comes twice."""

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, MessageType

import clients.node
from clients import answers, disk, ledger, wire
from clients.refused import code_of
from fedmeta.privacy.chance import SECURE
from tests.deploy.nodes import CANARY, One, divided, one, said

PRIVATE: dict[str, dict[str, Any]] = {
    "example": {"privacy": {"unit": "example", "noise-multiplier": 1.0},
                "method": {"name": "reptile"}},
    "local": {"privacy": {"unit": "user", "mechanism": "local", "noise-multiplier": 4.0}},
}  # fmt: skip


def train(node: One, number: int = 1) -> Message:
    order = wire.Order(number, 0, [7], clip=node.problem.privacy.clip)
    return node.reply(node.message(MessageType.TRAIN, order))


def charged(node: One) -> int:
    return sum(ledger.history(node.folder, node.name).values())


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
    assert "(test-noise)" in train(node).error.reason
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
    (clients.node.charging, "admitted"),
    (clients.node, "contribution"),
    (answers, "sync_file"),
    (answers, "sync"),
    (clients.node.wire, "sum_reply"),
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


def test_a_full_disk_releases_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = one(tmp_path, method={"name": "fedrep"})

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(answers, "sync_file", full)
    reply = train(node)
    assert code_of(reply.error.reason) == "node-disk"
    assert "No space left" in (node.folder / "node.log").read_text()
    assert disk.sync_file is not full


def test_damaged_answers_are_no_answers(tmp_path: Path) -> None:
    node = one(tmp_path, **PRIVATE["local"])
    train(node)
    path = next(node.folder.rglob("answers/*.safetensors"))
    path.write_bytes(path.read_bytes()[:-7])
    assert wire.read_sum(train(node)).users == 1
    assert charged(node) == 2


def test_only_the_last_answers_are_kept(tmp_path: Path) -> None:
    node = one(tmp_path)
    for number in range(1, 6):
        train(node, number)
    found = sorted(path.name for path in node.folder.rglob("answers/*"))
    assert found == ["3.safetensors", "4.safetensors", "5.safetensors"]


def test_sizes_are_told_where_nothing_is_private(tmp_path: Path) -> None:
    plain = one(tmp_path / "a")
    assert wire.read_hello(plain.reply(plain.message(wire.HELLO))).examples == 12
    plain.grid.allow(plain.name, "tell-size = false")
    assert wire.read_hello(plain.reply(plain.message(wire.HELLO))).examples == 0
    private = one(tmp_path / "b", **PRIVATE["local"])
    me = wire.read_hello(private.reply(private.message(wire.HELLO)))
    assert (me.examples, me.enough, me.split) == (0, True, "train")


BAD = (
    "",
    "text,label\n",
    "text,lable\na,1\n",
    "words,label\na,x\n",
    "text,label\n" + "".join(f"a {n},7\n" for n in range(9)),
    "text,label\na,\n",
    "text,label,split\n" + "".join(f"a {n},1,sometimes\n" for n in range(9)),
    'text,label\n"a',
    "user,text,label\nsomebody,a,1\n",
)


@pytest.mark.parametrize("text", BAD)
def test_data_that_cannot_be_used_are_refused_by_name(text: str, tmp_path: Path) -> None:
    node = one(tmp_path)
    path = divided(tmp_path)[node.name]
    path.write_text(text)
    for kind in (wire.HELLO, MessageType.TRAIN, MessageType.EVALUATE):
        reply = node.reply(node.message(kind))
        assert code_of(reply.error.reason) == "node-data", (kind, reply.error.reason)
    assert "mine.csv" in (node.folder / "node.log").read_text()


def test_a_folder_has_to_hold_one_file(tmp_path: Path) -> None:
    node = one(tmp_path)
    context = node.grid.contexts[node.grid.node_of(node.name)]
    path = Path(str(context.node_config["data"]))
    context.node_config["data"] = str(path.parent)
    assert node.reply(node.message(wire.HELLO)).has_content()
    shutil.copy(path, path.with_name("other.csv"))
    assert code_of(node.reply(node.message(wire.HELLO)).error.reason) == "node-data"
    path.unlink()
    path.with_name("other.csv").unlink()
    assert code_of(node.reply(node.message(wire.HELLO)).error.reason) == "node-data"
    assert "0 files" in (node.folder / "node.log").read_text()


def test_too_few_examples_are_told_of(tmp_path: Path) -> None:
    node = one(tmp_path)
    path = divided(tmp_path)[node.name]
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    assert not wire.read_hello(node.reply(node.message(wire.HELLO))).enough
    assert code_of(train(node).error.reason) == "node-data"


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    node = one(tmp_path)
    reply = node.reply(node.message(wire.HELLO), **{"backbone.columns": 32})
    assert code_of(reply.error.reason) == "node-backbone"
    assert "32 numbers, and the run's 16" in (node.folder / "node.log").read_text()


def test_a_node_without_a_name_says_so(tmp_path: Path) -> None:
    node = one(tmp_path)
    message = node.message(wire.HELLO)
    context = node.grid.contexts[message.metadata.dst_node_id]
    context.node_config["name"] = ""
    assert code_of(node.reply(message).error.reason) == "node-node"
    assert not node.folder.exists()


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
