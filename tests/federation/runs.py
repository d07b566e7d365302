"""Small runs of the ServerApp over an inline grid."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flwr.clientapp import ClientApp

from clients.app import app as client_app
from experiments.backends.inline import InlineGrid
from fedmeta.config import flatten
from fedmeta.problem import Problem
from strategies.app import Outcome, run
from tests.engine.cases import problem


def over_inline(
    given: Problem | None = None,
    nodes: int = 1,
    app: ClientApp = client_app,
    memory: Path | None = None,
    **values: Any,
) -> Outcome:
    """A whole run of a problem, or of the small one with other values."""
    given = given or problem(**values)
    with TemporaryDirectory() as folder:
        settings = flatten(given.config) | {"run.memory": str(memory or folder)}
        return run(InlineGrid(app, settings, nodes), given)
