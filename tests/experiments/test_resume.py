"""A run that is killed goes on where it was and ends as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from experiments import artifacts
from experiments.comparison import compare
from experiments.running import simulate
from fedmeta.config import Config, ConfigError, parse
from fedmeta.problem import _POPULATIONS
from strategies import checkpoint
from strategies.checkpoint import CheckpointError
from strategies.events import Event, Listener, RoundDone
from tests.experiments.runs import TINY

ROUNDS = 30
COMMAND = [sys.executable, "-c", "from experiments.cli import main; main()"]


def settings(method: str, **more: object) -> dict[str, object]:
    return TINY | {
        "method.name": method,
        "federation.rounds": ROUNDS,
        "evaluation.every": 4,
        "server.optimizer": "adam",
        **more,
    }


def config(method: str) -> Config:
    return parse(settings(method))


def results(folder: Path) -> dict[str, object]:
    """All that a run leaves, without the seconds."""
    summary = json.loads((folder / "summary.json").read_text())
    lines = folder / "rounds.jsonl"
    text = lines.read_text() if lines.exists() else ""  # without federation there are no rounds
    rounds = [json.loads(line) for line in text.splitlines()]
    memory = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "memory").rglob("*.safetensors"))
    }
    return {
        "weights": summary["weights_sha256"],
        "model": (folder / "model.safetensors").read_bytes(),
        "best": summary["best_round"],
        "users": pq.read_table(folder / "users.parquet").to_pylist(),
        "rounds": [{k: v for k, v in line.items() if k != "seconds"} for line in rounds],
        "memory": memory,
    }


def killed_once(folder: Path, method: str, after: int, backend: str) -> bool:
    """Run in a process that is killed some time after a round was saved; whether it was running."""
    sets = settings(method, **{"run.backend": backend})
    arguments = [f"--set={key}={json.dumps(value)}" for key, value in sets.items()]
    resume = ["--resume", str(folder)] if (folder / "checkpoints").is_dir() else []
    out = resume or [*arguments, "--out", str(folder)]
    process = subprocess.Popen(
        [*COMMAND, "simulate", *out],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"FLWR_TELEMETRY_ENABLED": "0", "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if max(checkpoint.rounds(folder / "checkpoints"), default=0) >= after:
            break
        time.sleep(0.005)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return running


@pytest.mark.parametrize(
    ("method", "backend", "kills"),
    [
        ("fedper", "inline", 2),
        pytest.param("maml", "inline", 20, marks=pytest.mark.slow),
        pytest.param("fedper", "ray", 5, marks=pytest.mark.slow),
    ],
)
def test_kills_change_nothing(tmp_path: Path, method: str, backend: str, kills: int) -> None:
    expected = results(simulate(config(method), tmp_path / "whole").folder)
    draw = random.Random(kills)
    folder = tmp_path / "killed"
    stops = sorted(draw.randrange(1, ROUNDS - 2) for _ in range(kills))
    struck = sum(killed_once(folder, method, after, backend) for after in stops)
    assert struck == kills
    run = simulate(config(method), listener=lambda event: None, resume=folder)
    assert results(run.folder) == expected


class StoppedError(Exception):
    """Ends a run in the middle."""


def stop_at(number: int) -> Listener:
    def listen(event: Event) -> None:
        if isinstance(event, RoundDone) and event.round == number:
            raise StoppedError

    return listen


@pytest.mark.parametrize("every", [0, 1, 5])
@pytest.mark.parametrize("name", ["fedper", "maml"])
def test_whatever_the_checkpoints(tmp_path: Path, name: str, every: int) -> None:
    """What users own goes back with the server, also where rounds are run again."""
    values = settings(name, **{"run.checkpoint-every": every, "federation.users-per-round": 30})
    given = parse(values | {"federation.rounds": 12})
    expected = results(simulate(given, tmp_path / "whole").folder)
    folder = tmp_path / "stopped"
    with pytest.raises(StoppedError):
        simulate(given, folder, stop_at(9))
    run = simulate(given, resume=folder)
    assert results(run.folder) == expected


def test_other_data_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "data.csv"
    rows = [f"u{u},text {u} {i},{(u + i) % 2}" for u in range(20) for i in range(8)]
    table.write_text("user,text,label\n" + "\n".join(rows))
    given = parse(settings("fedavg", **{"data.source": str(table), "data.support": 3}))
    with pytest.raises(StoppedError):
        simulate(given, tmp_path / "run", stop_at(3))
    table.write_text("user,text,label\n" + "\n".join(r[:-1] + str(1 - int(r[-1])) for r in rows))
    _POPULATIONS.clear()  # as in a process of its own
    with pytest.raises(CheckpointError, match="data"):
        simulate(given, resume=tmp_path / "run")


def test_no_two_runs_share_a_memory(tmp_path: Path) -> None:
    alone = simulate(config("fedrep"), tmp_path / "alone")
    shared = parse(settings("fedper", **{"run.memory": str(tmp_path / "memory")}))
    found = compare(shared, ["fedper", "fedrep"], 1, tmp_path / "two", baselines=False)
    path = found.folder / "fedrep-seed0"
    assert (
        json.loads((path / "summary.json").read_text())["weights_sha256"]
        == (alone.summary["weights_sha256"])
    )
    with pytest.raises(ConfigError, match="users of another"):
        simulate(shared, tmp_path / "again")


def test_a_finished_run_is_only_judged_again(tmp_path: Path) -> None:
    first = simulate(config("fedper"), tmp_path / "run")
    expected = results(first.folder)
    again = simulate(config("fedper"), resume=tmp_path / "run")
    assert results(again.folder) == expected
    assert again.outcome.seconds < first.outcome.seconds


def test_a_comparison_goes_on(tmp_path: Path) -> None:
    methods = ["local", "fedavg", "fedper"]
    whole = compare(config("maml"), methods, 1, tmp_path / "whole")
    left = compare(config("maml"), methods[:2], 1, tmp_path / "left")
    rest = compare(config("maml"), methods, 1, resume=left.folder)
    assert rest.verdict == whole.verdict
    for name in methods:
        assert results(rest.folder / f"{name}-seed0") == results(whole.folder / f"{name}-seed0")


def test_other_settings_are_refused(tmp_path: Path) -> None:
    simulate(config("fedper"), tmp_path / "run")
    changed = parse(settings("fedper", **{"method.rate": 0.25}))
    with pytest.raises(CheckpointError, match=r"method\.rate = 0\.25"):
        simulate(changed, resume=tmp_path / "run")
    with pytest.raises(ConfigError, match="expected the folder of a run"):
        simulate(changed, resume=tmp_path)


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    folder = simulate(config("fedper"), tmp_path / "run").folder
    with artifacts.hold(folder), pytest.raises(ConfigError, match="in use by another run"):
        simulate(config("fedper"), resume=folder)
    simulate(config("fedper"), resume=folder)
