"""Sweeps: a comparison per point, a table, a picture, and nothing run twice."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.drawing import COLOURS
from experiments.sweep import points, report
from fedmeta.methods import METHODS
from tests.experiments.runs import TINY, Result, sets, strict

OVER = ("--over", "data.heterogeneity=0,1")


def small(**values: Any) -> list[str]:
    return sets(federation__rounds=1, data__support=5, evaluation__shots="0", **values)


def test_a_sweep(fedmeta: Callable[..., Result]) -> None:
    given = [*small(), *OVER, "--methods", "maml,bias", "--out", "here"]
    shown = fedmeta("sweep", *given)
    assert shown.code == 0, shown.err
    content = strict(Path("here/sweep.json").read_text(encoding="utf-8"))
    (panel,) = content["panels"]
    assert panel["key"] == "data.heterogeneity"
    assert [point["value"] for point in panel["points"]] == ["0.0", "1.0"]
    for point in panel["points"]:
        folder = Path("here") / f"data.heterogeneity-{point['value']}"
        compared = strict((folder / "compare.json").read_text(encoding="utf-8"))
        # FedAvg trains the one model that gains are over.
        assert list(point["methods"]) == list(compared["methods"]) == ["fedavg", "maml", "bias"]
        for name, row in point["methods"].items():
            gain = compared["methods"][name]["test"]["against_reference"]["gain"]
            assert [row["gain"], row["ci95"]] == [gain["mean"], gain["ci95"]]
            assert row["pays"] == (METHODS[name].personalizes and gain["ci95"][0] > 0)
            assert row["family"] == METHODS[name].family
        config = (folder / "config.toml").read_text()
        assert f"heterogeneity = {point['value']}" in config
    assert "maml" in shown.out
    assert "pays" in shown.out
    assert Path("here/sweep.png").read_bytes()[:4] == b"\x89PNG"
    picture = Path("here/sweep.svg").read_text()
    assert "maml (meta-learning, gradient)" in picture
    assert "fedavg (" not in picture  # it has no gain to show
    assert "6 of 6 runs in" in shown.err


def test_where_panels_meet_it_is_run_once(fedmeta: Callable[..., Result]) -> None:
    same = [*sets(data__heterogeneity=0.0), "--over", "data.prior-heterogeneity=0"]
    given = [*small(), *same, "--over", "data.heterogeneity=0", "--methods", "bias", "--json"]
    one, other = fedmeta("sweep", *given, "--out", "here").json["panels"]
    assert one["points"][0]["methods"] == other["points"][0]["methods"]
    assert Path("here/data.prior-heterogeneity-0.0").is_dir()
    assert not Path("here/data.heterogeneity-0.0").exists()


def test_a_sweep_goes_on_where_it_was_left(fedmeta: Callable[..., Result]) -> None:
    given = [*small(), *OVER, "--methods", "bias", "--json"]
    whole = fedmeta("sweep", *given, "--out", "here").json
    first = Path("here/data.heterogeneity-0.0/compare.json")
    before, picture = first.stat().st_mtime_ns, Path("here/sweep.svg").read_bytes()
    os.unlink("here/data.heterogeneity-1.0/compare.json")
    os.unlink("here/sweep.json")
    again = fedmeta("sweep", *given, "--resume", "here").json
    assert first.stat().st_mtime_ns == before
    assert again["panels"] == whole["panels"]
    assert Path("here/sweep.svg").read_bytes() == picture
    other = fedmeta("sweep", *given, "--methods", "local", "--resume", "here")
    assert other.code == 2
    assert "resume with the same --methods" in other.err


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ([], ["no values", "--over data.heterogeneity=0,0.5,1", "heterogeneity"]),
        (["--over", "data.heterogeneity"], ["expected a key and different values"]),
        (["--over", "data.heterogeneity=1,1"], ["expected a key and different values"]),
        (["--over", "data.heterogenity=1"], ["did you mean 'data.heterogeneity'"]),
        (["--over", "data.heterogeneity=0,2"], ["data.heterogeneity = 2.0"]),
        (["--over", "data.heterogeneity=0", "--methods", "mamlet"], ["methods out of"]),
        (["--over", "data.heterogeneity=0", "--methods", ","], ["methods out of"]),
    ],
)
def test_bad_input(given: list[str], parts: list[str], fedmeta: Callable[..., Result]) -> None:
    result = fedmeta("sweep", *small(), *given, "--out", "here")
    assert result.code == 2
    for part in parts:
        assert part in result.err


def test_the_shipped_sweep_changes_one_way_to_differ_at_a_time() -> None:
    pairs = [f"{key}={str(value).lower()}" for key, value in TINY.items()]
    planned = points.plan(Path("heterogeneity"), [], pairs, {})
    keys = [panel.key for panel in planned.panels]
    assert keys == ["data.prior-heterogeneity", "data.heterogeneity", "data.feature-heterogeneity"]
    for point in planned.points:
        data = point.config.data
        ways = (data.prior_heterogeneity, data.heterogeneity, data.feature_heterogeneity)
        for at, way in enumerate(ways):
            assert way == (float(point.value) if at == point.panel else 0.0)
    assert set(points.usual()) <= set(METHODS)


def test_from_where_on_a_method_pays() -> None:
    def panel(*pays: bool) -> dict[str, Any]:
        values = ("0", "0.5", "1")
        rows = zip(values, pays, strict=True)
        return {"points": [{"value": v, "methods": {"maml": {"pays": p}}} for v, p in rows]}

    assert report.pays_from(panel(False, True, True), "maml") == "from 0.5"
    assert report.pays_from(panel(True, False, True), "maml") == "from 1"
    assert report.pays_from(panel(True, True, False), "maml") == "not at the end"
    assert len(set(COLOURS)) >= len(points.usual())
