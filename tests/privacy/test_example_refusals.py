"""What example-level privacy cannot be had for is refused before the run, with the remedy."""

import re
from typing import Any

import pytest

from fedmeta.config import ConfigError
from fedmeta.methods import METHODS
from fedmeta.privacy.accounting import epsilon
from fedmeta.privacy.terms import terms
from tests.engine.cases import FEDERATED, FITS, problem
from tests.privacy.doors import private

UNCOVERED = {"metaadapt", "meta-fine-tuning", "multi-task", "pfedhn"}
"""Methods that noise on a sum of clipped contributions does not cover."""
ABLE = {"bias", "fedavg", "fedavg-ft", "fedprox", "reptile", "fomaml", "anil", "fedbabu"}


def test_the_list_of_methods_is_this_one() -> None:
    """A method that is added is refused until somebody has thought about it."""
    assert {name for name, method in METHODS.items() if method.private} == ABLE


@pytest.mark.parametrize("name", [name for name in FEDERATED if name not in ABLE])
def test_other_methods_are_refused(name: str) -> None:
    """The other unit is offered to those that it covers, and to no others."""
    with pytest.raises(ConfigError, match=r"so that no clip.*reptile") as error:
        private(name, FITS[name][0])
    assert ("privacy.unit = 'user'" in str(error.value)) == (name not in UNCOVERED)


@pytest.mark.parametrize("name", FEDERATED)
def test_what_a_refusal_names_instead_works(name: str) -> None:
    """With the same head, data and settings."""
    given: dict[str, Any] = {
        "privacy__unit": "user",
        "privacy__noise_multiplier": 1.0,
        "data__domains": 3,
        "head__name": FITS[name][0],
    }
    if name not in UNCOVERED:
        problem(method__name=name, **given)
        return
    with pytest.raises(ConfigError, match=f"'{name}'.*use method.name = ") as error:
        problem(method__name=name, **given)
    found = re.search(r"use method\.name = '([\w-]+)'", str(error.value))
    assert found
    problem(method__name=found[1], **given)


def test_second_order_is_refused_for_what_it_is() -> None:
    with pytest.raises(ConfigError, match="every example of the support moves the terms"):
        private("maml")


def test_local_training_costs_nothing() -> None:
    run = private("local")
    assert run.privacy.charge == ()
    assert epsilon(run.privacy.events(100), 1e-5) == 0.0


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"privacy__noise_multiplier": 0.0}, "above 0"),
        ({"privacy__mechanism": "local"}, "privacy.mechanism = 'gaussian'"),
        ({"privacy__mechanism": "banded"}, "privacy.mechanism = 'gaussian'"),
        ({"privacy__adaptive_quantile": 0.5}, "adaptive-quantile = 0.5"),
        ({"privacy__noise_cohort_size": 100}, "noise-cohort-size = 100"),
        ({"method__batch": 2}, "privacy.expected-batch = 2"),
        ({"privacy__expected_batch": 11}, "use 10 or less"),
        ({"federation__weighting": "examples"}, "would tell it"),
        ({"devices__failure": 0.2}, "simulated devices"),
        ({"privacy__delta": 0.5}, "privacy.delta = 0.5"),
        ({"privacy__clip": 0.0}, "privacy.clip"),
        ({"privacy__noise_multiplier": -1.0}, "privacy.noise-multiplier"),
    ],
)
def test_settings_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        private(**values)


def test_splits_by_domain_are_refused() -> None:
    tasks: dict[str, Any] = {"data__tasks": "domain-generalization", "data__domain_column": "topic"}
    with pytest.raises(ConfigError, match="domain-generalization"):
        private("fomaml", **tasks)
    assert private("reptile", **tasks).privacy.charge


def test_rates_are_derived_or_given() -> None:
    """Rate and divisor of (expected batch, rate): users of 10 examples (4 + 6)."""
    for batch, rate, expected in (
        (0, 0.0, (1.0, 10.0)),
        (5, 0.0, (0.5, 5.0)),
        (0, 0.3, (0.3, 3.0)),
        (4, 0.3, (0.3, 4.0)),
    ):
        run = private(privacy__expected_batch=batch, privacy__sampling_rate=rate)
        found = terms(run.config, run.method)
        assert (found.rate, found.divisor) == pytest.approx(expected)
        ((event,),) = run.privacy.charge
        assert event.sampling_rate == found.rate


def test_off_has_no_mechanism() -> None:
    run = problem(method__name="maml")
    assert run.privacy.unit == "off"
    assert run.privacy.charge == ()
