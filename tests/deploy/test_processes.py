"""Processes that are started: ended with all that they began, and what a node's end means."""

import contextlib
import os
import sys
import time
from pathlib import Path

import pytest

from experiments.deploy import node, processes, warm
from experiments.deploy.errors import DeployError, ProcessError
from experiments.deploy.layout import Deployment
from tests.deploy import worlds


def test_processes_are_ended_with_all_that_they_began(tmp_path: Path) -> None:
    grandchild = "import time; time.sleep(600)"
    child = (
        "import subprocess, sys, time;"
        f"subprocess.Popen([sys.executable, '-c', {grandchild!r}], start_new_session=True);"
        "time.sleep(600)"
    )
    command = [sys.executable, "-c", child]
    started = processes.start(tmp_path, "part", command, tmp_path, tmp_path / "log")
    worlds.until(lambda: len(processes.members([started])) == 2)
    with pytest.raises(DeployError, match="runs already"):
        processes.start(tmp_path, "part", command, tmp_path, tmp_path / "log")
    assert processes.every(tmp_path) == [started]
    processes.stop_all(tmp_path, [started])
    assert processes.members([started]) == []
    assert processes.every(tmp_path) == []


def test_a_number_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    other = processes.Started("part", os.getpid(), "1", "mark", "", ())
    processes.note(tmp_path, other)
    assert processes.find(tmp_path, "part") is None
    processes.stop_all(tmp_path, [other])  # and it is not ended: this is us


FAKE = """
import sys, pathlib
count = pathlib.Path(sys.argv[0]).with_suffix(".count")
seen = int(count.read_text()) if count.exists() else 0
count.write_text(str(seen + 1))
print({first!r} if seen < {times} else {then!r}, flush=True)
sys.exit(1 if seen < {times} else {code})
"""


def _fake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, times: int, then: str, code: int
) -> Deployment:
    deployment = worlds.make(tmp_path, ("ann",))
    script = tmp_path / "supernode.py"
    script.write_text(FAKE.format(first=first, times=times, then=then, code=code))
    monkeypatch.setattr(node, "command_of", lambda *_: [sys.executable, str(script)])
    monkeypatch.setattr(node, "PAUSE", 0.01)
    _cold(monkeypatch)
    return deployment


def _cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is loaded in advance: what is started here is no program of Flower's."""
    monkeypatch.setattr(warm, "starter", lambda *_: contextlib.nullcontext())


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("details = 'Invalid timestamp'", "the clock of this machine"),
        ("Missing authentication metadata", "wants nodes to have keys"),
        ("INFO :      SuperNode terminated gracefully.", "are minutes apart"),
        (
            "INFO :      SuperNode terminated gracefully.\n" + "  File x\n" * 150,
            "are minutes apart",
        ),
        ("something else", "something else"),
    ],
)
def test_a_node_that_cannot_connect_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, word: str
) -> None:
    deployment = _fake(tmp_path, monkeypatch, said, 1, said, 1)
    here = node.Place("ann", tmp_path / "x.csv", tmp_path / "own", 1)
    with pytest.raises(ProcessError, match=word):
        node.keep(deployment, here, worlds.quiet)


def test_a_node_that_ends_before_what_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower's own processes look whether their parent is there, and one that is a zombie is."""
    watching = (
        "import os, sys, time\n"
        "try:\n    while True: os.kill(int(sys.argv[1]), 0); time.sleep(0.05)\n"
        "except ProcessLookupError: pass"
    )
    script = tmp_path / "supernode.py"
    script.write_text(
        "import os, subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', {watching!r}, str(os.getpid())])\n"
        "print(\"details = 'Invalid timestamp'\", flush=True)\nos._exit(1)\n"
    )
    deployment = worlds.make(tmp_path, ("ann",))
    monkeypatch.setattr(node, "command_of", lambda *_: [sys.executable, str(script)])
    monkeypatch.setattr(node, "DRAINED", 100.0)
    _cold(monkeypatch)
    began = time.monotonic()
    with pytest.raises(ProcessError, match="the clock of this machine"):
        node.keep(deployment, node.Place("ann", tmp_path, tmp_path / "own", 1), worlds.quiet)
    assert time.monotonic() - began < node.DRAINED


def test_a_node_that_seems_online_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = "[code: 2004] Failed to activate SuperNode"
    deployment = _fake(tmp_path, monkeypatch, again, 3, "Invalid timestamp", 1)
    here = node.Place("ann", tmp_path / "x.csv", tmp_path / "own", 1)
    told: list[str] = []
    with pytest.raises(ProcessError, match="clock"):
        node.keep(deployment, here, told.append)
    assert len(told) == 3
    monkeypatch.setattr(node, "PATIENCE", 0.0)
    (tmp_path / "supernode.count").unlink()
    with pytest.raises(ProcessError, match="does not know this node's key"):
        node.keep(deployment, here, told.append)
