"""What is on the wire: the names in every message, for every method, over the inline grid."""

from typing import NamedTuple

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

import clients.app
from clients import wire
from fedmeta.methods import METHODS
from fedmeta.params import OWN, SHARE
from fedmeta.problem import Problem, initial
from tests.engine.cases import FEDERATED, FITS, problem
from tests.federation.runs import over_inline

CASES = [(name, head) for name in FEDERATED for head in FITS[name]]
ROUNDS = 2


class Wire(NamedTuple):
    """What was seen on it.

    Attributes:
        down: names of arrays in messages to clients.
        up: names of arrays in replies to `train`, reply by reply.
        judged: names of arrays in replies to `evaluate`.
    """

    down: set[str]
    up: list[set[str]]
    judged: set[str]


def recorded(run: Problem) -> Wire:
    """A whole run through the tool's client app, with somebody listening."""
    seen, app = Wire(set(), [], set()), ClientApp()

    def names(message: Message) -> set[str]:
        return {n for record in message.content.array_records.values() for n in record}

    @app.train()
    def train(message: Message, context: Context) -> Message:
        reply = clients.app.train(message, context)
        seen.down.update(names(message))
        seen.up.append(names(reply))
        assert set(reply.content.keys()) == {"sum", "report"}
        assert set(reply.content.config_records["report"]) == set(wire.Sum._fields) - {"total"}
        return reply

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        reply = clients.app.evaluate(message, context)
        seen.down.update(names(message))
        seen.judged.update(names(reply))
        return reply

    over_inline(run, app=app)
    return seen


@pytest.mark.parametrize(("name", "head"), CASES)
def test_what_leaves_a_client_is_what_the_table_says(name: str, head: str) -> None:
    run = problem(method__name=name, head__name=head, federation__rounds=ROUNDS)
    method, server = METHODS[name], set(initial(run))
    seen = recorded(run)
    assert len(seen.up) == 3 * ROUNDS  # 7 users in chunks of 3
    assert seen.down == server
    assert set.union(*seen.up) & server == {n for n in server if method.sends(n)}
    beside = set.union(*seen.up) - server
    assert all(n.startswith(method.beside) for n in beside)
    assert all(any(n.startswith(prefix) for n in beside) for prefix in method.beside)
    assert not [n for reply in seen.up for n in reply if n.startswith((OWN, SHARE))]
    assert seen.judged == {"scores"}


@pytest.mark.parametrize("name", METHODS)
def test_words_and_rules_agree(name: str) -> None:
    """Who owns something says what he keeps, and who sends nothing says that."""
    method = METHODS[name]
    if method.own is not None:
        assert method.keeps != "nothing"
    assert (method.contribute is None) == (method.communicates == "nothing")
    words = method.communicates
    blocks = {n for n in ("hidden.weight", "output.weight") if method.sends(n)}
    if words in ("delta of the trunk", "delta of the output layer"):
        assert blocks == {"hidden.weight" if words.endswith("trunk") else "output.weight"}
    elif words == "delta of the head":
        assert len(blocks) == 2


def test_a_method_that_leaks_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: a client that sends what its user owns."""
    real = clients.app.contribution

    def leaky(*args: object) -> wire.Sum:
        found = real(*args)  # type: ignore[arg-type]
        some = next(iter(found.total.values()))
        return found._replace(total={**found.total, "own/output.bias": some})

    monkeypatch.setattr(clients.app, "contribution", leaky)
    run = problem(method__name="fedper", head__name="mlp", federation__rounds=1)
    with pytest.raises(KeyError, match=r"own/output\.bias"):
        over_inline(run)
