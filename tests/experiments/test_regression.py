"""Regression end to end: errors, where lower is better and a gain is still positive."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.rows import write
from tests.experiments.runs import Result, offset_rows, rounds_of, sets, strict, users_of

FIGURES = {"mae_macro", "mae_micro", "rmse_macro", "loss_macro", "median", "p10", "worst_decile"}
VALUES: dict[str, Any] = {
    "backbone__name": "auto",
    "head__name": "linear",
    "data__support": 6,
    "federation__rounds": 10,
    "method__name": "fedavg-ft",
    "method__rate": 0.3,
    "method__steps": 20,
}


def data(ending: str) -> Path:
    rows, path = offset_rows(), Path(f"data.{ending}")
    if ending != "npz":
        return write(path, rows)
    np.savez(
        path,
        X=np.array([[r["a"], r["b"]] for r in rows]),
        y=np.array([r["label"] for r in rows]),
        user=np.array([r["user"] for r in rows]),
    )
    return path


@pytest.mark.parametrize("ending", ["csv", "npz"])
def test_offsets_of_users(ending: str, fedmeta: Callable[..., Result]) -> None:
    given = sets(data__source=data(ending), **VALUES)
    summary = fedmeta("simulate", *given, "--out", "here", "--json").json
    assert summary["measure"] == "mae"
    for split in ("valid", "test"):
        figures = summary[split]
        assert set(figures["before"]) == set(figures["after"]) == FIGURES
        ends = [users_of(Path("here"), split, k) for k in (0, 6)]
        before, after = (rows["mae"] for rows in ends)
        gains = before - after
        assert figures["gain"]["mean"] == pytest.approx(gains.mean())
        assert figures["hurt_share"] == pytest.approx((gains < 0).mean())
        assert figures["after"]["mae_macro"] == pytest.approx(after.mean())
        assert figures["after"]["rmse_macro"] == pytest.approx(ends[1]["rmse"].mean())
        assert (ends[1]["rmse"] >= after - 1e-9).all()
        assert figures["after"]["p10"] == pytest.approx(np.percentile(after, 90))  # the worse end
        worst = after.sort_values().iloc[-max(1, round(len(after) / 10)) :]
        assert figures["after"]["worst_decile"] == pytest.approx(worst.mean())
        assert "bayes" not in figures
    test = summary["test"]
    assert 5 < test["before"]["mae_macro"] < 15  # the targets' own unit: offsets of 10
    assert test["after"]["mae_macro"] < 0.6 * test["before"]["mae_macro"]
    assert test["gain"]["ci95"][0] > 0
    assert test["curve"]["6"] < test["curve"]["1"]


def test_compare(fedmeta: Callable[..., Result]) -> None:
    given = sets(data__source=data("csv"), **VALUES)
    result = fedmeta("compare", *given, "--methods", "fedavg,fedavg-ft", "--out", "here")
    assert result.code == 0, result.err
    content = strict(Path("here/compare.json").read_text(encoding="utf-8"))
    assert content["measure"] == "mae"
    ends = [
        users_of(Path("here") / f"{name}-seed0", "test", 6)["mae"]
        for name in ("fedavg", "fedavg-ft")
    ]
    pair = content["pairs"][0]
    assert pair["mean"] == pytest.approx((ends[1] - ends[0]).mean())  # positive: a is better
    assert pair["mean"] < 0
    assert content["decision"]["pays"]
    assert "RMSE" in result.out
    assert "of mae" in content["verdict"]


def test_parkinsons(shared_data: Path, fedmeta: Callable[..., Result]) -> None:
    given = sets(
        data__source=shared_data / "parkinsons_updrs.npz",
        data__label_column="motor_updrs",
        **VALUES | {"data__support": 20, "method__rate": 0.05, "method__name": "fedavg-ft"},
    )
    summary = fedmeta("simulate", *given, "--json").json
    assert summary["users"]["test"] >= 8
    assert summary["test"]["after"]["mae_macro"] < summary["test"]["before"]["mae_macro"]
    assert summary["test"]["after"]["mae_macro"] < 6


def test_users_who_diverge_when_they_adapt(fedmeta: Callable[..., Result]) -> None:
    """They are worse off, they are not hidden in a mean, and the files are JSON all the same."""
    wild = {"method__adapt_rate": 1e9, "method__adapt_steps": 50, "federation__rounds": 2}
    given = sets(data__source=data("csv"), **VALUES | wild)
    result = fedmeta("simulate", *given, "--out", "here", "--json")
    test = result.json["test"]
    assert test["after"]["mae_macro"] is None
    assert test["gain"] == {"mean": None, "ci95": [None, None]}
    assert test["hurt_share"] == 1
    assert test["before"]["mae_macro"] > 5
    assert [line["valid"] for line in rounds_of(Path("here"))] == [None, None]
    compared = fedmeta("compare", *given, "--methods", "fedavg,fedavg-ft", "--json").json
    assert not compared["decision"]["pays"]
    assert "diverges for 100% of the users" in compared["verdict"]
    shown = fedmeta("simulate", *given)
    assert shown.code == 0
    assert "nan" in shown.out
