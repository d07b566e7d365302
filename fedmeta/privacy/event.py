"""What a mechanism is: sampling, clip, noise, denominator and cost in one object that cannot drift.

A :class:`Privacy` is made once from a config by :func:`fedmeta.privacy.plan.plan`. The rounds take
their cohorts, clip, noise and denominator from it, and the accountant its charges, so that no part
can be changed and another not. "off" is one too: no clip, no noise, no charge.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple


class Event(NamedTuple):
    """Releases of a Gaussian mechanism on records that are sampled by chance.

    Attributes:
        noise_multiplier: standard deviation of the noise over the most that one record moves what
            is released, under the adjacency of the :class:`Privacy`.
        sampling_rate: chance of a record to be in a release, drawn for each record alone and kept
            secret (Poisson); 1: no amplification.
        count: releases.
    """

    noise_multiplier: float
    sampling_rate: float = 1.0
    count: int = 1  # type: ignore[assignment]  # a tuple's own count() is never asked for


Charge = tuple[tuple[Event, ...], ...]
"""Of disjoint parts of a record's data: each part's events compose, and the worst part counts
(parallel composition). Most mechanisms have one part."""


@dataclass(frozen=True)
class Privacy:
    """A mechanism that is bound to a run; every figure in it is public.

    Attributes:
        unit: what one record is; `off`: nothing is protected.
        mechanism: as `privacy.mechanism` names it.
        adjacency: what two data sets that are hard to tell apart differ in, in words.
        trusts: whom the record has to trust, in words.
        clip: largest L2 norm of a record's contribution; the first one where it adapts.
        noise_multiplier: of the claim: standard deviation of the noise over the clip, on the sum.
        noise: the same as it is added to the sum of this run: smaller where a larger cohort is
            declared, larger where part of the budget goes to the quantile.
        expected: users that a sum is divided by, a public number.
        sampling_rate: chance of a user to be in a round (Poisson); 1: cohorts are fixed.
        users: training users.
        cohort: users of a round, exactly where cohorts are fixed, expected where they are not.
        bands: bands of the strategy matrix; 1: noise of rounds is independent.
        quantile: share of users below the clip, which it follows; 0: it is fixed.
        count_noise: standard deviation of the noise on the number of users below the clip.
        declared: users per round of the deployment that the charge is extrapolated to; 0: this.
        charge: what one round (`by` = `run`) or one participation (`by` = `user`) costs.
        by: whether everybody is charged in every round (who takes part is secret), or a user for
            the rounds that he takes part in.
        broken: why no epsilon may be told; empty where it may.
    """

    unit: Literal["off", "example", "user"] = "off"
    mechanism: Literal["gaussian", "local", "banded"] = "gaussian"
    adjacency: str = ""
    trusts: str = ""
    clip: float = 0.0
    noise_multiplier: float = 0.0
    noise: float = 0.0
    expected: float = 0.0
    sampling_rate: float = 1.0
    users: int = 0
    cohort: int = 0
    bands: int = 1
    quantile: float = 0.0
    count_noise: float = 0.0
    declared: int = 0
    charge: Charge = ()
    by: Literal["run", "user"] = "run"
    broken: tuple[str, ...] = ()

    @property
    def guards_users(self) -> bool:
        """Whether a user's whole contribution is clipped and noised."""
        return self.unit == "user"

    @property
    def poisson(self) -> bool:
        """Whether cohorts are drawn user by user, so that their sizes vary."""
        return self.guards_users and self.mechanism == "gaussian"

    def times(self, rounds: int) -> int:
        """How often the user who pays most is charged in a run of so many rounds."""
        if self.by == "run" or not self.users:
            return rounds
        return -(-rounds * self.cohort // self.users)  # in turn, so nobody pays twice before all

    def events(self, rounds: int) -> Charge:
        """What a run of so many rounds costs the user who pays most."""
        times = self.times(rounds)
        return tuple(
            tuple(event._replace(count=event.count * times) for event in part)
            for part in self.charge
        )


OFF = Privacy()
"""No privacy: nothing is clipped, noised or charged."""
