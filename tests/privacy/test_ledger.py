"""Goals P8 and R5: nothing leads past a budget, or to a release without a charge."""

import contextlib
import math
import random
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from clients import ledger
from clients.ledger import FILE, Budget, LedgerError, Release, charge, fingerprint, history, total
from fedmeta.privacy.accounting import epsilon
from fedmeta.privacy.event import Charge, Event
from tests.forked import killed_at

DELTA = 1e-5
NONE = Budget(0.0, DELTA)
KINDS: tuple[Charge, ...] = (
    ((Event(4.0, 0.5, 3),),),
    ((Event(6.0, 0.5, 2),), (Event(7.0),)),
    ((Event(9.0), Event(8.0, 0.25, 2)),),
)


def oracle(spent: Counter[tuple[str, int]]) -> float:
    """Epsilon from first principles: a record's part in each run is its own worst choice."""
    worst: list[tuple[Event, ...]] = [()]
    for (_, kind), times in sorted(spent.items()):
        worst = [
            (*others, *(e._replace(count=e.count * times) for e in part))
            for others in worst
            for part in KINDS[kind]
        ]
    return epsilon(tuple(worst), DELTA)


_KNOWN: dict[Any, float] = {}


def known(spent: Counter[tuple[str, int]]) -> float:
    """:func:`oracle`, once for all orders in which the same came to be."""
    key = tuple(sorted(spent.items()))
    if key not in _KNOWN:
        _KNOWN[key] = oracle(spent)
    return _KNOWN[key]


def schedule(folder: Path, seed: int, budget: Budget) -> int:
    """One user's life: rounds, dropouts, lost replies, retries, restarts, re-registration."""
    chance, releases, refused = random.Random(seed), 0, 0
    user, spent = f"user {seed}", Counter[tuple[str, int]]()
    for run in ("a", "b")[: chance.randint(1, 2)]:
        kind = chance.randrange(len(KINDS))
        for number in range(1, chance.randint(2, 5)):
            if chance.random() < 0.2:
                continue  # not drawn, or not there
            sign = "" if chance.random() < 0.3 else f"theta {number}"
            release = Release(run, number, sign, KINDS[kind])
            if chance.random() < 0.3:
                ledger._often.cache_clear()  # another process, another node id
            paid = False
            for _ in range(chance.randint(1, 2)):  # asked once more after a timeout
                again = bool(sign) and paid
                paid = bool(charge(folder, [user], release, budget)[0])
                if again:
                    assert paid
                    continue
                after = spent + Counter({(run, kind): 1})
                assert paid == (known(after) <= budget.epsilon), (seed, after)
                if paid:
                    spent, releases = after, releases + 1  # whether or not the reply arrives
                else:
                    refused += 1
    found = history(folder, user)
    assert sum(found.values()) == releases
    assert {(run, KINDS.index(kind)): n for (run, kind), n in found.items()} == spent
    assert epsilon(total(found), DELTA) == pytest.approx(known(spent), rel=1e-9)
    assert known(spent) <= budget.epsilon
    return refused


def test_no_schedule_passes_the_budget_or_is_charged_too_little(tmp_path: Path) -> None:
    assert sum(schedule(tmp_path, seed, Budget(1.5, DELTA)) for seed in range(40)) > 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_schedules(tmp_path: Path) -> None:
    assert sum(schedule(tmp_path, seed, Budget(1.5, DELTA)) for seed in range(10_000)) > 1000


def test_users_are_charged_together_and_apart(tmp_path: Path) -> None:
    once, budget = KINDS[0], Budget(epsilon(total({("run", KINDS[0]): 2}), DELTA), DELTA)
    assert charge(tmp_path, ["a", "b"], Release("run", 1, "x", once), budget).all()
    assert charge(tmp_path, ["b", "c"], Release("run", 2, "y", once), budget).all()
    third = charge(tmp_path, ["a", "b", "c"], Release("run", 3, "z", once), budget)
    assert third.tolist() == [True, False, True]
    assert [sum(history(tmp_path, user).values()) for user in "abc"] == [2, 2, 2]


def test_the_same_release_is_charged_once_and_fresh_noise_always(tmp_path: Path) -> None:
    for _ in range(3):
        charge(tmp_path, ["a"], Release("run", 1, "x", KINDS[0]), NONE)
    assert history(tmp_path, "a") == {("run", KINDS[0]): 1}
    for _ in range(3):
        charge(tmp_path, ["a"], Release("run", 2, "", KINDS[0]), NONE)
    assert history(tmp_path, "a") == {("run", KINDS[0]): 4}


def test_the_same_noise_on_another_value_is_refused(tmp_path: Path) -> None:
    charge(tmp_path, ["a"], Release("run", 1, "x", KINDS[0]), NONE)
    with pytest.raises(LedgerError, match="noise may not be used again"):
        charge(tmp_path, ["b", "a"], Release("run", 1, "y", KINDS[0]), NONE)
    assert history(tmp_path, "b") == {}  # one transaction: nothing of it is left


def test_fingerprints_tell_bits_shapes_and_paths() -> None:
    zero = torch.zeros(2, 3)
    same = fingerprint({"a": zero, "b": zero}, 1)
    assert same == fingerprint({"b": zero.clone(), "a": zero}, 1)
    others = [
        fingerprint({"a": zero, "b": zero}, 2),
        fingerprint({"a": zero, "b": zero + torch.finfo(torch.float32).tiny}, 1),
        fingerprint({"a": zero, "b": -zero}, 1),
        fingerprint({"a": zero, "b": zero.T}, 1),
        fingerprint({"a": zero, "c": zero}, 1),
    ]
    assert len({same, *others}) == 6


def test_parts_of_two_runs_may_overlap() -> None:
    fixed = KINDS[1]
    one_run = epsilon(total({("a", fixed): 2}), DELTA)
    two_runs = epsilon(total({("a", fixed): 1, ("b", fixed): 1}), DELTA)
    assert one_run == max(
        epsilon((tuple(e._replace(count=2 * e.count) for e in part),), DELTA) for part in fixed
    )
    assert two_runs >= one_run
    assert len(total({("a", fixed): 1, ("b", fixed): 1})) == 4
    assert total({}) == ()
    assert total({("a", ()): 3}) == ()


def test_a_charge_without_noise_fits_no_budget(tmp_path: Path) -> None:
    bare = Release("run", 1, "x", ((Event(0.0),),))
    assert not charge(tmp_path, ["a"], bare, Budget(1e9, DELTA)).any()
    assert charge(tmp_path, ["a"], bare, NONE).all()
    assert epsilon(total(history(tmp_path, "a")), DELTA) == math.inf


def test_a_damaged_ledger_stops_everything(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database at all, and long enough for a header" * 20)
    with pytest.raises(LedgerError, match="cannot be used"):
        charge(tmp_path, ["a"], Release("run", 1, "x", KINDS[0]), NONE)
    (tmp_path / FILE).unlink()
    charge(tmp_path, ["a"], Release("run", 1, "x", KINDS[0]), NONE)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as file, file:
        file.execute("UPDATE charges SET charge = '[[[1]]'")
    with pytest.raises(LedgerError, match="holds no charge"):
        history(tmp_path, "a")


def test_a_ledger_that_cannot_be_written_stops_everything(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(LedgerError, match="nothing is released"):
        charge(blocked, ["a"], Release("run", 1, "x", KINDS[0]), NONE)


def _calls(folder: Path, number: int, most: int) -> int:
    """Charge and release in a process that is gone at its ``most``-th call; calls it came to."""

    def act() -> None:
        charge(folder, ["a", "b"], Release("run", number, "", KINDS[0]), NONE)
        with (folder / "seen").open("a") as seen:
            seen.write("x")
            seen.flush()  # its return is a point too: the release is out, and nobody knows

    return killed_at(most, act)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside threads
def test_a_crash_at_any_of_50_points_leaves_no_release_uncharged(tmp_path: Path) -> None:
    (tmp_path / "seen").touch()
    calls = _calls(tmp_path, 0, 10**9)
    seen = 1
    for point in range(50):
        _calls(tmp_path, point + 1, point * calls // 49)
        seen = len((tmp_path / "seen").read_text())
        charged = [sum(history(tmp_path, user).values()) for user in "ab"]
        assert charged[0] == charged[1] >= seen  # both users or none
    assert 1 < seen < 50, "the points lie before and after the release"
    assert charged[0] > seen, "a crash between charge and release costs a charge"


def test_what_costs_nothing_once_does_not_cost_nothing_often(tmp_path: Path) -> None:
    """Once, a record is in with a chance below delta; with the rounds the chance adds up."""
    once: Charge = ((Event(0.3, 5e-5),),)
    budget = Budget(1.0, 1e-4)
    assert epsilon(once, budget.delta) == 0.0
    often = ledger._often(once, budget)
    after = [epsilon(((Event(0.3, 5e-5, n),),), budget.delta) for n in (often, often + 1)]
    assert after[0] <= budget.epsilon < after[1]
    assert ledger._often(((),), budget) == 2**62  # nothing leaves


def test_many_runs_with_fixed_splits_are_counted_in_time_and_never_too_little() -> None:
    kind: Charge = ((Event(4.0),), (Event(3.0),))
    few = {(f"run {n}", kind): n + 1 for n in range(ledger.SPLITS)}
    many = {(f"run {n}", kind): n + 1 for n in range(ledger.SPLITS + 3)}
    assert len(total(few)) == len(total(many)) == 2**ledger.SPLITS
    # At worst an example was in the dearer part each time.
    worst = ((Event(3.0, 1.0, sum(many.values())),),)
    both = ((*worst[0], Event(4.0, 1.0, sum(many.values()))),)
    assert epsilon(worst, DELTA) <= epsilon(total(many), DELTA) <= epsilon(both, DELTA)
