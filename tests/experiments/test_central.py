"""The baseline of who collects the data, against a recount by other means."""

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from experiments.central import VARIANCE, accuracies, against, offset
from experiments.verdict import Scores
from fedmeta.config import parse
from fedmeta.problem import Problem, build
from tests.data.rows import text_rows, write


@pytest.mark.parametrize("ones", [0, 1, 5, 12])
def test_the_offset_is_the_maximum_of_the_posterior(ones: int) -> None:
    random = np.random.default_rng(ones)
    logit, label = random.normal(size=12), (np.arange(12) < ones).astype(np.int64)

    def cost(b: float) -> float:
        signed = np.where(label == 1, logit + b, -(logit + b))
        return float(np.logaddexp(0, -signed).sum() + b * b / (2 * VARIANCE))

    best = minimize_scalar(cost, bounds=(-9, 9), method="bounded", options={"xatol": 1e-9})
    assert offset(logit, label) == pytest.approx(best.x, abs=1e-6)


def _problem(folder: Path, support: int = 4) -> Problem:
    write(folder / "rows.jsonl", text_rows())
    source = str(folder / "rows.jsonl")
    return build(parse({"data.source": source, "data.support": support, "data.min-examples": 0}))


def test_no_label_of_the_query_is_learned_from(tmp_path: Path) -> None:
    """With the labels of all test users turned round the model for all is wrong where it was
    right: nothing but their support moves a prediction."""
    problem = _problem(tmp_path)
    store, target = problem.population.store, problem.population.target
    before, after = accuracies(problem, 0)
    assert before.shape == after.shape == (len(store.users("test")),)
    offsets = problem.population.learn.offsets
    for user in store.users("test"):
        mine = problem.population.learn.examples[offsets[user] : offsets[user + 1]]
        target[mine] = 1 - target[mine]
    turned, _ = accuracies(problem, 0)
    assert turned == pytest.approx(1 - before)


def test_a_better_method_is_better_by_as_much(tmp_path: Path) -> None:
    problem = _problem(tmp_path)
    _, after = accuracies(problem, 3)
    rows = {"good": Scores(after[None], after[None] + 0.125, 0.0, 0.0)}
    found = against(problem, rows, "good", [3])
    assert found["difference"]["mean"] == pytest.approx(0.125)
    assert found["difference"]["ci95"] == pytest.approx([0.125, 0.125])
    assert found["after"] == pytest.approx(after.mean())
