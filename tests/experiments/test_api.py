"""What notebooks call is what the command runs, and pictures show the figures of the users."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomli_w

import experiments
from experiments import compare, plots, simulate
from experiments.found import Comparison, Run
from experiments.frontier.runs import Frontier
from fedmeta.config import ConfigError, parse
from fedmeta.metrics import METRICS
from tests.experiments.runs import TINY, Result, rounds_of, sets

GIVEN: dict[str, Any] = TINY | {"method.name": "fedavg-ft", "run.seed": 4}
ACCURACY = METRICS["classification"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return simulate(GIVEN, {"run.name": "<b>"}, out=tmp_path_factory.mktemp("run"), quiet=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    reported = TINY | {"run.report": True}
    return compare(reported, ["fedavg-ft"], 2, out=tmp_path_factory.mktemp("compare"), quiet=True)


def test_the_same_as_the_command(run: Run, fedmeta: Callable[..., Result]) -> None:
    said = fedmeta("simulate", *sets(method__name="fedavg-ft"), "--seed", 4, "--json").json
    assert run.summary["weights_sha256"] == said["weights_sha256"]
    assert run.summary["test"] == said["test"]
    Path("file.toml").write_text(tomli_w.dumps({"run": {"seed": 4}}), encoding="utf-8")
    changes = {key: value for key, value in GIVEN.items() if key != "run.seed"}
    for source, more in (
        (parse(GIVEN), {"run.report": True}),
        ("file.toml", changes),
        (Path("file.toml"), changes),
    ):
        again = simulate(source, more, quiet=True)
        # Its report too, unless the config says otherwise.
        assert (again.folder / "report.html").is_file() == (more is not changes)
        assert again.summary["weights_sha256"] == said["weights_sha256"]


def test_comparing_is_the_same_as_the_command(
    found: Comparison, fedmeta: Callable[..., Result]
) -> None:
    given = sets(run__report=True)
    said = fedmeta("compare", "--methods", "fedavg-ft", "--seeds", 2, *given, "--json").json
    files = [{path.name for path in Path(one).iterdir()} for one in (said["folder"], found.folder)]
    assert files[0] == files[1]
    assert "report.html" in files[0]
    assert list(said["methods"]) == list(found.content["methods"])
    assert said["pairs"] == [dict(pair) for pair in found.content["pairs"]]
    assert said["verdict"] == found.verdict.sentence
    for name, row in said["methods"].items():
        assert row["weights_sha256"] == found.content["methods"][name]["weights_sha256"]


def test_users(run: Run, found: Comparison) -> None:
    frame = run.users
    assert set(frame["split"]) == {"valid", "test"}
    after = frame[(frame["split"] == "test") & (frame["k"] == frame["k"].max())]
    assert after["accuracy"].mean() == pytest.approx(run.summary["test"]["after"]["accuracy_macro"])
    rows = found.users.groupby(["method", "seed"]).size()
    assert len(rows) == 2 * len(found.rows)
    assert rows.nunique() == 1


def _bars(figure: Any) -> list[float]:
    return [bar.get_height() for bar in figure.axes[0].patches]


def test_gains_are_those_of_the_users(run: Run, found: Comparison) -> None:
    test = run.users[run.users["split"] == "test"]
    wide = test.pivot_table(index="user", columns="k", values="accuracy")
    wanted = sorted(100 * (wide[20] - wide[0]), reverse=True)
    assert _bars(run.plot_gains()) == pytest.approx(wanted)
    assert np.mean(wanted) == pytest.approx(100 * run.summary["test"]["gain"]["mean"])
    name = found.verdict.method
    held = found.content["methods"][name]["test"]["against_reference"]["gain"]["mean"]
    assert np.mean(_bars(found.plot_gains())) == pytest.approx(100 * held)
    assert np.mean(_bars(found.plot_gains("local"))) != pytest.approx(100 * held)
    with pytest.raises(ConfigError, match=r"gains of 'mamml'.*out of fedavg-ft, local"):
        found.plot_gains("mamml")


def test_who_diverged_is_worse_off() -> None:
    figure: Any = plots.gains(np.array([0.2, np.nan, -0.1, 0.1]), ACCURACY)
    assert _bars(figure) == pytest.approx([20, 10, -10])
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["50% not worse off", "50% worse off"]


def _points(figure: Any) -> list[list[float]]:
    """The points of the first line."""
    kept = figure.axes[0].containers[0].lines[0]
    return [list(map(float, kept.get_xdata())), list(map(float, kept.get_ydata()))]


def test_rounds_and_shots(run: Run, found: Comparison) -> None:
    told = [(one["round"], one["valid"]) for one in rounds_of(run.folder) if one["valid"]]
    x, y = _points(run.plot_rounds())
    assert x == [number for number, _ in told]
    assert y == pytest.approx([100 * value for _, value in told])
    x, y = _points(run.plot_shots())
    curve = run.summary["test"]["curve"]
    assert x == [float(k) for k in curve]
    assert y == pytest.approx([100 * value for value in curve.values()])
    picture: Any = found.plot_shots()
    labels = [t.get_text() for t in picture.axes[0].get_legend().get_texts()]
    assert labels == list(found.rows)
    picture = found.plot_methods()
    places = [drawn.lines[0].get_xdata()[0] for drawn in picture.axes[0].containers]
    held = [row.summary["test"]["against_reference"]["gain"]["mean"] for row in found.rows.values()]
    assert places == pytest.approx([100 * value for value in held])


def test_no_gain_over_a_start_that_is_not_used_as_it_is() -> None:
    one = simulate(TINY | {"method.name": "protonet-frozen"}, quiet=True)
    with pytest.raises(ConfigError, match=r"protonet-frozen.*compare"):
        one.plot_gains()


def test_shown_in_a_notebook(run: Run, found: Comparison) -> None:
    page = run._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert f"{100 * run.summary['test']['after']['accuracy_macro']:.1f}" in page
    assert found.verdict.sentence.split()[0] in found._repr_html_()
    picture: Any = run.plot_rounds()
    assert picture._repr_svg_().startswith("<?xml")


def test_frontier(tmp_path: Path) -> None:
    from experiments.api import frontier

    changes = TINY | {"privacy.clip": 1.0, "head.name": "linear"}
    found: Frontier = frontier(
        changes=changes | {"run.report": True}, methods="fedavg", mechanisms="user/gaussian",
        epsilons="8", canaries=40, out=tmp_path,
    )  # fmt: skip
    assert (tmp_path / "frontier.svg").is_file()
    assert "--epsilons 8 --seeds 1 --canaries 40" in (tmp_path / "report.html").read_text()
    assert set(found.users["method"]) == {"fedavg", "local"}
    assert "epsilon" in found._repr_html_()
    assert len(found.plot_frontier().axes) == 4  # the last is the audit's


def test_imported_when_asked_for() -> None:
    code = "import sys, experiments, experiments.cli; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    with pytest.raises(AttributeError, match="has no attribute 'simulat'"):
        _ = experiments.simulat


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: simulate(3), "config of type int: expected a path"),  # type: ignore[arg-type]
        (lambda: simulate("none.toml"), "no config file 'none.toml'"),
        (lambda: simulate({"metod.name": "maml"}), "did you mean 'method.name'"),
        (lambda: simulate(None, {"run.sed": 1}), "did you mean 'run.seed'"),
        (lambda: compare(TINY, "maml"), r"expected a list of names, as in \['maml'\]"),
    ],
)
def test_bad_calls(call: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        call()
    assert not Path("runs").exists()


def test_a_frame_of_pandas(run: Run) -> None:
    assert isinstance(run.users, pd.DataFrame)
