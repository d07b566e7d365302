"""Simulated devices over the Flower path: the loop's rounds, and off where all is well."""

from typing import Any

import pytest
import torch

from fedmeta import loop
from fedmeta.head_file import weights_sha256
from fedmeta.problem import initial
from fedmeta.turns import turns
from tests.engine.cases import distance, problem
from tests.federation.runs import over_inline

BASE: dict[str, Any] = {"method__name": "reptile", "head__name": "linear", "federation__rounds": 6}
HARD: dict[str, Any] = {
    "devices__availability": "diurnal",
    "devices__available_share": 0.4,
    "devices__day_seconds": 100.0,
    "devices__latency": "lognormal",
    "devices__latency_seconds": 20.0,
    "devices__latency_sigma": 1.0,
    "devices__jitter": 0.3,
    "devices__example_seconds": 0.5,
    "devices__bandwidth": 2000.0,
    "devices__failure": 0.2,
    "devices__over_selection": 1.5,
    "devices__deadline": 60.0,
}
PERFECT: list[dict[str, Any]] = [
    {"devices__availability": "constant", "devices__available_share": 1.0},
    {"devices__latency": "constant", "devices__over_selection": 1.3, "devices__jitter": 0.0},
    {"devices__latency": "lognormal", "devices__jitter": 1.0},
    {"devices__latency": "lognormal", "devices__deadline": 1e9},
]


@pytest.mark.parametrize("extra", PERFECT)
def test_where_nobody_is_lost_not_a_bit_changes(extra: dict[str, Any]) -> None:
    off, on = over_inline(**BASE), over_inline(**BASE, **extra)
    assert weights_sha256(on.last) == weights_sha256(off.last)
    assert [e.clock for e in off.history] == [None] * 6
    assert all(e.clock is not None for e in on.history)


@pytest.mark.parametrize("name", ["reptile", "maml", "ditto"])
def test_flower_equals_loop(name: str) -> None:
    run = problem(**(BASE | HARD | {"head__name": "mlp", "method__name": name}))
    expected = list(turns(run))
    assert len({len(turn.users) for turn in expected}) > 2
    assert sum(turn.dropped for turn in expected) > 0
    assert sum(turn.late for turn in expected) > 0
    outcome = over_inline(run)
    told = [(e.users, e.clock, e.selected, e.dropped, e.late) for e in outcome.history]
    assert told == [(len(t.users), t.clock, t.selected, t.dropped, t.late) for t in expected]
    *_, state = loop.train(run, torch.float64)
    assert distance(outcome.last, state.meta) < 1e-6
    assert weights_sha256(over_inline(run, nodes=3).last) == weights_sha256(outcome.last)


def test_a_round_without_users_keeps_the_model() -> None:
    """All clocks are at the same time, and at night nobody is there."""
    night = {
        "devices__availability": "diurnal",
        "devices__available_share": 0.5,
        "devices__day_seconds": 4000.0,
        "devices__retry_seconds": 250.0,
        "devices__overhead_seconds": 750.0,
    }
    run = problem(**BASE, **night, evaluation__every=1, server__optimizer="momentum")
    outcome = over_inline(run)
    empty = [e.round for e in outcome.history if e.selected == 0]
    # Rounds begin at 0, 750, ...; the fifth at three quarters of the day, where the sine is -1.
    assert empty == [5]
    assert [e.clock for e in outcome.history] == [750, 1500, 2250, 3000, 4000, 4750]
    fourth, fifth = outcome.history[3:5]
    assert (fifth.users, fifth.failed, fifth.valid) == (0, 0, fourth.valid)
    states = [initial(run), *(state.meta for state in loop.train(run))]
    assert distance(states[5], states[4]) == 0.0
    assert all(distance(states[r], states[r - 1]) > 1e-4 for r in (1, 2, 3, 4, 6))
    assert distance(outcome.last, states[-1]) < 1e-6
