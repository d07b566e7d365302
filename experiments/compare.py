"""Several methods on the same users, splits and budgets: which differences are real."""

import time
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clients.app import app as client_app
from experiments import artifacts
from experiments.backends import open_backend
from experiments.simulate import Encoded, Run, prepare, run_on
from experiments.verdict import Scores, Verdict, verdict
from fedmeta.config import Config, ConfigError
from fedmeta.methods import METHODS
from fedmeta.metrics import METRICS, Metric
from fedmeta.statistics import gain, interval
from strategies.events import Listener, ignore

DEFAULT_METHODS = ("local", "fedavg", "fedavg-ft", "reptile", "maml")
Listeners = Callable[[str], Listener]
"""A listener for each run, by its label."""


class Row(NamedTuple):
    """One method over all seeds.

    Attributes:
        summary: figures averaged over the seeds; intervals over users and seeds.
        scores: what the verdict and the paired differences are made of.
    """

    summary: dict[str, Any]
    scores: Scores


class Comparison(NamedTuple):
    """What ``compare`` found, and where it is."""

    folder: Path
    metric: Metric
    rows: dict[str, Row]
    content: dict[str, Any]
    verdict: Verdict


def compare(
    config: Config,
    methods: Sequence[str] = DEFAULT_METHODS,
    seeds: int = 1,
    out: Path | None = None,
    listeners: Listeners = lambda label: ignore,
    encoded: Encoded | None = None,
) -> Comparison:
    """Run each method with each seed on one set of workers and compare the test users.

    Args:
        config: of all runs; ``method.name`` is replaced.
        methods: names of methods.
        seeds: seeds ``run.seed``, ``run.seed + 1``, ...
        out: folder, new or empty; each run has a folder in it.
        listeners: gives a listener for each run.
        encoded: told about the encoding of texts.

    Raises:
        ConfigError, ValueError: settings or data that cannot be run.
        ClientError: a client failed.
    """
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods or seeds < 1:
        raise ConfigError(
            f"--methods {','.join(methods)!r} --seeds {seeds}: expected at least one seed and"
            f" methods out of {', '.join(METHODS)}"
        )
    began = time.perf_counter()
    artifacts.check_folder(out or config.run.out)
    backbone_s = prepare(config, encoded)
    folder = artifacts.make_folder(out or config.run.out, config.run.name or "compare")
    artifacts.write_config(folder, config)
    runs: dict[str, list[Run]] = {name: [] for name in dict.fromkeys(methods)}
    with open_backend(config.run, client_app) as make_grid:
        timings = {
            "backbone_s": backbone_s,
            "startup_s": time.perf_counter() - began - backbone_s,
        }
        for number in range(seeds):
            for name in runs:
                seed = config.run.seed + number
                mine = with_method(config, name, seed)
                label = f"{name}, seed {seed}" if seeds > 1 else name
                run = run_on(
                    make_grid, mine, folder / f"{name}-seed{seed}", listeners(label), timings
                )
                runs[name].append(run)
                timings = {"backbone_s": 0.0, "startup_s": 0.0}  # paid once, by the first run
    return _finish(folder, config, runs)


def with_method(config: Config, name: str, seed: int) -> Config:
    """The config with another method and seed."""
    return config.model_copy(
        update={
            "method": config.method.model_copy(update={"name": name}),
            "run": config.run.model_copy(update={"seed": seed}),
        }
    )


def _finish(folder: Path, config: Config, runs: dict[str, list[Run]]) -> Comparison:
    store = next(iter(runs.values()))[0].outcome.problem.population.store
    metric, resamples = METRICS[store.task], config.evaluation.bootstrap
    rows = {name: _row(mine, metric, resamples) for name, mine in runs.items()}
    pairs = []
    for a, b in combinations(rows, 2):
        found = interval(gain(metric, rows[b].scores.after, rows[a].scores.after), resamples)
        pairs.append({"a": a, "b": b, "mean": found.mean, "ci95": [found.low, found.high]})
    decision = verdict(
        metric,
        {name: row.scores for name, row in rows.items()},
        config.data.support,
        resamples,
    )
    content = {
        "measure": metric.name,
        "seeds": [run.summary["seed"] for run in next(iter(runs.values()))],
        "methods": {name: row.summary for name, row in rows.items()},
        "pairs": pairs,
        "verdict": decision.sentence,
        "decision": decision._asdict(),
    }
    artifacts.write_json(folder / "compare.json", content)
    return Comparison(folder, metric, rows, content, decision)


def _row(runs: list[Run], metric: Metric, resamples: int) -> Row:
    before = np.stack([run.outcome.scores["test"][0, 0] for run in runs])
    after = np.stack([run.outcome.scores["test"][-1, 0] for run in runs])
    first, last = np.mean([run.outcome.scores["valid"][[0, -1], 0].mean(-1) for run in runs], 0)
    summary = dict(runs[0].summary)
    if len(runs) > 1:
        summary = _mean([run.summary for run in runs])
        summary["seed"] = [run.summary["seed"] for run in runs]
        for split in ("valid", "test"):
            ends = [run.outcome.scores[split][[0, -1], 0] for run in runs]
            gains = np.stack([gain(metric, first, last) for first, last in ends])
            found = interval(gains, resamples)
            summary[split]["gain"] = {"mean": found.mean, "ci95": [found.low, found.high]}
        for key in ("weights_sha256", "model_sha256"):
            summary[key] = [run.summary[key] for run in runs]
    return Row(summary, Scores(before, after, float(first), float(last)))


def _mean(values: list[Any]) -> Any:
    """Mean of numbers over the seeds, through nested tables; what is not a number is kept."""
    one = values[0]
    if isinstance(one, dict):
        return {key: _mean([value[key] for value in values]) for key in one}
    if isinstance(one, list):
        return [_mean(list(column)) for column in zip(*values, strict=True)]
    if isinstance(one, float):
        return float(np.mean(values))
    return one
