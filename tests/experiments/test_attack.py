"""Attackers do what they are said to do, and the table says what came of it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from clients.contribution import contribution
from clients.wire import Order
from experiments.attack import client, figures, poison
from experiments.attack.attacks import ATTACKS, BOOST, FLIP, HUGE, NOISE, SCALE, deviation
from experiments.attack.client import Plan, app_of, attackers
from fedmeta import loop, robust, seeding
from fedmeta.head_file import weights_sha256
from fedmeta.outer import begin
from fedmeta.problem import Problem, initial
from fedmeta.types import Params
from tests.engine.cases import distance, problem
from tests.experiments.runs import Result, sets
from tests.federation.runs import over_inline

Call = Callable[..., Result]


def after_one_round(given: Problem, plan: Plan, folder: Path) -> Params:
    """The server after round 1, made without the wrapper: rows of all, attackers' replaced."""
    theirs = poison.poisoned(given, plan.attack, plan.marked)
    cohort = loop.cohort_of(given.population, given.config, 1)
    bad = attackers(given, plan, cohort)
    theta, order = initial(given), Order(1, 0, cohort.tolist())
    rows = {}
    for user in cohort.tolist():
        source = client._apart(theirs if user in bad else given)
        rows[user] = contribution(source, theta, np.array([user]), order, folder).total
    names = sorted(name for name in theta)
    flat = {u: np.concatenate([r[n].ravel() for n in names]) for u, r in rows.items()}
    if plan.attack.sends is not None:
        random = seeding.generator(given.config.run.seed, "attack", 1)
        stacked = np.stack([flat[user] for user in bad.tolist()])
        sent = plan.attack.sends(stacked, len(cohort), random)
        flat |= dict(zip(bad.tolist(), sent, strict=True))
    every = torch.from_numpy(np.stack([flat[user] for user in sorted(flat)]))
    on = robust.is_on(given.config.robust)
    mean = robust.aggregate(given.config.robust, {"x": every})["x"] if on else every.mean(0)
    parts = torch.split(mean, [theta[name].numel() for name in names])
    moved = {n: p.view(theta[n].shape) for n, p in zip(names, parts, strict=True)}
    return loop.step(given, begin(theta, given.config.server), moved).meta


@pytest.mark.parametrize("rule", ["mean", "trimmed-mean"])
@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "huge"])
def test_attackers_send_what_they_are_said_to(name: str, rule: str, tmp_path: Path) -> None:
    """Over several chunks, one of which has honest users alone."""
    alone = {"validation__max_norm": 0.0, "validation__max_ratio": 0.0}
    given = problem(method__name="reptile", federation__rounds=1, robust__rule=rule, **alone)
    marked = torch.roll(given.population.features, 3, 0)
    plan = Plan(ATTACKS[name], 0.3, True, marked)
    bad = attackers(given, plan, loop.cohort_of(given.population, given.config, 1))
    assert len(bad) == 2 * (name != "none")
    outcome = over_inline(given, app=app_of(plan))
    expected = after_one_round(given, plan, tmp_path)
    assert distance(outcome.last, expected) < 1e-6
    plain = over_inline(given).last
    assert (weights_sha256(outcome.last) == weights_sha256(plain)) == (name == "none")
    assert distance(outcome.last, plain) > 1e-5 or name == "none"


def test_updates_that_are_sent() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(4, 6)) + 2.0

    def sent(name: str) -> Any:
        make = ATTACKS[name].sends
        assert make is not None
        return make(rows, 20, np.random.default_rng(1))

    np.testing.assert_allclose(sent("sign-flip"), -FLIP * rows)
    np.testing.assert_allclose(sent("scaling"), SCALE * rows)
    np.testing.assert_allclose(sent("boosted-backdoor"), BOOST * rows)
    assert (sent("huge") == HUGE).all()
    assert not sent("zero").any()
    length = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(np.linalg.norm(sent("random"), axis=1), NOISE * length)
    assert abs(np.corrcoef(sent("random").ravel(), rows.ravel())[0, 1]) < 0.5
    expected = rows.mean(0) - deviation(20, 4) * rows.std(0, ddof=1)
    assert all(np.allclose(row, expected) for row in sent("alie"))


def test_the_deviation_of_alie() -> None:
    """Algorithm 3: s = n // 2 + 1 - m, and the normal quantile of (n - m - s) / (n - m)."""
    z = deviation(1000, 498)
    assert 0.5 * (1 + math.erf(z / math.sqrt(2))) == pytest.approx((1000 - 498 - 3) / (1000 - 498))
    assert deviation(10, 2) == 1.5  # there the quantile is that of 4 / 8, which is 0


def test_who_attacks() -> None:
    given = problem()
    train = given.population.store.users("train")
    fixed, exact = (Plan(ATTACKS["zero"], 0.25, e) for e in (False, True))
    every = attackers(given, fixed, train)
    assert len(every) == round(0.25 * len(train))
    for number in range(1, 9):
        cohort = loop.cohort_of(given.population, given.config, number)
        assert set(attackers(given, fixed, cohort)) == set(every) & set(cohort)
        assert len(attackers(given, exact, cohort)) == round(0.25 * 7)
    other = attackers(problem(run__seed=1), fixed, train)
    assert set(other) != set(every)


def test_poisoned_examples() -> None:
    given = problem()
    population = given.population
    flipped = poison.poisoned(given, ATTACKS["label-flip"], None).population
    assert torch.equal(flipped.target, 1 - population.target)
    assert torch.equal(flipped.features, population.features)
    marked = population.features + 1.0
    door = poison.poisoned(given, ATTACKS["backdoor"], marked).population
    x, before = door.features[door.item], population.features[population.item]
    has = (x == before + 1.0).all(1)
    assert 0.4 < float(has.float().mean()) < 0.6
    assert torch.equal(x[~has], before[~has])
    assert bool((door.target[has] == poison.TARGET).all())
    assert torch.equal(door.target[~has], population.target[~has])
    assert poison.poisoned(given, ATTACKS["zero"], None).population is population


def test_the_trigger_is_in_the_text() -> None:
    given = problem()
    marked = poison.triggered(given)
    assert marked.shape == given.population.features.shape
    assert bool((marked != given.population.features).any(1).all())


def test_success_counts_triggered_messages_of_other_classes() -> None:
    given = problem(method__name="fedavg", head__name="linear")
    theta = {name: torch.zeros_like(value) for name, value in initial(given).items()}
    marked = torch.zeros_like(given.population.features)
    marked[:, 0] = 1.0
    for answer in (0, 1):
        weight = theta["output.weight"].clone()
        weight[answer, 0] = 50.0
        found = poison.success(given, theta | {"output.weight": weight}, marked)
        assert found == (float(answer), float(answer))
    # Without the trigger's feature nothing is told apart, and class 0 comes first.
    assert poison.success(given, theta, torch.zeros_like(marked)) == (0.0, 0.0)


def attack(fedmeta: Call, *more: str, **values: Any) -> Result:
    return fedmeta("attack", *sets(**values), "--json", *more)


QUICK = ("--attacks", "sign-flip,backdoor", "--rules", "trimmed-mean,bulyan")


def test_command(fedmeta: Call) -> None:
    given = {"robust__byzantine": 2.0, "federation__users_per_round": 9, "method__name": "reptile"}
    given |= {"robust__rule": "trimmed-mean"}
    found = attack(fedmeta, *QUICK, "--out", "out", **given).json
    runs = {(row["attack"], row["rule"]): row for row in found["runs"]}
    assert set(runs) == {
        (a, r) for a in ("none", "sign-flip", "backdoor") for r in ("mean", "trimmed-mean")
    }
    assert "11 users, and 9 users" in found["left_out"]["bulyan"]
    assert runs["none", "mean"]["loss"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    frame = pd.read_parquet("out/attack.parquet")
    means = frame.groupby(["attack", "rule"])["after"].mean()
    for key, row in runs.items():
        assert row["after"]["mean"] == pytest.approx(means[key])
        assert row["loss"]["mean"] == pytest.approx(means["none", "mean"] - means[key])
        own = means["none", key[1]] - means[key]
        assert row["attack_loss"]["mean"] == pytest.approx(own, abs=1e-12)
        assert all(0.0 <= share <= 1.0 for share in row["success"])
    assert json.loads(Path("out/attack.json").read_text())["runs"] == found["runs"]
    told = figures.sentences(found)
    for at, rule in enumerate(("trimmed-mean", "mean")):
        loss = {a: runs[a, rule]["loss"]["mean"] for a in ("sign-flip", "backdoor")}
        worst = found["defence"][at]
        assert worst["rule"] == rule
        assert worst["loss"] == loss[worst["attack"]] == max(loss.values())
        assert worst["cost"] == runs["none", rule]["loss"]["mean"]
        assert worst["success"] == max(runs["backdoor", rule]["success"])
        assert f"{100 * worst['loss']:.1f} points at most ({worst['attack']})" in told
    assert f"for {max(runs['backdoor', 'trimmed-mean']['success']):.0%} of triggered" in told
    # A cell that is there is not run again, one that is missing is.
    cell = Path("out/cells/sign-flip--mean.json")
    before = cell.read_text()
    cell.unlink()
    kept = Path("out/cells/none--mean.json").stat().st_mtime_ns
    again = attack(fedmeta, *QUICK, "--resume", "out", **given).json
    assert again == found
    assert cell.read_text() == before
    assert Path("out/cells/none--mean.json").stat().st_mtime_ns == kept
    other = attack(fedmeta, *QUICK, "--resume", "out", "--share", "0.3", **given)
    assert other.code == 2
    assert "was begun with" in other.err


@pytest.mark.parametrize(
    ("more", "values", "message"),
    [
        (("--attacks", "magic"), {}, "--attacks 'magic': expected some of none, sign-flip"),
        (("--rules", "mode"), {}, "--rules 'mode': expected some of mean, norm-bound"),
        (("--share", "0.5"), {}, "--share 0.5: expected a share above 0 and below 0.5"),
        ((), {"federation__rounds": 0}, "federation.rounds = 0: without a round there is nothing"),
        ((), {"method__name": "pfedhn"}, "'pfedhn': each user is sent parameters of his own"),
        (("--rules", "mean"), {"method__name": "pfedhn"}, "which attackers here cannot attack"),
        ((), {"method__name": "local"}, "method.name = 'local': users send nothing"),
        ((), {"devices__failure": 0.5}, "devices: attackers know a round by the server's draw"),
        (("--rules", "mean"), {"privacy__unit": "example", "privacy__noise_multiplier": 1.0},
         "privacy.unit = 'example': attackers change single users' updates"),
        (("--attacks", "backdoor"), {"data__source": "digits", "backbone__name": "auto"},
         "a backdoor is a phrase in texts that have classes, and 'digits'"),
    ],
)  # fmt: skip
def test_refusals(fedmeta: Call, more: tuple[str, ...], values: Any, message: str) -> None:
    result = attack(fedmeta, *more, "--out", "out", **{"method__name": "reptile", **values})
    assert result.code == 2, result
    assert message in result.err
    assert not Path("out").exists()
