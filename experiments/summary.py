"""``summary.json``: what one run has shown, in figures."""

import hashlib
import importlib.metadata
import platform
from collections import Counter
from typing import Any

import numpy as np

from experiments.clock import clock_figures, target_figures
from fedmeta.metrics import METRICS
from fedmeta.statistics import achieved_share, describe, gain, hurt_share, interval
from fedmeta.types import Params
from strategies.app import Outcome

PACKAGES = ("torch", "flwr", "ray", "transformers", "numpy")


def weights_sha256(params: Params) -> str:
    """Digest of parameters: names, shapes, dtypes and bits, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(params):
        array = np.ascontiguousarray(params[name].cpu().numpy())
        digest.update(f"{name}:{array.dtype}:{array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of what a result may depend on."""
    named = {package: importlib.metadata.version(package) for package in PACKAGES}
    return {
        "fedmeta": importlib.metadata.version("fedmeta"),
        "python": platform.python_version(),
    } | named


def split_figures(outcome: Outcome, split: str) -> dict[str, Any]:
    """The figures of one split: before, after, gain, share hurt, curve over K."""
    config, store = outcome.problem.config, outcome.problem.population.store
    metric, scores = METRICS[store.task], outcome.scores[split]
    before, after = scores[0], scores[-1]
    gains = gain(metric, before[0], after[0])
    found = interval(gains, config.evaluation.bootstrap)
    common, reports = len(metric.columns), outcome.problem.method.reports
    figures: dict[str, Any] = {
        "before": describe(metric, before[:common]),
        "after": describe(metric, after[:common]),
        "gain": {"mean": found.mean, "ci95": [found.low, found.high]},
        "hurt_share": hurt_share(gains),
        "curve": {str(k): float(scores[at, 0].mean()) for at, k in enumerate(outcome.shots)},
    }
    for name, first, last in zip(reports, before[common:], after[common:], strict=True):
        figures["before"][name], figures["after"][name] = float(first.mean()), float(last.mean())
    if store.bayes is not None:
        bayes = store.bayes[outcome.users[split]]
        figures["bayes"] = float(bayes.mean())
        figures["achieved_share"] = achieved_share(before[0], after[0], bayes)
    return figures


def refused(outcome: Outcome) -> dict[str, Any]:
    """Bad replies by what was wrong, users in quarantine at the end, rounds without a quorum."""
    codes: Counter[str] = sum((Counter(e.refused) for e in outcome.history), Counter())
    last = outcome.history[-1].quarantined if outcome.history else 0
    return {
        "replies": dict(sorted(codes.items())),
        "quarantined": last,
        "rounds_not_counted": sum(not event.counted for event in outcome.history),
    }


def summarize(outcome: Outcome, speed: dict[str, float]) -> dict[str, Any]:
    """The content of ``summary.json``; docs/artefacts.md says what each figure means."""
    config, population = outcome.problem.config, outcome.problem.population
    # Of the rounds of this process: those before a resume took their time in another.
    updates = sum(event.users for event in outcome.history[outcome.before :])
    rate = updates / outcome.seconds if updates else 0.0
    found = {
        "clock": clock_figures(outcome),
        "target": target_figures(outcome, config.evaluation.target),
    }
    return {
        "name": config.run.name or config.method.name,
        "method": config.method.name,
        "seed": config.run.seed,
        "measure": METRICS[population.store.task].name,
        "support": config.data.support,
        "rounds": len(outcome.history),
        "best_round": outcome.best_round,
        "adapt": {"rate": outcome.adapt.rate, "steps": outcome.adapt.steps},
        "users": {
            split: len(population.store.users(split)) for split in ("train", "valid", "test")
        },
        "dropped": population.store.dropped,
        "failed_updates": sum(event.failed for event in outcome.history),
        "refused": refused(outcome),
        "valid": split_figures(outcome, "valid"),
        "test": split_figures(outcome, "test"),
        "speed": speed | {"user_updates_per_s": rate},
        "weights_sha256": weights_sha256(outcome.last),
        "model_sha256": weights_sha256(outcome.meta),
        "versions": versions(),
    } | {key: figures for key, figures in found.items() if figures is not None}
