"""The model that a run leaves with each of its users answers as his own adaptation would."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fedmeta import cohort, generation, personal, tasks
from fedmeta.cohort import Trial
from fedmeta.facts import facts_of
from fedmeta.types import Task
from strategies import deployed
from tests.deploy.nodes import NodeGrid, config, divided, simulated
from tests.engine.cases import distance


@pytest.mark.parametrize("method", ["fedavg-ft", "fedrep", "protonet-frozen", "pfedhn"])
def test_every_user_keeps_his_own(method: str, tmp_path: Path) -> None:
    sections: dict[str, Any] = {"method": {"name": method}, "federation": {"rounds": 2}}
    problem = simulated(tmp_path, **sections)
    given, grid = config(**sections), NodeGrid(tmp_path, divided(tmp_path), config(**sections))
    told: list[str] = []
    outcome = deployed.run(
        grid, given, facts_of(problem), tmp_path / "run", 5, tell=told.append, patience=1
    )
    assert told[-1] == "5 of 5 nodes have their own models"
    theta = generation.public(problem.method, outcome.meta)
    modes = {(path / "head.safetensors").stat().st_mode & 0o777 for path in grid.folders.values()}
    assert modes == {0o600}
    models = {name: load_file(path / "head.safetensors") for name, path in grid.folders.items()}
    first, second = list(models.values())[:2]
    alike = {n: v.shape for n, v in first.items()} == {n: v.shape for n, v in second.items()}
    assert not alike or distance(first, second) > 1e-4
    # A user who never trained, on the tasks of the simulation, where everybody is at hand.
    name = sorted(models)[-1]
    user = np.array([problem.population.store.ids.index(name)])
    task = tasks.whole(problem.population, user, False)
    asked = Task(task.support, task.support)
    trial = Trial(outcome.adapt, task.support.x.shape[1])
    with torch.no_grad():
        (wanted,) = cohort.predict(problem.method, problem.model, theta, asked, [trial], {})
        mine = {name: value[None] for name, value in models[name].items()}
        got = personal.answer(
            problem.method, problem.model, theta, mine, task.support.x, outcome.adapt
        )
    assert torch.allclose(got, wanted, atol=1e-5)
    assert float(wanted.abs().max()) > 1e-3
