"""Whole runs side by side give what they give one after the other, also when a worker dies."""

import os
import signal
from pathlib import Path

import pytest

from experiments import side_by_side
from experiments.comparison import compare
from experiments.found import Comparison
from fedmeta.config import parse
from strategies.errors import ClientError
from strategies.events import Event, Listener, RoundDone, ignore
from tests.experiments.test_resume import results, settings

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray's files and processes

METHODS = ("local", "fedavg", "fedper")


def compared(out: Path, backend: str, listeners: Listener = ignore) -> Comparison:
    given = parse(settings("fedavg", **{"run.backend": backend, "run.workers": 2}))
    return compare(given, METHODS, out=out, listeners=lambda label: listeners)


def descendants(of: int) -> list[tuple[int, str]]:
    """Pid and command line of all processes that a process has begun, near and far."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:  # it ended meanwhile
                continue
            parents[int(entry.name)] = int(after_name[1])
    found, front = [], [of]
    while front:
        front = [pid for pid, parent in parents.items() if parent in front]
        found += front
    named = []
    for pid in found:
        try:
            named.append((pid, Path(f"/proc/{pid}/cmdline").read_text()))
        except OSError:
            continue
    return named


def kill_a_runner() -> None:
    pid = next(pid for pid, line in descendants(os.getpid()) if line.startswith("ray::Runner"))
    os.kill(pid, signal.SIGKILL)


def test_as_inline_and_through_a_death(tmp_path: Path) -> None:
    one = compared(tmp_path / "one", "inline")
    heard: list[int] = []

    def listen(event: Event) -> None:
        if isinstance(event, RoundDone):
            heard.append(event.round)
            if len(heard) == 12:
                kill_a_runner()

    other = compared(tmp_path / "other", "ray", listen)
    assert len(heard) >= 12
    for name in METHODS:
        found = results(other.folder / f"{name}-seed0")
        assert found == results(one.folder / f"{name}-seed0")
    assert list(other.rows) == list(one.rows)
    assert other.content["pairs"] == one.content["pairs"]
    assert other.verdict == one.verdict


@pytest.mark.slow
def test_a_run_that_kills_its_workers_ends_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "TRIES", 1)

    struck = False

    def listen(event: Event) -> None:
        nonlocal struck
        if isinstance(event, RoundDone) and not struck:
            struck = True
            kill_a_runner()

    with pytest.raises(ClientError, match="1 workers died"):
        compared(tmp_path / "run", "ray", listen)
