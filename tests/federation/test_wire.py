"""What is written into Flower's records comes out of them, also after serialization."""

import numpy as np
import pytest
import torch
from flwr.app import Message, MessageType
from flwr.common.serde import message_from_proto, message_to_proto

from clients import wire
from experiments.backends.grid import LocalGrid
from fedmeta.cohort import Trial
from fedmeta.inner import Inner
from tests.engine.cases import problem

THETA = {"w": torch.randn(3, 2, generator=torch.Generator().manual_seed(1)), "b": torch.ones(2)}
ORDER = wire.Order(3, 7, [4, 1, 9])


def message(order: wire.Order = ORDER, trials: tuple[Trial, ...] = ()) -> Message:
    from clients.app import app
    from experiments.backends.inline import InlineGrid

    grid: LocalGrid = InlineGrid(app, {})
    assert list(grid.get_node_ids()) == [1]
    return wire.order_message(wire.arrays(THETA), order, 1, MessageType.TRAIN, trials)


def sent(given: Message) -> Message:
    """The message after a journey in Flower's own format."""
    return message_from_proto(message_to_proto(given))


def test_order() -> None:
    trials = (Trial(Inner(0.5, 3), 0), Trial(Inner(0.1, 20), 4))
    record, order = wire.read_order(sent(message(trials=trials)))
    assert (order.round, order.chunk, list(order.users)) == (3, 7, [4, 1, 9])
    assert list(zip(order.rates, order.steps, order.shots, strict=True)) == [
        (0.5, 3, 0),
        (0.1, 20, 4),
    ]
    assert {n: v.tolist() for n, v in wire.params(record).items()} == {
        n: v.tolist() for n, v in THETA.items()
    }
    _, bare = wire.read_order(sent(message()))
    assert len(bare.rates) == len(bare.steps) == len(bare.shots) == 0


@pytest.mark.parametrize("users", [1, 2])
def test_sum(users: int) -> None:
    """A sum keeps float64; what a single user sends is float32, as it was computed."""
    values = np.random.default_rng(2).normal(size=(3, 2))
    if users == 1:
        values = values.astype(np.float32).astype(np.float64)
    reply = wire.Sum(7, {"w": values}, 2.5, users, [4], "why")
    made = sent(wire.sum_reply(message(), reply))
    found = wire.read_sum(made)
    assert found._replace(total={}) == reply._replace(total={})
    np.testing.assert_array_equal(found.total["w"], values)
    size = sum(len(a.data) for r in made.content.array_records.values() for a in r.values())
    assert size < 6 * (4 if users == 1 else 8) + 200


def test_empty_sum() -> None:
    reply = wire.Sum(0, {}, 0.0, 0, [4, 1], "all of them")
    found = wire.read_sum(sent(wire.sum_reply(message(), reply)))
    assert found == reply


def test_scores() -> None:
    scores = np.random.default_rng(3).normal(size=(2, 4, 3))
    users, found = wire.read_scores(sent(wire.scores_reply(message(), [4, 1, 9], scores)))
    assert list(users) == [4, 1, 9]
    np.testing.assert_array_equal(found, scores)


def test_messages_name_nothing_but_the_users_asked() -> None:
    """No label, no feature, no other user goes out with an order."""
    run = problem()
    given = message(wire.Order(1, 0, [2]))
    assert set(given.content.keys()) == {"meta", "order"}
    assert set(given.content.config_records["order"]) == set(wire.Order._fields)
    assert run.population.store.ids[2] not in str(given.content)
