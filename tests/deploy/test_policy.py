"""A hostile server: whatever it asks, a node does no more than its owner allows."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from flwr.app import Message, MessageType

from clients import ledger, policy, wire
from clients.refused import REFUSED, RefusedError
from fedmeta.problem import initial
from tests.deploy.nodes import One, one

COUNT = 500
EXAMPLE = {"privacy": {"unit": "example", "noise-multiplier": 1.0}, "method": {"name": "reptile"}}
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


def some(params: dict[str, torch.Tensor], draw: Random) -> str:
    return draw.choice(sorted(params))


def huge(params: dict[str, torch.Tensor], draw: Random) -> None:
    params[some(params, draw)] = torch.zeros(2_000_100)


def nan(params: dict[str, torch.Tensor], draw: Random) -> None:
    params[some(params, draw)].view(-1)[0] = draw.choice([float("nan"), float("inf")])


def lying(node: One, draw: Random) -> Asked:
    """An array that says it has a thousand million numbers."""
    message = node.message(MessageType.TRAIN)
    record = message.content.array_records["meta"]
    array = record[some(dict(record), draw)]
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
        fields[name] = list(fields[name]) * 101
    return message


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> One:
    return one(tmp_path_factory.mktemp("hostile"), **EXAMPLE)


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
        assert reply.error.reason.startswith("refused: "), name
    new = files(outside) - before - {"nodes"}
    assert not [name for name in new if not name.startswith(f"nodes/{node.name}")]
    assert not (node.folder / ledger.FILE).exists()
    assert not list(node.folder.rglob("answers"))
    log = (node.folder / "node.log").read_text() + (
        (node.folder / "node.log.1").read_text() if (node.folder / "node.log.1").exists() else ""
    )
    for rule in ("max-clip", "min-noise", "max-steps", "max-parameters", "paths", "test-noise"):
        assert f"breaks {rule} of the policy" in log


@pytest.mark.parametrize("kind", [wire.HELLO, MessageType.TRAIN])
def test_what_is_within_the_policy_is_obeyed(kind: str, tmp_path: Path) -> None:
    honest = one(tmp_path, **EXAMPLE)
    assert honest.reply(honest.message(kind)).has_content()
    assert kind == wire.HELLO or (honest.folder / ledger.FILE).exists()


TIGHTER = {
    "units = ['off', 'local', 'central']": "units",
    "methods = ['maml']": "methods",
    "backbones = ['minilm']": "backbones",
    "devices = ['cuda']": "devices",
    "max-clip = 0.5": "max-clip",
    "min-noise = 1.5": "min-noise",
    "max-delta = 1e-6": "max-delta",
    "max-rounds = 2": "max-rounds",
    "max-steps = 1": "max-steps",
    "max-rate = 0.001": "max-rate",
    "max-examples = 3": "max-examples",
    "max-parameters = 10": "max-parameters",
    "max-width = 8": "max-width",
}


@pytest.mark.parametrize("text", TIGHTER)
def test_every_rule_can_refuse_what_the_default_allows(text: str, node: One) -> None:
    path = node.folder / policy.FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    try:
        reply = node.reply(node.message(MessageType.TRAIN))
    finally:
        path.unlink()
    assert reply.has_error()
    assert f"refused: policy ({TIGHTER[text]})" in reply.error.reason


def test_a_clip_that_adapts_is_bounded_too(tmp_path: Path) -> None:
    """The one that comes with an order, not with the config."""
    adaptive = {"unit": "user", "noise-multiplier": 1.0, "adaptive-quantile": 0.5}
    node = one(tmp_path, privacy=adaptive)
    sent = [
        node.reply(node.message(MessageType.TRAIN, wire.Order(number, 0, [7], clip=clip)))
        for number, clip in enumerate((9.0, 11.0), start=1)
    ]
    assert sent[0].has_content()
    assert "(max-clip)" in sent[1].error.reason


def test_scores_are_told_only_where_the_owner_allows_it(tmp_path: Path) -> None:
    plain = one(tmp_path)
    assert plain.reply(plain.message(MessageType.EVALUATE)).has_content()
    plain.grid.allow(plain.name, "tell-scores = false")
    assert "(tell-scores)" in plain.reply(plain.message(MessageType.EVALUATE)).error.reason


def test_no_scores_of_who_trains_under_privacy(tmp_path: Path) -> None:
    private = one(tmp_path, **EXAMPLE)
    assert private.reply(private.message(MessageType.EVALUATE)).has_content()
    assert private.reply(private.message(MessageType.TRAIN)).has_content()
    assert "(tell-scores)" in private.reply(private.message(MessageType.EVALUATE)).error.reason


def test_a_policy_that_is_not_understood_lets_nothing_pass(tmp_path: Path) -> None:
    node = one(tmp_path)
    for text in ("max-klip = 1.0", "max-clip = 'a'", "max-clip = -1.0", "max-clip =", "\x00"):
        node.grid.allow(node.name, text)
        reply = node.reply(node.message(MessageType.TRAIN))
        assert reply.error.reason.startswith("refused: node"), text
    node.grid.allow(node.name, "max-klip = 1.0")
    with pytest.raises(RefusedError, match="max-klip"):
        policy.read(node.folder)


def test_the_default_policy_is_a_file_that_says_the_same(tmp_path: Path) -> None:
    (tmp_path / policy.FILE).write_text(policy.text())
    assert policy.read(tmp_path) == policy.Policy()
    assert policy.text().count("\n# ") + 1 == len(policy.Policy.model_fields)
