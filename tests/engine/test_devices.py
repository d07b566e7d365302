"""Simulated devices against closed forms and schedules made by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmeta import devices, loop
from fedmeta.devices import Fleet, fleet_of
from fedmeta.problem import Problem, initial
from fedmeta.traces import leaving, read_trace
from fedmeta.turns import turns
from tests.data.rows import write
from tests.engine.cases import problem


def run(**values: Any) -> Problem:
    given = {"head__name": "linear", "method__name": "reptile"} | values
    return problem(**{k if "__" in k else f"devices__{k}": v for k, v in given.items()})


def known(made: Problem, fleet: Fleet, user: int) -> float:
    return float(fleet.compute[user] + fleet.transfer[user])


def test_off_is_the_cohort_and_has_no_clock() -> None:
    off = run()
    assert fleet_of(off) is None
    for number, turn in enumerate(turns(off), start=1):
        expected = loop.cohort_of(off.population, off.config, number)
        np.testing.assert_array_equal(turn.users, expected)
        assert turn[1:] == (0.0, 7, 0, 0)


def test_constant_latency_is_rounds_times_seconds() -> None:
    made = run(latency="constant", latency_seconds=12.0, overhead_seconds=3.0)
    assert [turn.clock for turn in turns(made)] == [15.0, 30.0, 45.0]


def test_transfer_and_examples_take_their_time() -> None:
    """Down and up at 200 bytes a second; 5 steps over at most 10 examples of 0.25 s each."""
    made = run(latency="constant", latency_seconds=2.0, bandwidth=200.0, example_seconds=0.25,
               method__steps=5)  # fmt: skip
    fleet = fleet_of(made)
    assert fleet is not None
    size = 4 * sum(value.numel() for value in initial(made).values())
    np.testing.assert_allclose(fleet.transfer, 2 * size / 200.0)
    made_for_each = fleet_of(run(latency="constant", bandwidth=1.0, method__name="pfedhn"))
    assert made_for_each is not None
    np.testing.assert_allclose(made_for_each.transfer, 2 * size)  # a head, not what makes it
    held = np.minimum(made.population.store.sizes(), 4 + 6)
    assert len(set(held.tolist())) > 1
    np.testing.assert_allclose(fleet.compute, 2.0 + 0.25 * 5 * held)
    batch = fleet_of(run(latency="constant", example_seconds=1.0, method__batch=2, method__steps=3))
    assert batch is not None
    np.testing.assert_allclose(batch.compute, 10.0 + 3 * np.minimum(held, 2))


def test_over_selection_takes_exactly_the_fastest() -> None:
    made = run(latency="lognormal", latency_sigma=1.0, over_selection=1.6)
    fleet = fleet_of(made)
    assert fleet is not None
    clock = 0.0
    for number, turn in enumerate(turns(made), start=1):
        asked = loop.ranked(made.population, made.config, number)[:12]  # 1.6 * 7 = 11.2
        by_speed = sorted(asked.tolist(), key=lambda user: known(made, fleet, user))
        assert sorted(turn.users.tolist()) == sorted(by_speed[:7])
        assert turn.clock - clock == pytest.approx(known(made, fleet, by_speed[6]))
        assert turn[2:] == (12, 0, 5)
        clock = turn.clock


def test_a_deadline_leaves_out_who_is_slower() -> None:
    made = run(latency="lognormal", latency_sigma=1.0, deadline=10.0, federation__rounds=8)
    fleet = fleet_of(made)
    assert fleet is not None
    kinds = set()
    for number, turn in enumerate(turns(made), start=1):
        asked = loop.cohort_of(made.population, made.config, number)
        slow = [user for user in asked.tolist() if known(made, fleet, user) > 10.0]
        assert turn.users.tolist() == [user for user in asked.tolist() if user not in slow]
        assert turn[2:] == (7, 0, len(slow))
        assert turn.clock == pytest.approx(10.0 * number)
        kinds.add(len(slow))
    assert len(kinds) > 1


def test_a_round_ends_early_when_enough_have_replied() -> None:
    with_, without = (
        [t.clock for t in turns(run(latency="lognormal", over_selection=1.6, deadline=d))]
        for d in (1e6, 0.0)
    )
    assert with_ == without


def test_who_drops_is_waited_for() -> None:
    """Until the deadline, or as long as his reply would have taken where there is none."""
    common = {"latency": "lognormal", "latency_sigma": 1.0, "failure": 0.4}
    made = run(**common)
    fleet = fleet_of(made)
    assert fleet is not None
    first = next(turns(made))
    asked = loop.cohort_of(made.population, made.config, 1)
    assert first.dropped == 7 - len(first.users) > 0
    assert first.clock == pytest.approx(max(known(made, fleet, user) for user in asked.tolist()))
    assert next(turns(run(**common, deadline=500.0))).clock == 500.0
    # Who drops has nothing to do with how fast he is.
    np.testing.assert_array_equal(first.users, next(turns(run(failure=0.4))).users)


def many(**values: Any) -> Problem:
    small = {"data__users": 400, "federation__users_per_round": 200, "federation__rounds": 12}
    return run(**(small | values))


def test_failures_and_availability_come_as_often_as_they_should() -> None:
    made = many(failure=0.25)
    selected = sum(turn.selected for turn in turns(made))
    dropped = sum(turn.dropped for turn in turns(made))
    assert abs(dropped / selected - 0.25) < 4 * math.sqrt(0.25 * 0.75 / selected)
    seen = np.unique(np.concatenate([turn.users for turn in turns(made)]))
    assert len(seen) == len(made.population.store.users("train"))  # nobody drops in every round
    part = many(availability="constant", available_share=0.3)
    train = len(part.population.store.users("train"))
    there = [turn.selected / train for turn in turns(part)]
    assert len(set(there)) > 3
    assert abs(np.mean(there) - 0.3) < 4 * math.sqrt(0.3 * 0.7 / (12 * train))


def test_lognormal_slowness_has_its_moments_and_its_expected_maximum() -> None:
    """The mean longest of n standard normals is found by integrating n z phi(z) Phi(z)^(n - 1)."""
    made = many(latency="lognormal", latency_seconds=10.0, latency_sigma=0.8)
    fleet = fleet_of(made)
    assert fleet is not None
    z = np.log(fleet.compute / 10.0) / 0.8
    assert abs(z.mean()) < 4 / math.sqrt(len(z))
    assert abs(z.std() - 1) < 4 / math.sqrt(2 * len(z))
    n = 7
    grid = np.linspace(-8, 8, 4001)
    density = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi)
    below = np.cumsum(density) * (grid[1] - grid[0])
    law = n * density * below ** (n - 1) * (grid[1] - grid[0])
    mean = float((law * grid).sum())
    spread = math.sqrt(float((law * grid**2).sum()) - mean**2)
    few = run(latency="constant", jitter=0.8, federation__rounds=300, data__users=60)
    clock = np.array([0.0, *(turn.clock for turn in turns(few))])
    longest = np.log(np.diff(clock) / 10.0) / 0.8
    assert abs(longest.mean() - mean) < 4 * spread / math.sqrt(300)


def test_a_day_by_hand() -> None:
    """Share 0.8 swings by 0.2: everybody is there at a quarter of the day, 60 % at three."""
    day = {"availability": "diurnal", "day_seconds": 40.0, "federation__users_per_round": 10**6,
           "latency": "constant", "latency_seconds": 10.0}  # fmt: skip
    made = many(**day, available_share=0.8)
    train = len(made.population.store.users("train"))
    shares = np.array([turn.selected / train for turn in turns(made)]).reshape(3, 4)
    np.testing.assert_array_equal(shares[:, 1], 1.0)
    assert abs(shares[:, [0, 2]].mean() - 0.8) < 4 * math.sqrt(0.16 / (6 * train))
    assert abs(shares[:, 3].mean() - 0.6) < 4 * math.sqrt(0.24 / (3 * train))
    around = [t.selected / train for t in turns(many(**day, phase_spread=1.0))]
    assert max(abs(share - 0.5) for share in around) < 5 * math.sqrt(0.25 / train)


INTERVALS = [("a", 0, 10), ("a", 30, 60), ("b", 20, 40), ("b", 40, 50), ("c", 0, 60)]


def trace_file(path: Path, rows: list[dict[str, Any]]) -> str:
    return str(write(path, rows))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "csv.gz"])
def test_a_trace_by_hand(kind: str, tmp_path: Path) -> None:
    rows = [{"user": u, "start": s, "end": e, "seconds": e - s} for u, s, e in INTERVALS]
    rows.insert(2, {"user": "stranger", "start": 0, "end": 1, "seconds": 1})
    path = write(tmp_path / f"t.{kind}", rows)
    trace = read_trace(path, ("a", "b", "c", "d"), ("start", "end", "seconds"))
    np.testing.assert_array_equal(trace.seconds, [20, 15, 60, np.nan])
    gone, always = -math.inf, math.inf
    for clock, expected in {
        0: [10, gone, always, gone],
        9.5: [10, gone, always, gone],
        10: [gone, gone, always, gone],
        20: [gone, 50, always, gone],  # what touches is one interval
        45: [70, 50, always, gone],  # and so are the last and the first of the next time
        65: [70, gone, always, gone],  # the file begins anew at 60
        140: [gone, 170, always, gone],
    }.items():
        assert leaving(trace, clock).tolist() == expected, clock


def test_who_leaves_in_mid_round_drops(tmp_path: Path) -> None:
    made = run()
    ids, train = made.population.store.ids, made.population.store.users("train")
    # Half of the users are there for 25 s of 60; who takes 20 s is done once, not twice.
    rows = [
        {"user": ids[user], "start": 0, "end": 25 if user % 2 else 60, "seconds": 20}
        for user in train.tolist()
    ]
    path = trace_file(tmp_path / "t.csv", rows)
    made = run(availability="trace", latency="trace", trace=path,
               federation__users_per_round=100)  # fmt: skip
    odd = int((train % 2).sum())
    found = [(len(t.users), t.clock, t.selected, t.dropped) for t in turns(made)]
    even = len(train) - odd
    assert found == [
        (len(train), 20.0, len(train), 0),
        (even, 40.0, len(train), odd),
        (even, 60.0, even, 0),
    ]


def test_draws_depend_on_the_user_and_not_on_his_place() -> None:
    few, many_ = run(latency="lognormal"), run(latency="lognormal", data__users=48)
    a, b = fleet_of(few), fleet_of(many_)
    assert a is not None
    assert b is not None
    there = many_.population.store.ids
    for at, name in enumerate(few.population.store.ids):
        if name in there:
            assert a.compute[at] == b.compute[there.index(name)]
    other = fleet_of(run(latency="lognormal", run__seed=1))
    assert other is not None
    assert not np.array_equal(a.compute, other.compute)
    speed, width = (
        devices._normal(few.population, 0, f"device-{w}") for w in ("speed", "bandwidth")
    )
    assert not np.allclose(np.sort(speed), np.sort(width))
