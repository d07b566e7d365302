"""Judging an initialization on users that it has never seen.

A user adapts on K support examples and is scored on all of his others. Before (0 examples) and
after are scored on the same query examples, and so is every point of the curve over K.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmeta import cohort, loop, seeding
from fedmeta.config import Config, ConfigError
from fedmeta.inner import Inner
from fedmeta.methods import Method
from fedmeta.metrics import score
from fedmeta.problem import Problem
from fedmeta.trials import Answer
from fedmeta.types import Params
from fedmeta.unseen import judging

NUMBERS = 2**25
"""Most features, in numbers, of a chunk that is judged: bounds memory where users are large."""


def evaluate(
    problem: Problem, theta: Params, users: NDArray[np.int64], trials: Sequence[cohort.Trial]
) -> NDArray[np.float64]:
    """Scores of users after each of several ways to personalize.

    Args:
        problem: data, model and method.
        theta: the initialization.
        users: whom to judge.
        trials: how to descend and on how many support examples; 0 examples is "before".

    Returns:
        ``(trials, columns, users)``, columns as in :data:`fedmeta.metrics.METRICS`,
        then those of :attr:`fedmeta.methods.Method.reports`.
    """
    config, population = problem.config, problem.population
    stream = seeding.key(config.run.seed, "support")
    task = judging(population, users, stream, config.data.support)
    with torch.no_grad():
        facts = loop.facts_of(problem, users, judged=True)
        # While ways to personalize are compared nobody looks at a method's own figures.
        wanted = len({trial.inner for trial in trials}) == 1
        method, model = problem.method, problem.model
        found = cohort.answers(method, model, theta, task, trials, facts, figures=wanted)
        scores = [
            score(population.store.task, model.loss, one.logits, task.query, population.scale)
            for one in found
        ]
        if method.reports:
            more = [_figures(method, one, users) for one in found]
            scores = [torch.cat(pair) for pair in zip(scores, more, strict=True)]
    return torch.stack(scores).cpu().numpy()


def _figures(method: Method, answer: Answer, users: NDArray[np.int64]) -> Tensor:
    """The method's own figures of users, float64 ``(reports, users)``; NaN where not taken."""
    if not answer.figures:
        return torch.full((len(method.reports), len(users)), torch.nan, dtype=torch.float64)
    return torch.stack([answer.figures[name].double() for name in method.reports])


def shots_of(config: Config) -> list[int]:
    """Support sizes of the adaptation curve, ascending, always with 0 and `data.support`.

    Raises:
        ConfigError: not a comma-separated list of numbers.

    >>> shots_of(Config())
    [0, 1, 2, 5, 10, 20]
    """
    text = config.evaluation.shots
    try:
        wanted = {int(part) for part in text.split(",") if part.strip()}
    except ValueError:
        raise ConfigError(
            f"evaluation.shots = {text!r}: expected comma-separated numbers of examples"
        ) from None
    if any(k < 0 for k in wanted):
        raise ConfigError(f"evaluation.shots = {text!r}: numbers of examples cannot be negative")
    return sorted({k for k in wanted if k <= config.data.support} | {0, config.data.support})


def candidates(problem: Problem) -> list[Inner]:
    """Ways to personalize among which validation users choose, the gentlest first.

    Every method that personalizes is offered the same relative grid, so that none is tuned
    more than another.
    """
    base = problem.adapt
    if not problem.method.personalizes or not problem.config.evaluation.tune:
        return [base]
    factors: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
    if not problem.method.tunes:
        factors = (1.0,)  # its rates are learned
    rates = [base.rate * factor for factor in factors]
    steps = sorted({1, 5, 10, 20, 50, base.steps})
    grid = [(rate, step) for step in steps for rate in rates]
    grid.sort(key=lambda pair: pair[0] * pair[1])
    return [replace(base, rate=rate, steps=step) for rate, step in grid]
