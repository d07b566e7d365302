"""Which methods a comparison runs: those asked for, the honest baselines, and what cannot work."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments import settings
from fedmeta.config import Config, ConfigError
from fedmeta.methods import METHODS
from fedmeta.problem import build
from strategies import checkpoint

ALL = "all"
PLAN = "plan.json"
HONEST = ("local", "bias", "fedavg", "fedavg-ft", "protonet-frozen")
"""What a method has to show itself against, where it is registered and can work."""


class Plan(NamedTuple):
    """What a comparison is to run, as it was asked for."""

    methods: list[str]
    seeds: int = 1
    baselines: bool = True


class Selection(NamedTuple):
    """Methods to run.

    Attributes:
        methods: all of them, those asked for first.
        added: the baselines among them that nobody asked for.
        left_out: why others cannot work here, by name.
    """

    methods: tuple[str, ...]
    added: tuple[str, ...] = ()
    left_out: dict[str, str] = {}  # noqa: RUF012


def select(config: Config, asked: Sequence[str], baselines: bool) -> Selection:
    """The methods of a comparison.

    Args:
        config: of the runs; what fits depends on its head and data.
        asked: names, or ``("all",)``: then those that cannot work are left out with the reason.
        baselines: whether the honest baselines are to be added.

    Raises:
        ConfigError: an unknown method, or one asked for by name that cannot work here.
    """
    every = tuple(asked) == (ALL,)
    names = tuple(METHODS) if every else tuple(dict.fromkeys(asked))
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise ConfigError(
            f"--methods {','.join(asked)!r}: expected {ALL}, or methods out of {', '.join(METHODS)}"
        )
    reasons = {name: reason for name in names if (reason := misfit(config, name))}
    if reasons and not every:
        raise ConfigError(next(iter(reasons.values())))
    added = [name for name in HONEST if baselines and name in METHODS and name not in names]
    reasons |= {name: reason for name in added if (reason := misfit(config, name))}
    kept = tuple(name for name in names if name not in reasons)
    if not kept:
        raise ConfigError("; ".join(reasons.values()))
    extra = tuple(name for name in added if name not in reasons)
    return Selection(kept + extra, extra, reasons)


def misfit(config: Config, name: str) -> str:
    """Why a method cannot work with the head, data and settings of a config, or ""."""
    try:
        build(with_method(config, name))
    except ConfigError as error:
        return str(error)
    return ""


def with_method(config: Config, name: str, seed: int | None = None) -> Config:
    """The config with another method, and another seed if one is given."""
    method = config.method.model_copy(update={"name": name})
    if seed is None:
        return config.model_copy(update={"method": method})
    run = config.run.model_copy(update={"seed": seed})
    return config.model_copy(update={"method": method, "run": run})


def go_on(folder: Path, plan: Plan, config: Config) -> None:
    """Refuse to go on with fewer methods or seeds than were begun, or with other settings.

    Raises:
        ConfigError, CheckpointError: what differs.
    """
    before = planned(folder)
    if set(before.methods) - set(plan.methods) or before.seeds > plan.seeds:
        raise ConfigError(
            f"--resume {str(folder)!r} was begun with {before.seeds} seed(s) of"
            f" {','.join(before.methods)}, not {plan.seeds} of {','.join(plan.methods)}; leave"
            " --methods and --seeds away, name more of them, or start anew in another --out"
        )
    was = checkpoint.decisive(settings.read(folder / "config.toml"))
    checkpoint.same(was, checkpoint.decisive(config), folder)


def planned(folder: Path) -> Plan:
    """What a comparison that was left had to run.

    Raises:
        ConfigError: no comparison was begun in the folder.
    """
    try:
        plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        names = [str(name) for name in plan["methods"]]
        return Plan(names, int(plan["seeds"]), bool(plan["baselines"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--resume {str(folder)!r}: {PLAN} cannot be read ({error}); expected the folder of a"
            " comparison"
        ) from None
