"""What is reported of a population: plain means, honest intervals, the worse end."""

import numpy as np
import pytest

from fedmeta.metrics import METRICS, Metric
from fedmeta.statistics import achieved_share, describe, gain, hurt_share, interval

ACCURACY, MAE = METRICS["classification"], METRICS["regression"]


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    random, hits, trials = np.random.default_rng(0), 0, 300
    for trial in range(trials):
        values = random.exponential(size=60) - 1.0  # skewed, with mean 0
        found = interval(values, 400, seed=trial)
        hits += found.low <= 0.0 <= found.high
    assert 0.88 <= hits / trials <= 0.985


def test_interval_has_the_width_of_the_standard_error() -> None:
    values = np.random.default_rng(1).normal(size=200)
    found = interval(values, 4000)
    expected = 2 * 1.96 * values.std() / len(values) ** 0.5
    assert found.high - found.low == pytest.approx(expected, rel=0.08)
    assert found.mean == pytest.approx(values.mean(), abs=1e-15)
    assert found.low < found.mean < found.high


def test_interval_of_one_user_or_equal_users_is_a_point() -> None:
    assert interval(np.array([0.3]), 50) == (0.3, 0.3, 0.3)
    for bound in interval(np.full((2, 7), 0.7), 50):
        assert bound == pytest.approx(0.7, abs=1e-12)


def test_interval_is_seeded() -> None:
    values = np.random.default_rng(2).normal(size=(3, 40))
    assert interval(values, 200, seed=1) == interval(values, 200, seed=1)
    assert interval(values, 200, seed=1) != interval(values, 200, seed=2)


def test_seeds_are_resampled_too() -> None:
    """Seeds that disagree widen the interval; the users of all seeds are the same users."""
    users = np.random.default_rng(3).normal(size=50)
    alike = interval(np.stack([users, users, users]), 2000)
    apart = interval(np.stack([users - 1, users, users + 1]), 2000)
    single = interval(users, 2000)
    assert alike.mean == pytest.approx(apart.mean)
    assert apart.high - apart.low > 2 * (alike.high - alike.low)
    assert alike.high - alike.low == pytest.approx(single.high - single.low, rel=0.15)


def test_pairing_narrows_the_interval() -> None:
    random = np.random.default_rng(4)
    before = random.normal(size=200)
    after = before + 0.1 + 0.02 * random.normal(size=200)
    paired = interval(gain(ACCURACY, before, after), 1000)
    unpaired = interval(gain(ACCURACY, before, random.permutation(after)), 1000)
    assert paired.mean == pytest.approx(unpaired.mean)
    assert paired.low > 0.09
    assert unpaired.low < 0.0


@pytest.mark.parametrize("metric", [ACCURACY, MAE])
def test_describe(metric: Metric) -> None:
    random = np.random.default_rng(5)
    value, second, loss = random.uniform(0.1, 1, size=(3, 40))
    count = random.integers(1, 9, size=40).astype(float)
    found = describe(metric, np.stack([value, second, loss, count]))
    worst = np.sort(value)[:4] if metric is ACCURACY else np.sort(value)[-4:]
    tenth = np.percentile(value, 10 if metric is ACCURACY else 90)
    assert found == {
        f"{metric.name}_macro": pytest.approx(value.mean()),
        f"{metric.name}_micro": pytest.approx(np.average(value, weights=count)),
        f"{metric.columns[1]}_macro": pytest.approx(second.mean()),
        "loss_macro": pytest.approx(loss.mean()),
        "median": pytest.approx(np.median(value)),
        "p10": pytest.approx(tenth),
        "worst_decile": pytest.approx(worst.mean()),
    }


def test_gain_is_positive_where_personalization_helps() -> None:
    before, after = np.array([0.5, 0.6, 0.7]), np.array([0.75, 0.6, 0.45])
    np.testing.assert_allclose(gain(ACCURACY, before, after), [0.25, 0.0, -0.25])
    np.testing.assert_allclose(gain(MAE, before, after), [-0.25, 0.0, 0.25])
    assert hurt_share(gain(ACCURACY, before, after)) == pytest.approx(1 / 3)
    assert hurt_share(np.array([0.1, np.nan, 0.0, -0.2])) == 0.5  # NaN: his model diverged


def test_achieved_share() -> None:
    before, after, bayes = np.array([0.4, 0.6]), np.array([0.6, 0.7]), np.array([0.9, 0.7])
    assert achieved_share(before, after, bayes) == pytest.approx(0.15 / 0.3)
    assert np.isnan(achieved_share(before, after, before))
