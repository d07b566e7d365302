"""The two machines of the page on deployment, as one: every command of it, in its order."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.deploy import layout, processes
from tests.data.rows import text_rows, with_column, write
from tests.deploy.worlds import leftovers, until
from tests.docs.blocks import ROOT, blocks, lines, words

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PAGE = ROOT / "docs" / "deployment.md"
COMMAND = (sys.executable, "-c", "from experiments.cli import main; main()")
NAMES = {"alice": "train", "ben": "valid", "carol": "test"}
"""A run needs somebody for each split; the page follows Alice."""
STATUS = ["fedmeta", "deploy", "status", "~/fl"]
SETTINGS = """
data.source = "my.csv"
data.support = 5
backbone.name = "hashing"
evaluation.shots = "0,5"
evaluation.tune = false
method.name = "reptile"
federation.rounds = 2
"""


class Walk:
    """Somebody who types what the page says, in a home of his own."""

    def __init__(self, home: Path) -> None:
        self.home, self.started = home, list[subprocess.Popen[str]]()
        self.env = os.environ | {"HOME": str(home), "PYTHONPATH": str(ROOT)}
        fleet, control = processes.free_port(), processes.free_port()
        self.ports = ["--fleet-port", str(fleet), "--control-port", str(control)]

    def type(self, given: list[str], sure: bool = True) -> str:
        """Run a command to its end, or start it if it has none; returns what it says."""
        # One machine plays both, so what listens to the world listens to this machine.
        swap = {"fl.example.org": "127.0.0.1", "0.0.0.0": "127.0.0.1"}
        args = [os.path.join(self.home, w[2:]) if w[:2] == "~/" else w for w in given[1:]]
        args = [*COMMAND, *(swap.get(word, word) for word in args)]
        if given[2] == "init":
            args += self.ports
        if given[2] in ("server", "node"):
            self.started.append(subprocess.Popen(args, cwd=self.home, env=self.env, text=True))
            return ""
        done = subprocess.run(
            args, cwd=self.home, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or not sure, (given, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def stop(self) -> None:
        """End what runs on; the SuperLink outlives the command that starts it."""
        self.type(["fedmeta", "deploy", "stop", "~/fl"], sure=False)
        for one in reversed(self.started):
            one.terminate()
        for one in reversed(self.started):
            one.wait(60)


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    (tmp_path / "my.toml").write_text(SETTINGS, encoding="utf-8")
    rows = text_rows(40, 12)
    write(tmp_path / "my.csv", rows)
    for number, (name, split) in enumerate(NAMES.items()):
        own = [row | {"user": name} for row in rows if row["user"] == f"u{number:02d}"]
        write(tmp_path / f"{name}.csv", with_column(own, "split", lambda _, split=split: split))
    shutil.copy(tmp_path / "alice.csv", tmp_path / "mine.csv")
    found = Walk(tmp_path)
    try:
        yield found
    finally:
        found.stop()


def test_two_machines_step_by_step(walk: Walk) -> None:
    given = [words(line) for block in blocks(PAGE) for line in lines(block)]
    steps = [one for one in given if one[:2] == ["fedmeta", "deploy"] and one[2] != "demo"]
    assert {one[2] for one in steps} > {"init", "key", "add", "server", "node", "facts", "run"}
    home, said = walk.home, dict[str, str]()
    for step in steps:
        verb, of_alice = step[2], "alice" in step
        others = [n for n in NAMES if n != "alice"] if verb in ("key", "add", "node") else []
        if step[-2:] == ["--key", "bob.pub"]:  # who joins later
            walk.type(["fedmeta", "deploy", "key", "~/fl", "--name", "bob"])
            shutil.move(home / "fl/keys/bob.pub", home / "bob.pub")
        if verb == "rotate" and of_alice:
            (home / "fl/keys/alice").unlink()
            (home / "fl/keys/alice.pub").unlink()
            walk.type(["fedmeta", "deploy", "key", "~/fl", "--name", "alice"])
            shutil.copy(home / "fl/keys/alice.pub", home / "alice.pub")
        said[verb] = walk.type(step)
        for name in others if of_alice else ():
            files = {"alice": name, "alice.pub": f"{name}.pub", "mine.csv": f"{name}.csv"}
            walk.type([files.get(word, word) for word in step])
        if verb == "key":
            for name in NAMES:
                shutil.copy(home / f"fl/keys/{name}.pub", home / f"{name}.pub")
        if verb == "node":
            until(lambda: walk.type(STATUS, sure=False).count("online") == len(NAMES))
    assert "reptile" in said["run"]
    assert list((home / "fl/runs").glob("*/summary.json"))
    assert layout.read(home / "fl").nodes == tuple(sorted(NAMES))
    walk.stop()
    assert not leftovers(layout.read(home / "fl"))
