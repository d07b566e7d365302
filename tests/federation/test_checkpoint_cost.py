"""What it costs to save a round, beside the round."""

import time
from pathlib import Path
from typing import Any

import pytest

from clients.app import app
from experiments.backends.inline import InlineGrid
from fedmeta.config import flatten
from strategies import checkpoint, federated
from strategies.app import run
from tests.engine.cases import problem


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_it_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one of three rounds of 10,000 users is saved, in less than 2 % of its time."""
    given = problem(
        method__name="maml", head__name="mlp", head__hidden=64, backbone__columns=384,
        data__users=17_000, data__support=10, data__query=10, data__examples=22,
        data__messages=2000, federation__users_per_round=10_000, federation__chunk=25,
        evaluation__every=100, evaluation__tune=False,
    )  # fmt: skip
    spent: list[float] = []
    write = checkpoint.write

    def timed(*args: Any) -> None:
        began = time.perf_counter()
        write(*args)
        spent.append(time.perf_counter() - began)

    monkeypatch.setattr(checkpoint, "write", timed)
    monkeypatch.setattr(federated, "QUICK", 0.0)
    grid = InlineGrid(app, flatten(given.config))
    history = run(grid, given, folder=tmp_path).history
    assert [event.users for event in history] == [10_000] * 3
    assert len(spent) == 3
    rounds = [event.seconds for event in history]
    print(f"\ncheckpoints {spent} s, rounds {rounds} s")
    assert sum(spent) < 0.02 * sum(rounds)
