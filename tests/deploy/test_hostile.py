"""A hostile server: whatever it asks, a node does no more than its owner allows."""

from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from flwr.app import Message, MessageType

from clients import ledger, wire
from clients.refused import REFUSED
from fedmeta.problem import initial
from tests.deploy.nodes import PRIVATE, One, one, why

COUNT = 500
Asked = tuple[Message, dict[str, Any]]


def order(draw: Random, **changed: Any) -> wire.Order:
    return wire.Order(**{"round": 1, "chunk": 0, "users": [7], "clip": 1.0, **changed})


def setting(key: str, *values: Any) -> Callable[[One, Random], Asked]:
    return lambda node, draw: (node.message(kind_of(draw)), {key: draw.choice(values)})


def fact(key: str, *values: Any) -> Callable[[One, Random], Asked]:
    return lambda node, draw: (
        node.message(kind_of(draw), told=node.told(**{key: draw.choice(values)})),
        {},
    )


def ordered(**changed: list[Any]) -> Callable[[One, Random], Asked]:
    def ask(node: One, draw: Random) -> Asked:
        given = {name: draw.choice(values) for name, values in changed.items()}
        return node.message(MessageType.TRAIN, order(draw, **given)), {}

    return ask


def trials(field: str, *values: Any) -> Callable[[One, Random], Asked]:
    def ask(node: One, draw: Random) -> Asked:
        message = node.message(MessageType.EVALUATE)
        message.content.config_records["order"][field] = draw.choice(values)
        return message, {}

    return ask


def parameters(change: Callable[[dict[str, torch.Tensor], Random], Any]) -> Any:
    def ask(node: One, draw: Random) -> Asked:
        params = dict(initial(node.problem))
        change(params, draw)
        return node.message(
            draw.choice([MessageType.TRAIN, MessageType.EVALUATE]), params=params
        ), {}

    return ask


KINDS = (wire.HELLO, MessageType.TRAIN, MessageType.EVALUATE, wire.PERSONALIZE)


def kind_of(draw: Random, kinds: tuple[str, ...] = KINDS) -> str:
    return draw.choice(kinds)


def some(names: Iterable[str], draw: Random) -> str:
    return draw.choice(sorted(names))


def huge(params: dict[str, torch.Tensor], draw: Random) -> None:
    params[some(params, draw)] = torch.zeros(2_000_100)


def nan(params: dict[str, torch.Tensor], draw: Random) -> None:
    params[some(params, draw)].view(-1)[0] = draw.choice([float("nan"), float("inf")])


def lying(node: One, draw: Random) -> Asked:
    """An array that says it has a thousand million numbers."""
    message = node.message(MessageType.TRAIN)
    record = message.content.array_records["meta"]
    array = record[some(record, draw)]
    array.shape = (draw.choice([10**9, 2**40]), 1)
    return message, {}


UP = ("../../etc/passwd", "/etc", "~/.ssh", "a/../../b", "..\\..\\x")
HOSTILE: dict[str, Callable[[One, Random], Asked]] = {
    "clip": setting("privacy.clip", 1e9, 11.0),
    "noise": setting("privacy.noise-multiplier", 0.0, 0.29, 1e-9),
    "delta": setting("privacy.delta", 0.5, 1e-3),
    "test noise": setting("privacy.test-noise", True),
    "mechanism": lambda node, draw: (
        node.message(kind_of(draw, KINDS[1:])),
        {"privacy.mechanism": draw.choice(["local", "banded", "none"])},
    ),
    "steps": setting("method.steps", 10**6, 501),
    "adapt steps": setting("method.adapt-steps", 10**6, 501),
    "other steps": setting("method.digest-steps", 10**6),
    "rate": setting("method.rate", 1e9, float("inf"), float("nan")),
    "hidden": setting("head.hidden", 10**9, 9000),
    "experts": setting("head.experts", 10**9),
    "feed forward": setting("head.feed-forward", 10**9, 9000),
    "filters": setting("head.filters", 10**9, 4096),
    "vocabulary": setting("head.vocabulary", 10**9),
    "embedding": setting("head.embedding", 10**9),
    "rank": setting("head.rank", 10**9),
    "prompt": setting("head.prompt", 10**9),
    "attention heads": setting("head.attention-heads", 10**9),
    "window": setting("data.window", 10**9),
    "columns": setting("backbone.columns", 10**9),
    "length": setting("backbone.max-length", 10**9),
    "rounds": setting("federation.rounds", 10**9),
    "support": setting("data.support", 10**9),
    "query": setting("data.query", 10**9),
    "source": setting("data.source", *UP),
    "public": setting("data.public", *UP),
    "cache": setting("backbone.cache", *UP),
    "encoder": setting("backbone.name", *UP, "evil/model", "minilm+evil/model", "a/b"),
    "out": setting("run.out", *UP),
    "memory": setting("run.memory", *UP),
    "trace": setting("devices.trace", *UP),
    "device": setting("run.device", "cuda", "cuda:0", "cpu:7"),
    "method": setting("method.name", "fedmd", "no-such", "../../x"),
    "tasks": setting("data.tasks", "episodic", "cross-problem"),
    "unknown key": setting("run.shell", "rm -rf"),
    "unknown section": setting("policy.max-clip", 1e9),
    "wrong type": setting("method.steps", "many", 1.5, True),
    "width": fact("width", 10**9, 0, -1, 17),
    "classes": fact("classes", ["0"], ["0", "0"], [str(n) for n in range(9000)], ["a", "b"]),
    "encoder of the facts": fact("backbone", "identity", "minilm"),
    "constants": fact("mean", [0.0], [float("nan")] * 16),
    "strange fact": fact("command", "rm -rf"),
    "task": fact("task", "regression", "shell"),
    "users": ordered(users=[[], [1, 2], [-1], ["u"]]),
    "round": ordered(round=[-1, 2**40]),
    "order's clip": ordered(clip=[1e9, -1.0, float("nan")]),
    "trial steps": trials("steps", [10**6], [-1], [1, 2]),
    "trial rates": trials("rates", [1e9], [float("nan")], []),
    "trial shots": trials("shots", [10**9]),
    "many trials": lambda node, draw: (many_trials(node), {}),
    "huge": parameters(huge),
    "shape": parameters(lambda p, d: p.update({some(p, d): torch.zeros(3, 3, 3)})),
    "missing": parameters(lambda p, d: p.pop(some(p, d))),
    "more": parameters(lambda p, d: p.update({"../../x": torch.zeros(1)})),
    "not finite": parameters(nan),
    "lying": lying,
}  # fmt: skip


def many_trials(node: One) -> Message:
    message = node.message(MessageType.EVALUATE)
    fields = message.content.config_records["order"]
    for name in ("rates", "steps", "shots"):
        given = fields[name]
        assert isinstance(given, list)
        fields[name] = given * 101
    return message


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> One:
    return one(tmp_path_factory.mktemp("hostile"), **PRIVATE["example"])


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_five_hundred_hostile_messages_and_none_is_obeyed(node: One) -> None:
    names = sorted(HOSTILE)
    outside = node.folder.parent.parent
    before = files(outside)
    for number in range(COUNT):
        draw = Random(number)
        name = names[number % len(names)]
        message, settings = HOSTILE[name](node, draw)
        reply = node.reply(message, **settings)
        assert reply.has_error(), f"{name} ({number}) was obeyed"
        assert reply.error.code == REFUSED, name
        assert why(reply).startswith("refused: "), name
    new = files(outside) - before - {"nodes"}
    assert not [name for name in new if not name.startswith(f"nodes/{node.name}")]
    assert not (node.folder / ledger.FILE).exists()
    assert not list(node.folder.rglob("answers"))
    log = (node.folder / "node.log").read_text() + (
        (node.folder / "node.log.1").read_text() if (node.folder / "node.log.1").exists() else ""
    )
    for rule in ("max-clip", "min-noise", "max-steps", "max-parameters", "paths", "test-noise"):
        assert f"breaks {rule} of the policy" in log
