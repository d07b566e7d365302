"""``fedmeta epsilon``: what a run will cost in privacy, before it is run."""

import math
from typing import Any

import numpy as np
import torch
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fedmeta import device_rules, robust
from fedmeta.config import Config, ConfigError
from fedmeta.data.sources import load
from fedmeta.heads import HEADS
from fedmeta.methods import METHODS
from fedmeta.population import populate
from fedmeta.privacy.accounting import Beside, beside
from fedmeta.privacy.calibration import factor_for
from fedmeta.privacy.claim import as_json, claimed
from fedmeta.privacy.event import Charge, Privacy
from fedmeta.privacy.plan import plan
from fedmeta.privacy.refusals import check_settings, checked, in_the_clear

TARGETS = (1.0, 2.0, 4.0, 8.0)
WIDTH = 384
"""Features of the usual text encoder, where no others are known."""
CLASSES = 2
HEAD_SIZES = (("linear", 0), ("mlp", 8), ("mlp", 16), ("mlp", 32), ("mlp", 64), ("mlp", 128))


def query(config: Config, users: int | None = None) -> dict[str, Any]:
    """Cost, noise for some epsilons, and noise over clip by size of head.

    Args:
        config: what would be run.
        users: training users, a public number; None: as many as the data have. If it is given, no
            data are read, and what depends on them is not checked.

    Raises:
        ConfigError: privacy is off, or the settings do not fit together.
    """
    if config.privacy.unit == "off":
        raise ConfigError(
            "privacy.unit = 'off': nothing is protected and nothing is claimed; set it to 'example'"
            " or 'user', and privacy.noise-multiplier"
        )
    if users is not None and users < 1:
        raise ConfigError(f"--users {users}: expected 1 or more training users")
    if config.method.name not in METHODS:
        raise ConfigError(
            f"method.name = {config.method.name!r}: expected one of {', '.join(METHODS)}"
        )
    privacy, width, classes = mechanism_of(config, users)
    claim = claimed(config, privacy)
    charge = privacy.events(config.federation.rounds)
    delta = config.privacy.delta
    told = None if privacy.broken else beside(charge, delta)
    return {
        "claim": as_json(claim),
        "beside": None if told is None else told._asdict(),
        "rounds": config.federation.rounds,
        "times": privacy.times(config.federation.rounds),
        "users": privacy.users,
        "cohort": privacy.cohort,
        "noise_multiplier": privacy.noise_multiplier,
        "clip": privacy.clip,
        "noise_for": {} if privacy.broken else _needed(config, privacy, charge),
        "heads": heads(config, privacy, width, classes),
        "largest_head": int((1 / over_clip(config, privacy, 1)) ** 2),
        "data_checked": users is None,
    }


def over_clip(config: Config, privacy: Privacy, size: int) -> float:
    """Norm of the noise over the clip, on what a step moves by: ``z sqrt(d) / m``.

    For users it is that of a round's mean; for examples that of one step of one user.
    """
    share = math.sqrt(size) * privacy.noise
    if privacy.unit == "example":
        from fedmeta.privacy.terms import terms

        return share / terms(config, METHODS[config.method.name]).divisor
    return share / (privacy.expected if privacy.mechanism != "local" else privacy.expected**0.5)


def mechanism_of(config: Config, users: int | None) -> tuple[Privacy, int, int]:
    """The mechanism of a config, the width of the features and the classes; see :func:`query`."""
    method = METHODS[config.method.name]
    device_rules.check(config)
    if users is not None:
        check_settings(method, config)
        robust.check(method, config, users)
        return plan(config, users, in_the_clear(method, None, config)), WIDTH, CLASSES
    store = load(config.data)
    # What the mechanism depends on is no feature's value, so none are computed.
    blank = np.zeros((len(store.items), 1), dtype=np.float32)
    population = populate(store, blank, config.data)
    known = store.items.shape[1] if isinstance(store.items, np.ndarray) else WIDTH
    width = known if store.modality == "features" else WIDTH
    privacy = checked(method, population, config)
    robust.check(method, config, privacy.users)
    return privacy, width, population.outputs


def _needed(config: Config, privacy: Privacy, charge: Charge) -> dict[str, float]:
    """Noise multiplier for each target. All noises of a mechanism are in proportion to it."""
    if not any(charge):
        return {}
    delta = config.privacy.delta
    return {
        f"{target:g}": factor_for(target, delta, charge) * privacy.noise_multiplier
        for target in TARGETS
    }


def heads(config: Config, privacy: Privacy, width: int, classes: int) -> list[dict[str, Any]]:
    """Noise over clip by head, for heads on so many features: a row each."""
    rows = []
    for name, hidden in HEAD_SIZES:
        head = HEADS[name](width, classes, hidden=hidden or 1, experts=config.head.experts)
        size = sum(value.numel() for value in head.init(torch.Generator()).values())
        label = f"{name} {width}-{hidden}-{classes}" if hidden else f"{name} {width}-{classes}"
        ratio = over_clip(config, privacy, size)
        short = f"{name}{hidden or ''}"
        rows.append({"head": label, "short": short, "parameters": size, "noise_over_clip": ratio})
    return rows


def table(found: dict[str, Any]) -> RenderableType:
    """What :func:`query` found, on one screen."""
    claim, lines = found["claim"], []
    out = Table(title=escape(f"privacy of each {claim['unit']} ({claim['mechanism']})"))
    for heading in ("epsilon", "noise multiplier", "noise over clip by head"):
        out.add_column(heading)
    heads = found["heads"]
    for target, noise in found["noise_for"].items():
        scale = noise / found["noise_multiplier"]
        out.add_row(target, f"{noise:.3f}", _ratios(heads, scale))
    told = "-" if claim["epsilon"] is None else f"{claim['epsilon']:.3f}"
    out.add_row(told, f"{found['noise_multiplier']:.3f} (this config)", _ratios(heads, 1.0))
    lines.append(f"hard to tell apart: {claim['protects']}; trusts {claim['trusts']}")
    lines.append(
        f"{found['rounds']} rounds, {found['cohort']} of {found['users']} users each; charged"
        f" {found['times']} times; delta {claim['delta']:g}"
    )
    if found["beside"]:
        by = Beside(**found["beside"])
        lines.append(
            f"by PLD {by.pld:.4g}; beside it RDP {by.rdp_opacus:.4g} (Opacus) and"
            f" {by.rdp_google:.4g} (dp-accounting), PRV {by.prv_opacus:.4g}"
        )
    if claim["extrapolated"]:
        lines.append(
            f"epsilon is extrapolated to a deployment with {claim['extrapolated']:,} users per"
            f" round of {claim['deployed']:,}; the users simulated here have less"
        )
    lines.extend(f"no epsilon: {reason}" for reason in claim["reasons"])
    sizes = ", ".join(f"{row['head']} {row['parameters']:,}" for row in heads)
    lines.append(f"parameters by head: {sizes}")
    lines.append(f"noise exceeds the clip from {found['largest_head']:,} parameters on")
    if not found["data_checked"]:
        lines.append("the data were not read: what depends on them is not checked")
    return Group(out, *(Text(line) for line in lines))


def _ratios(heads: list[dict[str, Any]], scale: float) -> str:
    return "  ".join(f"{row['short']} {scale * row['noise_over_clip']:.2g}" for row in heads)
