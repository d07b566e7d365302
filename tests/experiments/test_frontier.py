"""Frontiers: calibrated cells, none run twice, illegal ones named, and a sentence that is right."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments import settings
from experiments.frontier.asked import Asked, asked_for
from experiments.frontier.cells import OFF, cells, under
from experiments.frontier.figures import figures
from experiments.frontier.sentence import kept, sentence
from experiments.reproduce import CONFIGS
from fedmeta.config import ConfigError
from fedmeta.metrics import METRICS
from fedmeta.privacy.accounting import epsilon
from fedmeta.problem import build
from tests.experiments.runs import Result, sets, strict, summary_of

ACCURACY = METRICS["classification"]
BOTH = "user/gaussian,example/gaussian"
AXES = ("--methods", "reptile", "--mechanisms", BOTH, "--canaries", "60", "--epsilons")


def small(**values: Any) -> list[str]:
    usual = {
        "federation__rounds": 2, "data__support": 5, "data__query": 8, "head__name": "linear",
        "evaluation__shots": "0", "privacy__delta": 0.001, "privacy__clip": 0.5,
    }  # fmt: skip
    return [*sets(**usual | values), "--out", "here"]


def test_a_frontier(fedmeta: Callable[..., Result]) -> None:
    shown = fedmeta("frontier", CONFIGS / "preferences.toml", *small(), *AXES, "2,inf")
    assert shown.code == 0, shown.err
    content = strict(Path("here/frontier.json").read_text(encoding="utf-8"))
    assert list(content["mechanisms"]) == ["user/gaussian", "example/gaussian"]
    frame = pd.read_parquet("here/frontier.parquet")
    cell = ["mechanism", "method", "epsilon", "seed"]
    assert not frame.duplicated([*cell, "split", "user"]).any()
    assert len(frame.groupby(cell)) == 3 + 2 * 2
    for mechanism, one in content["mechanisms"].items():
        infinity, two = one["points"]
        assert [infinity["epsilon"], two["epsilon"]] == ["infinity", "2"]
        # Local sends nothing: the same scores, at no cost.
        for key in ("valid", "after", "worst_decile", "over_local", "hurt_share"):
            assert two["methods"]["local"][key] == infinity["methods"]["local"][key]
        local = two["methods"]["local"]
        assert local["claimed"] == local["over_local"]["mean"] == 0
        for name in ("fedavg", "reptile"):
            row, folder = two["methods"][name], Path("here") / mechanism.replace("/", "-")
            summary = summary_of(folder / f"{name}-epsilon2-seed0")
            # Whole runs tell what they cost, and it is what was asked for, to the search's 0.1 %.
            claim = summary["privacy"]
            assert (claim["unit"], claim["mechanism"]) == tuple(mechanism.split("/"))
            assert row["claimed"] == claim["epsilon"]
            assert 1.99 < claim["epsilon"] <= 2
            after = summary["test"]["after"]
            assert row["after"]["mean"] == pytest.approx(after["accuracy_macro"])
            assert row["worst_decile"] == pytest.approx(after["worst_decile"])
        audit = content["audit"][mechanism]["2"]
        assert (audit["canaries"], audit["method"]) == (60, "fedavg")
        assert 1.8 < audit["claimed"] < 2.2  # with users in the same share of the rounds
        assert 0 <= audit["lower_bound"] <= audit["lower_bound_curve"] < 2
        assert "at least" in shown.out
        gained = two["methods"]["reptile"]["over_local"]["mean"]
        means = [two["methods"][name]["after"]["mean"] for name in ("reptile", "local")]
        assert gained == pytest.approx(means[0] - means[1])
        assert one["sentence"] in " ".join(shown.out.split())
    assert Path("here/frontier.png").read_bytes()[:4] == b"\x89PNG"
    assert "costs no privacy" in Path("here/frontier.svg").read_text()
    assert "epsilon 2" in Path("here/noise.svg").read_text()
    # Infinity is the run without privacy, to the bit.
    alone = fedmeta(
        "simulate", CONFIGS / "preferences.toml", *small()[:-2], "--set", "method.name=reptile",
        "--out", "alone", "--json",
    ).json  # fmt: skip
    assert alone["privacy"] is None
    bare = summary_of(Path("here/off/reptile-seed0"))
    assert bare["weights_sha256"] == alone["weights_sha256"]
    private = summary_of(Path("here/user-gaussian/reptile-epsilon2-seed0"))
    assert private["weights_sha256"] != alone["weights_sha256"]


@pytest.mark.slow
def test_it_goes_on_where_it_was_left_and_may_grow(fedmeta: Callable[..., Result]) -> None:
    axes = ("--methods", "reptile", "--mechanisms", "user/gaussian", "--json", "--canaries", "0")
    whole = fedmeta("frontier", *small(), *axes, "--epsilons", "2").json
    kept_ones = [Path("here/off/local-seed0"), Path("here/off/reptile-seed0")]
    before = [(one / "summary.json").stat().st_mtime_ns for one in kept_ones]
    left = Path("here/user-gaussian/reptile-epsilon2-seed0/summary.json")
    digest = summary_of(left.parent)["weights_sha256"]
    for path in (left, Path("here/frontier.json"), Path("here/frontier.parquet")):
        os.unlink(path)
    again = fedmeta("frontier", "--resume", "here", "--json").json
    assert again == whole
    assert summary_of(left.parent)["weights_sha256"] == digest
    grown = fedmeta("frontier", "--resume", "here", "--epsilons", "2,8", "--json").json
    points = grown["mechanisms"]["user/gaussian"]["points"]
    assert [point["epsilon"] for point in points] == ["infinity", "8", "2"]
    assert points[2] == whole["mechanisms"]["user/gaussian"]["points"][1]
    assert [(one / "summary.json").stat().st_mtime_ns for one in kept_ones] == before
    fewer = fedmeta("frontier", "--resume", "here", "--epsilons", "8")
    assert fewer.code == 2
    assert "epsilons 2.0 were asked for when it was begun" in fewer.err
    other = fedmeta("frontier", "--resume", "here", "--set", "federation.rounds=3")
    assert other.code == 2


def test_illegal_cells_are_left_out_with_the_reason() -> None:
    asked = asked_for({}, methods="maml,bias", mechanisms="user/banded,example/gaussian")
    given = [one for one in small(privacy__bands=2)[:-2] if one != "--set"]
    found = cells(settings.read(None, given), asked)
    reasons = {(one.mechanism, one.method): one.reason for one in found.left_out}
    assert list(reasons) == [("example/gaussian", "maml")]
    assert "no clip of single examples" in reasons["example/gaussian", "maml"]
    ran = {(cell.mechanism, cell.method) for cell in found.run}
    assert ("user/banded", "maml") in ran
    assert ("example/gaussian", "bias") in ran
    assert {cell.mechanism for cell in found.run if cell.method == "local"} == {OFF}
    for cell in found.run:
        # What one mechanism alone reads does not get in the way of the others.
        assert cell.config.privacy.bands == (2 if cell.mechanism == "user/banded" else 1)
        privacy, delta = build(cell.config).privacy, cell.config.privacy.delta
        cost = epsilon(privacy.events(cell.config.federation.rounds), delta)
        if cell.mechanism != OFF:
            assert 0.99 * cell.epsilon < cost <= cell.epsilon


def test_local_is_charged_at_half_its_noise() -> None:
    """Two contributions may be two clips apart, so `local` takes twice the noise of a release."""
    asked = Asked(("local", "fedavg"), ("user/local", "user/banded"), (1.0,))
    given = [one for one in small()[:-2] if one != "--set"]
    found = {cell.mechanism: cell for cell in cells(settings.read(None, given), asked).run}
    noise = {name: one.config.privacy.noise_multiplier for name, one in found.items()}
    local, banded = noise["user/local"], noise["user/banded"]
    assert local == pytest.approx(2 * banded, rel=2e-3)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"methods": "mamlet"}, ["frontier.methods = 'mamlet'", "reptile"]),
        ({"mechanisms": "user/laplace"}, ["user/laplace", "user/gaussian"]),
        ({"epsilons": "0"}, ["'0' is none", "above 0"]),
        ({"epsilons": "a lot"}, ["'a lot' is none"]),
        ({"epsilons": "inf"}, ["at least one finite one"]),
        ({"seeds": -1}, ["frontier.seeds = -1"]),
        ({"canaries": 3}, ["frontier.canaries = 3", "0 for no audit"]),
        ({"epsilon": "1"}, ["frontier.epsilon: expected one of", "epsilons"]),
    ],
)
def test_bad_axes(given: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        asked_for(given)
    for part in parts:
        assert part in str(caught.value)


def test_where_nothing_private_can_be_run_it_says_why(fedmeta: Callable[..., Result]) -> None:
    result = fedmeta("frontier", *small(privacy__delta=0.5), *AXES, "1")
    assert result.code == 2
    assert "no cell with privacy can be run" in result.err
    assert "privacy.delta = 0.5" in result.err
    assert not Path("here").exists()


def test_a_rate_is_that_of_the_declared_cohort_or_of_examples() -> None:
    given = settings.read(None, ["privacy.sampling-rate=0.1"])
    rates = [under(given, m).privacy.sampling_rate for m in ("user/gaussian", "example/gaussian")]
    assert rates == [0.0, 0.1]
    given = settings.read(None, ["privacy.sampling-rate=0.1", "privacy.noise-cohort-size=1000"])
    rates = [under(given, m).privacy.sampling_rate for m in ("user/gaussian", "example/gaussian")]
    assert rates == [0.1, 0.0]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("frontier*.toml")), ids=lambda p: p.stem)
def test_shipped_axes(path: Path) -> None:
    assert len(asked_for(settings.frontier(path)).epsilons) >= 2


# Five users; each row: what reptile has over local (0.6), by epsilon.
GAINS = {math.inf: 0.2, 8.0: 0.16, 2.0: 0.11, 1.0: 0.04, 0.5: -0.3}


def made(gains: dict[float, float], one: float = 0.5) -> dict[str, Any]:
    """A frontier of user/gaussian by hand: local at 0.6, FedAvg's one model at ``one``."""
    spread, rows = np.array([-0.02, -0.01, 0.0, 0.01, 0.02]), []
    for eps, gain in gains.items():
        for name, before, after in (
            ("local", 0.5, 0.6), ("fedavg", one, one), ("reptile", 0.5, 0.6 + gain),
            ("fedavg-ft", one, 0.605 if math.isinf(eps) else 0.4),
        ):  # fmt: skip
            if name == "local" and not math.isinf(eps):
                continue
            mechanism = OFF if math.isinf(eps) else "user/gaussian"
            for split in ("valid", "test"):
                for user, shift in enumerate(spread):
                    moved = after + (shift if name in ("reptile", "fedavg-ft") else 0)
                    rows.append((mechanism, name, eps, eps, 1.0, 0, split, user, before, moved))
    names = "mechanism method epsilon claimed noise_multiplier seed split user before after"
    frame = pd.DataFrame(rows, columns=names.split())
    finite = tuple(sorted((eps for eps in gains if not math.isinf(eps)), reverse=True))
    asked = Asked(("local", "fedavg", "reptile", "fedavg-ft"), ("user/gaussian",), finite)
    found: dict[str, Any] = figures(frame, ACCURACY, asked, 200)["mechanisms"]["user/gaussian"]
    return found


def test_the_sentence() -> None:
    found = made(GAINS)
    said = found["sentence"]
    assert "reptile keeps most of its gain over local training down to epsilon 2" in said
    assert "(+11.0 points of +20.0 points)" in said  # 0.55 of it; 0.04 at epsilon 1 is a fifth
    # Of those that need federation fedavg-ft is the better one there: 0.4 against 0.3.
    assert "taking part stops paying at epsilon 0.5: at 0.5 fedavg-ft, the best there" in said
    assert "is -20.0 points" in said
    # At 0.5 local is best for validation users, and still better than one model for all.
    assert "personalizing pays at every epsilon that was tried: at 0.5 local" in said
    assert "is +10.0 points (95 % interval +10.0 points to +10.0 points) against fedavg" in said
    row = found["points"][-1]["methods"]["reptile"]
    assert row["hurt_share"] == 1
    assert row["over_local"]["mean"] == pytest.approx(-0.3)


def test_other_sentences() -> None:
    assert (
        "taking part pays at every epsilon that was tried"
        in made({math.inf: 0.2, 8.0: 0.1})["sentence"]
    )
    said = made({math.inf: -0.1, 8.0: -0.1}, one=0.9)["sentence"]
    assert "no method keeps most of a gain" in said
    assert "taking part pays at no epsilon that was tried, nor without privacy: at infinity" in said
    assert "personalizing pays at no epsilon that was tried" in said
    assert "fedavg-ft, the best there for validation users, is -29.5 points" in said
    said = made({math.inf: 0.2, 8.0: -0.3, 2.0: 0.1})["sentence"]
    assert "taking part pays at epsilon infinity, 2 and not at 8: at 8 fedavg-ft" in said


def test_a_gain_that_is_not_sure_is_not_kept() -> None:
    """Half a point that two of five users do not have is no gain of which one could keep most."""
    found = made({math.inf: 0.2, 8.0: 0.0})
    assert kept(found["points"]) is None
    found = made({math.inf: 0.2, 8.0: 0.05, 2.0: 0.2})  # what comes back by luck does not count
    assert kept(found["points"]) is None
    assert "at any finite epsilon" in sentence("m", found["points"], ACCURACY)
