"""The cells of a frontier: which can be run, with the noise that each epsilon takes."""

import math
from functools import lru_cache
from typing import NamedTuple

from experiments.frontier.asked import Asked, label
from experiments.selection import misfit, with_method
from fedmeta.config import Config, ConfigError
from fedmeta.methods import METHODS
from fedmeta.privacy.calibration import factor_for
from fedmeta.privacy.claim import check_budget
from fedmeta.privacy.event import Charge, Privacy
from fedmeta.problem import build

OFF = "off"
"""The mechanism of cells without privacy: infinity, and methods that need no federation."""

PLACES = {
    "user/gaussian": ("adaptive_quantile", "noise_cohort_size"),
    "user/banded": ("bands",),
    "example/gaussian": ("expected_batch", "split"),
}
"""Settings that one mechanism alone reads: the others' cells have them at their defaults, so that
one config serves several mechanisms."""


class Cell(NamedTuple):
    """One run.

    Attributes:
        mechanism: unit/mechanism, or :data:`OFF`.
        method: its name.
        epsilon: asked for; infinity without privacy.
        seed: `run.seed`.
        config: with the noise that the epsilon takes.
    """

    mechanism: str
    method: str
    epsilon: float
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """Of its folder."""
        how = "" if self.mechanism == OFF else f"-epsilon{label(self.epsilon)}"
        return f"{self.mechanism.replace('/', '-')}/{self.method}{how}-seed{self.seed}"


class LeftOut(NamedTuple):
    """What is not run, and why; `epsilon` None: at all of them."""

    mechanism: str
    method: str
    epsilon: float | None
    reason: str


class Cells(NamedTuple):
    """What is run and what is not, and a mechanism for each pair of mechanism and method."""

    run: tuple[Cell, ...]
    left_out: tuple[LeftOut, ...]
    privacy: dict[tuple[str, str], Privacy]


def cells(config: Config, asked: Asked) -> Cells:
    """Every cell, checked and calibrated; what cannot be run is left out with the reason.

    Args:
        config: of all runs; its method, seed, unit, mechanism and noise are replaced.
        asked: the axes.

    Raises:
        ConfigError: nothing private is left.
    """
    # A frontier audits each mechanism and epsilon once, not each run.
    config = config.model_copy(update={"run": config.run.model_copy(update={"canaries": 0})})
    run, left_out = [], []
    privacy: dict[tuple[str, str], Privacy] = {}
    seeds = range(config.run.seed, config.run.seed + asked.seeds)
    bare = without(config)
    for name in asked.methods:
        if reason := misfit(bare, name):
            left_out.append(LeftOut(OFF, name, None, reason))
            continue
        run += [Cell(OFF, name, math.inf, s, with_method(bare, name, s)) for s in seeds]
        if METHODS[name].contribute is None:
            continue  # nothing leaves a user: it costs nothing, whatever epsilon is asked for
        for mechanism in asked.mechanisms:
            mine = under(with_method(config, name), mechanism)
            found = _mechanism(mine)
            if isinstance(found, str):
                left_out.append(LeftOut(mechanism, name, None, found))
                continue
            privacy[mechanism, name] = found
            charge = found.events(config.federation.rounds)
            for epsilon in asked.epsilons:
                try:
                    ready = with_noise(mine, _factor(epsilon, config.privacy.delta, charge))
                    check_budget(ready, build(ready).privacy)
                except ValueError as error:
                    left_out.append(LeftOut(mechanism, name, epsilon, str(error)))
                    continue
                run += [
                    Cell(mechanism, name, epsilon, s, with_method(ready, name, s)) for s in seeds
                ]
    if all(cell.mechanism == OFF for cell in run):
        reasons = "; ".join(dict.fromkeys(one.reason for one in left_out))
        raise ConfigError(f"frontier: no cell with privacy can be run: {reasons}")
    # Seed by seed, so that a frontier that is stopped is whole for the seeds that it has.
    run.sort(key=lambda cell: cell.seed)
    return Cells(tuple(run), tuple(left_out), privacy)


def without(config: Config) -> Config:
    """The config without privacy and noise, its other settings of privacy at their defaults."""
    return config.model_copy(update={"privacy": type(config.privacy)(noise_multiplier=0.0)})


def under(config: Config, mechanism: str) -> Config:
    """The config under a mechanism at noise multiplier 1."""
    unit, kind = mechanism.split("/")
    fields = type(config.privacy).model_fields
    update = {
        name: fields[name].default
        for other, names in PLACES.items()
        for name in names
        if other != mechanism
    }
    # The rate is that of a declared cohort where there is one, otherwise of examples in a step.
    reads = "user/gaussian" if config.privacy.noise_cohort_size else "example/gaussian"
    if mechanism != reads:
        update["sampling_rate"] = fields["sampling_rate"].default
    update |= {"unit": unit, "mechanism": kind, "noise_multiplier": 1.0}
    return config.model_copy(update={"privacy": config.privacy.model_copy(update=update)})


def with_noise(config: Config, noise: float) -> Config:
    """The config with another noise multiplier."""
    privacy = config.privacy.model_copy(update={"noise_multiplier": noise})
    return config.model_copy(update={"privacy": privacy})


def _mechanism(config: Config) -> Privacy | str:
    """The mechanism of a config, or why there is none of which an epsilon may be told."""
    try:
        privacy = build(config).privacy
    except ConfigError as error:
        return str(error)
    return f"no epsilon may be told: {'; '.join(privacy.broken)}" if privacy.broken else privacy


@lru_cache(maxsize=256)
def _factor(epsilon: float, delta: float, charge: Charge) -> float:
    """Methods that cost the same are searched once."""
    return factor_for(epsilon, delta, charge)
