"""The benchmark of methods: what it measures is every method's update; not how fast it is."""

from collections.abc import Callable

import pytest
import torch

from experiments.bench import methods as bench
from experiments.bench.clock import Arrangement, Best
from experiments.bench.workloads import CLASSES, FEATURES, Work
from fedmeta.config import ConfigError
from fedmeta.methods import METHODS


def test_all_that_send_are_measured_and_fedavg_first() -> None:
    names = bench.federated()
    assert names[0] == "fedavg"
    assert sorted(names) == sorted(n for n, m in METHODS.items() if m.contribute)
    assert bench.federated("maml, reptile") == ["fedavg", "maml", "reptile"]
    with pytest.raises(ConfigError, match="'local': expected methods out of"):
        bench.federated("local")


@pytest.mark.parametrize("name", bench.federated())
def test_every_method_works_on_its_users(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "CHUNK", 2)
    monkeypatch.setattr(bench, "USERS", 2)
    assert bench.jobs(name, 0)[name]() == 2
    what = bench.work(name)
    assert (what.inner.steps, what.support) == (bench.STEPS, bench.SUPPORT)
    assert (what.query > 0) == METHODS[name].splits
    theta = bench.start(METHODS[name], what.inner)
    assert all(value.isfinite().all() for value in theta.values())
    if "output.bias" in theta:
        assert theta["output.bias"].shape == (CLASSES,)
    assert any(FEATURES in value.shape for value in theta.values())


def test_rows_are_relative_to_fedavg() -> None:
    found = {
        "fedavg": Best(400.0, Arrangement(2, 1)),
        "maml": Best(100.0, Arrangement(1, 2)),
    }
    row = bench.row(METHODS["maml"], found, 2e-5)
    assert row["ratio_to_fedavg"] == 0.25
    assert row["update_s_per_inner_step"] == pytest.approx(1 / (100 * bench.STEPS))
    assert row["step_alone_s"] == 2e-5
    assert row["processes_x_threads"] == "1x2"
    assert row["dual"]
    assert not bench.row(METHODS["meta-sgd"], {**found, "meta-sgd": found["maml"]}, 0.0)["dual"]
    assert torch.get_num_threads() >= 1


def test_a_step_alone_leaves_out_what_an_update_pays_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that counts 7 for every update and 2 for each of its steps and users."""
    now = [0.0]

    def job(what: Work, number: int, chunks: int) -> Callable[[], float]:
        def run() -> float:
            now[0] += 7.0 + 2.0 * what.inner.steps * bench.CHUNK
            return float(bench.CHUNK)

        return run

    monkeypatch.setattr(bench, "_job", job)
    monkeypatch.setattr("experiments.bench.methods.time.process_time", lambda: now[0])
    assert bench.step_alone("maml") == pytest.approx(2.0)
