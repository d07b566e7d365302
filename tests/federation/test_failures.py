"""Users that fail: the run ends with their name and traceback, or goes on without them."""

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray
from torch import Tensor

import clients.app
from clients import wire
from experiments.backends.inline import InlineGrid
from experiments.summary import summarize
from fedmeta import loop, seeding, tasks
from fedmeta.gram import Geometry
from fedmeta.inner import Inner
from fedmeta.learner import Learner
from fedmeta.methods import METHODS
from fedmeta.outer import advance, begin
from fedmeta.params import add
from fedmeta.problem import Problem, initial
from fedmeta.types import Params, Task
from strategies import nodes
from strategies.errors import ClientError
from strategies.nodes import in_turn
from tests.engine.cases import distance, one_by_one, problem
from tests.federation.runs import over_inline

ROUNDS = 2


class Poisoned(NamedTuple):
    """A problem with a user who breaks something in round 1."""

    run: Problem
    user: int
    name: str


@pytest.fixture(params=["nan", "raises"])
def poison(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Poisoned]:
    """Makes one user of round 1 send NaN, or the whole batched program raise if he is in it."""

    def make(**values: object) -> Poisoned:
        run = problem(federation__rounds=ROUNDS, **values)
        user = int(loop.cohort_of(run.population, run.config, 1)[2])
        plain = loop.prepared

        def prepared(
            run: Problem, users: NDArray[np.int64], round_number: int
        ) -> tuple[Task, Geometry | None]:
            task, gram = plain(run, users, round_number)
            if user not in users.tolist():
                return task, gram
            if request.param == "raises":
                raise FloatingPointError("the disk of this user is on fire")
            task.support.x[users.tolist().index(user)] = math.nan
            return task, gram

        monkeypatch.setattr(loop, "prepared", prepared)
        return Poisoned(run, user, run.population.store.ids[user])

    return make


def test_fail(poison: Callable[..., Poisoned]) -> None:
    run, _, name = poison()
    with pytest.raises(ClientError, match=f"round 1: user {name!r}") as caught:
        over_inline(run)
    text = str(caught.value)
    raised = "FloatingPointError: the disk of this user is on fire"
    assert ("Traceback" in text and raised in text) or "not finite" in text


@pytest.mark.parametrize("weighting", ["uniform", "examples"])
@pytest.mark.parametrize("name", ["fedavg", "maml"])
def test_skip(poison: Callable[..., Poisoned], name: str, weighting: str) -> None:
    run, user, _ = poison(
        run__on_client_error="skip", method__name=name, federation__weighting=weighting
    )
    outcome = over_inline(run)
    for event in outcome.history:
        asked = loop.cohort_of(run.population, run.config, event.round)
        assert event.failed == int(user in asked)
        assert event.users + event.failed == len(asked)
    assert outcome.history[0].failed == 1
    assert distance(outcome.last, without(run, user)) < 1e-6


def without(run: Problem, user: int) -> Params:
    """The run of the loop over cohorts that lack the user."""
    state = begin(initial(run), run.config.server)
    for number in range(1, ROUNDS + 1):
        users = loop.cohort_of(run.population, run.config, number)
        users = users[users != user]
        task = tasks.training(
            run.population,
            users,
            seeding.key(0, "examples", number),
            run.config.data.support,
            run.config.data.query,
            run.method.splits,
        )
        share = loop.weights_of(run, task)
        weights = [1.0] * len(users) if share is None else [float(w) for w in share]
        total = one_by_one(run.method, run.model, state.meta, task, run.train, weights)
        mean = add({}, total, 1 / sum(weights))
        state = advance(state, mean, run.config.server)
    return state.meta


def test_nobody_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(learner: Learner, theta: Params, task: Task, inner: Inner) -> dict[str, Tensor]:
        raise OSError("no space left")

    broken = replace(METHODS["fedavg"], contribute=nothing)
    monkeypatch.setitem(METHODS, "fedavg", broken)
    run = problem(method__name="fedavg", run__on_client_error="skip")
    with pytest.raises(ClientError, match="every client failed") as caught:
        over_inline(run)
    assert "OSError: no space left" in str(caught.value)
    assert any(f"user {name!r}" in str(caught.value) for name in run.population.store.ids)


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_app_that_raises(policy: str) -> None:
    """An error outside the users' own code comes back as Flower's error reply."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        _, order = wire.read_order(message)
        if order.chunk == 1:
            raise MemoryError("out of everything")
        return clients.app.train(message, context)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return clients.app.evaluate(message, context)

    run = problem(method__name="fedavg", run__on_client_error=policy)
    if policy == "fail":
        with pytest.raises(ClientError, match="round 1: node 1 failed") as caught:
            over_inline(run, app=app)
        assert "MemoryError: out of everything" in str(caught.value)
        return
    outcome = over_inline(run, app=app)
    assert [(event.users, event.failed) for event in outcome.history] == [(4, 3)] * 3


def test_a_batch_that_fails_and_users_that_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is lost and no bit is different, but it is counted and said."""
    run = problem(federation__rounds=ROUNDS, method__name="fedavg")
    expected = over_inline(run)
    plain = loop.prepared

    def prepared(
        run: Problem, users: NDArray[np.int64], round_number: int
    ) -> tuple[Task, Geometry | None]:
        if len(users) > 1 and round_number == 2:
            raise MemoryError("too many users at once")
        return plain(run, users, round_number)

    monkeypatch.setattr(loop, "prepared", prepared)
    outcome = over_inline(run)
    chunks = -(-run.config.federation.users_per_round // run.config.federation.chunk)
    larger = chunks - (run.config.federation.users_per_round % run.config.federation.chunk == 1)
    assert [event.again for event in outcome.history] == [0, larger]
    assert [event.failed for event in outcome.history] == [0, 0]
    assert distance(outcome.last, expected.last) < 1e-6
    summary = summarize(outcome, {})
    assert any(f"{larger} batches of users raised" in note for note in summary["notes"])
    assert summarize(expected, {})["notes"] == []


class Slow(InlineGrid):
    """A grid whose first node comes after a while."""

    def __init__(self, after: float, clock: list[float]) -> None:
        """``clock`` holds the time, which only waiting moves on."""
        self.after, self.clock = after, clock

    def get_node_ids(self) -> list[int]:
        return [7] if self.clock[0] >= self.after else []


@pytest.mark.parametrize(("after", "comes"), [(0.0, True), (3.0, True), (math.inf, False)])
def test_no_node_online_is_an_error_within_5_seconds(
    after: float, comes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(nodes, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    grid = Slow(after, clock)
    if comes:
        assert in_turn(grid)(3, np.array([1])) == 7
    else:
        with pytest.raises(TimeoutError, match=r"online after 4 s.*num-supernodes=2"):
            in_turn(grid)
    assert clock[0] < 5.0
