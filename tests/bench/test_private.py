"""The benchmark of example-level privacy: what it measures is right."""

import numpy as np
import torch

from experiments.bench import private
from experiments.bench.clock import Arrangement, Best
from experiments.bench.workloads import chunk, start


def test_the_engine_is_the_loop_over_records() -> None:
    assert 0 < private.max_rel_err(3) < 1e-5


def test_jobs_do_what_they_say() -> None:
    jobs = private.jobs(private.W3.name, 0)
    assert {name: job() for name, job in jobs.items() if name in ("engine 25", "opacus")} == {
        "engine 25": 25.0,
        "opacus": 1.0,
    }


def test_figures_of_rates() -> None:
    best, other = Best(300.0, Arrangement(2, 1)), Best(200.0, Arrangement(1, 2))
    found = private.row({"engine 25": best, "engine 50": other, "opacus": best})
    assert found["ratio_to_opacus"] == 1.0
    assert found["chunk"] == 25
    assert private.table([found])


def test_steps_count() -> None:
    """A benchmark whose users stay where they are would hide errors of the steps."""
    examples = chunk(private.W3, 2, seed=1).support
    sent = private.engine(start(private.W3), examples, np.arange(2, dtype=np.uint64))
    assert bool(torch.stack([v.flatten(1).norm(dim=1) for v in sent.values()]).min() > 0.1)
