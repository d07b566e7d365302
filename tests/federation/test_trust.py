"""Strikes, quarantine, quorum, sizes: what bad replies lead to over the rounds of real runs."""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

import clients.app
from clients import wire
from experiments.backends.inline import InlineGrid
from experiments.summary import refused, weights_sha256
from fedmeta import loop
from fedmeta.config import ConfigError, flatten
from fedmeta.problem import Problem
from strategies import intake, validation
from strategies.app import Outcome, run
from strategies.errors import ClientError
from strategies.events import Event, RoundDone
from strategies.federated import Federated
from strategies.trust import Trust, after, quarantined
from tests.engine.cases import problem
from tests.federation.runs import over_inline

Spoil = Callable[[wire.Order, wire.Sum], wire.Sum]


def spoiled(spoil: Spoil) -> ClientApp:
    """The app, whose sums pass through somebody's hands."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        reply = clients.app.train(message, context)
        _, order = wire.read_order(message)
        return wire.sum_reply(message, spoil(order, wire.read_sum(reply)))

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return clients.app.evaluate(message, context)

    return app


def times(factor: float, *users: int) -> Spoil:
    """Contributions of these users are so many times what they should be."""

    def spoil(order: wire.Order, term: wire.Sum) -> wire.Sum:
        if not set(order.users) & set(users):
            return term
        return term._replace(total={n: factor * v for n, v in term.total.items()})

    return spoil


def small(**values: Any) -> Problem:
    quick = {"method__name": "maml", "federation__chunk": 1, "evaluation__tune": False}
    return problem(**quick | values)


def first_users(given: Problem) -> list[int]:
    return [int(user) for user in loop.cohort_of(given.population, given.config, 1)]


def test_an_honest_run_refuses_nobody_and_is_what_it_was() -> None:
    given = small(federation__chunk=3)
    outcome = over_inline(given)
    assert refused(outcome) == {"replies": {}, "quarantined": 0, "rounds_not_counted": 0}
    loose = small(federation__chunk=3, validation__max_norm=0.0, validation__max_ratio=0.0)
    assert weights_sha256(over_inline(loose).last) == weights_sha256(outcome.last)


def test_strikes_lead_to_quarantine() -> None:
    """A user who is asked every round is bad three times, sits out two, and comes back."""
    given = small(federation__rounds=8, federation__users_per_round=10**6, validation__quarantine=2)
    bad = first_users(given)[1]
    outcome = over_inline(given, app=spoiled(times(1e4, bad)))
    everybody = len(first_users(given))
    found = [(sum(e.refused.values()), e.quarantined, e.users) for e in outcome.history]
    wrong, away = (1, 0, everybody - 1), (0, 1, everybody - 1)
    assert found == [wrong] * 3 + [away] * 2 + [wrong] * 3
    assert all(set(e.refused) <= {"norm"} for e in outcome.history)
    for_good = small(federation__rounds=6, federation__users_per_round=10**6)
    history = over_inline(for_good, app=spoiled(times(1e4, bad))).history
    assert [e.quarantined for e in history] == [0, 0, 0, 1, 1, 1]


def test_a_ratio_that_would_refuse_everybody_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"validation\.max-ratio = 0\.5: .*0 switches"):
        small(validation__max_ratio=0.5)


def test_a_sum_of_several_strikes_nobody() -> None:
    given = small(federation__chunk=2, federation__rounds=5, federation__users_per_round=10**6)
    outcome = over_inline(given, app=spoiled(times(np.nan, first_users(given)[0])))
    assert [e.quarantined for e in outcome.history] == [0] * 5
    assert [e.refused for e in outcome.history] == [{"finite": 1}] * 5


def test_what_is_remembered() -> None:
    checks = small(validation__strikes=2, validation__quarantine=3).config.validation
    trust = after(Trust(), [1.0], [4, 5], 1, checks)
    assert (trust.strikes, trust.until) == ({4: 1, 5: 1}, {})
    trust = after(trust, [2.0], [4], 2, checks)
    assert (trust.strikes, trust.until) == ({5: 1}, {4: 5})
    assert [quarantined(trust, n) for n in (3, 5, 6)] == [[4], [4], []]
    lenient = small(validation__strikes=0).config.validation
    assert not after(trust, [], [5] * 99, 3, lenient).until.get(5)


class StoppedError(Exception):
    pass


def test_a_resumed_run_remembers(tmp_path: Path) -> None:
    given = small(federation__rounds=6, federation__users_per_round=10**6)
    app = spoiled(times(1e4, first_users(given)[1]))

    def through(folder: Path, stop: int = 0) -> Outcome:
        def listen(event: Event) -> None:
            if isinstance(event, RoundDone) and event.round == stop:
                raise StoppedError

        settings = flatten(given.config) | {"run.memory": str(tmp_path / "memory")}
        return run(InlineGrid(app, settings), given, listen, folder)

    whole = through(tmp_path / "whole")
    with pytest.raises(StoppedError):
        through(tmp_path / "left", 1)  # a checkpoint a second: the first round's is there
    rest = through(tmp_path / "left")
    assert rest.before == 1
    assert weights_sha256(rest.last) == weights_sha256(whole.last)
    assert [e._replace(seconds=0.0) for e in rest.history] == [
        e._replace(seconds=0.0) for e in whole.history
    ]
    assert [e.quarantined for e in rest.history] == [0, 0, 0, 1, 1, 1]


def app_without(number: int) -> ClientApp:
    """The app, of which in one round nothing good comes."""
    return spoiled(lambda o, term: term._replace(weight=-1.0) if o.round == number else term)


@pytest.mark.parametrize("quorum", [0.5, 0.7])
def test_a_round_below_its_quorum_leaves_the_model(quorum: float) -> None:
    """Four of seven are good in round 2: enough for a quorum of a half, too few for 0.7."""

    def spoil(order: wire.Order, term: wire.Sum) -> wire.Sum:
        return term._replace(weight=-1.0) if order.round == 2 and order.chunk < 3 else term

    given = small(validation__quorum=quorum, federation__rounds=3, evaluation__every=1)
    models = []

    def listen(event: Event) -> None:
        if isinstance(event, RoundDone):
            models.append((event.counted, event.users))

    outcome = run(InlineGrid(spoiled(spoil), flatten(given.config)), given, listen)
    assert models == [(True, 7), (quorum == 0.5, 4), (True, 7)]
    assert [e.round for e in outcome.history] == [1, 2, 3]
    valid = [e.valid for e in outcome.history]
    assert valid[0] == valid[1] or quorum == 0.5
    honest_but_two = run(InlineGrid(app_without(2), flatten(given.config)), given)
    same = weights_sha256(outcome.last) == weights_sha256(honest_but_two.last)
    assert same == (quorum == 0.7)
    assert refused(outcome)["rounds_not_counted"] == int(quorum == 0.7)


def test_a_run_in_which_no_round_counts_is_an_error() -> None:
    with pytest.raises(ClientError, match=r"none of 3 rounds counted.*weight: chunk 0") as caught:
        over_inline(small(), app=spoiled(lambda order, term: term._replace(weight=0.5)))
    assert "validation.quorum" in str(caught.value)


@pytest.mark.parametrize("name", ["maml", "pfedhn"])
@pytest.mark.parametrize("known", [False, True])
def test_the_order_of_arrival_changes_nothing(name: str, known: bool) -> None:
    """With a bad one among them, in the first round and where norms are known before."""
    given = small(method__name=name, federation__chunk=2, federation__users_per_round=8)
    bad = first_users(given)[1]
    grid = InlineGrid(spoiled(one_row(bad) if name == "pfedhn" else times(1e3, bad)),
                      flatten(given.config))  # fmt: skip
    first = Federated(given)
    sent = list(first.configure_train(1, wire.arrays(first.state.meta), ConfigRecord(), grid))
    first.aggregate_train(1, grid.send_and_receive(sent))
    assert len(first.trust.norms) >= 4
    found = set()
    for order in itertools.islice(itertools.permutations(range(4)), 0, 24, 5):
        strategy = Federated(given)
        if known:
            strategy.trust = first.trust
        arrays = wire.arrays(strategy.state.meta)
        sent = list(strategy.configure_train(1, arrays, ConfigRecord(), grid))
        there = list(grid.send_and_receive(sent))
        strategy.aggregate_train(1, iter([there[i] for i in order]))
        event = strategy._last._replace(seconds=0.0)
        found.add((weights_sha256(strategy.state.meta), str(event), strategy.trust.norms))
        assert event.refused == {"norm": 1}
        assert event.failed == (1 if name == "pfedhn" else 2)
    assert len(found) == 1


def one_row(*users: int, value: float = 1e3) -> Spoil:
    def spoil(order: wire.Order, term: wire.Sum) -> wire.Sum:
        total = {name: v.copy() for name, v in term.total.items()}
        for user in set(users) & set(order.users):
            total["output.bias"][order.users.index(user)] *= value
        return term._replace(total=total)

    return spoil


@pytest.mark.parametrize(("value", "code"), [(np.nan, "finite"), (1e5, "norm")])
def test_of_a_stack_only_the_bad_rows_are_left_out(value: float, code: str) -> None:
    """The round is what it is when that user fails by himself, to the bit."""
    given = small(
        method__name="pfedhn", federation__chunk=4, federation__rounds=1,
        run__on_client_error="skip",
    )  # fmt: skip
    bad = first_users(given)[2]

    def fails(order: wire.Order, term: wire.Sum) -> wire.Sum:
        if bad not in order.users:
            return term
        rows = [at for at, user in enumerate(order.users) if user != bad]
        total = {name: v[rows] for name, v in term.total.items()}
        return term._replace(
            total=total, weight=float(len(rows)), users=len(rows), failed=[bad], reason="gone"
        )

    left = over_inline(given, app=spoiled(one_row(bad, value=value)))
    without = over_inline(given, app=spoiled(fails))
    assert left.history[0].refused == {code: 1}
    assert left.history[0].users == without.history[0].users == len(first_users(given)) - 1
    assert weights_sha256(left.last) == weights_sha256(without.last)
    assert weights_sha256(left.last) != weights_sha256(over_inline(given).last)


def test_norms_that_grow_are_followed() -> None:
    """Everybody's contributions become 100 times as large: refused for a while, then usual."""
    given = small(federation__rounds=8, validation__strikes=0, federation__users_per_round=6)

    def spoil(order: wire.Order, term: wire.Sum) -> wire.Sum:
        factor = 1e-4 if order.round <= 2 else 1e-2
        return term._replace(total={n: factor * v for n, v in term.total.items()})

    history = over_inline(given, app=spoiled(spoil)).history
    assert [e.counted for e in history] == [True, True, False, False, True, True, True, True]


def scored(spoil: Callable[[np.ndarray], np.ndarray], every: bool = False) -> ClientApp:
    """The app, whose first scores of a round (or all) are others."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return clients.app.train(message, context)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        reply = clients.app.evaluate(message, context)
        _, order = wire.read_order(message)
        if order.round and (every or order.chunk == 0):
            values = spoil(wire.read_scores(reply)[1].copy())
            reply.content[wire.SCORES] = ArrayRecord({wire.SCORES: Array(values)})
        return reply

    return app


def first_is(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def spoil(values: np.ndarray) -> np.ndarray:
        values[:, 0] = value
        return values

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [first_is(np.nan), first_is(1e9), first_is(-1.0), lambda x: x[:, :1], lambda x: x[0],
     lambda x: x.astype(np.float32), lambda x: x.astype(np.complex128)],
)  # fmt: skip
def test_bad_scores_are_left_out(spoil: Callable[[np.ndarray], np.ndarray]) -> None:
    """One evaluator cannot keep every round from being the best, nor make a bad one that."""
    given = small(federation__chunk=2)
    honest, outcome = over_inline(given), over_inline(given, app=scored(spoil))
    assert weights_sha256(outcome.last) == weights_sha256(honest.last)
    assert outcome.best_round > 0
    measured = [e for e in outcome.history if e.valid is not None]
    assert measured
    assert all(0 <= (e.valid or 0.0) <= 1 and e.why for e in measured)
    nobody = over_inline(given, app=scored(spoil, every=True))
    assert all(e.valid is None for e in nobody.history)


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """CPU seconds of the checks, and of only reading the same replies, as any server must."""
    seconds = {"checks": 0.0, "reading": 0.0}

    def timed(reply: Message, *args: Any) -> validation.Checked:
        began = time.process_time()
        wire.read_sum(reply)
        read = time.process_time()
        found = validation.check_sum(reply, *args)
        seconds["checks"] += time.process_time() - read
        seconds["reading"] += read - began
        return found

    monkeypatch.setattr(intake, "check_sum", timed)
    return seconds


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 25])
def test_what_it_costs(spent: dict[str, float], chunk: int) -> None:
    """10,000 honest updates: none refused, no bit changed, and at most 2 % of the round's time.

    Reading the numbers, which has to be done anyway, is no part of that.
    """
    values: dict[str, Any] = {
        "data__users": 1000, "data__support": 20, "data__messages": 2000, "method__name": "maml",
        "backbone__columns": 256, "head__hidden": 64, "federation__chunk": chunk,
        "federation__users_per_round": 500, "federation__rounds": 20, "evaluation__every": 20,
        "evaluation__tune": False,
    }  # fmt: skip
    given = problem(**values)
    began = time.process_time()
    outcome = over_inline(given)
    whole, added = time.process_time() - began, spent["checks"] - spent["reading"]
    assert sum(e.users for e in outcome.history) == 10_000
    assert not refused(outcome)["replies"]
    print(f"chunk {chunk}: {added:.3f} of {whole:.2f} s of CPU time")
    loose = problem(**values, validation__max_norm=0.0, validation__max_ratio=0.0)
    assert weights_sha256(over_inline(loose).last) == weights_sha256(outcome.last)
    assert added < 0.02 * whole
