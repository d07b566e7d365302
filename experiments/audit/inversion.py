"""Reading a user's one example out of what he sends: inversion of the linear head's gradient.

At parameters of zero the gradient of a softmax head by one example is the outer product of the
error (1 / C less the label) and the features (Zhu et al. 2019; Geiping et al. 2020, proposition
3.1): its rows, weighed by the error, are the features, and its bias is the error. The attacker
knows the server's parameters and, for the features, the label; he adds up all rounds.
"""

from typing import Any, NamedTuple

import numpy as np

from experiments.audit import world
from fedmeta import seeding
from fedmeta.config import Config, flatten, parse
from fedmeta.methods import METHODS
from fedmeta.privacy.event import Privacy
from fedmeta.privacy.terms import terms
from fedmeta.problem import Problem

FEATURES, CLASSES = 384, 5
MOST = 100
"""Rounds that are added up at most."""


class Read(NamedTuple):
    """Means over trials: cosine to the features and share of right labels, of one round and all."""

    cosine: float
    label: float
    cosine_all: float
    label_all: float


def invert(config: Config, privacy: Privacy, trials: int) -> dict[str, Any]:
    """What is read with the config's mechanism and without any.

    Args:
        config: what would be run.
        privacy: its mechanism.
        trials: users of one example who are attacked.
    """
    rounds = privacy.times(config.federation.rounds)
    if privacy.poisson:  # those in which he took part, which the attacker is told
        rounds = round(privacy.charge[0][0].sampling_rate * rounds)
    rounds = min(max(rounds, 1), MOST)
    off = parse({**flatten(config), "privacy.unit": "off"})
    return {
        "rounds": rounds,
        "trials": trials,
        "chance": 1 / CLASSES,
        "off": read(off, trials, 1)._asdict(),
        "on": read(config, trials, rounds)._asdict(),
    }


def read(config: Config, trials: int, rounds: int) -> Read:
    """The attack on some users, each alone."""
    rng = seeding.generator(config.run.seed, "inversion")
    found = np.empty((trials, 4))
    for trial in range(trials):
        x = rng.standard_normal(FEATURES)
        x, y = x / np.linalg.norm(x), int(rng.integers(CLASSES))
        problem = _problem(config, x, y, trial)
        weight, bias = np.zeros((CLASSES, FEATURES)), np.zeros(CLASSES)
        error = 1 / CLASSES - (np.arange(CLASSES) == y)
        for number, (_, mean) in enumerate(world.released(problem, None, rounds)):
            weight += mean["output.weight"].double().numpy()
            bias += mean["output.bias"].double().numpy()
            guess = error @ weight
            seen = float(guess @ x / max(float(np.linalg.norm(guess)), 1e-30))
            at = slice(0, 2) if not number else slice(2, 4)
            found[trial, at] = seen, bias.argmin() == y
        if rounds == 1:
            found[trial, 2:] = found[trial, :2]
    return Read(*found.mean(0).tolist())


def _problem(config: Config, x: Any, y: int, trial: int) -> Problem:
    """One user of one example, whom all that is released is about."""
    values: dict[str, Any] = {"method__steps": 1, "method__rate": 1.0}
    if config.privacy.unit == "example":
        found = terms(config, METHODS[config.method.name])
        values = {
            "method__steps": found.steps,
            "method__rate": world.STILL,
            "privacy__sampling_rate": found.rate,
            "privacy__expected_batch": max(1, round(found.divisor)),
        }
    elif config.privacy.unit == "user":  # so long a step that it is cut to the clip, not less
        values["method__rate"] = 10.0 * config.privacy.clip
    return world.problem_of(
        config,
        np.asarray(x, dtype=np.float32)[None],
        np.array([y]),
        np.array([1]),
        CLASSES,
        method__name="reptile",
        method__mu=0.0,
        data__support=1,
        data__query=1,
        federation__users_per_round=1,
        privacy__bands=1,
        privacy__noise_cohort_size=0,
        run__seed=config.run.seed + trial + 1,
        **values,
    )
