"""A lower bound beside every claim: what an audit of few canaries finds, or why there is none."""

from typing import Any

from fedmeta.config import Config
from fedmeta.privacy.event import Privacy


def audited(config: Config, privacy: Privacy, canaries: int) -> dict[str, Any]:
    """What :func:`experiments.audit.canary.audit` finds, or a `reason`.

    Args:
        config: of a run.
        privacy: its mechanism.
        canaries: how many; fewer where `privacy.delta` allows no more.
    """
    from experiments.audit import canary  # clients and Flower: not for one who prints a sentence

    try:
        return canary.audit(config, privacy, min(canaries, int(1 / config.privacy.delta)))
    except ValueError as error:  # a method or mechanism that no canary reaches
        return {"reason": str(error)}


def sentence(found: dict[str, Any]) -> str:
    """An audit in a line, with its power."""
    if "reason" in found:
        return f"no audit: {found['reason']}"
    power, loud = found["power"], found["refuted"] or found["refuted_curve"]
    return (
        f"audit{' REFUTES THE CLAIM' if loud else ''}: epsilon is at least"
        f" {found['lower_bound']:.2g}, or {found['lower_bound_curve']:.2g} if noise is Gaussian, by"
        f" {found['canaries']} canaries at confidence 95 %; right noise gives"
        f" {power['at_claimed_noise']:.2g} or {power['curve_at_claimed_noise']:.2g}, a third of it"
        f" {power['at_a_third']:.2g}, and more than {power['largest']:.2g} cannot be found"
    )
