"""``summary.json``: what one run has shown, in figures."""

import importlib.metadata
import platform
from collections import Counter
from typing import Any

from experiments.clock import clock_figures, target_figures
from fedmeta import generation, public
from fedmeta.head_file import weights_sha256
from fedmeta.methods import Method
from fedmeta.metrics import METRICS
from fedmeta.privacy import claim
from fedmeta.problem import Problem
from fedmeta.statistics import achieved_share, describe, gain, hurt_share, interval
from strategies.app import Outcome
from strategies.errors import ClientError

PACKAGES = ("torch", "flwr", "ray", "transformers", "numpy")

NO_GAIN = "no gain is shown"
"""How the note of a method begins whose start is not made to be used as it is."""


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
    fair = usable(outcome.problem.method)
    figures: dict[str, Any] = {
        "before": describe(metric, before[:common]),
        "after": describe(metric, after[:common]),
        "gain": {"mean": found.mean, "ci95": [found.low, found.high]} if fair else None,
        "hurt_share": hurt_share(gains) if fair else None,
        "curve": {str(k): float(scores[at, 0].mean()) for at, k in enumerate(outcome.shots)},
    }
    for name, first, last in zip(reports, before[common:], after[common:], strict=True):
        figures["before"][name], figures["after"][name] = float(first.mean()), float(last.mean())
    if store.bayes is not None:
        bayes = store.bayes[outcome.users[split]]
        figures["bayes"] = float(bayes.mean())
        figures["achieved_share"] = achieved_share(before[0], after[0], bayes) if fair else None
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


def not_judged(outcome: Outcome) -> list[str]:
    """Who could not be judged, and so is not in the figures: a sentence for each occasion."""
    return [f"WARNING: {name}: {why}" for name, why in outcome.lost.items()]


def check_everybody(outcome: Outcome) -> None:
    """Refuse an outcome that lacks users, where it is to be held against others.

    Raises:
        ClientError: users could not be judged.
    """
    if told := not_judged(outcome):
        raise ClientError(
            f"{told[0].removeprefix('WARNING: ')}; runs are compared on the same users: go on with"
            " --resume, which judges once more"
        )


def usable(method: Method) -> bool:
    """Whether "before" is a model that somebody would use, so that a gain over it means something.

    A head that nobody trained to be used as it is answers at chance, and any adaptation would gain.
    """
    return method.general or not method.personalizes


def _retries(outcome: Outcome) -> list[str]:
    again = sum(event.again for event in outcome.history)
    if not again:
        return []
    return [
        f"WARNING: {again} batches of users raised and were computed again user by user, which"
        " takes longer; where no user failed it was the batch itself, for want of memory perhaps:"
        " lower federation.chunk"
    ]


def notes(problem: Problem) -> list[str]:
    """What a reader has to know of a run to read its figures right, a sentence each."""
    found = []
    if not usable(problem.method):
        found.append(
            f"{NO_GAIN}: the start of {problem.method.name} is not made to be used without"
            " adaptation, and over it all would gain; `fedmeta compare` holds it against one model"
            " for all"
        )
    data = problem.config.data
    if "public" in problem.method.needs and public.is_private(data):
        found.append(
            f"WARNING: the public set of {problem.method.name} is made of training users' own items"
            " (not their labels), which a deployment must not hand round; set data.public to a file"
            " of items that are public"
        )
    return found


def summarize(outcome: Outcome, speed: dict[str, float]) -> dict[str, Any]:
    """The content of ``summary.json``; docs/artefacts.md says what each figure means."""
    config, population = outcome.problem.config, outcome.problem.population
    # Of the rounds of this process: those before a resume took their time in another.
    updates = sum(event.users for event in outcome.history[outcome.before :])
    rate = updates / outcome.seconds if updates else 0.0
    failed = sum(event.failed for event in outcome.history)
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
        "users": {"train": len(population.store.users("train"))}
        | {split: len(users) for split, users in outcome.users.items()},
        "dropped": population.store.dropped,
        "notes": notes(outcome.problem) + _retries(outcome) + not_judged(outcome),
        "failed_updates": failed,
        "refused": refused(outcome),
        "budget_spent": sum(event.spent for event in outcome.history),
        "privacy": claim.as_json(claim.claimed(config, outcome.problem.privacy, failed=failed)),
        "valid": split_figures(outcome, "valid"),
        "test": split_figures(outcome, "test"),
        "speed": speed | {"user_updates_per_s": rate},
        "weights_sha256": weights_sha256(outcome.last),
        "model_sha256": weights_sha256(generation.public(outcome.problem.method, outcome.meta)),
        "versions": versions(),
    } | {key: figures for key, figures in found.items() if figures is not None}
