"""Figures of reports against those of the artefacts, which other code made, and by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.report import (
    interactive,
    method_plots,
    progress_plots,
    run_page,
    run_tables,
    scores,
    static,
    user_plots,
)
from experiments.report.interactive import colour_of
from experiments.report.parts import Plot, Series, Table
from experiments.report.runs import Runs, one, several
from experiments.report.runs import compared as read
from experiments.report.scores import Reference
from experiments.report.user_plots import ranks
from fedmeta.config import ConfigError
from fedmeta.statistics import interval


@pytest.fixture(scope="module")
def runs(compared: Path) -> Runs:
    return read(compared)


@pytest.fixture(scope="module")
def content(compared: Path) -> Any:
    return json.loads((compared / "compare.json").read_text(encoding="utf-8"))


def over(runs: Runs) -> Reference:
    found = scores.reference(runs)
    assert isinstance(found, Reference)
    return found


def test_intervals_are_those_of_single_columns() -> None:
    values = np.random.default_rng(0).normal(size=(3, 17, 4))
    mean, low, high = scores.intervals(values, 300)
    for at in range(4):
        assert (mean[at], low[at], high[at]) == pytest.approx(interval(values[..., at], 300))


def test_table_has_the_figures_of_the_comparison(runs: Runs, content: Any) -> None:
    table = run_tables.methods(runs, over(runs))
    names = [heading for heading, _ in table.columns]
    assert [row[0].text for row in table.rows] == list(content["methods"])
    for row in table.rows:
        test = content["methods"][row[0].text]["test"]
        cells = dict(zip(names, (cell.values for cell in row), strict=True))
        assert cells["after [95 %]"][0] == pytest.approx(test["after"]["accuracy_macro"])
        if row[0].text == "fedavg":
            assert cells["gain [95 %]"] == (None, None, None)
            continue
        held = test["against_reference"]
        expected = (held["gain"]["mean"], *held["gain"]["ci95"])
        assert cells["gain [95 %]"] == pytest.approx(expected)
        assert cells["hurt"][0] == pytest.approx(held["hurt_share"])


def test_pairs_point_the_right_way(runs: Runs, content: Any) -> None:
    plot = method_plots.differences(runs)
    for name, (series,) in plot.views.items():
        mine = content["methods"][name]["test"]["after"]["accuracy_macro"]
        assert sorted(series.y) == sorted(set(content["methods"]) - {name})
        for value, other, low, high in zip(
            series.x, series.y, series.low, series.high, strict=True
        ):
            theirs = content["methods"][other]["test"]["after"]["accuracy_macro"]
            assert value == pytest.approx(100 * (mine - theirs), abs=1e-9)
            assert low is not None
            assert high is not None
            assert low - 1e-9 <= value <= high + 1e-9


def test_the_pairs_of_several_runs_are_those_of_a_comparison(compared: Path, content: Any) -> None:
    """The same runs given one by one, as two seeds of a comparison would be: with one seed."""
    folders = [compared / f"{name}-seed0" for name in ("fedavg", "reptile")]
    pair = method_plots.pairs(several(folders))[0]
    users = [pd.read_parquet(folder / "users.parquet") for folder in folders]
    ends = [u[(u.split == "test") & (u.k == u.k.max())].set_index("user").accuracy for u in users]
    found = interval((ends[0] - ends[1]).sort_index().to_numpy(), 200)
    assert (pair["mean"], *pair["ci95"]) == pytest.approx(found)


def test_bars_are_order_statistics_and_their_shares_those_of_all(runs: Runs) -> None:
    plot = user_plots.sorted_gains(runs, over(runs))
    for member in scores.adapting(runs):
        values = scores.gains(runs, member, over(runs)).ravel()
        bars = plot.views[member.label]
        drawn = [(x, y) for one in bars for x, y in zip(one.x, one.y, strict=True)]
        assert [y for _, y in sorted(drawn)] == pytest.approx(sorted(values))
        hurt = next(one for one in bars if one.tone == "hurt")
        assert hurt.name == f"hurt ({100 * (values < 0).mean():.0f} %)"
        assert all(y < 0 for y in hurt.y)


def test_every_user_has_a_bar_of_the_same_width() -> None:
    """One who is helped is as wide as each of nine who are not."""
    bars = user_plots._bars(np.array([-1.0] * 9 + [2.0]))
    plot = Plot("gains", "t", x="users, %", views={"": bars})
    figure = interactive.figures(plot)[""]
    assert {trace["width"] for trace in figure["data"]} == {10.0}
    assert figure["layout"]["xaxis"]["range"] == [0, 100]
    axis = Figure().subplots()
    static._draw(axis, plot, bars)
    drawn = [bar for bar in axis.patches if isinstance(bar, Rectangle)]
    assert sorted(bar.get_x() for bar in drawn) == pytest.approx(range(0, 100, 10))
    assert {bar.get_width() for bar in drawn} == {10.0}


def test_bars_tell_thousands_in_full() -> None:
    bars = Series("rate", ["a", "b", "c"], [1254.0, 79.8, None], kind="bars")
    trace = interactive.figures(Plot("p", "t", views={"": [bars]}))[""]["data"][0]
    assert trace["text"] == ["1,254", "79.8", ""]
    assert "width" not in trace


def test_there_is_no_half_of_a_round() -> None:
    ticks = [
        interactive.layout(Plot("p", "t"), [Series("a", x, [0.5] * len(x))])["xaxis"].get("dtick")
        for x in ([5], [1, 2, 5], [10, 20, 150])
    ]
    assert ticks == [1, 1, None]


def test_thinning_keeps_both_ends() -> None:
    chosen = ranks(10_000, 400)
    assert (len(chosen), chosen[0], chosen[-1]) == (400, 0, 9999)
    assert set(np.diff(chosen)) <= {25, 26}
    assert ranks(3, 400) == [0, 1, 2]


def test_bytes_to_a_target_by_hand() -> None:
    rounds: list[dict[str, Any]] = [
        {"round": 1, "valid": None, "bytes_down": 10, "bytes_up": 1},
        {"round": 2, "valid": 0.5, "bytes_down": 20, "bytes_up": 2},
        {"round": 3, "valid": 0.7, "bytes_down": 40, "bytes_up": 4},
        {"round": 4, "valid": 0.9, "bytes_down": 80, "bytes_up": 8},
    ]
    assert progress_plots.bytes_to(rounds, 1, 0.7) == (3, 70, 7)
    assert progress_plots.bytes_to(rounds, 1, 0.95) is None
    assert progress_plots.bytes_to(rounds, -1, 0.6) == (2, 30, 3)  # an error: less is better


def test_rounds_are_means_over_seeds_with_their_range(runs: Runs, compared: Path) -> None:
    plot = progress_plots.over_rounds(runs)
    assert list(plot.views) == ["mean over users", "worst tenth of the users"]
    line = next(one for one in plot.views["mean over users"] if one.name == "reptile")
    seen = []
    for seed in (0, 1):
        text = (compared / f"reptile-seed{seed}" / "rounds.jsonl").read_text(encoding="utf-8")
        lines = [json.loads(row) for row in text.splitlines()]
        seen.append({row["round"]: 100 * row["valid"] for row in lines if row["valid"] is not None})
    assert line.x == sorted(seen[0])
    for at, number in enumerate(line.x):
        both = [one[number] for one in seen]
        assert (line.low[at], line.high[at]) == pytest.approx((min(both), max(both)))
        assert line.y[at] == pytest.approx(np.mean(both))


def test_a_run_of_a_meta_learner_says_why_there_is_no_gain(compared: Path) -> None:
    runs = one(compared / "local-seed0")
    found = scores.reference(runs)
    assert isinstance(found, str)
    plot: Plot = user_plots.sorted_gains(runs, found)
    assert not plot.views
    assert "start of a meta-learner" in plot.missing
    table: Table = run_tables.methods(runs, found)
    assert "no gain" in table.note
    empty = [bool(plot.missing) for plot in run_page.plots(runs, found)]
    assert empty == sorted(empty)  # places without a picture stand last
    assert set(empty) == {False, True}


def test_runs_of_other_users_are_not_paired(compared: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in (compared / "fedavg-seed0").iterdir():
        if path.is_file():
            (other / path.name).write_bytes(path.read_bytes())
    frame = pd.read_parquet(other / "users.parquet")
    frame["user"] = "x" + frame["user"]
    frame.to_parquet(other / "users.parquet")
    runs = several([compared / "fedavg-seed0", other])
    assert "different test users" in method_plots.differences(runs).missing
    assert method_plots.pairs(runs) == []
    with pytest.raises(ConfigError, match="holds no finished run"):
        several([tmp_path])


def test_a_comparison_among_several_runs_brings_its_methods(compared: Path) -> None:
    runs = several([compared, compared / "fedavg-seed0"])
    assert [member.label for member in runs.members] == [
        "compared/local", "compared/fedavg", "compared/fedavg-ft", "compared/reptile",
        "fedavg-seed0",
    ]  # fmt: skip
    assert "different numbers of seeds" in scores.same_users(runs)


def test_of_many_methods_the_best_are_shown_first(runs: Runs) -> None:
    copies = [
        runs.members[at % 4]._replace(label=f"m{at:02d}", valid=valid)
        for at, valid in enumerate([0.5, np.nan, 0.9, 0.7, 0.1, 0.8, 0.3, 0.6, 0.4, 0.2])
    ]
    copies[4] = copies[4]._replace(label="local")
    copies[8] = copies[8]._replace(label="fedavg")
    many = runs._replace(members=copies)
    first, every = scores.shown(many).items()
    assert every == ("all 10", copies)
    assert first[0] == "best 6, local and fedavg"
    order = ["m02", "m05", "m03", "m07", "m00", "m06", "local", "fedavg"]
    assert [member.label for member in first[1]] == order
    plot = progress_plots.over_shots(many)
    assert [one.name for one in plot.views[first[0]]] == order
    assert len({colour_of(one) for one in plot.views[first[0]]}) == len(order)
    assert "Best: for validation users" in plot.caption
    assert list(scores.shown(runs)) == [""]
