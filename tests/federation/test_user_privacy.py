"""User-level privacy in whole runs: the same bits everywhere, noise whatever happens."""

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import clients.app
from experiments.backends.inline import InlineGrid
from fedmeta import loop
from fedmeta.config import ConfigError, flatten
from fedmeta.head_file import weights_sha256
from fedmeta.methods import METHODS
from fedmeta.outer import begin
from fedmeta.privacy.chance import SECURE
from fedmeta.privacy.clip import BELOW
from fedmeta.privacy.release import release
from fedmeta.problem import Problem, initial
from strategies import checkpoint
from strategies.app import run
from strategies.events import RoundDone
from tests.engine.cases import FEDERATED, FITS, distance, flat, problem
from tests.federation.runs import over_inline

ROUNDS = 3
MECHANISMS: dict[str, dict[str, Any]] = {
    "central": {},
    "adaptive": {"privacy__adaptive_quantile": 0.5},
    "local": {"privacy__mechanism": "local"},
    "banded": {"privacy__mechanism": "banded", "privacy__bands": 2},
}


def private(**values: Any) -> Problem:
    given = {
        "privacy__unit": "user",
        "privacy__noise_multiplier": 0.5,
        "privacy__delta": 1e-3,
        "privacy__clip": 0.1,
        "head__name": "mlp",
        "method__name": "maml",
    }
    return problem(**(given | values))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("reptile", "central"), ("maml", "adaptive"), ("meta-sgd", "banded"), ("fedper", "local")],
)
def test_flower_equals_loop(name: str, kind: str) -> None:
    given = private(method__name=name, **MECHANISMS[kind])
    outcome = over_inline(given)
    *_, state = loop.train(given, torch.float64)
    assert distance(outcome.last, state.meta) < 2e-6
    free = over_inline(problem(method__name=name, head__name="mlp"))
    assert distance(outcome.last, free.last) > 1e-3


@pytest.mark.parametrize("kind", MECHANISMS)
def test_nodes_and_resume_change_no_bit(kind: str, tmp_path: Path) -> None:
    given = private(federation__rounds=4, **MECHANISMS[kind])
    whole = over_inline(given, nodes=3)

    def stop(event: object) -> None:
        if isinstance(event, RoundDone) and event.round == 3:
            raise KeyboardInterrupt

    settings = flatten(given.config) | {"run.memory": str(tmp_path / "memory")}
    grid = InlineGrid(clients.app.app, settings, 1)
    # Two checkpoints, one of them before the last round that was run.
    folder = tmp_path / "checkpoints"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("strategies.federated.QUICK", -1.0)
        with pytest.raises(KeyboardInterrupt):
            run(grid, given, stop, folder)
    assert checkpoint.rounds(folder)
    rest = run(grid, given, folder=folder)
    assert rest.before >= 2
    assert weights_sha256(rest.last) == weights_sha256(whole.last)
    assert weights_sha256(rest.meta) == weights_sha256(whole.meta)


@pytest.mark.parametrize("name", FEDERATED)
def test_noise_falls_on_all_that_is_sent_and_on_nothing_else(name: str) -> None:
    """A name without noise would be released as it is. That what a user sends is what the table
    says is tested beside (``test_sent``); what is sent besides is refused, and so is its sum."""
    method = METHODS[name]
    given: dict[str, Any] = {"method__name": name, "head__name": FITS[name][0]}
    if method.weighs or method.generator or method.beside or method.statistics:
        with pytest.raises(ConfigError, match=f"method.name = '{name}'.*privacy.unit"):
            private(**given)
        return
    run = private(**given)
    meta, drawn = initial(run), []

    def normal(shape: tuple[int, ...], path: tuple[int | str, ...]) -> torch.Tensor:
        drawn.append(str(path[1]))
        return torch.ones(shape, dtype=torch.float64)

    chance = SECURE._replace(normal=normal)
    found = release(run.privacy, meta, method.sends, {}, {}, 1, chance).mean
    assert Counter(drawn) == Counter(n for n in meta if method.sends(n))
    assert {n: v.shape for n, v in found.items()} == {n: meta[n].shape for n in drawn}
    strange = {"strange": torch.zeros(1)}
    with pytest.raises(ValueError, match="strange"):
        release(run.privacy, meta, method.sends, strange, {}, 1, chance)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every user of every round fails."""

    def fail(*args: object) -> None:
        raise FloatingPointError("no disk")

    monkeypatch.setattr(loop, "prepared", fail)


def norm_of_steps(given: Problem) -> list[float]:
    """How far each round moves the server, whose step is that of SGD at rate 1."""
    seen = [flat(initial(given))]
    for rounds in range(1, given.config.federation.rounds + 1):
        config = given.config.model_copy(
            update={"federation": given.config.federation.model_copy(update={"rounds": rounds})}
        )
        seen.append(flat(over_inline(given._replace(config=config)).last))
    return [float((b - a).norm()) for a, b in pairwise(seen)]


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("kind", ["central", "local", "banded"])
def test_failed_rounds_release_noise_as_the_theory_says(kind: str) -> None:
    """P4: the step of no gradient at all has norm z C sqrt(d) / m; and no failure ends the run."""
    steps = {"server__optimizer": "sgd", "server__rate": 1.0}
    given = private(method__name="reptile", head__hidden=400, **steps, **MECHANISMS[kind])
    size = flat(initial(given)).numel()
    found, z = norm_of_steps(given), given.privacy.noise
    of_users = 7**0.5 if kind == "local" else 1.0
    expected = [z * 0.1 * of_users * math.sqrt(size) / 7] * ROUNDS
    if kind == "banded":  # C^-1 Z: the square root cut to two bands, 1 and 1/2 over sqrt(5/4)
        powers = np.cumsum(0.25 ** np.arange(ROUNDS))
        expected = [e * math.sqrt(1.25 * p) for e, p in zip(expected, powers, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=0.01)
    failed = [event.failed for event in over_inline(given).history]
    assert all(failed) if kind != "local" else not any(failed)


def test_empty_rounds_release_noise() -> None:
    """One user expected of 14: often nobody comes, and the round is as it is."""
    given = private(
        method__name="reptile",
        head__hidden=400,
        federation__users_per_round=1,
        federation__rounds=6,
        server__optimizer="sgd",
        server__rate=1.0,
    )
    sizes = [len(loop.cohort_of(given.population, given.config, r)) for r in range(1, 7)]
    assert 0 in sizes
    found = norm_of_steps(given)
    expected = 0.5 * 0.1 * math.sqrt(flat(initial(given)).numel())
    for size, norm in zip(sizes, found, strict=True):
        if not size:
            assert norm == pytest.approx(expected, rel=0.02)
    assert [event.users for event in over_inline(given).history] == sizes


def test_users_come_by_chance_or_in_turn() -> None:
    given = private()
    users = given.population.store.users("train")
    drawn = [loop.cohort_of(given.population, given.config, r) for r in range(1, 401)]
    assert len({len(cohort) for cohort in drawn}) > 4
    share = np.bincount(np.concatenate(drawn), minlength=users.max() + 1)[users] / 400
    assert abs(share - given.privacy.sampling_rate).max() < 0.13
    turn = private(privacy__mechanism="banded", federation__users_per_round=4)
    for user in users.tolist():
        rounds = [
            r
            for r in range(1, 41)
            if user in loop.cohort_of(turn.population, turn.config, r).tolist()
        ]
        assert min(np.diff(rounds)) >= len(users) // 4
        assert len(rounds) <= turn.privacy.times(40)


def test_secure_noise_is_never_the_same() -> None:
    given = private()
    state = begin(initial(given), given.config.server)
    total = {name: torch.zeros(p.shape, dtype=torch.float64) for name, p in state.meta.items()}
    total[BELOW] = torch.zeros((), dtype=torch.float64)
    one, two = (
        release(given.privacy, state.meta, given.method.sends, total, {}, 1, SECURE).mean
        for _ in range(2)
    )
    assert distance(one, two) > 0.1
