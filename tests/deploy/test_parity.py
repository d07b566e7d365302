"""What is simulated is what is deployed: the same config, users and seed, the same bits."""

from pathlib import Path
from typing import Any

import pytest

from experiments.backends.inline import InlineGrid
from experiments.summary import weights_sha256
from fedmeta.config import flatten
from fedmeta.facts import facts_of
from strategies import app, deployed
from strategies.app import Outcome
from tests.deploy.nodes import NodeGrid, config, divided, simulated
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


def both(tmp: Path, **sections: Any) -> tuple[Outcome, Outcome, NodeGrid]:
    problem = simulated(tmp, **sections)
    settings = flatten(problem.config) | {"run.memory": str(tmp / "memory")}
    inline = app.run(InlineGrid(app_of(), settings), problem)
    grid = NodeGrid(tmp, divided(tmp), config(**sections))
    for name in grid.folders:
        grid.allow(name, TEST_NOISE)
    real = deployed.run(grid, config(**sections), facts_of(problem), tmp / "run", 5, patience=1)
    return inline, real, grid


def app_of() -> Any:
    from clients.app import app as client_app

    return client_app


@pytest.mark.parametrize("name", CASES)
def test_five_nodes_give_the_bits_of_a_simulation(name: str, tmp_path: Path) -> None:
    inline, real, _ = both(tmp_path, **CASES[name])
    assert weights_sha256(real.last) == weights_sha256(inline.last)
    assert weights_sha256(real.meta) == weights_sha256(inline.meta)
    assert [event.users for event in real.history] == [event.users for event in inline.history]
    assert real.best_round == inline.best_round
    for split in ("valid", "test"):
        assert (real.scores[split] == inline.scores[split]).all()
