"""Trials that are one descent are run as one, and to the bit as if each had been run alone."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from fedmeta import cohort
from fedmeta.cohort import Trial
from fedmeta.dual import Dual
from fedmeta.inner import Inner
from fedmeta.learner import Primal
from fedmeta.methods import METHODS
from fedmeta.trials import courses
from tests.engine.cases import INNERS, PAIRS, forms, model_of, tasks, theta_of

INNER_OF = {pair: list(INNERS)[number % len(INNERS)] for number, pair in enumerate(PAIRS)}
"""Which inner loop goes round from pair to pair."""


@pytest.mark.parametrize(("name", "head"), PAIRS)
def test_together_is_each_alone(name: str, head: str) -> None:
    method, model, base = METHODS[name], model_of(head), INNERS[INNER_OF[name, head]]
    theta, task = theta_of(method, model, 61), tasks(61, pad=1)
    steps = (3, 0, 1, 4, 1)
    trials = [Trial(replace(base, rate=rate, steps=n), 3) for n in steps for rate in (0.2, 0.5)]
    trials.append(Trial(base, 1))
    for dual in forms(name, head, training=False):
        with torch.no_grad():
            together = cohort.predict(method, model, theta, task, trials, dual=dual)
            for trial, found in zip(trials, together, strict=True):
                (alone,) = cohort.predict(method, model, theta, task, [trial], dual=dual)
                assert torch.equal(found, alone)
        assert method.walk is None or not torch.equal(together[6], together[4])


def test_courses_are_one_for_each_rate_and_support() -> None:
    inner = Inner(0.5, 2)
    grid = [Trial(replace(inner, rate=r, steps=n), k) for n in (5, 1) for r in (1, 2) for k in (3,)]
    grid += [Trial(inner, 0), Trial(replace(inner, momentum=0.1), 0)]
    found = courses(METHODS["maml"], grid)
    assert [(c.inner.rate, c.inner.steps, c.shots) for c in found] == [
        (1, 5, 3),
        (2, 5, 3),
        (0.5, 2, 0),
        (0.5, 2, 0),
    ]
    assert found[0].steps == [1, 5]
    assert (found[0].trials, found[0].at) == ([0, 2], [1, 0])
    # A descent whose length decides what comes after it is run for each.
    assert METHODS["damstf"].walk is None
    assert len(courses(METHODS["damstf"], grid)) == len(grid)


@pytest.mark.parametrize("name", ["maml", "mmoe", "fedmd", "scale-shift"])
def test_the_grid_costs_its_longest_descents(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are counted, by the minibatches that they ask for, and not seconds."""
    taken = []
    for form in (Primal, Dual):

        def count(self: Any, examples: Any, *given: Any, whole: Any = form.minibatch) -> Any:
            taken.append(1)
            return whole(self, examples, *given)

        monkeypatch.setattr(form, "minibatch", count)
    method = METHODS[name]
    model = model_of(method.head or "mlp")
    theta, task = theta_of(method, model, 62), tasks(62)
    trials = [Trial(Inner(r, n), 3) for n in (1, 5, 10) for r in (0.1, 0.2)]
    with torch.no_grad():
        cohort.predict(method, model, theta, task, trials)
    digest = 2 * Inner(1.0, 1).options.digest_steps if name == "fedmd" else 0
    assert len(taken) == 2 * 10 + digest
