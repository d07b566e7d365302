"""One small comparison, made once, that the tests of reports read."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments import comparison as runner
from fedmeta.config import parse
from fedmeta.threads import one_thread
from tests.experiments.conftest import _elsewhere, fedmeta  # noqa: F401
from tests.experiments.runs import TINY

METHODS = ("local", "fedavg", "fedavg-ft", "reptile")
EVIL = "</script><script>window.evil = 1</script>&\"'"
"""What would run if it came into a page as it stands."""


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison of four methods with two seeds."""
    config = parse(TINY | {"run.name": EVIL, "federation.rounds": 4})
    return runner.compare(config, METHODS, 2, tmp_path_factory.mktemp("report") / "compared").folder
