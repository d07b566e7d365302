"""Programs that are started by forking: processes of their own, ended as others are."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.deploy import flower, warm
from tests.deploy import worlds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks so")

PROGRAM = """
import os, signal, sys, time
import json
def gently(number, frame):
    print("asked to end", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, gently)  # before the first line, after which a test sends one
print(os.getpid(), os.getppid(), os.environ.get("COLOUR"), os.getcwd(), sys.argv[1:], flush=True)
print("loaded before" if "colorsys" in sys.modules else "new", file=sys.stderr, flush=True)
state = json.__dict__.setdefault("seen", [])
state.append(1)
if sys.argv[1] == "wait":
    time.sleep(600)
sys.exit(len(state) + 2)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "flwr-clientapp"
    path.write_text(f"#!{sys.executable}\n{PROGRAM}")
    path.chmod(0o700)
    monkeypatch.setattr(flower, "program", lambda name: str(path))
    with warm.starter("mark:warm", ["colorsys", "no.such.module"]):
        yield path


def _popen(program: Path, *arguments: str, folder: Path) -> "subprocess.Popen[str]":
    environment = flower.environment(folder, "mark:part", {"COLOUR": "blue"})
    return subprocess.Popen(
        flower.quick([str(program), *arguments]),
        env=environment,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_a_program_runs_as_it_would_alone(program: Path, tmp_path: Path) -> None:
    assert flower.quick([str(program)]) != [str(program)]
    for _ in range(2):  # what one has written no other sees
        process = _popen(program, "one two", "3", folder=tmp_path)
        out, err = process.communicate(timeout=60)
        pid, parent, *rest = out.split(" ", 2)
        assert rest == [f"blue {tmp_path} ['one two', '3']\n"]
        assert err in ("new\n", "loaded before\n")  # who asks early does not wait for all of it
        assert process.returncode == 3
        assert int(pid) != process.pid
        assert int(parent) != os.getpid()

    def loaded() -> bool:
        return _popen(program, "x", folder=tmp_path).communicate(timeout=60)[1] != "new\n"

    worlds.until(loaded, 60)


def test_a_signal_is_handed_on_once(program: Path, tmp_path: Path) -> None:
    process = _popen(program, "wait", folder=tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (7, "asked to end\n")


def test_who_stands_for_it_takes_it_along(program: Path, tmp_path: Path) -> None:
    process = _popen(program, "wait", folder=tmp_path)
    assert process.stdout is not None
    pid = int(process.stdout.readline().split()[0])
    assert not _gone(pid)
    process.kill()
    process.communicate(timeout=60)
    worlds.until(lambda: _gone(pid), 30)


def test_all_ends_with_who_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "flwr-clientapp"
    path.write_text(f"#!{sys.executable}\n{PROGRAM}")
    monkeypatch.setattr(flower, "program", lambda name: str(path))
    with warm.starter("mark:warm", []):
        process = _popen(path, "wait", folder=tmp_path)
        assert process.stdout is not None
        pid = int(process.stdout.readline().split()[0])
    worlds.until(lambda: _gone(pid), 30)
    process.communicate(timeout=60)
    assert process.returncode
    assert warm.VARIABLE not in os.environ


def test_where_nobody_forks_it_starts_as_ever(program: Path, tmp_path: Path) -> None:
    script = flower.quick([str(program)])[0]
    (Path(script).parent / "socket").unlink()
    done = subprocess.run(
        [script, "x"], capture_output=True, text=True, check=False,
        env=flower.environment(tmp_path, "mark:part"),
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr == "new\n"
