"""Bad rows of a stack, bad scores, and what the checks cost."""

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message
from flwr.clientapp import ClientApp

import clients.app
from clients import wire
from experiments.summary import check_everybody, refused, summarize
from fedmeta.head_file import weights_sha256
from strategies import intake, validation
from strategies.errors import ClientError
from tests.engine.cases import problem
from tests.federation.runs import over_inline
from tests.federation.spoiled import spoiled
from tests.federation.test_trust import first_users, one_row, small


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
    given = small(
        federation__rounds=8,
        validation__strikes=0,
        validation__max_ratio=10.0,
        federation__users_per_round=6,
    )

    def spoil(order: wire.Order, term: wire.Sum) -> wire.Sum:
        factor = 1e-4 if order.round <= 2 else 1e-2
        return term._replace(total={n: factor * v for n, v in term.total.items()})

    history = over_inline(given, app=spoiled(spoil)).history
    assert [e.counted for e in history] == [True, True, False, False, True, True, True, True]


def scored(
    spoil: Callable[[np.ndarray], np.ndarray], every: bool = False, last: bool = False
) -> ClientApp:
    """The app, whose first scores of a round (or all, or those of the end too) are others."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return clients.app.train(message, context)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        reply = clients.app.evaluate(message, context)
        _, order = wire.read_order(message)
        if (order.round or last) and (every or order.chunk == 0):
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


def test_who_cannot_be_judged_is_left_out_and_said() -> None:
    """Of tuning and the final figures too; the others have the scores that they have anyway."""
    values = {"federation__chunk": 2, "evaluation__tune": True}
    skip = small(run__on_client_error="skip", **values)
    honest = over_inline(skip)
    outcome = over_inline(skip, app=scored(first_is(-1.0), last=True))
    assert sorted(outcome.lost) == ["test", "tuning", "valid"]
    for split in ("valid", "test"):
        whole = honest.users[split].tolist()
        left = outcome.users[split].tolist()
        missing = [user for user in whole if user not in left]
        assert len(missing) == 2
        at = [whole.index(user) for user in left]
        if outcome.adapt == honest.adapt:
            np.testing.assert_array_equal(outcome.scores[split], honest.scores[split][..., at])
        assert outcome.scores[split].shape[-1] == len(left)
        name = skip.population.store.ids[missing[0]]
        assert f"2 of {len(whole)} users" in outcome.lost[split]
        assert f"{name!r} first; refused: score" in outcome.lost[split]
    summary = summarize(outcome, {})
    assert summary["users"]["test"] == len(honest.users["test"]) - 2
    assert sum("gave no scores" in note for note in summary["notes"]) == 3
    with pytest.raises(ClientError, match="compared on the same users"):
        check_everybody(outcome)
    check_everybody(honest)
    assert honest.lost == {}
    assert not any("gave no scores" in note for note in summarize(honest, {})["notes"])


def test_who_cannot_be_judged_ends_a_run_that_may_lose_nobody() -> None:
    app = scored(first_is(-1.0), last=True)
    with pytest.raises(ClientError, match=r"2 of \d+ users gave no scores.*--resume.*'skip'"):
        over_inline(small(federation__chunk=2), app=app)
    nobody = scored(first_is(-1.0), every=True, last=True)
    with pytest.raises(ClientError, match=r"expected validation\.quorum = 0\.25 of them"):
        over_inline(small(run__on_client_error="skip"), app=nobody)


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_a_client_that_fails_when_it_judges(policy: str) -> None:
    app = ClientApp()
    app.train()(clients.app.train)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        if wire.read_order(message)[1].chunk == 0:
            raise MemoryError("out of everything")
        return clients.app.evaluate(message, context)

    given = small(federation__chunk=2, run__on_client_error=policy)
    if policy == "fail":
        with pytest.raises(ClientError, match="MemoryError: out of everything"):
            over_inline(given, app=app)
        return
    outcome = over_inline(given, app=app)
    assert sorted(outcome.lost) == ["test", "valid"]
    assert "MemoryError" in outcome.lost["test"]
    assert weights_sha256(outcome.last) == weights_sha256(over_inline(given).last)


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """CPU seconds of the checks, and of only reading replies, as any server must.

    What is done first with a reply takes longer, so that every other one is read first, and what
    comes second does not count.
    """
    seconds, turns = {"checks": 0.0, "reading": 0.0}, itertools.cycle([True, False])

    def timed(reply: Message, *args: Any) -> validation.Checked:
        if next(turns):
            began = time.process_time()
            wire.read_sum(reply)
            seconds["reading"] += time.process_time() - began
            return validation.check_sum(reply, *args)
        began = time.process_time()
        found = validation.check_sum(reply, *args)
        seconds["checks"] += time.process_time() - began
        return found

    monkeypatch.setattr(intake, "check_sum", timed)
    return seconds


@pytest.mark.slow
@pytest.mark.timeout(1800)
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
    whole, added = time.process_time() - began, 2 * (spent["checks"] - spent["reading"])
    assert sum(e.users for e in outcome.history) == 10_000
    assert not refused(outcome)["replies"]
    print(f"chunk {chunk}: {added:.3f} of {whole:.2f} s of CPU time, {spent}")
    loose = problem(**values, validation__max_norm=0.0, validation__max_ratio=0.0)
    assert weights_sha256(over_inline(loose).last) == weights_sha256(outcome.last)
    assert added < 0.02 * whole
