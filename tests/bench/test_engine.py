"""The engine's benchmark: what it measures is right; how fast it is, is not tested."""

import json
from collections.abc import Mapping

import pytest
import torch
from typer.testing import CliRunner

from experiments.bench import engine, plain
from experiments.bench.clock import Arrangement, Best, Job, measure
from experiments.bench.flops import flops
from experiments.bench.workloads import CLASSES, FEATURES, HIDDEN, WORKS, chunk, start
from experiments.bench.workloads import engine as batched
from experiments.cli import app
from fedmeta.gram import geometry

FIELDS = {
    "work",
    "users_per_s",
    "loop_users_per_s",
    "ratio_to_loop",
    "ideal_users_per_s",
    "max_rel_err",
}


@pytest.mark.parametrize("name", WORKS)
def test_loop_and_engine_agree(name: str) -> None:
    work = WORKS[name]
    theta = {key: value.double() for key, value in start(work).items()}
    task = chunk(work, 3, seed=1, dtype=torch.float64)
    expected = plain.total(work, theta, plain.users_of(task))
    found = batched(work, theta, task, geometry(task)).total
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", WORKS)
def test_single_precision_is_enough(name: str) -> None:
    assert 0 < engine.max_rel_err(WORKS[name], 3) < 1e-4


@pytest.mark.parametrize("name", WORKS)
def test_the_inner_loop_makes_progress(name: str) -> None:
    """A benchmark whose users stay where they are would hide errors of the inner loop."""
    work, theta = WORKS[name], start(WORKS[name])
    task = chunk(work, 3, seed=1)
    still = work._replace(inner=work.inner.__class__(rate=1e-9, steps=1, batch=work.inner.batch))
    moved, stayed = (batched(w, theta, task).total["output.weight"] for w in (work, still))
    assert (moved - stayed).norm() > 0.05 * moved.norm()


def test_flops_by_hand() -> None:
    """Counted product by product for each workload."""
    d, c, h = FEATURES, CLASSES, HIDDEN
    assert flops(WORKS["W1"]) == 2 * (2 * c * d * 64) + 9 * (2 * c * 64 * 16)
    wide, layer = 2 * h * d * 100, 2 * c * h
    inner = 4 * (2 * h * 25 * 25) + 5 * 3 * layer * 25
    gram = 2 * h * 25 * 75
    assert flops(WORKS["W2f"]) == wide + 2 * h * d * 75 + inner + gram + 3 * layer * 75
    assert flops(WORKS["W2"]) == 2 * wide + 3 * (inner + gram + layer * 75)


def test_row() -> None:
    found = {
        "engine 128": Best(100.0, Arrangement(2, 1)),
        "engine 250": Best(200.0, Arrangement(1, 2)),
        "with gram": Best(50.0, Arrangement(2, 1)),
        "loop": Best(10.0, Arrangement(2, 1)),
        "product": Best(2e9, Arrangement(2, 1)),
    }
    row = engine.row(WORKS["W1"], found)
    assert row.keys() >= FIELDS
    assert (row["users_per_s"], row["ratio_to_loop"], row["chunk"]) == (200.0, 20.0, 250)
    assert row["ideal_users_per_s"] == pytest.approx(2e9 / flops(WORKS["W1"]))
    assert row["processes_x_threads"] == "1x2"
    engine.table([row])


def test_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "USERS", 4)
    monkeypatch.setattr(engine, "CHUNKS", (2, 4))
    monkeypatch.setattr(engine, "WITH_GRAM", 2)
    done = {name: job() for name, job in engine.jobs("W2f", 0).items()}
    assert done["engine 2"] == done["with gram"] == 2
    assert done["engine 4"] == 4
    assert done["loop"] == 1
    assert done["product"] == 2 * 1024**3


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the rates given, what it prints is a row for each workload."""
    rates = {name: Best(10.0, Arrangement(1, 1)) for name in ("with gram", "loop", "product")}
    found = rates | {"engine 250": Best(200.0, Arrangement(1, 2))}
    monkeypatch.setattr(engine, "measure", lambda *_: found)
    monkeypatch.setattr(engine, "CHECKED", 3)
    done = CliRunner().invoke(app, ["bench", "engine", "--json"])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["work"] for line in lines] == [work.name for work in WORKS.values()]
    assert all(line.keys() >= FIELDS and line["ratio_to_loop"] == 20 for line in lines)


def test_clock() -> None:
    """Processes add up, and the better arrangement is taken."""
    found = measure(_jobs, "threads", seconds=0.01, repeats=1)
    assert found["threads"].rate > 0
    assert found.keys() == {"threads"}


def _jobs(what: str, number: int) -> Mapping[str, Job]:
    return {what: lambda: float(torch.get_num_threads() + number)}
