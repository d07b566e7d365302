"""Replies of a real round, to be spoiled."""

from collections.abc import Callable
from functools import cache

from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Message,
    Metadata,
    RecordDict,
)

from clients import wire
from clients.app import app
from experiments.backends.inline import InlineGrid
from fedmeta import sent
from fedmeta.config import flatten
from fedmeta.problem import Problem
from fedmeta.types import Params
from strategies.federated import Federated
from tests.engine.cases import problem


@cache
def given(name: str = "maml") -> Problem:
    return problem(
        method__name=name,
        federation__chunk=1,
        federation__rounds=2,
        federation__weighting="examples",
        run__on_client_error="fail",  # which is about failures: a bad reply is none
    )


class Replies:
    """Honest replies of a round, as raw parts, of which any number of messages can be made."""

    def __init__(self, run: Problem, number: int = 1) -> None:
        grid = InlineGrid(app, flatten(run.config), 2)
        strategy = Federated(run)
        strategy._before = number - 1
        arrays = wire.arrays(strategy.state.meta)
        self.sent = list(strategy.configure_train(1, arrays, ConfigRecord(), grid))
        self.honest = list(grid.send_and_receive(self.sent))

    def copy(self, at: int) -> Message:
        """A message of its own that nobody else holds."""
        old = self.honest[at]
        content = RecordDict(
            {
                wire.SUM: ArrayRecord(dict(old.content.array_records[wire.SUM])),
                wire.REPORT: ConfigRecord(dict(old.content.config_records[wire.REPORT])),
            }
        )
        keys = (
            "run_id", "message_id", "src_node_id", "dst_node_id", "reply_to_message_id",
            "group_id", "created_at", "ttl", "message_type",
        )  # fmt: skip
        made = Message(content, dst_node_id=1, message_type="train")
        made.__dict__["_metadata"] = Metadata(**{key: getattr(old.metadata, key) for key in keys})
        return made


@cache
def replies(name: str = "maml") -> Replies:
    return Replies(given(name))


@cache
def stale() -> Replies:
    return Replies(given(), 2)


def aggregated(arrived: list[Message], name: str = "maml") -> Federated:
    """The strategy after a round with these replies."""
    run = given(name)
    strategy = Federated(run)
    strategy._shapes = known(name)
    grid = InlineGrid(app, flatten(run.config), 2)
    list(strategy.configure_train(1, wire.arrays(strategy.state.meta), ConfigRecord(), grid))
    strategy.aggregate_train(1, iter(arrived))
    return strategy


@cache
def known(name: str) -> Callable[[Params, int], sent.Shapes]:
    """They are the same for all strategies here, and take longer to find out than all the rest."""
    return sent.remembered(given(name))
