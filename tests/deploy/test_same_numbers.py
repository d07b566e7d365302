"""Five real nodes over gRPC, Ray, and one process: the same bits, with noise and without."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from safetensors.torch import load_file

from experiments import settings
from experiments.deploy.layout import Deployment
from experiments.found import Run
from experiments.running import simulate
from tests.deploy import worlds
from tests.engine.cases import distance

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray's files and processes
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found by way of /proc"),
]
TEST = "privacy.test-noise=true"
LOCAL = ("privacy.unit=user", "privacy.mechanism=local", "privacy.noise-multiplier=0.5")
CASES: dict[str, tuple[str, ...]] = {
    "off": ("method.name=maml",),
    "example": ("privacy.unit=example", "privacy.noise-multiplier=1.0", TEST, "run.seed=2"),
    "local": (*LOCAL, TEST, "run.seed=3"),
    "central": ("privacy.unit=user", "privacy.noise-multiplier=0.5", TEST, "run.seed=4"),
}
"""Each has a seed of its own: a node uses the noise of one in no second run."""


class World(NamedTuple):
    """Nodes that are online, and their users in one table."""

    folder: Path
    deployment: Deployment
    table: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("same")
    with worlds.running(folder) as (deployment, _):
        for name in deployment.nodes:
            rules = deployment.node(name) / "policy.toml"
            rules.write_text("test-noise = true\nepsilon-budget = 0.0\n")
        yield World(folder, deployment, worlds.alone(folder))


def _simulated(world: World, name: str, *sets: str) -> Run:
    usual = (*worlds.SMALL, f"data.source={world.table}", "federation.chunk=1")
    return simulate(settings.read(None, [*usual, *CASES[name], *sets]), None)


@pytest.mark.parametrize("name", CASES)
def test_nodes_ray_and_one_process_agree_to_the_bit(
    name: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan, number = worlds.begun(world.deployment, worlds.config_of(*CASES[name]), name)
    found: dict[str, Any] = {"nodes": worlds.ended(world.deployment, plan, number)}
    assert [one["users"] for one in worlds.rounds_of(plan)] == [3, 3]
    for backend in ("inline", "ray"):
        run = _simulated(world, name, f"run.backend={backend}", f"run.name={backend}")
        found[backend] = run.summary
    gc.collect()  # what Ray leaves open is closed here, where its warnings are expected
    for what in ("weights_sha256", "model_sha256"):
        assert len({summary[what] for summary in found.values()}) == 1, what
    # Another seed has other noise, and other weights: the digest tells them apart.
    other = _simulated(world, name, "run.seed=11", "run.name=other").summary
    assert other["weights_sha256"] != found["nodes"]["weights_sha256"]
    # In a larger chunk users are computed together, which rounds otherwise.
    together = _simulated(world, name, "federation.chunk=3", "run.name=together")
    mine = load_file(plan.folder / "model.safetensors")
    theirs = load_file(together.folder / "model.safetensors")
    assert distance(mine, theirs) <= 1e-6
