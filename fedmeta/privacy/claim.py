"""What may be claimed of a run: an epsilon, or the reasons why there is none."""

from typing import Any, NamedTuple

from fedmeta.config import Config, ConfigError
from fedmeta.methods import METHODS
from fedmeta.privacy.accounting import epsilon
from fedmeta.privacy.calibration import noise_for, times_within
from fedmeta.privacy.event import Charge, Privacy


class Claim(NamedTuple):
    """What is said of a run.

    Attributes:
        epsilon: by PLD, of the user who pays most; None: none may be told.
        delta: at which.
        unit, mechanism: as the config names them.
        protects: what two data sets that are hard to tell apart differ in.
        trusts: whom the record has to trust.
        extrapolated: users per round of the deployment that it is the epsilon of; 0: of this run.
        reasons: why there is no epsilon.
        deployed: users of that deployment in all, as its sampling rate has it; 0: this run's.
    """

    epsilon: float | None
    delta: float
    unit: str
    mechanism: str
    protects: str
    trusts: str
    extrapolated: int
    reasons: tuple[str, ...]
    deployed: int = 0


def claimed(
    config: Config, privacy: Privacy, rounds: int | None = None, failed: int = 0
) -> Claim | None:
    """The claim of a run of so many rounds, all of the config's if None; None: privacy is off.

    ``failed`` is how many updates failed: where users are protected from the server, which is told
    who failed and why, none of them may.
    """
    if privacy.unit == "off":
        return None
    charge = privacy.events(config.federation.rounds if rounds is None else rounds)
    if METHODS[config.method.name].contribute is None:
        charge = ()  # nothing leaves
    delta, reasons = config.privacy.delta, privacy.broken
    if failed and privacy.unit == "example":
        reasons = (*reasons, f"{failed} updates failed, and the server was told whose and why")
    return Claim(
        epsilon=None if reasons else _within(config, privacy, epsilon(charge, delta)),
        delta=delta,
        unit=privacy.unit,
        mechanism=privacy.mechanism,
        protects=privacy.adjacency,
        trusts=privacy.trusts,
        extrapolated=privacy.declared,
        reasons=reasons,
        deployed=round(privacy.declared / privacy.charge[0][0].sampling_rate)
        if privacy.declared
        else 0,
    )


def _within(config: Config, privacy: Privacy, cost: float) -> float:
    """The cost; where users stop at their budget, no more than that."""
    budget = config.privacy.epsilon_budget
    return min(cost, budget) if budget and privacy.unit == "example" else cost


def sentence(claim: Claim) -> str:
    """A claim in a line."""
    what = f"privacy of each {claim.unit} ({claim.mechanism})"
    if claim.epsilon is None:
        return f"{what}: no epsilon, because {'; '.join(claim.reasons)}"
    text = f"{what}: epsilon {claim.epsilon:.3g} at delta {claim.delta:g} (PLD)"
    if claim.extrapolated:
        text += (
            f", extrapolated to a deployment with {claim.extrapolated:,} users per round of"
            f" {claim.deployed:,}; the users simulated here have less"
        )
    return text


def as_json(claim: Claim | None) -> dict[str, Any] | None:
    """A claim for ``summary.json``."""
    return None if claim is None else claim._asdict() | {"reasons": list(claim.reasons)}


def check_budget(config: Config, privacy: Privacy) -> None:
    """Refuse a run that its budget cannot pay for, before it starts.

    Raises:
        ConfigError: with the rounds or the noise that would do.
    """
    budget, delta = config.privacy.epsilon_budget, config.privacy.delta
    if not budget or not privacy.charge or METHODS[config.method.name].contribute is None:
        return
    rounds = config.federation.rounds if privacy.unit == "user" else 1
    cost = epsilon(privacy.events(rounds), delta)
    if cost <= budget:
        return

    def scaled(factor: float) -> Charge:
        return tuple(
            tuple(e._replace(noise_multiplier=factor * e.noise_multiplier) for e in part)
            for part in privacy.events(rounds)
        )

    noise = noise_for(budget, delta, scaled) * privacy.noise_multiplier
    lasts = times_within(budget, delta, privacy.events)
    fewer = f" or federation.rounds = {lasts}" if privacy.unit == "user" and lasts else ""
    raise ConfigError(
        f"privacy.epsilon-budget = {budget:g}: {rounds} rounds cost epsilon {cost:.3g} at delta"
        f" {delta:g}; use privacy.noise-multiplier = {noise:.4g}{fewer}, or a larger budget"
    )
