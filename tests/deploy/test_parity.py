"""What is simulated is what is deployed: the same config, users and seed, the same bits."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clients.app import app as client_app
from experiments.backends.inline import InlineGrid
from fedmeta.config import flatten
from fedmeta.facts import facts_of
from fedmeta.head_file import weights_sha256
from fedmeta.problem import initial
from strategies import app, deployed
from strategies.app import Outcome
from tests.deploy.nodes import NodeGrid, config, divided, numbers, simulated
from tests.engine.cases import distance

TEST_NOISE = "test-noise = true\nepsilon-budget = 0.0\n"
CASES: dict[str, dict[str, Any]] = {
    "off": {},
    "own": {"method": {"name": "fedrep"}},
    "maml": {"method": {"name": "maml"}, "federation": {"weighting": "examples"}},
    "example": {
        "privacy": {"unit": "example", "noise-multiplier": 1.0, "test-noise": True},
        "method": {"name": "reptile"},
    },
    "local": {
        "privacy": {"unit": "user", "mechanism": "local", "noise-multiplier": 0.5,
                    "test-noise": True},
    },
    "central": {
        "privacy": {"unit": "user", "noise-multiplier": 0.5, "test-noise": True},
    },
}  # fmt: skip


def both(
    tmp: Path, frame: pd.DataFrame | None = None, chunk: int = 1, **sections: Any
) -> tuple[Outcome, Outcome, NodeGrid]:
    """A simulation of all users in one process, and their nodes, each with his own file."""
    federation = {**sections.get("federation", {}), "chunk": chunk}
    problem = simulated(tmp, frame, **{**sections, "federation": federation})
    settings = flatten(problem.config) | {"run.memory": str(tmp / "memory")}
    inline = app.run(InlineGrid(client_app, settings), problem)
    grid = NodeGrid(tmp, divided(tmp, frame), config(**sections))
    for name in grid.folders:
        grid.allow(name, TEST_NOISE)
    real = deployed.run(grid, config(**sections), facts_of(problem), tmp / "run", 5, patience=1)
    return inline, real, grid


def same(inline: Outcome, real: Outcome) -> None:
    assert weights_sha256(real.last) == weights_sha256(inline.last)
    assert weights_sha256(real.meta) == weights_sha256(inline.meta)
    assert distance(real.last, initial(inline.problem)) > 1e-3
    assert [event.users for event in real.history] == [event.users for event in inline.history]
    assert real.best_round == inline.best_round
    for split in ("valid", "test"):
        assert (real.scores[split] == inline.scores[split]).all()


@pytest.mark.parametrize("name", CASES)
def test_five_nodes_give_the_bits_of_a_simulation(name: str, tmp_path: Path) -> None:
    inline, real, _ = both(tmp_path, **CASES[name])
    same(inline, real)


@pytest.mark.parametrize("domain", ["", "site"])
def test_numbers_are_scaled_by_the_facts_of_the_run(domain: str, tmp_path: Path) -> None:
    """What a simulation finds in everybody's data: means, spreads, the unit of the target."""
    sections: dict[str, Any] = {
        "backbone": {"name": "auto"},
        "data": {"domain-column": domain},
        "method": {"name": "multi-task" if domain else "fedavg-ft"},
    }
    inline, real, _ = both(tmp_path, numbers(), **sections)
    same(inline, real)
    assert real.problem.population.scale == inline.problem.population.scale != 1.0


def test_users_who_are_computed_together_differ_by_rounding_alone(tmp_path: Path) -> None:
    federation = {"rounds": 3, "users-per-round": 3}
    inline, real, _ = both(tmp_path, chunk=3, federation=federation)
    assert distance(real.last, inline.last) < 1e-6
    assert distance(real.last, initial(inline.problem)) > 1e-3
