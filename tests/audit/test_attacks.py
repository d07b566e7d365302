"""Reading an example and telling a member: both work without privacy and hardly with it."""

from typing import Any

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


@pytest.mark.parametrize("unit", ["user", "example"])
def test_membership(unit: str) -> None:
    releases = 5 if unit == "example" else 1
    config = config_of(unit, at(2.0, releases))
    found = membership.infer(config, plan(config, USERS))
    assert found["epsilon"] == pytest.approx(2.0, rel=0.01)
    assert found["on"] <= found["bound"]
    assert found["on"] <= 0.60
    assert found["off"] >= 0.65  # the attack works


@pytest.mark.parametrize("parts", [("nothing",), ("canaries", "all")])
def test_unknown_parts_are_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="--parts"):
        report.run(config_of("user", 1.0), parts, 10, 100)
