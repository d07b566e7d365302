"""Runs pay before they release: the ledger holds what the claim says, and a resume agrees."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients import charging, ledger
from clients.ledger import EVERYBODY, FILE, LedgerError
from experiments.found import Run
from experiments.running import _go_on, simulate
from fedmeta.config import Config, ConfigError, parse
from fedmeta.privacy.accounting import epsilon
from fedmeta.privacy.claim import check_budget, claimed, sentence
from fedmeta.privacy.event import Privacy
from fedmeta.privacy.plan import plan
from fedmeta.problem import build, initial
from tests.experiments.runs import TINY, rounds_of

EXAMPLE = {
    "method.name": "reptile",
    "privacy.unit": "example",
    "privacy.noise-multiplier": 4.0,
    "privacy.sampling-rate": 0.2,
    "federation.chunk": 5,
}
USER = {"method.name": "reptile", "privacy.unit": "user", "privacy.noise-multiplier": 2.0}


def config(*parts: dict[str, Any]) -> Config:
    return parse(TINY | {"privacy.delta": 3e-4} | {k: v for part in parts for k, v in part.items()})


def spent(folder: Path, user: str, delta: float = 3e-4) -> float:
    return epsilon(ledger.total(ledger.history(folder, user)), delta)


def ids(run: Run) -> list[str]:
    store = run.outcome.problem.population.store
    return [store.ids[user] for user in store.users("train")]


def test_users_pay_for_each_time_they_take_part(tmp_path: Path) -> None:
    run = simulate(config(EXAMPLE, {"federation.rounds": 6}), tmp_path / "run")
    times = [sum(ledger.history(run.folder / "memory", user).values()) for user in ids(run)]
    assert sum(times) == 6 * 8
    assert set(times) == {1, 2}  # 36 users in turn, 48 seats
    dearest = max(spent(run.folder / "memory", user) for user in ids(run))
    assert run.summary["privacy"]["epsilon"] == pytest.approx(dearest, rel=1e-9)
    assert run.summary["budget_spent"] == 0


def test_users_whose_budget_is_spent_stay_away_and_are_counted(tmp_path: Path) -> None:
    once = plan(config(EXAMPLE), 36).charge
    budget = {"privacy.epsilon-budget": 1.001 * epsilon(once, 3e-4), "federation.rounds": 6}
    run = simulate(config(EXAMPLE, budget), tmp_path / "run")
    times = [sum(ledger.history(run.folder / "memory", user).values()) for user in ids(run)]
    assert times == [1] * 36
    assert run.summary["budget_spent"] == 6 * 8 - 36
    assert run.summary["failed_updates"] == 0
    assert [line["users"] for line in rounds_of(run.folder)] == [8, 8, 8, 8, 4, 0]
    assert run.summary["privacy"]["epsilon"] <= budget["privacy.epsilon-budget"]


def test_a_resume_charges_nobody_twice(tmp_path: Path) -> None:
    given = config(EXAMPLE, {"run.checkpoint-every": 1})
    run = simulate(given, tmp_path / "run")
    before = {user: ledger.history(run.folder / "memory", user) for user in ids(run)}
    shutil.rmtree(run.folder / "checkpoints" / "3", ignore_errors=True)
    again = simulate(given, resume=run.folder)
    assert again.summary["weights_sha256"] == run.summary["weights_sha256"]
    assert {user: ledger.history(run.folder / "memory", user) for user in ids(run)} == before
    shutil.rmtree(run.folder / "checkpoints")
    _go_on(run.folder, run.outcome.problem.config)  # from the beginning: charges stay
    assert {user: ledger.history(run.folder / "memory", user) for user in ids(run)} == before


def test_a_server_pays_for_everybody_in_every_round(tmp_path: Path) -> None:
    run = simulate(config(USER), tmp_path / "run")
    assert sum(ledger.history(run.folder, EVERYBODY).values()) == 3
    assert run.summary["privacy"]["epsilon"] == pytest.approx(spent(run.folder, EVERYBODY))
    shutil.rmtree(run.folder / "checkpoints")
    again = simulate(config(USER), resume=run.folder)  # from the start: the same three releases
    assert again.summary["weights_sha256"] == run.summary["weights_sha256"]
    assert sum(ledger.history(run.folder, EVERYBODY).values()) == 3


def test_a_server_that_cannot_charge_does_not_step(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = simulate(config(USER), folder)
    shutil.rmtree(folder / "checkpoints")
    (folder / FILE).write_bytes(b"broken" * 500)
    with pytest.raises(LedgerError, match="cannot be used"):
        simulate(config(USER), resume=run.folder)


@pytest.mark.parametrize("unit", [EXAMPLE, USER])
def test_a_budget_that_cannot_pay_is_refused_at_once(tmp_path: Path, unit: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"epsilon-budget = 0\.05.*noise-multiplier = ") as error:
        simulate(config(unit, {"privacy.epsilon-budget": 0.05}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    noise = float(str(error.value).split("noise-multiplier = ")[1].split()[0].rstrip(",;"))
    better = {"privacy.epsilon-budget": 0.05, "privacy.noise-multiplier": 1.001 * noise}
    assert simulate(config(unit, better), tmp_path / "run").summary["privacy"]["epsilon"] <= 0.0501


def test_the_same_noise_does_not_hide_two_sums(tmp_path: Path) -> None:
    run = simulate(config(USER), tmp_path / "run")
    shutil.rmtree(run.folder / "checkpoints")
    other = simulate(config(USER, {"method.rate": 0.3}), tmp_path / "other")
    shutil.copy(run.folder / FILE, other.folder / FILE)
    shutil.rmtree(other.folder / "checkpoints")
    with pytest.raises(LedgerError, match="noise may not be used again"):
        simulate(config(USER, {"method.rate": 0.3}), resume=other.folder)


def test_reasons_stand_where_no_epsilon_may() -> None:
    made = Privacy(unit="user", charge=plan(config(USER), 36).charge, broken=("it leaks", "twice"))
    claim = claimed(config(USER), made)
    assert claim is not None
    assert claim.epsilon is None
    assert sentence(claim).endswith("no epsilon, because it leaks; twice")
    assert claimed(config(), Privacy()) is None


def test_an_extrapolated_epsilon_is_called_that() -> None:
    given = config(USER, {"privacy.noise-cohort-size": 1000, "privacy.delta": 1e-4})
    claim = claimed(given, plan(given, 36))
    assert claim is not None
    assert "extrapolated to a deployment with 1,000 users per round of 4,500" in sentence(claim)
    assert np.isfinite(claim.epsilon or np.nan)


def test_what_never_leaves_costs_nothing() -> None:
    given = config(USER, {"method.name": "local", "privacy.epsilon-budget": 0.001})
    claim = claimed(given, plan(given, 36))
    assert claim is not None
    assert claim.epsilon == 0.0
    check_budget(given, plan(given, 36))


def test_the_same_noise_does_not_hide_two_data_sets_nor_two_runs(tmp_path: Path) -> None:
    """Parameters, seed and round alone name the noise; a label more would stand in the difference.

    The difference of two releases under one noise is that of their sums: no noise is left in it.
    """
    problem = build(config(EXAMPLE))
    theta, users = initial(problem), problem.population.store.users("train")[:3]
    assert charging.admitted(problem, theta, users, 1, tmp_path).all()
    assert charging.admitted(problem, theta, users, 1, tmp_path).all()  # the same bits once more
    store = problem.population.store
    other = replace(store, label=np.roll(store.label, 1))
    edited = problem._replace(population=replace(problem.population, store=other))
    with pytest.raises(LedgerError, match="noise may not be used again"):
        charging.admitted(edited, theta, users, 1, tmp_path)
    with pytest.raises(LedgerError, match="noise may not be used again"):
        charging.admitted(build(config(EXAMPLE, {"method.rate": 0.3})), theta, users, 1, tmp_path)
    renewed = build(config(EXAMPLE, {"run.seed": 5}))
    assert charging.admitted(renewed, theta, users, 1, tmp_path).all()
    assert sum(ledger.history(tmp_path, store.ids[users[0]]).values()) == 2


def test_who_failed_is_told_and_takes_the_epsilon_along() -> None:
    for given, hidden in ((config(EXAMPLE), False), (config(USER), True)):
        claim = claimed(given, plan(given, 36), failed=2)
        assert claim is not None
        assert (claim.epsilon is None) != hidden
        assert ("2 updates failed" in sentence(claim)) != hidden
