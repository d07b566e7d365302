"""Strikes, quarantine, quorum, sizes: what bad replies lead to over the rounds of real runs."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord
from flwr.clientapp import ClientApp

from clients import wire
from experiments.backends.inline import InlineGrid
from experiments.summary import refused
from fedmeta import loop
from fedmeta.config import ConfigError, flatten
from fedmeta.head_file import weights_sha256
from fedmeta.problem import Problem
from strategies.app import Outcome, run
from strategies.errors import ClientError
from strategies.events import Event, RoundDone
from strategies.federated import Federated
from strategies.trust import Trust, after, quarantined
from tests.engine.cases import problem
from tests.federation.runs import over_inline
from tests.federation.spoiled import Spoil, spoiled, times


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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maml", "maml-pp", "lg-fedavg"])
def test_few_users_who_train_for_long_refuse_nobody(name: str) -> None:
    """Eight users, one by one, until their contributions are next to nothing."""
    given = small(
        method__name=name, federation__users_per_round=8, federation__rounds=80,
        evaluation__every=80,
    )  # fmt: skip
    nobody = {"replies": {}, "quarantined": 0, "rounds_not_counted": 0}
    assert refused(over_inline(given)) == nobody


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


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.99])
def test_a_ratio_that_would_refuse_honest_users_is_refused(ratio: float) -> None:
    with pytest.raises(ConfigError, match=rf"validation\.max-ratio = {ratio}: .*0 switches"):
        small(validation__max_ratio=ratio)


def test_the_least_ratio_refuses_no_lone_user() -> None:
    """One user a round, whose norm is his own: nobody is refused and nobody struck."""
    given = small(validation__max_ratio=2.0, federation__users_per_round=1, federation__rounds=12)
    nobody = {"replies": {}, "quarantined": 0, "rounds_not_counted": 0}
    assert refused(over_inline(given)) == nobody


@pytest.mark.parametrize(("factor", "times_refused"), [(1.0, 0), (100.0, 1)])
def test_whom_the_model_does_not_fit_yet_is_no_attacker(factor: float, times_refused: int) -> None:
    """Everybody's contributions shrink to nothing, and one comes as long as all were at first.

    One that is longer than that by more than the ratio is refused all the same.
    """
    given = small(
        federation__rounds=6, federation__users_per_round=10**6, validation__max_ratio=10.0
    )
    late = first_users(given)[1]

    def spoil(order: wire.Order, term: wire.Sum) -> wire.Sum:
        far = order.round == 6 and late in order.users
        by = factor if far else 1.0 if order.round == 1 else 1e-4
        return term._replace(total={name: by * value for name, value in term.total.items()})

    history = over_inline(given, app=spoiled(spoil)).history
    assert [e.refused.get("norm", 0) for e in history] == [0] * 5 + [times_refused]


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
    long = after(Trust(norms=(1.0,) * 16, first=(2.0,) * 15), [3.0, 4.0], [], 3, checks)
    assert long.norms == (*(1.0,) * 14, 3.0, 4.0)
    assert long.first == (*(2.0,) * 15, 3.0)
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


def one_row(*users: int, value: float = 1e3) -> Spoil:
    def spoil(order: wire.Order, term: wire.Sum) -> wire.Sum:
        total = {name: v.copy() for name, v in term.total.items()}
        for user in set(users) & set(order.users):
            total["output.bias"][order.users.index(user)] *= value
        return term._replace(total=total)

    return spoil


@pytest.mark.parametrize("name", ["maml", "pfedhn"])
@pytest.mark.parametrize("known", [False, True])
def test_the_order_of_arrival_changes_nothing(name: str, known: bool) -> None:
    """With a bad one among them, in the first round and where norms are known before."""
    given = small(
        method__name=name, federation__chunk=2, federation__users_per_round=8,
        validation__max_ratio=10.0,
    )  # fmt: skip
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
