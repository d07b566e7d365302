"""What a reply tells of users under a mechanism, and what may not be had with one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

import clients.app
from clients import wire
from clients.contribution import contribution
from fedmeta import cohort
from fedmeta.config import ConfigError, parse
from fedmeta.privacy import example
from fedmeta.privacy.refusals import in_the_clear
from fedmeta.problem import initial
from fedmeta.types import Update
from tests.federation.runs import over_inline
from tests.federation.test_user_privacy import private

ALLOWED = {"chunk", "weight", "users", "failed", "reason", "again", "spent"}
LOCAL = {"privacy__mechanism": "local"}
EXAMPLE = {"privacy__unit": "example", "method__name": "reptile", "privacy__epsilon_budget": 30.0}


def replies(**values: Any) -> list[wire.Sum]:
    """All that the users of a run send, each of them by a message of his own."""
    given, seen = private(federation__chunk=1, **values), []
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        reply = clients.app.train(message, context)
        seen.append((reply, wire.read_sum(reply)))
        return reply

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return clients.app.evaluate(message, context)

    over_inline(given, app=app)
    names = set(initial(given))
    for message, reply in seen:
        told = {name: set(record) for name, record in message.content.items()}
        assert set(told) == {wire.SUM, wire.REPORT}
        assert told[wire.SUM] == set(reply.total)
        assert told[wire.REPORT] == ALLOWED
        assert set(reply.total) == (names if not reply.spent else set())
    return [reply for _, reply in seen]


def quiet(found: list[wire.Sum]) -> None:
    """No number but noised ones, and what the server knows."""
    for reply in found:
        assert (reply.failed, reply.reason, reply.again) == ([], "", 0)
        assert (reply.users, reply.weight) in ((1, 1.0), (0, 0.0))
        assert reply.users + reply.spent == 1


@pytest.mark.parametrize("values", [LOCAL, EXAMPLE], ids=["local", "example"])
def test_what_a_reply_under_noise_tells(values: dict[str, Any]) -> None:
    """P11: nothing but noised numbers of the server's names; not who failed, nor why."""
    found = replies(**values, federation__rounds=2)
    assert len(found) == 14
    quiet(found)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("values", [LOCAL, EXAMPLE], ids=["local", "example"])
def test_what_a_thousand_replies_tell(values: dict[str, Any]) -> None:
    found = replies(**values, federation__rounds=143)
    assert len(found) >= 1000
    quiet(found)


def test_that_a_batch_raised_is_not_told_under_example_level_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have raised for what somebody's data are, and nobody failed in the end."""
    run = private(**EXAMPLE)
    theta, users = initial(run), run.population.store.users("train")[:4]
    before = example.contribute

    def raises(*given: Any) -> Update:
        if len(given[2]) > 1:
            raise ValueError("a batch with a bad user")
        return before(*given)

    monkeypatch.setattr(example, "contribute", raises)
    reply = contribution(run, theta, users, wire.Order(1, 0, users.tolist()), tmp_path)
    assert (reply.users, reply.failed, reply.reason, reply.again) == (4, [], "", 0)


def test_under_local_noise_a_failure_and_an_order_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users that raise are not seen in any field, and a server's order cannot widen the clip."""
    run = private(privacy__mechanism="local")
    theta, users = initial(run), run.population.store.users("train")[:4]

    def reply(clip: float) -> wire.Sum:
        order = wire.Order(1, 0, users.tolist(), clip=clip)
        return contribution(run, theta, users, order, tmp_path)

    told = reply(run.privacy.clip)
    for clip in (0.0, 1e9):
        assert all(np.array_equal(told.total[n], v) for n, v in reply(clip).total.items())
    before = cohort.contribute

    def raises(*given: Any, **more: Any) -> Update:
        if len(given[3].support.weight) > 1:
            raise ValueError("a batch with a bad user")
        found: Update = before(*given, **more)
        return found

    monkeypatch.setattr(cohort, "contribute", raises)
    failed = reply(run.privacy.clip)
    assert failed._replace(total={}) == told._replace(total={})


def test_weights_by_examples_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"federation\.weighting = 'examples'.*'uniform'"):
        private(federation__weighting="examples")


def test_what_is_public_without_noise_forbids_an_epsilon() -> None:
    assert private().privacy.broken == ()
    assert "scaled" in private(data__standardize="features").privacy.broken[0]
    run = private(method__name="fedmd")
    assert run.privacy.broken == ()  # messages that no user has
    brought = parse({"data.source": "mine.csv"})
    assert "public set" in in_the_clear(run.method, run.population.store, brought)[0]
