"""The sentence at the end of a comparison, and the method it is about."""

import numpy as np
import pytest

from experiments.verdict import Scores, verdict
from fedmeta.metrics import METRICS, Metric

ACCURACY, MAE = METRICS["classification"], METRICS["regression"]
NOISE = np.random.default_rng(0).normal(size=(1, 400))


def scores(before: float, after: float, valid: float | None = None, spread: float = 0.05) -> Scores:
    """Users around a mean before, and after with noise of their own on top."""
    first = before + 0.1 * NOISE
    last = first + (after - before) + spread * NOISE[:, ::-1]
    return Scores(first, last, before, after if valid is None else valid)


def test_pays() -> None:
    found = verdict(
        ACCURACY, {"fedavg": scores(0.6, 0.6, spread=0), "maml": scores(0.6, 0.7)}, 20, 500
    )
    assert found.pays
    assert (found.method, found.reference) == ("maml", "fedavg")
    assert found.gain == pytest.approx(0.1, abs=0.01)
    assert 0 < found.ci95[0] < found.gain < found.ci95[1]
    assert found.hurt_share == pytest.approx(0.02, abs=0.02)
    low, high = (f"{100 * end:+.1f} points" for end in found.ci95)
    assert found.sentence == (
        "Personalization pays on this data: maml with 20 examples per user gains"
        f" {100 * found.gain:+.1f} points of accuracy over the best single model for all (fedavg's)"
        f" (95 % interval {low} to {high}); it makes {found.hurt_share:.0%} of the users worse off."
    )


def test_loses() -> None:
    rows = {"fedavg": scores(0.7, 0.7, spread=0), "maml": scores(0.7, 0.6)}
    found = verdict(ACCURACY, rows, 5, 500)
    assert not found.pays
    assert found.ci95[1] < 0
    assert found.hurt_share > 0.9
    assert "does not pay on this data: maml with 5 examples per user loses 10." in found.sentence
    assert "loses -" not in found.sentence


def test_cannot_be_told_from_zero() -> None:
    rows = {"fedavg": scores(0.6, 0.6, spread=0), "maml": scores(0.6, 0.601, spread=0.3)}
    found = verdict(ACCURACY, rows, 5, 500)
    assert not found.pays
    assert found.ci95[0] <= 0 <= found.ci95[1]
    assert "does not pay" in found.sentence
    assert "cannot be told from zero" in found.sentence


def test_an_error_is_better_when_it_is_lower() -> None:
    rows = {"fedavg": scores(7.0, 7.0, spread=0), "maml": scores(7.0, 6.0)}
    assert verdict(MAE, rows, 5, 500).pays
    assert verdict(MAE, rows, 5, 500).gain == pytest.approx(1, abs=0.1)
    worse = {"fedavg": scores(7.0, 7.0, spread=0), "maml": scores(7.0, 8.0)}
    assert "loses" in verdict(MAE, worse, 5, 500).sentence


@pytest.mark.parametrize("metric", [ACCURACY, MAE])
def test_the_method_is_chosen_by_validation_users(metric: object) -> None:
    """Reptile is better for test users, but nobody may look at those."""
    sign = 1 if metric is ACCURACY else -1
    rows = {
        "fedavg": scores(0.5, 0.5, spread=0),
        "reptile": scores(0.5, 0.5 + sign * 0.3, valid=0.5 + sign * 0.10),
        "maml": scores(0.5, 0.5 + sign * 0.1, valid=0.5 + sign * 0.11),
    }
    found = verdict(ACCURACY if metric is ACCURACY else MAE, rows, 20, 500)
    assert found.method == "maml"
    assert found.gain == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("metric", [ACCURACY, MAE])
@pytest.mark.parametrize("order", [("local", "maml"), ("maml", "local")])
def test_of_equal_methods_the_better_start_is_judged(
    metric: Metric, order: tuple[str, str]
) -> None:
    """As with three validation users, all of them right with two examples, even alone."""
    best, sign = (1.0, 1) if metric is ACCURACY else (0.0, -1)
    rows = {
        "local": scores(best - 0.5 * sign, best - 0.4 * sign, valid=best),
        "maml": scores(best - 0.1 * sign, best - 0.1 * sign, valid=best),
    }
    ordered = {name: rows[name] for name in order}
    found = verdict(metric, {"fedavg": scores(best - 0.1 * sign, best)} | ordered, 2, 500)
    assert found.method == "maml"


@pytest.mark.parametrize("order", [("maml", "reptile"), ("reptile", "maml")])
def test_a_method_that_diverges_is_not_chosen(order: tuple[str, str]) -> None:
    rows = {"maml": scores(7, 6), "reptile": scores(7, 5, valid=float("nan"))}
    assert verdict(MAE, {name: rows[name] for name in order}, 20, 500).method == "maml"


@pytest.mark.parametrize("names", [("maml",), ("local",), ("local", "maml", "meta-sgd")])
def test_a_meta_learners_start_is_no_model_for_all(names: tuple[str, ...]) -> None:
    """Against an initialization that was not made to be used as it is, all would pay."""
    found = verdict(ACCURACY, {name: scores(0.5, 0.9) for name in names}, 20, 500)
    assert not found.pays
    assert "add fedavg to --methods" in found.sentence
    assert verdict(ACCURACY, {"reptile": scores(0.5, 0.9)}, 20, 500).reference == "reptile"


def test_a_handful_of_users_decides_nothing() -> None:
    few = Scores(np.full((3, 4), 0.5), np.full((3, 4), 0.9), 0.5, 0.9)
    found = verdict(ACCURACY, {"fedavg-ft": few}, 20, 500)
    assert not found.pays
    assert "4 test users are too few" in found.sentence


def test_nothing_personalizes() -> None:
    found = verdict(ACCURACY, {"fedavg": scores(0.6, 0.7)}, 20, 500)
    assert not found.pays
    assert "no method here personalizes" in found.sentence


def test_the_reference_is_not_a_candidate() -> None:
    """The global model is best on validation users; still it is what the others are held to."""
    rows = {"fedavg": scores(0.6, 0.6, valid=0.9, spread=0), "local": scores(0.5, 0.55)}
    found = verdict(ACCURACY, rows, 20, 500)
    assert (found.method, found.reference) == ("local", "fedavg")
    assert found.gain == pytest.approx(-0.05, abs=0.01)


def test_some_users_diverge() -> None:
    found_scores = scores(7.0, 6.0)
    found_scores.after[0, :40] = np.nan
    found = verdict(MAE, {"fedavg-ft": found_scores}, 20, 500)
    assert not found.pays
    assert found.sentence == (
        "Personalization does not pay on this data: fedavg-ft with 20 examples per user diverges"
        " for 10% of the users; lower method.rate."
    )


def test_the_reference_is_the_best_single_model_for_validation_users() -> None:
    """Reptile's initialization serves all better than FedAvg's model: that is to be beaten."""
    rows = {
        "fedavg": scores(0.55, 0.55, spread=0),
        "reptile": scores(0.65, 0.66),
        "maml": scores(0.30, 0.70),
        "local": scores(0.90, 0.50),  # not a model for all
    }
    found = verdict(ACCURACY, rows, 20, 500)
    assert (found.method, found.reference) == ("maml", "reptile")
    assert found.gain == pytest.approx(0.05, abs=0.01)


def test_what_needs_no_federation_is_named_beside() -> None:
    """Where one model for all is at chance, a gain over it says nothing of federation."""
    rows = {
        "fedavg": scores(0.5, 0.5, spread=0),
        "local": scores(0.5, 0.68),
        "maml": scores(0.5, 0.7),
    }
    sentence = verdict(ACCURACY, rows, 20, 500).sentence
    assert "Over local, which needs no federation, it gains +2.0 points (95 % interval" in sentence
    rows["local"] = scores(0.5, 0.75)
    assert verdict(ACCURACY, rows, 20, 500).sentence.endswith("No federation is needed for it.")


def test_few_who_chose_are_named() -> None:
    rows = {"fedavg": scores(0.5, 0.5), "reptile": scores(0.5, 0.9), "maml": scores(0.5, 0.8)}
    said = "Only 3 validation users chose reptile among 2 methods"
    assert said in verdict(ACCURACY, rows, 20, 500, 3).sentence
    assert "Only 1 validation user chose" in verdict(ACCURACY, rows, 20, 500, 1).sentence
    assert "Only" not in verdict(ACCURACY, rows, 20, 500, 10).sentence
    assert "Only" not in verdict(ACCURACY, rows, 20, 500).sentence
    del rows["maml"]
    assert "Only" not in verdict(ACCURACY, rows, 20, 500, 3).sentence
