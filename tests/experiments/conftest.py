"""The command in this process, on one thread: tensors are tiny and start-up is not."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments.cli import main
from fedmeta.threads import one_thread
from tests.experiments.runs import Result


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test stands in a folder of its own, so that a default folder lands nowhere else."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fedmeta(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Runs the command with arguments as the console script does."""

    def call(*args: object) -> Result:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["fedmeta", *map(str, args)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call
