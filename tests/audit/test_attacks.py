"""Reading an example and telling a member: both work without privacy and hardly with it."""

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from experiments.audit import inversion, membership, report
from fedmeta.config import Config, ConfigError, parse
from fedmeta.privacy.calibration import noise_for
from fedmeta.privacy.event import Event
from fedmeta.privacy.plan import plan

USERS = 10


def config_of(unit: str, noise: float, rounds: int = 1, **values: Any) -> Config:
    given = {
        "method.name": "reptile",
        "privacy.unit": unit,
        "privacy.noise-multiplier": noise,
        "method.steps": 5 if unit == "example" else 1,
        "federation.users-per-round": USERS,
        "federation.rounds": rounds,
    }
    return parse(given | {k.replace("__", ".").replace("_", "-"): v for k, v in values.items()})


def at(epsilon: float, releases: int) -> float:
    """The noise at which so many releases cost that epsilon."""
    return noise_for(epsilon, 1e-5, lambda z: ((Event(z, 1.0, releases),),))


def inverted(config: Config, trials: int = 20) -> dict[str, Any]:
    return inversion.invert(config, plan(config, USERS), trials)


@pytest.mark.parametrize("unit", ["user", "example"])
def test_an_example_is_read_without_privacy_and_not_with_it(unit: str) -> None:
    found = inverted(config_of(unit, 1.0))
    assert found["off"]["cosine"] >= 0.99
    assert found["off"]["label"] == 1.0
    # Five noised steps at 1: still nothing to be seen of 384 features.
    assert abs(found["on"]["cosine"]) <= 0.10


@pytest.mark.parametrize("unit", ["user", "example"])
def test_all_rounds_together_tell_little_at_epsilon_eight(unit: str) -> None:
    rounds = 20
    releases = rounds * (5 if unit == "example" else 1)
    found = inverted(config_of(unit, at(8.0, releases), rounds))
    assert found["rounds"] == rounds
    assert abs(found["on"]["cosine_all"]) <= 0.15


def test_little_noise_is_no_defence() -> None:
    # Otherwise the tests above would pass with an attack that never works.
    assert inverted(config_of("user", 0.01), 5)["on"]["cosine"] > 0.9
    assert inverted(config_of("example", 0.01), 5)["on"]["cosine"] > 0.9


def test_labels_are_hidden_to_five_points_where_epsilon_is_small() -> None:
    found = inverted(config_of("user", at(0.25, 1)), 200)
    assert found["on"]["label"] <= found["chance"] + 0.05


def test_the_default_noise_hides_features_and_labels() -> None:
    """P6 where no noise is given, in one round."""
    hidden("user", 200)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("unit", ["user", "example"])
def test_the_default_noise_hides_all_rounds(unit: str) -> None:
    hidden(unit, 1000)
    found = inversion.read(default_of(unit), 20, inversion.MOST)
    assert abs(found.cosine_all) <= 0.15


def default_of(unit: str) -> Config:
    return parse({"method.name": "reptile", "privacy.unit": unit})


def hidden(unit: str, trials: int) -> None:
    found = inversion.read(default_of(unit), trials, 1)
    assert abs(found.cosine) <= 0.10
    assert found.label <= 1 / inversion.CLASSES + 0.05
    # The attack reads labels where there is less noise.
    assert inversion.read(config_of(unit, 0.3), 20, 1).label > 0.6


def inferred(unit: str, rounds: int, seeds: int) -> list[dict[str, Any]]:
    """Membership in runs that cost an epsilon of 2, each user in all of their rounds."""
    noise, out = at(2.0, rounds * (5 if unit == "example" else 1)), []
    for seed in range(seeds):
        config = config_of(unit, noise, rounds, run__seed=seed)
        found = membership.infer(config, plan(config, USERS))
        assert found["on"] <= found["bound"]
        assert found["off"] >= 0.65  # the attack works
        out.append(found)
    return out


def mean(found: list[dict[str, Any]]) -> float:
    return float(np.mean([one["on"] for one in found]))


@pytest.mark.parametrize("unit", ["user", "example"])
def test_membership(unit: str) -> None:
    """P7 where all of epsilon is spent at once: what an ideal Gaussian allows is the AUC
    Phi(mu / sqrt(2)), 0.64 at epsilon 2, and no mechanism of that epsilon need do better."""
    releases = 5 if unit == "example" else 1
    noise = at(2.0, releases)
    (found,) = inferred(unit, 1, 1)
    assert found["epsilon"] == pytest.approx(2.0, rel=0.01)
    ideal = NormalDist().cdf((releases / 2) ** 0.5 / noise)
    assert 0.63 < ideal < 0.65
    assert found["on"] <= ideal


def test_membership_by_a_head_of_a_run() -> None:
    """P7: the run costs 2, and a head is what one of its five rounds made of it."""
    assert mean(inferred("example", 5, 5)) <= 0.55


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("unit", "rounds"), [("user", 1), ("user", 5), ("example", 5)])
def test_membership_over_ten_seeds(unit: str, rounds: int) -> None:
    """P7: 64 shadows for each of ten seeds."""
    assert mean(inferred(unit, rounds, 10)) <= 0.55


@pytest.mark.parametrize("parts", [("nothing",), ("canaries", "all")])
def test_unknown_parts_are_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="--parts"):
        report.run(config_of("user", 1.0), parts, 10, 100)
