"""The one-run audit of the code that clips and noises (Steinke et al. 2023)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.audit import world
from fedmeta import seeding
from fedmeta.config import Config, ConfigError
from fedmeta.methods import METHODS
from fedmeta.privacy import canaries, tradeoff
from fedmeta.privacy.canaries import Guesses
from fedmeta.privacy.claim import claimed
from fedmeta.privacy.event import Event, Privacy
from fedmeta.privacy.release import clip_of
from fedmeta.privacy.terms import terms
from fedmeta.problem import Problem, initial

LENGTH = 100.0
"""Length of a canary's features: its gradient is far above the clip, and its bias nothing."""
WEIGHT = "output.weight"


class Setting(NamedTuple):
    """Canaries and the mechanism that they meet.

    Attributes:
        problem: with all canaries as users, or of one user who has all of them.
        rounds: in which a canary may be.
        direction: of what a canary sends, over the classes of its own feature ``(C,)``.
        seen: the releases that scores are made of, as an accountant has them.
    """

    problem: Problem
    rounds: int
    direction: NDArray[np.float64]
    seen: tuple[Event, ...]


def audit(config: Config, privacy: Privacy, count: int, power: bool = True) -> dict[str, Any]:
    """The lower bound from one run with so many canaries, beside the claim.

    Args:
        config: what would be run.
        privacy: its mechanism.
        count: canaries.
        power: whether to say what the audit could have found.

    Raises:
        ConfigError: a mechanism or method that it does not reach.
    """
    setting = prepared(config, privacy, count)
    delta, seed = config.privacy.delta, config.run.seed
    rng = seeding.generator(seed, "audit")
    guesses = canaries.chosen(setting.seen, count, delta, rng)
    bound, right = once(setting, guesses, delta, rng)
    by_curve = tradeoff.lower_bound(setting.seen, count, sum(guesses), right, delta)
    claim = claimed(setting.problem.config, setting.problem.privacy, setting.rounds)
    told = None if claim is None else claim.epsilon
    out: dict[str, Any] = {
        "unit": privacy.unit,
        "mechanism": privacy.mechanism,
        "delta": delta,
        "rounds": setting.rounds,
        "canaries": count,
        "guesses": sum(guesses),
        "right": right,
        "lower_bound": bound,
        "lower_bound_curve": by_curve,
        "claimed": told,
        "refuted": told is not None and bound > told,
        "refuted_curve": told is not None and by_curve > told,
        "seen": "the outer gradient" if _outer(config) else "all that is released",
    }
    if power:
        could = canaries.power(setting.seen, count, guesses, delta, rng)
        out["power"] = {
            "at_claimed_noise": float(np.median(could.at_claim)),
            "at_a_third": float(np.median(could.at_third)),
            "curve_at_claimed_noise": _curve_at_claim(setting.seen, count, guesses, delta, rng),
            "caught_at_a_third": None if told is None else float((could.at_third > told).mean()),
            "largest": could.largest,
        }
    return out


def _curve_at_claim(
    seen: tuple[Event, ...], count: int, guesses: Guesses, delta: float, rng: np.random.Generator
) -> float:
    """The median bound by the curve of ideal mechanisms with the claimed noise."""
    found = []
    for _ in range(5):
        included = rng.random(count) < 0.5
        right = canaries.right_of(canaries.ideal(seen, included, rng), included, guesses)
        found.append(tradeoff.lower_bound(seen, count, sum(guesses), right, delta))
    return float(np.median(found))


def once(
    setting: Setting, guesses: Guesses, delta: float, rng: np.random.Generator
) -> tuple[float, int]:
    """The lower bound of one run, and the number of right guesses."""
    population = setting.problem.population
    users = len(population.store.ids)
    count = len(population.store.label) if users == 1 else users
    included = rng.random(count) < 0.5
    scores = np.zeros(count)
    for mean in _means(setting, included):
        scores += setting.direction @ mean
    right = canaries.right_of(scores, included, guesses)
    return canaries.lower_bound(count, sum(guesses), right, delta), right


def prepared(config: Config, privacy: Privacy, count: int) -> Setting:
    """The canaries of a mechanism.

    Raises:
        ConfigError: a mechanism or method that it does not reach, too few canaries.
    """
    method = METHODS[config.method.name]
    if method.contribute is None or not method.sends(WEIGHT) or "trunk" in method.needs:
        raise ConfigError(
            f"method.name = {method.name!r}: the audit looks at the weights of a linear head,"
            " which this method does not send; audit another, reptile for example"
        )
    if privacy.mechanism == "local":
        raise ConfigError(
            "privacy.mechanism = 'local' is not audited: a user is one release of its own, and"
            " others are no canaries for it; audit 'gaussian' or 'banded'"
        )
    if not 20 <= count <= 1 / config.privacy.delta:
        raise ConfigError(
            f"--canaries {count}: expected 20 to 1 / privacy.delta ="
            f" {1 / config.privacy.delta:.0f}; 2000 show a third of the noise at epsilon 2"
        )
    if privacy.unit == "example":
        problem, rounds = _examples(config, count), privacy.times(config.federation.rounds)
        # Of a method with a query set, its gradient: the last that is charged.
        seen = problem.privacy.events(rounds)[-1][-1:]
    else:
        problem, rounds = _users(config, privacy, count), config.federation.rounds
        seen = tuple(e for part in problem.privacy.events(rounds) for e in part)
    return Setting(problem, rounds, _direction(problem), seen)


def _users(config: Config, privacy: Privacy, count: int) -> Problem:
    """Each canary is a user, in the same share of the rounds as the config's users."""
    # Of a declared deployment, the rate that it was charged at: its noise is the claimed one.
    rate = privacy.charge[0][0].sampling_rate if privacy.poisson else privacy.cohort / privacy.users
    features = np.repeat(_features(count), 2, axis=0)
    sizes = np.full(count, 2)
    values: dict[str, Any] = {"method__rate": world.STILL} if _splits(config) else {}
    return world.problem_of(
        config,
        features,
        np.zeros(2 * count, dtype=np.int64),
        sizes,
        2,
        data__support=1,
        data__query=1,
        federation__users_per_round=max(1, round(rate * count)),
        privacy__noise_cohort_size=0,
        privacy__sampling_rate=0.0,
        **values,
    )


def _examples(config: Config, count: int, there: NDArray[np.bool_] | None = None) -> Problem:
    """One user, of whom each example is a canary; those that are not there he does not have."""
    found = terms(config, METHODS[config.method.name])
    kept = np.ones(count, dtype=bool) if there is None else there
    return world.problem_of(
        config,
        _features(count)[kept],
        np.zeros(int(kept.sum()), dtype=np.int64),
        np.array([int(kept.sum())]),
        2,
        data__support=1,  # with a query set all but a few are in it, where they can be seen
        data__query=count,
        method__rate=world.STILL,
        method__steps=found.steps,
        federation__users_per_round=1,
        privacy__sampling_rate=found.rate,
        privacy__expected_batch=max(1, round(found.divisor)),
    )


def _means(setting: Setting, included: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Of each round, what was released of the weights, ``(C, canaries)``."""
    problem, there = setting.problem, included
    found = []
    if problem.privacy.unit == "example":
        # The coins say what data the user has; all else is public, and the same.
        config = problem.config
        problem, there = _examples(config, len(included), included), np.ones(1, dtype=bool)
    for _, mean in world.released(problem, there, setting.rounds):
        found.append(mean[WEIGHT].double().numpy())
    return found


def _direction(problem: Problem) -> NDArray[np.float64]:
    """What the first canary alone sends in its own feature, of length 1.

    Raises:
        ConfigError: it does not come near the clip, so that it would show less than there is.
    """
    theta, privacy = initial(problem), problem.privacy
    if privacy.unit == "example":
        return np.array([-1.0, 1.0]) / 2**0.5  # softmax less the label, at zero
    clip = clip_of(privacy, {})
    norm = clip.norm if clip else 0.0
    reply = world.sent(problem, theta, np.array([0]), 1, norm)
    sent = np.asarray(reply.total[WEIGHT], dtype=np.float64)[:, 0]
    length = float(np.linalg.norm(sent))
    if clip and length < 0.95 * norm:
        raise ConfigError(
            f"method.name = {problem.method.name!r}: a canary sends {length:.3g} of"
            f" privacy.clip = {norm:g}, so that the audit would see too little; use a smaller clip"
        )
    return np.asarray(sent / length)


def _features(count: int) -> NDArray[np.float32]:
    return LENGTH * np.eye(count, dtype=np.float32)


def _splits(config: Config) -> bool:
    return METHODS[config.method.name].splits


def _outer(config: Config) -> bool:
    return config.privacy.unit == "example" and _splits(config)
