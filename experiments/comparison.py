"""Several methods on the same users, splits and budgets: which differences are real."""

import time
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments import artifacts
from experiments.clock import set_target
from experiments.found import Comparison, Row, Run
from experiments.jobs import Job
from experiments.running import Encoded, prepare
from experiments.selection import ALL, PLAN, Plan, Selection, go_on, select, with_method
from experiments.side_by_side import ended
from experiments.verdict import Scores, verdict
from fedmeta import unread
from fedmeta.config import Config, ConfigError, flatten
from fedmeta.data.store import UserStore
from fedmeta.metrics import METRICS, Metric
from fedmeta.problem import build
from fedmeta.statistics import achieved_share, gain, hurt_share, interval
from strategies.errors import ClientError
from strategies.events import Listener, ignore

DEFAULT_METHODS = ("local", "fedavg", "fedavg-ft", "reptile", "maml")
"""Methods and seeds of a comparison, for who takes it up again."""

LISTED = (
    "adapt", "best_round", "failed_updates", "weights_sha256", "model_sha256", "clock", "target",
)  # fmt: skip
"""Figures of which each seed has its own; all others are averaged."""

Listeners = Callable[[str], Listener]
"""A listener for each run, by its label."""


def compare(
    config: Config,
    methods: Sequence[str] = DEFAULT_METHODS,
    seeds: int = 1,
    out: Path | None = None,
    listeners: Listeners = lambda label: ignore,
    encoded: Encoded | None = None,
    resume: Path | None = None,
    baselines: bool = False,
    finished: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Run each method with each seed on one set of workers and compare the test users.

    Args:
        config: of all runs; ``method.name`` is replaced.
        methods: names of methods, or ``("all",)``.
        seeds: seeds ``run.seed``, ``run.seed + 1``, ...
        out: folder, new or empty; each run has a folder in it.
        listeners: gives a listener for each run.
        encoded: told about the encoding of texts.
        resume: folder of a comparison that was left; its runs go on where they were.
        baselines: add the honest baselines that are not among the methods.
        finished: told (runs done, runs in all) after each run.

    Raises:
        ConfigError, ValueError: settings or data that cannot be run.
        CheckpointError: checkpoints that are damaged, or another config's.
        ClientError: a client failed.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: expected at least one seed")
    began = time.perf_counter()
    if resume is None:
        artifacts.check_folder(out or config.run.out)
    # Local fits whatever the data and the head are: with it only these are checked.
    backbone_s = prepare(with_method(config, "local"), encoded)
    chosen = select(config, methods, baselines)
    store = build(with_method(config, "local")).population.store
    read_by = unread.check(config, chosen.methods, store.task)
    if resume is None:
        folder = artifacts.make_folder(out or config.run.out, config.run.name or "compare")
        artifacts.write_config(folder, config)
    else:
        folder = artifacts.reopen(resume)
        go_on(folder, Plan(list(methods), seeds, baselines), config)
    artifacts.pin(folder, config, store, resume is not None)
    artifacts.write_json(folder / PLAN, Plan(list(methods), seeds, baselines)._asdict())
    fits = [name for name in chosen.methods if name not in chosen.left_out]
    jobs = [
        Job(
            f"{name}, seed {seed}" if seeds > 1 else name,
            with_method(config, name, seed),
            folder / f"{name}-seed{seed}",
            resume is not None,
        )
        for seed in range(config.run.seed, config.run.seed + seeds)
        for name in fits
    ]

    made: dict[int, Run] = {}
    for over, one in enumerate(ended(config.run, jobs, listeners, began, backbone_s), start=1):
        if one.run is not None:
            made[one.number] = one.run
        elif tuple(methods) == (ALL,) and isinstance(one.error, ClientError):
            # Who wants to see them all wants to see the others; the table names it.
            reason = str(one.error).strip().splitlines()[-1]
            chosen.left_out[fits[one.number % len(fits)]] = f"failed: {reason}"
        elif one.error is not None:
            raise one.error
        finished(over, len(jobs))
    runs = {
        name: [made[n] for n in range(at, len(jobs), len(fits)) if n in made]
        for at, name in enumerate(fits)
    }
    complete = {name: mine for name, mine in runs.items() if name not in chosen.left_out}
    if not complete:
        raise ClientError("; ".join(chosen.left_out.values()))
    return _finish(folder, config, complete, chosen, read_by)


def shared_settings(config: Config) -> list[str]:
    """Settings of the method or its server that all methods share instead of their own defaults."""
    default = flatten(Config())
    return [
        f"{key} = {value}"
        for key, value in flatten(config).items()
        if key.split(".")[0] in ("method", "server")
        and key != "method.name"
        and value != default[key]
    ]


def _finish(
    folder: Path,
    config: Config,
    runs: dict[str, list[Run]],
    chosen: Selection,
    read_by: dict[str, list[str]],
) -> Comparison:
    store = next(iter(runs.values()))[0].outcome.problem.population.store
    metric, resamples = METRICS[store.task], config.evaluation.bootstrap
    set_target(config, [(run.outcome, run.summary) for mine in runs.values() for run in mine])
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
        len(store.users("valid")),
    )
    for row in rows.values():
        row.summary["test"]["against_reference"] = _against(
            metric, row.scores.after, rows, decision.reference, store, resamples
        )
    content = {
        "measure": metric.name,
        "seeds": [run.summary["seed"] for run in next(iter(runs.values()))],
        "methods": {name: row.summary for name, row in rows.items()},
        "baselines_added": list(chosen.added),
        "left_out": chosen.left_out,
        "pairs": pairs,
        "same_for_all": shared_settings(config),
        "read_by": read_by,
        "verdict": decision.sentence,
        "decision": decision._asdict(),
    }
    artifacts.write_json(folder / "compare.json", content)
    return Comparison(folder, metric, rows, content, decision)


def _against(
    metric: Metric,
    after: NDArray[np.float64],
    rows: dict[str, Row],
    reference: str,
    store: UserStore,
    resamples: int,
) -> dict[str, Any] | None:
    """Gain of each method over the verdict's one model for all, on the same users."""
    if not reference:
        return None
    base = rows[reference].scores.before
    gains = gain(metric, base, after)
    found = interval(gains, resamples)
    figures: dict[str, Any] = {
        "gain": {"mean": found.mean, "ci95": [found.low, found.high]},
        "hurt_share": hurt_share(gains),
    }
    if store.bayes is not None:
        bayes = store.bayes[store.users("test")]
        figures["achieved_share"] = achieved_share(base, after, bayes)
    return figures


def _row(runs: list[Run], metric: Metric, resamples: int) -> Row:
    before = np.stack([run.outcome.scores["test"][0, 0] for run in runs])
    after = np.stack([run.outcome.scores["test"][-1, 0] for run in runs])
    first, last = np.mean([run.outcome.scores["valid"][[0, -1], 0].mean(-1) for run in runs], 0)
    summary = dict(runs[0].summary)
    if len(runs) > 1:
        # Listed, since there is no mean of what a seed may not have.
        summary = _mean([{k: v for k, v in run.summary.items() if k not in LISTED} for run in runs])
        summary["seed"] = [run.summary["seed"] for run in runs]
        for split in ("valid", "test"):
            ends = [run.outcome.scores[split][[0, -1], 0] for run in runs]
            gains = np.stack([gain(metric, first, last) for first, last in ends])
            found = interval(gains, resamples)
            if summary[split]["gain"] is not None:
                summary[split]["gain"] = {"mean": found.mean, "ci95": [found.low, found.high]}
        summary |= {k: [run.summary[k] for run in runs] for k in LISTED if k in runs[0].summary}
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
