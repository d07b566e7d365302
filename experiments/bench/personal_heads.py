"""``fedmeta bench ph``: what a head for each user costs and gains, beside fine-tuning everything.

The experiment of the Personalization Head (Kang et al. 2022, arXiv 2203.06668): one frozen language
model, many users, and for each a small head that he trains alone. Four sizes of it stand beside
prototypes of frozen features, which need no training, and beside fine-tuning of the whole model,
of which every user then has a copy. All take the same number of full-batch steps of gradient
descent on the same examples, at the rate that validation users choose for each of them.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import RenderableType
from rich.table import Table

from fedmeta import backbones
from fedmeta.backbones import encoder
from fedmeta.cohort import Trial
from fedmeta.config import Config, ConfigError, flatten, parse
from fedmeta.evaluation import evaluate
from fedmeta.metrics import METRICS
from fedmeta.problem import Problem, build, initial
from fedmeta.statistics import interval
from fedmeta.threads import one_thread

CONFIG = "personalization-head.toml"
BYTES = 4
"""Of a number, in single precision."""
FACTORS = (0.05, 0.2, 1.0, 4.0)
"""Rates that validation users choose among, over that of the config or the method."""
VALIDATION = 6
"""Validation users at most: a copy of the whole model takes seconds a user and rate."""


class Row(NamedTuple):
    """One way to personalize: its name, what differs from the config, and where the model is."""

    name: str
    sets: Mapping[str, Any]
    whole: bool = False


PUBLISHED = {
    "head.name": "ph-transformer",
    "head.width": 0,
    "head.attention-heads": 8,
    "head.feed-forward": 512,
    "backbone.output": "cls",
}
ROWS = (
    Row("frozen prototypes", {"method.name": "protonet-frozen"}),
    Row("linear", {"head.name": "linear"}),
    Row("mlp", {"head.name": "mlp"}),
    Row("ph-transformer", {"head.name": "ph-transformer"}),
    Row("ph-transformer, published form", PUBLISHED),
    Row("full fine-tuning", {"head.name": "encoder"}, whole=True),
)


def rows(
    config: Config, users: int, say: Callable[[str], None] = lambda _: None
) -> Iterator[dict[str, Any]]:
    """One row of figures for each way to personalize.

    Args:
        config: data, language model and steps.
        users: users whose models are stored.
        say: told what is being measured.

    Raises:
        ConfigError: no classes, or no language model over texts.
    """
    with one_thread():
        for row in ROWS:
            say(row.name)
            yield measured(config, row, users)


def measured(config: Config, row: Row, users: int) -> dict[str, Any]:
    """The figures of one way to personalize."""
    problem = build(parse({**flatten(config), "method.name": "local", **row.sets}))
    store = problem.population.store
    folder = backbones.folder_of(store, problem.config.backbone)
    if not folder or not store.classes:
        raise ConfigError(
            "bench ph compares heads over a language model by their F1: it needs texts with"
            " classes, and backbone.name = minilm, a hub id or a folder"
        )
    theta = initial(problem)
    body = sum(value.numel() for value in encoder.load(Path(folder))[0].parameters())
    head = sum(value.numel() for value in theta.values())
    if problem.method.predict is not None:  # a prototype for each class, and nothing else
        head = problem.population.features.shape[1] * len(store.classes)
    rate = chosen(problem, theta)
    trial = Trial(replace(problem.adapt, rate=rate), problem.config.data.support)
    test = store.users("test")
    began = time.process_time()
    scores = evaluate(problem, theta, test, [trial])[0]
    seconds = (time.process_time() - began) / len(test)
    place = METRICS[store.task].columns.index("f1")
    found = interval(100 * scores[place], 2000)
    return {
        "name": row.name,
        "macro_f1": found.mean,
        "ci95": [found.low, found.high],
        "rate": rate,
        "parameters": head,
        "storage_mb": BYTES * (users * head + (0 if row.whole else body)) / 1e6,
        "users": users,
        "s_per_user": seconds,
        "test_users": len(test),
    }


def chosen(problem: Problem, theta: Mapping[str, torch.Tensor]) -> float:
    """The rate of best mean F1 on validation users."""
    if problem.method.predict is not None:
        return 0.0
    users = problem.population.store.users("valid")[:VALIDATION]
    place = METRICS[problem.population.store.task].columns.index("f1")
    rates = [problem.adapt.rate * factor for factor in FACTORS]
    support = problem.config.data.support
    means = [
        evaluate(problem, dict(theta), users, [Trial(replace(problem.adapt, rate=r), support)])
        for r in rates
    ]
    return rates[int(np.argmax([one[0, place].mean() for one in means]))]


def table(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The rows for people."""
    users = found[0]["users"] if found else 0
    out = Table(title="one frozen language model, a head for each user")
    out.add_column("")
    for heading in ("macro-F1", "parameters", f"MB for {users:,} users", "s a user"):
        out.add_column(heading, justify="right")
    for one in found:
        low, high = one["ci95"]
        out.add_row(
            one["name"],
            f"{one['macro_f1']:.1f} [{low:.1f}, {high:.1f}]",
            f"{one['parameters']:,}",
            f"{one['storage_mb']:,.0f}",
            f"{one['s_per_user']:.3f}",
        )
    return out
