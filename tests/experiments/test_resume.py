"""A run that is killed goes on where it was and ends as if nothing had happened."""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from clients import ledger
from experiments import artifacts
from experiments.comparison import compare
from experiments.running import simulate
from fedmeta.config import Config, ConfigError, parse
from fedmeta.problem import _POPULATIONS
from strategies import checkpoint, federated
from strategies.checkpoint import CheckpointError
from strategies.events import Event, Listener, RoundDone
from tests.experiments.runs import TINY

ROUNDS = 30
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["experiments.running", "experiments.backends.ray_grid"])


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
        "summary": {k: v for k, v in summary.items() if k not in ("speed", "backend")},
        "model": (folder / "model.safetensors").read_bytes(),
        "users": pq.read_table(folder / "users.parquet").to_pylist(),
        "rounds": [{k: v for k, v in line.items() if k != "seconds"} for line in rounds],
        "memory": memory,
    }


def ledgers(folder: Path) -> dict[str, list[Any]]:
    """All that anybody was charged, by ledger."""
    found: dict[str, list[Any]] = {}
    for path in sorted(folder.rglob(ledger.FILE)):
        with contextlib.closing(sqlite3.connect(path)) as file:
            rows = file.execute("SELECT user, run, round, charge FROM charges").fetchall()
        found[str(path.relative_to(folder))] = sorted(rows)
    return found


def _go(sets: dict[str, Any], folder: Path) -> None:
    """One life of a run, in a process of its own, with those whom it starts."""
    os.setsid()
    federated.QUICK = 0.0  # every round is saved, so that kills fall into the saving too
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    resume = folder if (folder / "checkpoints").is_dir() else None
    simulate(parse(sets), None if resume else folder, lambda event: None, resume=resume)


def killed_once(folder: Path, sets: dict[str, Any], after: int, wait: float) -> bool:
    """Kill a run some time after a round was saved; whether it was running."""
    process = PROCESSES.Process(target=_go, args=(sets, folder))
    process.start()
    deadline = time.monotonic() + 240
    while process.is_alive() and time.monotonic() < deadline:
        if max(checkpoint.rounds(folder / "checkpoints"), default=0) >= after:
            time.sleep(wait)
            break
        time.sleep(0.005)
    running = process.is_alive()
    if running and process.pid is not None:
        with contextlib.suppress(ProcessLookupError):  # so young that it is no group yet
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    process.join()
    process.close()
    return running


WITH: dict[str, dict[str, Any]] = {
    "maml": {},
    "fedper": {"method.name": "fedper"},
    "devices": {
        "devices.latency": "lognormal", "devices.availability": "constant",
        "devices.over-selection": 1.5, "devices.failure": 0.1, "devices.deadline": 12.0,
    },
    "robust": {"robust.rule": "dissimilar", "robust.byzantine": 1.0},
    "user": {"method.name": "reptile", "privacy.unit": "user", "privacy.noise-multiplier": 1.0,
             "privacy.adaptive-quantile": 0.5},
    "local": {"method.name": "reptile", "privacy.unit": "user", "privacy.noise-multiplier": 1.0,
              "privacy.mechanism": "local"},
    "example": {"method.name": "reptile", "privacy.unit": "example",
                "privacy.noise-multiplier": 1.0},
}  # fmt: skip
"""What a run may carry from round to round besides its weights."""

FULL = os.environ.get("FEDMETA_FULL") == "1"


def kills() -> list[Any]:
    """Settings, backend and number of kills; most are slow."""
    quick = [("fedper", "inline", 2), ("user", "inline", 2)]
    slow = [(name, "inline", 20) for name in WITH]
    slow += [(name, "ray", 20 if FULL else 3) for name in (WITH if FULL else ("fedper", "local"))]
    return [*quick, *(pytest.param(*case, marks=pytest.mark.slow) for case in slow)]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "backend", "times"), kills())
def test_kills_change_nothing(tmp_path: Path, name: str, backend: str, times: int) -> None:
    """Weights, heads of users, scores, rounds and ledgers, after ``kill -9`` at random points."""
    sets = settings("maml", **WITH[name], **{"run.backend": "inline"})
    whole = simulate(parse(sets), tmp_path / "whole").folder
    draw, folder = random.Random(times), tmp_path / "killed"
    stops = sorted(draw.sample(range(1, ROUNDS - 2), times))
    mine = sets | {"run.backend": backend, "run.workers": 2 if backend == "ray" else 0}
    struck = sum(killed_once(folder, mine, after, 0.03 * draw.random()) for after in stops)
    assert struck == times
    run = simulate(parse(sets), listener=lambda event: None, resume=folder)
    assert results(run.folder) == results(whole)
    assert ledgers(run.folder) == ledgers(whole)
    charged = sum(len(rows) for rows in ledgers(whole).values())
    assert bool(charged) == (name in ("user", "local", "example"))


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
