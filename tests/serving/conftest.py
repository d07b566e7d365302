"""The command, as in tests of what it writes, and one world for all that need no other."""

from pathlib import Path

import pytest

from experiments.serving import heads, personal
from experiments.serving.heads import Head
from tests.experiments.conftest import _elsewhere, _one_thread, fedmeta
from tests.serving.worlds import World, able, world

__all__ = ["_elsewhere", "_one_thread", "fedmeta"]


@pytest.fixture(scope="session")
def maml(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(tmp_path_factory.mktemp("runs") / "maml", **able("maml"))


@pytest.fixture(scope="session")
def ann(maml: World) -> Path:
    """The head of a user of that world."""
    path = maml.opened.folder / "heads" / "ann.safetensors"
    personal.personalize(maml.opened, maml.file, path, None)
    return path


@pytest.fixture(scope="session")
def anns(maml: World, ann: Path) -> Head:
    return heads.read(ann, maml.opened)
