"""A node alone: what is kept and told, and what becomes of data and disks that are no good."""

import errno
import shutil
from pathlib import Path

import pytest
from flwr.app import MessageType

from clients import answers, disk, wire
from clients.refused import code_of
from tests.deploy.nodes import PRIVATE, divided, one, train


def test_a_full_disk_releases_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = one(tmp_path, method={"name": "fedrep"})

    def full(path: Path, content: bytes, mode: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(answers, "sync_file", full)
    reply = train(node)
    assert code_of(reply.error.reason) == "node-disk"
    assert "No space left" in (node.folder / "node.log").read_text()
    assert disk.sync_file is not full


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
