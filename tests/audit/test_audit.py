"""The audit against the code of clients and server: quiet where it is right, loud where not."""

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq

from experiments.audit import canary
from fedmeta import seeding
from fedmeta.config import Config, ConfigError, parse
from fedmeta.privacy import canaries
from fedmeta.privacy.accounting import epsilon
from fedmeta.privacy.event import Event
from fedmeta.privacy.plan import plan
from tests.audit.planted import PLANTED

DELTA, CLAIM = 1e-5, 2.0
UNITS = ("user", "example")
FULL, FEW = 20, 1
ROUNDS = {"ledger reset per round": 9}


@lru_cache
def noise_for(rounds: int) -> float:
    def gap(noise: float) -> float:
        return epsilon(((Event(noise, 1.0, rounds),),), DELTA) - CLAIM + 0.01

    return float(brentq(gap, 1.0, 20.0))


def config_of(unit: str, rounds: int = 1, noise: float = 0.0, **values: Any) -> Config:
    given = {
        "method.name": "reptile",
        "privacy.unit": unit,
        "privacy.noise-multiplier": noise or noise_for(rounds),
        "privacy.delta": DELTA,
        "privacy.clip": 0.7,
        "method.steps": 1,
        "federation.users-per-round": 10,
        "federation.rounds": rounds,
    }
    return parse(given | {k.replace("__", ".").replace("_", "-"): v for k, v in values.items()})


def audits(config: Config, repeats: int, count: int = 2000) -> list[tuple[float, float, float]]:
    """Bound, claim and bound by the curve of audits under seeds of their own."""
    out = []
    for seed in range(repeats):
        run = config.run.model_copy(update={"seed": seed})
        one = config.model_copy(update={"run": run})
        found = canary.audit(one, plan(one, 10), count, power=False)
        out.append((found["lower_bound"], found["claimed"], found["lower_bound_curve"]))
    return out


def quiet(unit: str, repeats: int) -> None:
    for rounds in (1, 9):
        found = audits(config_of(unit, rounds), repeats)
        assert all(bound <= curve <= claim <= CLAIM for bound, claim, curve in found)
        assert max(bound for bound, _, _ in found) > 0.2  # it does see the canaries


def loud(unit: str, bug: str, repeats: int, patch: pytest.MonkeyPatch) -> None:
    rounds = ROUNDS.get(bug, 1)
    # A ledger that forgets is claimed to have spent 2, and has that in each of its rounds.
    config = config_of(unit, rounds, noise_for(1))
    PLANTED[bug](patch)
    found = audits(config, repeats)
    assert all(claim <= CLAIM for _, claim, _ in found)
    assert sum(bound > claim and curve > claim for bound, claim, curve in found) == repeats, found


@pytest.mark.parametrize("unit", UNITS)
def test_no_false_alarm(unit: str) -> None:
    quiet(unit, FEW)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("unit", UNITS)
def test_no_false_alarm_in_twenty(unit: str) -> None:
    quiet(unit, FULL)


@pytest.mark.parametrize(
    ("unit", "bug"),
    [("user", "sigma / 3"), ("user", "no clip"), *(("example", b) for b in PLANTED)],
)
def test_planted_bug_is_caught(unit: str, bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loud(unit, bug, FEW, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("bug", PLANTED)
@pytest.mark.parametrize("unit", UNITS)
def test_planted_bug_is_caught_in_twenty(
    unit: str, bug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loud(unit, bug, FULL, monkeypatch)


@pytest.mark.parametrize(
    ("unit", "values"),
    [
        ("user", {}),
        ("user", {"method__name": "maml"}),
        ("user", {"privacy__adaptive_quantile": 0.5}),
        ("example", {}),
        ("example", {"method__name": "fomaml", "privacy__expected_batch": 8}),
    ],
)
def test_scores_are_those_of_an_ideal_mechanism(unit: str, values: dict[str, Any]) -> None:
    # So what is said of the power of an audit holds: a canary moves a score by the clip, no less.
    config = config_of(unit, 2, 0.5, **values)
    setting = canary.prepared(config, plan(config, 10), 400)
    included = seeding.generator(1, "coins").random(400) < 0.5
    means = canary._means(setting, included)
    scores = np.sum([setting.direction @ mean for mean in means], axis=0)
    gap = scores[included].mean() - scores[~included].mean()
    spread = scores[~included].std() / gap
    alike = canaries.ideal(setting.seen, included, np.random.default_rng(0))
    expected = alike[~included].std() / (alike[included].mean() - alike[~included].mean())
    assert spread == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"privacy__mechanism": "local"}, "is not audited"),
        ({"method__name": "boil"}, "does not send"),
        ({"method__name": "local"}, "does not send"),
        ({"privacy__clip": 1e6}, "use a smaller clip"),
    ],
)
def test_what_it_does_not_reach_is_refused(values: dict[str, Any], words: str) -> None:
    config = config_of("user", **values)
    with pytest.raises(ConfigError, match=words):
        canary.audit(config, plan(config, 10), 100)
    with pytest.raises(ConfigError, match="--canaries 3"):
        canary.audit(config_of("user"), plan(config_of("user"), 10), 3)
