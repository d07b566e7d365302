"""``flwr run .``: Flower's own engine gives the same bits as the inline backend."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flwr.cli.constant import LOCAL_SUPERLINK_HTTP_API_PORT

from tests.experiments.runs import Result, rounds_of, sets, summary_of, users_of

REPOSITORY = Path(__file__).parents[2]
VALUES = {
    "data.users": 60,
    "data.messages": 300,
    "backbone.name": "'hashing'",
    "federation.rounds": 2,
    "federation.users-per-round": 8,
    "federation.chunk": 3,
    "evaluation.every": 2,
    "evaluation.bootstrap": 200,
    "evaluation.tune": "false",
}


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """One in which Flower keeps to a folder of ours; what it leaves running there is ended.

    Flower's command starts a SuperLink that outlives it, and that starts more. All of them have
    the folder in their environment, and nothing else does.
    """
    if not Path("/proc").is_dir():
        pytest.skip("processes that Flower leaves behind are found by way of /proc")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", int(LOCAL_SUPERLINK_HTTP_API_PORT))) == 0:
            pytest.skip("a local SuperLink is running, and Flower would use that one")
    home = tmp_path / "flwr"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    yield os.environ | {"FLWR_HOME": str(home), "PATH": path}
    mark = f"FLWR_HOME={home}".encode()
    for how in (signal.SIGTERM, signal.SIGKILL):
        for process in _with(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, how)
        deadline = time.monotonic() + 10
        while (left := _with(mark)) and time.monotonic() < deadline:
            time.sleep(0.2)
    assert not left


def _with(mark: bytes) -> list[int]:
    """Processes with an entry in their environment, zombies aside (theirs is empty)."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_flwr_run(
    environment: dict[str, str], tmp_path: Path, fedmeta: Callable[..., Result]
) -> None:
    out = tmp_path / "out"
    given = " ".join(f"{key}={value}" for key, value in VALUES.items())
    engine = "num-supernodes=2 client-resources-num-cpus=1 init-args-num-cpus=2"
    done = subprocess.run(
        [
            *("flwr", "run", ".", "--stream", "--federation-config", engine),
            *("--run-config", f"{given} run.out='{out}'"),
        ],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert (out / "summary.json").is_file(), done.stdout[-5000:] + done.stderr[-5000:]
    assert done.returncode == 0
    assert "round 2/2: valid" in done.stdout
    assert "gain [95 %]" in done.stdout
    values = {key.replace(".", "__").replace("-", "_"): v for key, v in VALUES.items()}
    small = sets(**values | {"backbone__name": "hashing"})
    inline = fedmeta("simulate", *small, "--out", tmp_path / "inline", "--json").json
    summary = summary_of(out)
    files = {path.name for path in (tmp_path / "inline").iterdir()}
    # Flower's engine starts and ends the app, so there is nothing to go on with.
    assert {path.name for path in out.iterdir()} == files - {".lock", "checkpoints"}
    assert summary["backend"] == "flower"
    for key in ("weights_sha256", "model_sha256", "test", "valid", "users", "best_round"):
        assert summary[key] == inline[key]
    assert [line["round"] for line in rounds_of(out)] == [1, 2]
    assert users_of(out, "test", 20).equals(users_of(tmp_path / "inline", "test", 20))
