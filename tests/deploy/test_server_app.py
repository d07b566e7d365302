"""The ServerApp of a deployment with nodes in this process: its folder, its end, and a resume."""

import json
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from experiments import artifacts
from experiments.deploy import flower, runs, server_app
from experiments.deploy.layout import Deployment
from experiments.deploy.runs import Plan
from experiments.running import simulate
from experiments.serving import heads, personal
from experiments.serving.opened import open_run
from fedmeta.config import Config, ConfigError, parse
from fedmeta.facts import facts_of
from strategies.roster import shipped
from tests.deploy import nodes, worlds
from tests.engine.cases import distance


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    made = worlds.make(tmp_path / "d")
    monkeypatch.setenv(flower.MARK, f"{made.folder}:superlink")
    monkeypatch.setattr(server_app, "Watched", lambda grid: grid)
    return made


def _plan(tmp_path: Path, deployment: Deployment, **run: object) -> tuple[Plan, Config]:
    problem = nodes.simulated(tmp_path)
    config = nodes.config(run={"backend": "inline", "seed": 3, **run})  # type: ignore[dict-item]
    return runs.plan(deployment, config, facts_of(problem), "one"), config


def _served(tmp_path: Path, config: Config) -> None:
    grid = nodes.NodeGrid(tmp_path, nodes.divided(tmp_path), config)
    sent = shipped(config)
    server_app.app(grid, Context(1, 0, {}, RecordDict(), sent))


def test_it_writes_what_a_simulation_writes(tmp_path: Path, deployment: Deployment) -> None:
    plan, config = _plan(tmp_path, deployment)
    _served(tmp_path, config)
    assert json.loads((plan.folder / runs.ENDED).read_text())["ok"]
    summary = runs.summary(plan)
    same = config.model_copy(
        update={"data": config.data.model_copy(update={"source": str(tmp_path / "all.csv")})}
    )
    found = simulate(same, tmp_path / "inline")
    assert summary["weights_sha256"] == found.summary["weights_sha256"]
    assert summary["backend"] == "grpc"
    table = (plan.folder / runs.TABLE).read_text()
    assert summary["weights_sha256"][:16] in table
    written = {path.name for path in found.folder.iterdir()} - {"memory"}
    assert written <= {path.name for path in plan.folder.iterdir()} | {"report.html"}


def test_the_nodes_own_models_are_served(tmp_path: Path, deployment: Deployment) -> None:
    """A node's head is what `fedmeta personalize` makes of the same examples with the run."""
    plan, config = _plan(tmp_path, deployment)
    _served(tmp_path, config)
    opened = open_run(plan.folder)
    backbone = personal.backbone_of(opened)
    files = nodes.divided(tmp_path)
    for name, path in list(files.items())[-2:]:
        mine = heads.read(tmp_path / "nodes" / name / "head.safetensors", opened)
        personal.personalize(opened, path, tmp_path / "made.safetensors", None, backbone)
        made = heads.read(tmp_path / "made.safetensors", opened)
        assert mine.classes == made.classes
        assert distance(mine.params, made.params) < 1e-6
        assert distance(mine.params, opened.theta) > 1e-3
        said = personal.predict(opened, backbone, mine, ["red old", "blue new"])
        assert said[0]["probabilities"] != said[1]["probabilities"]


def test_what_goes_wrong_is_written_down(
    tmp_path: Path, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, config = _plan(tmp_path, deployment)
    before = artifacts.append_round

    def full(folder: Path, event: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifacts, "append_round", full)
    with pytest.raises(OSError, match="No space"):
        _served(tmp_path, config)
    ended = json.loads((plan.folder / runs.ENDED).read_text())
    assert not ended["ok"]
    assert "No space" in ended["error"]
    with pytest.raises(ConfigError, match="waits for these settings"):
        _served(tmp_path, config)  # it has ended until somebody resumes it
    monkeypatch.setattr(artifacts, "append_round", before)
    runs.again(deployment, "one")
    _served(tmp_path, config)
    assert json.loads((plan.folder / runs.ENDED).read_text())["ok"]
    assert [one["round"] for one in worlds.rounds_of(plan)] == [1, 2, 3]


def test_a_run_that_nobody_made_ready_is_refused(
    tmp_path: Path, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse(shipped(nodes.config()))
    with pytest.raises(ConfigError, match="begin it with"):
        runs.meant(deployment.folder, config)
    monkeypatch.setenv(flower.MARK, "elsewhere")
    with pytest.raises(ConfigError, match="start the SuperLink with"):
        server_app.home()
