"""No honest user is refused, whatever the method and however the numbers of its users differ."""

from tempfile import TemporaryDirectory

import numpy as np
import pytest
from numpy.typing import NDArray

from clients.app import app
from experiments.backends.inline import InlineGrid
from experiments.settings import read
from experiments.summary import refused
from fedmeta.config import flatten
from fedmeta.methods import METHODS
from fedmeta.problem import build
from strategies import norms
from strategies.app import run
from tests.engine.cases import FEDERATED

NOBODY = {"replies": {}, "quarantined": 0, "rounds_not_counted": 0}


@pytest.mark.slow
@pytest.mark.parametrize("name", FEDERATED)
def test_users_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the method are the shipped ones; of single users norms differ most."""
    longest, judge = [0.0], norms.too_large

    def large(
        found: NDArray[np.float64], users: int, chunk: int, limit: float, cap: float
    ) -> NDArray[np.bool_]:
        longest[0] = max([longest[0], *(found / limit).tolist()])
        return judge(found, users, chunk, limit, cap)

    monkeypatch.setattr(norms, "too_large", large)
    sets = {
        "method.name": name, "data.users": 200,
        "data.domains": 3 if "domains" in METHODS[name].needs else 1,
        "federation.rounds": 8, "federation.users-per-round": 16, "federation.chunk": 1,
        "evaluation.every": 8, "evaluation.tune": "false",
    }  # fmt: skip
    given = build(read(None, [f"{key}={value}" for key, value in sets.items()]))
    with TemporaryDirectory() as memory:
        grid = InlineGrid(app, flatten(given.config) | {"run.memory": memory})
        outcome = run(grid, given)
    print(f"\n{name}: at most {longest[0]:.2g} of what is let in")
    assert refused(outcome) == NOBODY
    assert 0.0 < longest[0] < 1.0
