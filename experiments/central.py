"""What one gets who collects the data: the published kind of baseline, on the same users.

A tf-idf of words and word pairs, one logistic regression over all training users' examples, and
for a new user an offset fitted to his support labels with a Gaussian prior. It is no method of
this tool, since it needs everybody's texts and labels in one place; it stands beside the named
experiments so that their figures can be held against it user by user.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.verdict import Scores
from fedmeta import seeding
from fedmeta.population import Population
from fedmeta.problem import Problem
from fedmeta.statistics import interval
from fedmeta.unseen import judged_rows

WORDS = 40_000
VARIANCE = 2.25
"""Prior variance of a user's offset, in logits."""

NEWTON = 50


def accuracies(problem: Problem, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy of each test user before and after his offset, on the splits of a seed.

    Args:
        problem: texts of two classes.
        seed: the run's, which draws support and query.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    population, store = problem.population, problem.population.store
    item, label = population.item.cpu().numpy(), population.target.cpu().numpy()
    train = _rows(population, store.users("train"))
    texts = [str(text) for text in store.items]
    words = TfidfVectorizer(ngram_range=(1, 2), max_features=WORDS)
    words.fit([texts[i] for i in item[train]])
    x = words.transform(texts)
    model = LogisticRegression(max_iter=2000).fit(x[item[train]], label[train])
    logit = (x @ model.coef_[0] + model.intercept_[0])[item]
    users = store.users("test")
    stream = seeding.key(seed, "support")
    rows = judged_rows(population, users, stream, problem.config.data.support)
    scores = np.empty((2, len(users)))
    for at, (given, asked) in enumerate(zip(rows.given, rows.asked, strict=True)):
        support, query = rows.support[at, :given], rows.query[at, :asked]
        shift = offset(logit[support], label[support])
        truth = label[query] == 1
        scores[:, at] = [((logit[query] + b > 0) == truth).mean() for b in (0.0, shift)]
    return scores[0], scores[1]


def offset(logit: NDArray[np.float64], label: NDArray[np.int64]) -> float:
    """The offset of greatest posterior density, by Newton's method.

    >>> round(offset(np.zeros(4), np.array([1, 1, 1, 0])), 3)
    0.712
    """
    shift = 0.0
    for _ in range(NEWTON):
        p = 1 / (1 + np.exp(-(logit + shift)))
        slope = (label - p).sum() - shift / VARIANCE
        shift += slope / ((p * (1 - p)).sum() + 1 / VARIANCE)
    return float(shift)


def against(
    problem: Problem, rows: dict[str, Scores], method: str, seeds: list[int]
) -> dict[str, Any]:
    """The baseline's figures, and by how much a method is better than it, per user.

    Args:
        problem: of any of the runs.
        rows: test scores of the methods, ``(seeds, users)`` each.
        method: which to hold against it.
        seeds: of the runs.

    Returns:
        `before` and `after` (mean accuracy), `method`, and `difference` {mean, ci95}.
    """
    before, after = (
        np.stack(side) for side in zip(*(accuracies(problem, s) for s in seeds), strict=True)
    )
    found = interval(rows[method].after - after, problem.config.evaluation.bootstrap)
    return {
        "before": float(before.mean()),
        "after": float(after.mean()),
        "method": method,
        "difference": {"mean": found.mean, "ci95": [found.low, found.high]},
    }


def _rows(population: Population, users: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of the users' examples that they may learn from."""
    learn = population.learn
    return np.concatenate([learn.examples[learn.offsets[u] : learn.offsets[u + 1]] for u in users])
