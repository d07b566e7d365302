"""One update out of those of a round's users, by the rule of the config."""

import math

import torch
from torch import Tensor

from fedmeta.config import Config, ConfigError
from fedmeta.methods import Method
from fedmeta.robust.rules import RULES, bounded, dissimilar, trimmed_mean
from fedmeta.sections.robust import RobustConfig
from fedmeta.types import Params


def is_on(settings: RobustConfig) -> bool:
    """Whether a rule needs the users' contributions one by one; a mean needs their sum alone."""
    return settings.rule != "mean"


def aggregate(settings: RobustConfig, rows: Params) -> dict[str, Tensor]:
    """What stands for the mean contribution of a round.

    Args:
        settings: with a rule.
        rows: the users' contributions ``(n, ...)`` by name, in a fixed order of the users.

    Returns:
        Float64, in the server's shapes. A rule sees all parameters of a user as one vector;
        `dissimilar` compares the largest array alone, the one that meets the features.

    Raises:
        ValueError: fewer users than the rule needs.
    """
    names = sorted(rows)
    n = len(rows[names[0]])
    f, rule = byzantine(settings, n), RULES[settings.rule]
    if n < _least(settings, f):
        raise ValueError(_short(settings, f, n, f"{n} users are in the round"))
    if why := _all_trimmed(settings, n):
        raise ValueError(why)
    flat = torch.cat([rows[name].reshape(n, -1).double() for name in names], 1)
    if settings.norm_bound:
        flat = bounded(flat, settings.norm_bound)
    if settings.rule == "trimmed-mean" and settings.trim:
        found = trimmed_mean(flat, _share(settings.trim, n))
    elif settings.rule == "dissimilar":
        found = dissimilar(flat, f, _widest(rows).reshape(n, -1).double())
    else:
        found = rule.apply(flat, f)
    parts = torch.split(found, [rows[name][0].numel() for name in names])
    return {name: p.view(rows[name].shape[1:]) for name, p in zip(names, parts, strict=True)}


def _widest(rows: Params) -> Tensor:
    """The largest array; of equal ones the first by name."""
    return rows[max(sorted(rows), key=lambda name: rows[name].numel())]


def byzantine(settings: RobustConfig, n: int) -> int:
    """The malicious users among n that the rule is to bear.

    >>> byzantine(RobustConfig(byzantine=0.2), 11), byzantine(RobustConfig(byzantine=3), 11)
    (3, 3)
    """
    given = settings.byzantine
    return int(given) if given >= 1 else _share(given, n)


def check(method: Method, config: Config, training: int) -> None:
    """Refuse what a rule cannot work with, before anything is run.

    Args:
        method: what is to be run.
        config: all settings.
        training: number of training users.

    Raises:
        ConfigError: what does not fit, and the nearest combination that does.
    """
    settings, name = config.robust, f"robust.rule = {config.robust.rule!r}"
    if not is_on(settings) or method.contribute is None:
        return
    if settings.byzantine >= 1 and settings.byzantine % 1:
        raise ConfigError(
            f"robust.byzantine = {settings.byzantine:g}: expected a share below 1, or a whole"
            " number of users"
        )
    if settings.rule in ("norm-bound", "dissimilar") and not settings.norm_bound:
        raise ConfigError(
            f"{name} with robust.norm-bound = 0 bounds nobody's length; set robust.norm-bound ="
            " 1.0, or robust.rule = 'mean'"
        )
    if config.privacy.unit != "off":
        raise ConfigError(
            f"{name} with privacy.unit = {config.privacy.unit!r}: the noise is made for a sum of"
            " clipped contributions, and one user can move what a rule gives by more than the"
            " clip; set robust.rule = 'mean' (the clip bounds everybody's length), or privacy.unit"
            " = 'off'"
        )
    if config.federation.weighting != "uniform":
        raise ConfigError(
            f"{name} counts every user once, and federation.weighting ="
            f" {config.federation.weighting!r} lets users say what they count; set"
            " federation.weighting = 'uniform'"
        )
    if reason := _sums(method):
        raise ConfigError(
            f"{name} does not work with method.name = {method.name!r}: {reason}, so that there is"
            " no mean of directions that a rule could replace; set robust.rule = 'mean', or take a"
            " method such as reptile, fedavg-ft or maml"
        )
    users = min(config.federation.users_per_round, training)
    f = byzantine(settings, users)
    if users < _least(settings, f):
        text = f"{users} users are in a round (federation.users-per-round and training users)"
        raise ConfigError(_short(settings, f, users, text))
    if why := _all_trimmed(settings, users):
        raise ConfigError(why)


def _sums(method: Method) -> str:
    """Why what leaves the users of a method is no direction of descent alone, or ""."""
    if method.generator is not None:
        return "each user is sent parameters of his own"
    if method.weighs:
        return "a user's weight depends on his data"
    if method.beside or method.statistics:
        names = ", ".join(dict.fromkeys((*method.beside, *method.statistics)))
        return f"users also send counts or sums ({names}), which the server divides by"
    return ""


def _least(settings: RobustConfig, f: int) -> int:
    return RULES[settings.rule].least(f)


def _all_trimmed(settings: RobustConfig, n: int) -> str:
    """Why the trimmed mean of n users would be a mean of nothing, or ""."""
    cut = _share(settings.trim, n)
    if settings.rule != "trimmed-mean" or 2 * cut < n:
        return ""
    return (
        f"robust.trim = {settings.trim:g} leaves out {cut} of {n} users at each end, and so all of"
        f" them; use robust.trim = {(n - 1) // 2 / n:.2g} or less, or more users per round"
    )


def _share(share: float, n: int) -> int:
    # 0.1 * 30 is a little more than 3.
    return math.ceil(share * n - 1e-9)


def _short(settings: RobustConfig, f: int, n: int, found: str) -> str:
    """The message for too few users."""
    rule = RULES[settings.rule]
    most = max((k for k in range(f) if rule.least(k) <= n), default=None)
    able = [name for name, other in RULES.items() if other.least(f) <= n]
    remedy = f"robust.byzantine = {most} or less, " if most else ""
    return (
        f"robust.rule = {settings.rule!r} bears f = {f} malicious users (robust.byzantine ="
        f" {settings.byzantine:g}) with {rule.needs}, that is {rule.least(f)} users, and {found};"
        f" use {remedy}more users per round, or a rule that needs fewer: {', '.join(able)}"
    )
