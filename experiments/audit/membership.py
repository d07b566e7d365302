"""Was he in? LiRA on personal heads and on the meta-initialization (Carlini et al. 2022).

Heads, or whole runs, are made on random halves of the records; each is attacked with normals that
are fitted to what the others show of a record with and without it. Records have labels at random,
so that there is nothing to learn of one but that it was there.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.audit import world
from fedmeta import cohort, loop, seeding
from fedmeta.config import Config, flatten, parse
from fedmeta.methods import METHODS
from fedmeta.privacy import canaries, example
from fedmeta.privacy.claim import claimed
from fedmeta.privacy.event import Privacy
from fedmeta.privacy.terms import terms
from fedmeta.problem import Problem, initial
from fedmeta.types import Params

HEADS = 64
RECORDS, EXAMPLES, FEATURES = 40, 4, 100
ROUNDS = 20
"""Rounds of a shadow run at most."""


def infer(config: Config, privacy: Privacy, heads: int = HEADS) -> dict[str, Any]:
    """AUC with the config's mechanism and without any, and what epsilon and delta allow.

    Under ``example`` records are examples of a user, and his personal head after one
    participation, made of what he sends, is shown to the attacker. Under ``user`` they are users,
    and what the server holds after the rounds is. Personal heads of users who keep them are not
    attacked: nobody sees them.
    """
    off = parse({**flatten(config), "privacy.unit": "off"})
    attack = on_heads if privacy.unit == "example" else on_meta
    with_it, epsilon = attack(config, privacy, heads)
    without, _ = attack(off, privacy, heads)
    return {
        "attacked": "personal heads" if privacy.unit == "example" else "meta-initialization",
        "shadows": heads,
        "epsilon": epsilon,
        "bound": None if epsilon is None else canaries.auc_bound(epsilon, config.privacy.delta),
        "off": without,
        "on": with_it,
    }


def on_heads(config: Config, privacy: Privacy, heads: int) -> tuple[float, float | None]:
    """The AUC on personal heads, and the epsilon of one participation."""
    rng = seeding.generator(config.run.seed, "membership")
    x, y = _records(rng, RECORDS)
    inside = rng.random((heads, RECORDS)) < 0.5
    rows = np.concatenate([np.flatnonzero(row) for row in inside])
    values: dict[str, Any] = {"method__name": "reptile", "federation__users_per_round": heads}
    if config.privacy.unit == "example":
        found = terms(config, METHODS[config.method.name])
        values |= {
            "privacy__sampling_rate": found.rate,
            "privacy__expected_batch": max(1, round(found.rate * RECORDS / 2)),
            "method__steps": found.steps,
        }
    size = RECORDS // 2
    problem = world.problem_of(
        config, x[rows], y[rows], inside.sum(1), 2, data__support=size, data__query=size, **values
    )
    theta, users = initial(problem), np.arange(heads)
    with torch.no_grad():
        sent = _sent(problem, theta, users)
    phi = [
        {name: theta[name] - value[head] for name, value in sent.items() if name in theta}
        for head in range(heads)
    ]
    shown = np.stack([_margins(problem, one, x, y) for one in phi])
    return _auc(shown, inside), _epsilon(problem, 1)


def on_meta(config: Config, privacy: Privacy, runs: int) -> tuple[float, float | None]:
    """The AUC on the server's parameters after some rounds, and the epsilon of these."""
    rng = seeding.generator(config.run.seed, "membership")
    x, y = _records(rng, RECORDS * EXAMPLES)
    inside = rng.random((runs, RECORDS)) < 0.5
    share = privacy.cohort / privacy.users if privacy.users else 1.0
    rounds = min(config.federation.rounds, ROUNDS)
    shown = np.empty(inside.shape)
    for run, there in enumerate(inside):
        problem = world.problem_of(
            config,
            x,
            y,
            np.full(RECORDS, EXAMPLES),
            2,
            data__support=EXAMPLES // 2,
            data__query=EXAMPLES // 2,
            federation__users_per_round=max(1, round(share * RECORDS)),
            federation__rounds=rounds,
            privacy__noise_cohort_size=0,
            privacy__sampling_rate=0.0,
            server__rate=config.server.rate,  # here the server does learn
            server__optimizer=config.server.optimizer,
            run__seed=config.run.seed + run + 1,
        )
        after = [meta for meta, _ in world.released(problem, there, rounds)]
        theta = after[-1] if after else initial(problem)
        shown[run] = _margins(problem, theta, x, y).reshape(RECORDS, EXAMPLES).mean(1)
    return _auc(shown, inside), _epsilon(problem, rounds)


def _sent(problem: Problem, theta: Params, users: NDArray[np.int64]) -> Params:
    """What each user sends, ``(U, ...)``."""
    if problem.privacy.unit == "example":
        return example.send(problem, theta, users, 1)
    task, inner = loop.tasks_of(problem, users, 1), loop.inner_of(problem, 1)
    return cohort.contribute(
        problem.method, problem.model, theta, task, inner, dual=False, apart=True
    ).total


def _records(rng: np.random.Generator, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    x = rng.standard_normal((count, FEATURES))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x.astype(np.float32), rng.integers(2, size=count)


def _margins(
    problem: Problem, phi: Params, x: NDArray[np.float32], y: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Logit of the right class over the other, of each record."""
    head = {name: value.float() for name, value in phi.items() if "/" not in name}
    logits: Tensor = problem.model.head.logits(head, torch.from_numpy(x)).double()
    found: NDArray[np.float64] = (logits[1] - logits[0]).numpy()
    return np.where(y == 1, found, -found)


def _auc(shown: NDArray[np.float64], inside: NDArray[np.bool_]) -> float:
    return canaries.auc(canaries.likelihood_ratios(shown, inside).ravel(), inside.ravel())


def _epsilon(problem: Problem, rounds: int) -> float | None:
    claim = claimed(problem.config, problem.privacy, rounds)
    return None if claim is None else claim.epsilon
