"""The owner's policy: each of its rules can refuse, and what it allows is obeyed."""

from pathlib import Path

import pytest
from flwr.app import MessageType

from clients import ledger, policy, wire
from clients.refused import RefusedError
from tests.deploy.nodes import PRIVATE, One, one, why

EXAMPLE = PRIVATE["example"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> One:
    return one(tmp_path_factory.mktemp("policy"), **EXAMPLE)


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
    assert f"refused: policy ({TIGHTER[text]})" in why(reply)


def test_a_clip_that_adapts_is_bounded_too(tmp_path: Path) -> None:
    """The one that comes with an order, not with the config."""
    adaptive = {"unit": "user", "noise-multiplier": 1.0, "adaptive-quantile": 0.5}
    node = one(tmp_path, privacy=adaptive)
    sent = [
        node.reply(node.message(MessageType.TRAIN, wire.Order(number, 0, [7], clip=clip)))
        for number, clip in enumerate((9.0, 11.0), start=1)
    ]
    assert sent[0].has_content()
    assert "(max-clip)" in why(sent[1])


def test_scores_are_told_only_where_the_owner_allows_it(tmp_path: Path) -> None:
    plain = one(tmp_path)
    assert plain.reply(plain.message(MessageType.EVALUATE)).has_content()
    plain.grid.allow(plain.name, "tell-scores = false")
    assert "(tell-scores)" in why(plain.reply(plain.message(MessageType.EVALUATE)))


def test_no_scores_of_who_trains_under_privacy(tmp_path: Path) -> None:
    private = one(tmp_path, **EXAMPLE)
    assert private.reply(private.message(MessageType.TRAIN)).has_content()
    assert "(tell-scores)" in why(private.reply(private.message(MessageType.EVALUATE)))


def test_no_training_under_privacy_of_whose_scores_were_told(tmp_path: Path) -> None:
    """A server could have asked as often as it liked, with parameters of its making."""
    private = one(tmp_path, **EXAMPLE)
    assert private.reply(private.message(MessageType.EVALUATE)).has_content()
    assert "(train-after-scores)" in why(private.reply(private.message(MessageType.TRAIN)))
    private.grid.allow(private.name, "test-noise = true\ntrain-after-scores = true")
    assert private.reply(private.message(MessageType.TRAIN)).has_content()


def test_a_policy_that_is_not_understood_lets_nothing_pass(tmp_path: Path) -> None:
    node = one(tmp_path)
    for text in ("max-klip = 1.0", "max-clip = 'a'", "max-clip = -1.0", "max-clip =", "\x00"):
        node.grid.allow(node.name, text)
        reply = node.reply(node.message(MessageType.TRAIN))
        assert why(reply).startswith("refused: node"), text
    node.grid.allow(node.name, "max-klip = 1.0")
    with pytest.raises(RefusedError, match="max-klip"):
        policy.read(node.folder)


def test_the_default_policy_is_a_file_that_says_the_same(tmp_path: Path) -> None:
    (tmp_path / policy.FILE).write_text(policy.text())
    assert policy.read(tmp_path) == policy.Policy()
    assert policy.text().count("\n# ") + 1 == len(policy.Policy.model_fields)
