"""What is on the wire: the names in every message, for every method, over the inline grid."""

from typing import NamedTuple

import pytest
import torch
from flwr.app import ArrayRecord, Context, Message
from flwr.clientapp import ClientApp

import clients.app
from clients import wire
from clients.contribution import contribution
from fedmeta.methods import METHODS
from fedmeta.params import OWN, SHARE
from fedmeta.problem import Problem, initial
from fedmeta.types import Params
from strategies.errors import ClientError
from tests.engine.cases import FEDERATED, FITS, problem
from tests.federation.runs import over_inline

CASES = [(name, head) for name in FEDERATED for head in FITS[name]]
ROUNDS = 2


Shapes = dict[str, tuple[int, ...]]


class Wire(NamedTuple):
    """What was seen on it.

    Attributes:
        down: shapes of arrays in messages to `train`, by name.
        made: those of what was made for each user of such a message, without the users' axis.
        asked: those in messages to `evaluate`.
        up: names of arrays in replies to `train`, reply by reply.
        judged: names of arrays in replies to `evaluate`.
    """

    down: Shapes
    made: Shapes
    asked: Shapes
    up: list[set[str]]
    judged: set[str]


def recorded(run: Problem) -> Wire:
    """A whole run through the tool's client app, with somebody listening."""
    seen, app = Wire({}, {}, {}, [], set()), ClientApp()

    def names(message: Message) -> set[str]:
        return {n for record in message.content.array_records.values() for n in record}

    def note(into: Shapes, record: ArrayRecord, users: int | None = None) -> None:
        """Shapes that are not always the same would be seen as well."""
        for name, array in record.items():
            rows, shape = (array.shape[:1], array.shape[1:]) if users else ((), array.shape)
            assert rows in ((), (users,))
            assert into.setdefault(name, tuple(shape)) == tuple(shape)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        reply = clients.app.train(message, context)
        assert set(message.content.array_records) <= {"meta", "made"}
        users = len(wire.read_order(message)[1].users)
        note(seen.down, wire.read_order(message)[0])
        note(seen.made, wire.read_made(message), users)
        seen.up.append(names(reply))
        assert set(reply.content.keys()) == {"sum", "report"}
        assert set(reply.content.config_records["report"]) == set(wire.Sum._fields) - {"total"}
        return reply

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        reply = clients.app.evaluate(message, context)
        assert set(message.content.array_records) == {"meta"}
        note(seen.asked, wire.read_order(message)[0])
        seen.judged.update(names(reply))
        return reply

    over_inline(run, app=app)
    return seen


def shapes(params: Params) -> Shapes:
    return {name: tuple(value.shape) for name, value in params.items()}


def goes_down(run: Problem) -> tuple[Shapes, Shapes, Shapes]:
    """What users are sent in training, all the same and each his own, and in evaluation."""
    meta, generator = initial(run), run.method.generator
    if generator is None:
        return shapes(meta), {}, shapes(meta)
    his = {n: v[0] for n, v in generator.issue(meta, torch.tensor([0])).items()}
    return {}, shapes(his), shapes(generator.public(meta))


@pytest.mark.parametrize(("name", "head"), CASES)
def test_what_leaves_a_client_is_what_the_table_says(name: str, head: str) -> None:
    run = problem(method__name=name, head__name=head, federation__rounds=ROUNDS)
    method, server = METHODS[name], set(initial(run))
    seen = recorded(run)
    assert len(seen.up) == 3 * ROUNDS  # 7 users in chunks of 3
    assert (seen.down, seen.made, seen.asked) == goes_down(run)
    assert set.union(*seen.up) & server == {n for n in server if method.sends(n)}
    beside = set.union(*seen.up) - server
    assert all(n.startswith(method.beside) for n in beside)
    assert all(any(n.startswith(prefix) for n in beside) for prefix in method.beside)
    assert not [n for reply in seen.up for n in reply if n.startswith(OWN)]
    # A user's weight leaves by itself only where contributions do, and then the table says so.
    assert (SHARE in method.beside) == (method.generator is not None)
    assert seen.judged == {"scores"}


@pytest.mark.parametrize(
    "given",
    [
        {"method__name": "fedavg"},
        {"method__name": "fedper"},
        {"method__name": "meta-sgd"},
        {"method__name": "ditto"},
        {"method__name": "pfedhn"},
        {"method__name": "reptile", "robust__rule": "median"},
        {
            "method__name": "reptile",
            "privacy__unit": "user",
            "privacy__noise_multiplier": 1.0,
            "privacy__adaptive_quantile": 0.5,
        },
    ],
    ids=lambda given: "-".join(map(str, given.values())),
)
def test_bytes_of_a_round_are_those_of_its_messages(given: dict[str, object]) -> None:
    """Where every user has a message of his own; an array of one user's is what he sends."""
    app, down, up = ClientApp(), [0] * (ROUNDS + 1), [0] * (ROUNDS + 1)

    def size(record: ArrayRecord) -> int:
        return sum(array.numpy().nbytes for name, array in record.items() if name != SHARE)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        reply = clients.app.train(message, context)
        number = wire.read_order(message)[1].round
        down[number] += sum(map(size, message.content.array_records.values()))
        up[number] += sum(map(size, reply.content.array_records.values()))
        return reply

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return clients.app.evaluate(message, context)

    run = problem(**given, federation__rounds=ROUNDS, federation__chunk=1)
    history = over_inline(run, app=app).history
    assert min(down[1:] + up[1:]) > 0
    assert [(event.bytes_down, event.bytes_up) for event in history] == list(
        zip(down[1:], up[1:], strict=True)
    )


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

    def leaky(*args: object) -> wire.Sum:
        found = contribution(*args)  # type: ignore[arg-type]
        some = next(iter(found.total.values()))
        return found._replace(total={**found.total, "own/output.bias": some})

    monkeypatch.setattr(clients.app, "contribution", leaky)
    run = problem(method__name="fedper", head__name="mlp", federation__rounds=1)
    with pytest.raises(ClientError, match=r"not expected \['own/output\.bias'\]"):
        over_inline(run)
