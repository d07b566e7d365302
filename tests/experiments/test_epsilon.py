"""``fedmeta epsilon`` says what the library says, and refuses to say what nobody can know."""

import math

import pytest

from experiments import epsilon as command
from experiments import tables
from fedmeta.config import Config, ConfigError, parse
from fedmeta.privacy import accounting
from fedmeta.privacy.event import Event
from fedmeta.privacy.plan import plan
from tests.experiments.runs import TINY


def config(**values: object) -> Config:
    given = {key.replace("__", ".").replace("_", "-"): v for key, v in values.items()}
    usual = {"privacy.unit": "user", "privacy.noise-multiplier": 1.0, "method.name": "reptile"}
    return parse(TINY | usual | {"privacy.delta": 1e-4} | given)


def test_cost_noise_and_heads() -> None:
    given = config(federation__rounds=20)
    found = command.query(given)
    assert found["users"] == 36
    charge = ((Event(1.0, 8 / 36, 20),),)
    assert found["claim"]["epsilon"] == accounting.epsilon(charge, 1e-4)
    assert found["beside"] == accounting.beside(charge, 1e-4)._asdict()
    for target, noise in found["noise_for"].items():
        cost = accounting.epsilon(((Event(noise, 8 / 36, 20),),), 1e-4)
        assert 0.98 * float(target) < cost <= float(target)
    linear = found["heads"][0]
    assert linear["parameters"] == 384 * 2 + 2
    assert linear["noise_over_clip"] == pytest.approx(math.sqrt(770) / 8)
    assert found["largest_head"] == 64


def test_the_reference_figure_of_a_linear_head() -> None:
    """z sqrt(d) / m = 0.88 at d = 1,925 and 50 users."""
    given = config(federation__users_per_round=50)
    assert command.over_clip(given, plan(given, 500), 1925) == pytest.approx(0.8775, abs=1e-4)


@pytest.mark.slow
def test_no_data_are_needed_where_users_are_given() -> None:
    given = config(data__source="nowhere.csv", federation__users_per_round=50)
    found = command.query(given, users=500)
    assert not found["data_checked"]
    assert found["claim"]["epsilon"] == accounting.epsilon(((Event(1.0, 0.1, 3),),), 1e-4)


def test_what_is_told_of_examples_is_what_the_dearest_user_pays() -> None:
    given = config(privacy__unit="example", privacy__sampling_rate=0.5, federation__rounds=9)
    found = command.query(given)
    assert found["times"] == 2
    once = plan(given, 36).charge
    twice = ((once[0][0]._replace(count=2 * once[0][0].count),),)
    assert found["claim"]["epsilon"] == accounting.epsilon(twice, 1e-4)


def test_reasons_instead_of_an_epsilon() -> None:
    found = command.query(config(data__standardize="features"))
    assert found["claim"]["epsilon"] is None
    assert found["beside"] is None
    assert found["noise_for"] == {}
    assert "scaled by the training users' own means" in found["claim"]["reasons"][0]
    assert command.table(found) is not None


def test_a_table_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(
        command.table(command.query(config(privacy__noise_cohort_size=5000, privacy__delta=1e-5)))
    )
    shown = capsys.readouterr().out
    assert "extrapolated to a deployment with 5,000 users" in shown
    assert "a user is there or not" in shown


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"privacy__unit": "off"}, "privacy.unit = 'off'"),
        ({"privacy__noise_multiplier": 0.0}, "must be above 0"),
        ({"privacy__delta": 0.5}, "privacy.delta = 0.5"),
        ({"privacy__unit": "example", "method__name": "maml"}, "method.name = 'maml'"),
        ({"method__name": "nothing"}, "method.name = 'nothing'"),
    ],
)
def test_what_cannot_be_had_is_refused(values: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        command.query(config(**values))


def test_users_are_counted_from_one() -> None:
    with pytest.raises(ConfigError, match="--users 0"):
        command.query(config(), users=0)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"privacy__unit": "example", "method__name": "maml"}, "privacy.unit = 'example'"),
        ({"method__name": "metaadapt"}, "weighs users by their data"),
        ({"federation__weighting": "examples"}, "federation.weighting = 'examples'"),
        ({"validation__max_norm": 0.5}, "validation.max-norm = 0.5"),
        (
            {"validation__max_norm": 9.0, "privacy__mechanism": "local"},
            "validation.max-norm = 9",
        ),
        ({"robust__rule": "median"}, "robust.rule = 'median'"),
    ],
)
def test_what_cannot_be_run_has_no_epsilon_without_data_either(
    values: dict[str, object], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        command.query(config(**values), users=500)
    with pytest.raises(ConfigError, match=text):
        command.query(config(**values))


def test_what_settings_release_in_the_clear_is_told_without_data() -> None:
    found = command.query(config(data__standardize="features"), users=500)
    assert found["claim"]["epsilon"] is None
    assert "scaled by the training users' own means" in found["claim"]["reasons"][0]
