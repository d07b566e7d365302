"""What a config makes of a mechanism: charges, noise, denominators, and what is refused."""

from typing import Any

import pytest

from fedmeta.config import Config, ConfigError, parse
from fedmeta.privacy.event import OFF, Event
from fedmeta.privacy.plan import plan

USERS = 1000


def config(**values: Any) -> Config:
    given = {key.replace("__", ".").replace("_", "-"): value for key, value in values.items()}
    return parse({"privacy.unit": "user", "privacy.noise-multiplier": 1.5} | given)


def test_off_protects_nothing_and_costs_nothing() -> None:
    assert plan(parse({}), USERS) is OFF
    assert OFF.events(10) == ()
    assert not OFF.guards_users


def test_central() -> None:
    """Everybody pays for every round, since who came is secret; the divisor is public."""
    found = plan(config(privacy__clip=0.2), USERS, ("a reason",))
    assert (found.sampling_rate, found.expected, found.noise, found.clip) == (0.05, 50.0, 1.5, 0.2)
    assert found.events(7) == ((Event(1.5, 0.05, 7),),)
    assert found.poisson
    assert found.broken == ("a reason",)
    every = plan(config(federation__users_per_round=5000), USERS)
    assert (every.sampling_rate, every.expected) == (1.0, 1000.0)


def test_the_quantile_is_paid_for_by_more_noise_on_the_sum() -> None:
    """A sum of sensitivity 1 and a count of sensitivity 1/2 move, in noises, by one over z."""
    for z in (0.4, 1.5, 8.0):
        found = plan(config(privacy__noise_multiplier=z, privacy__adaptive_quantile=0.5), USERS)
        moved = (1 / found.noise) ** 2 + (0.5 / found.count_noise) ** 2
        assert moved**-0.5 == pytest.approx(z, rel=1e-12)
        assert found.events(3) == ((Event(z, 0.05, 3),),)
    assert found.count_noise == 8.0  # a tenth of that would cost more than there is


def test_a_declared_cohort_scales_the_noise_and_not_the_charge() -> None:
    """The mean of 5,000 users has a hundredth of the noise of the mean of 50."""
    found = plan(config(privacy__noise_cohort_size=5000, privacy__adaptive_quantile=0.3), USERS)
    plain = plan(config(privacy__adaptive_quantile=0.3), USERS)
    assert found.noise == pytest.approx(plain.noise / 100)
    assert found.count_noise == pytest.approx(plain.count_noise / 100)
    assert found.events(4) == plain.events(4)
    assert (found.declared, plain.declared) == (5000, 0)
    rare = {"privacy__noise_cohort_size": 5000, "privacy__sampling_rate": 0.001}
    with pytest.raises(ConfigError, match="deployment with 5,000,000 users"):
        plan(config(**rare), USERS)  # a rate of one's choice is paid for in delta
    other = plan(config(**rare, privacy__delta=2e-7), USERS)
    assert other.events(4) == ((Event(1.5, 0.001, 4),),)
    assert other.sampling_rate == 0.05  # of the simulated users


def test_local() -> None:
    """Any data against any other: two clips apart, so half the multiplier; no amplification."""
    found = plan(config(privacy__mechanism="local"), USERS)
    assert found.by == "user"
    assert found.events(20) == ((Event(0.75, 1.0, 1),),)
    assert found.events(21) == ((Event(0.75, 1.0, 2),),)
    assert found.events(60) == ((Event(0.75, 1.0, 3),),)


def test_banded() -> None:
    found = plan(config(privacy__mechanism="banded", privacy__bands=20), USERS)
    assert found.events(60) == ((Event(1.5, 1.0, 3),),)
    with pytest.raises(ConfigError, match=r"privacy\.bands = 21.*bands = 20"):
        plan(config(privacy__mechanism="banded", privacy__bands=21), USERS)


def test_delta_is_held_against_what_is_protected() -> None:
    """1,000 users of 20 + 64 examples: a delta that does for users is too large for examples."""
    given: dict[str, Any] = {"method__name": "reptile", "privacy__delta": 1e-5}
    plan(config(**given), USERS)
    plan(config(**given | {"privacy__unit": "example"}), 1190)
    says = r"delta = 1e-05: with 1191 training users of 84 examples each it may be at most 1e-05"
    with pytest.raises(ConfigError, match=says):
        plan(config(**given | {"privacy__unit": "example"}), 1191)
    plan(config(**given), 1191)


def test_an_item_of_several_episodes_is_an_example_of_each() -> None:
    """The query of an episode is another set than its support for good, so that the dearer pays."""
    values = {"privacy__unit": "example", "data__tasks": "episodic", "method__name": "fomaml"}
    found = plan(config(**values, privacy__split="redrawn", method__steps=3), 100)
    assert found.adjacency.startswith("an episode")
    assert found.charge == ((Event(1.5, 1.0, 3),), (Event(1.5),))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"privacy__noise_multiplier": 0.0}, r"noise-multiplier = 0: .*above 0.*unit = 'off'"),
        ({"privacy__delta": 0.0011}, r"delta = 0\.0011: with 1000 training users.*0\.001"),
        ({"privacy__sampling_rate": 0.3}, r"sampling-rate = 0\.3: 50 users per round.*leave it"),
        ({"privacy__noise_cohort_size": 49}, r"noise-cohort-size = 49: less than the 50"),
        ({"privacy__bands": 2}, r"privacy\.bands: serves 'user' with 'banded' alone"),
        ({"privacy__expected_batch": 2}, r"privacy\.expected-batch: serves 'example' alone"),
        (
            {"privacy__mechanism": "local", "privacy__adaptive_quantile": 0.5},
            r"adaptive-quantile: serves 'user' with 'gaussian' alone",
        ),
        (
            {"privacy__mechanism": "banded", "privacy__sampling_rate": 0.05},
            r"sampling-rate = 0\.05: .*in turn",
        ),
        ({"privacy__unit": "example", "privacy__mechanism": "banded"}, "cannot be had"),
    ],
)
def test_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(config(**values), USERS)


@pytest.mark.parametrize(
    ("key", "value"),
    [("clip", 0.0), ("clip", -1.0), ("noise-multiplier", -1.0), ("delta", 0.0), ("delta", 1.0)],
)
def test_numbers_out_of_range(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"privacy.{key} = {value}"):
        parse({f"privacy.{key}": value})
